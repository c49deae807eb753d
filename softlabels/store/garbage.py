"""Removing what nobody needs: entries without a live receipt or index, and what killed writers left behind.

Every removal is a rename out of the way first, then a deletion: a reader sees an entry whole or absent, and a writer
whose folder is taken away fails instead of publishing half of it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from softlabels._shared.files import explained, read_small_file, write_atomically
from softlabels._shared.plain_json import parsed_json
from softlabels.errors import StoreError
from softlabels.store.format import TMP_PREFIX, TRASH_PREFIX, VERSION_FOLDER, entry_folder

#: An entry may be younger than the receipt that will name it by the length of one job.
MIN_AGE_S = 24 * 3600.0
_STALE_HERE_S, _STALE_ELSEWHERE_S = 600.0, 48 * 3600.0
_MAY_NOT = (errno.EPERM, errno.EACCES, errno.EROFS)
_PROJECTS = "projects"


@dataclass(frozen=True)
class Garbage:
    """An entry that nothing names: its key, folder, bytes and the seconds since its last use."""

    key: str
    path: Path
    nbytes: int
    age_s: float


def register_results(store: Path, results: Path) -> None:
    """Note in the store where a project's receipts and indexes lie, so that `gc` by anyone spares its entries.

    Nothing happens where this user may not write: then only the age of last use protects entries from their owner.
    """
    folder = Path(store) / VERSION_FOLDER / _PROJECTS
    path = str(Path(results).absolute())
    note = folder / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}.json"
    try:
        with explained(note, "cannot be written"):
            if not note.exists():
                write_atomically(note, json.dumps({"results": path}) + "\n")
    except StoreError as error:
        if not (isinstance(error.__cause__, OSError) and error.__cause__.errno in _MAY_NOT):
            raise


def registered_results(store: Path) -> list[Path]:
    """Return the results folders of all projects that registered; StoreError if one of them is gone."""
    found = []
    for note in sorted((Path(store) / VERSION_FOLDER / _PROJECTS).glob("*.json")):
        try:
            found.append(Path(parsed_json(read_small_file(note))["results"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{note}: cannot be read ({error}); delete it if its project is gone") from None
        if not found[-1].is_dir():
            raise StoreError(f"{found[-1]}: the results of a project are gone; if that is for good, delete {note}")
    return found


def collect_garbage(store, live: Iterable[str], *, delete: bool = False, min_age_s: float = MIN_AGE_S) -> list[Garbage]:
    """Return the entries that `live` does not name and that were not used for `min_age_s`; remove them with `delete`.

    Kept is what is named, no more: an index names the prepared cases and targets that training reads, so without the
    receipts of a project the seeds and distances between them are garbage.
    """
    live, found = set(live), []
    for key in list(store.keys()):
        folder = entry_folder(store.path, key)
        age = _age(folder)
        if key in live or age is None or age < min_age_s:
            continue
        found.append(Garbage(key, folder, _size(folder), age))
        if delete:
            discard_folder(folder)
    return found


def mark_used(folder: Path) -> None:
    """Set the time of last use, where this user may: in the store of another user only publishing counts as use."""
    try:
        os.utime(folder)
    except OSError as error:
        if error.errno not in (*_MAY_NOT, errno.ENOENT):
            raise


def discard_folder(folder: Path) -> None:
    """Rename a folder out of the way, then delete it; nothing happens if it is gone already."""
    root = folder.parent if folder.name.startswith(TMP_PREFIX) else folder.parent.parent
    trash = root / f"{TRASH_PREFIX}{secrets.token_hex(8)}"
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{folder}: cannot be removed ({error.strerror}); let the store's owner run this") from error
    remove_tree(trash)


def remove_tree(folder: Path) -> None:
    """Delete a folder and all in it; fine if it is gone, or if another process deletes it too."""
    for top, folders, files in os.walk(folder, topdown=False):
        for name in files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(top, name))
        for name in folders:
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(os.path.join(top, name))
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(folder)


def sweep_stale(root: Path) -> list[Path]:
    """Remove folders of writers that are gone, and trash; return their paths.

    A writer on this host is gone when its process is and nothing was written for ten minutes (another container may
    share the host's name); a writer elsewhere when nothing was written for two days.
    """
    swept = []
    for folder in sorted(root.glob(f"{TMP_PREFIX}*")):
        host, pid, _ = folder.name.removeprefix(TMP_PREFIX).rsplit("-", 2)
        is_here = host == socket.gethostname()
        if is_here and _is_running(int(pid)):
            continue
        age = _youngest_age(folder)
        if age is not None and age > (_STALE_HERE_S if is_here else _STALE_ELSEWHERE_S):
            discard_folder(folder)
            swept.append(folder)
    for folder in sorted(root.glob(f"{TRASH_PREFIX}*")):
        remove_tree(folder)
        swept.append(folder)
    return swept


def _is_running(pid):
    """Return whether a process of this host runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _age(path):
    """Return seconds since the last change of a path; None if it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None


def _youngest_age(folder):
    """Return seconds since anything in a folder changed; None if it is gone."""
    ages = [age for path in [folder, *folder.rglob("*")] if (age := _age(path)) is not None]
    return min(ages, default=None)


def _size(folder):
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
