"""Removing entries without a live receipt or index, and the temporary folders of killed writers.

Every removal is a rename out of the way first, then a deletion: a reader sees an entry whole or absent, and a writer
whose folder is taken away fails instead of publishing half of it. A link in the store is deleted, never followed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
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
#: Names that `temporary_name` and `discard_folder` give; anything else in the store is somebody's own.
_TMP_NAME = re.compile(rf"{re.escape(TMP_PREFIX)}(?P<host>.+)-(?P<pid>[0-9]+)-[0-9a-f]{{16}}")
_TRASH_NAME = re.compile(rf"{re.escape(TRASH_PREFIX)}[0-9a-f]{{16}}")


@dataclass(frozen=True)
class Garbage:
    """An entry that nothing names.

    Attributes
    ----------
    key : str
    path : Path
        Its folder.
    nbytes : int
        What its files take.
    age_s : float
        Seconds since its last use.
    error : str or None
        Why it could not be removed.
    """

    key: str
    path: Path
    nbytes: int
    age_s: float
    error: str | None = None


def register_results(store: Path, results: Path) -> None:
    """Note in the store where a project's receipts and indexes are, so that `gc` by anyone spares its entries.

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
            raise StoreError(f"{note}: cannot be read ({error}); delete it if its project no longer exists") from None
        if not found[-1].is_dir():
            raise StoreError(f"{found[-1]}: the results of a project are gone; if that is for good, delete {note}")
    return found


def collect_garbage(
    store: Path, keys: Iterable[str], live: Iterable[str], *, delete: bool = False, min_age_s: float = MIN_AGE_S
) -> list[Garbage]:
    """Return the entries of `keys` that `live` does not name and that nobody used for `min_age_s`.

    With `delete` they are removed. Kept is what is named, no more: an index names the prepared cases and targets that
    training reads, so without the receipts of a project the seeds and distances between them are garbage. One that
    cannot be removed stops no other.
    """
    live, found = set(live), []
    for key in list(keys):
        folder = entry_folder(store, key)
        age = _age(folder)
        if key in live or age is None or age < min_age_s:
            continue
        garbage = Garbage(key, folder, _size(folder), age)
        if delete:
            try:
                discard_folder(folder)
            except StoreError as error:
                garbage = replace(garbage, error=str(error))
        found.append(garbage)
    return found


def mark_used(folder: Path) -> None:
    """Set the time of last use, where this user may: in the store of another user only publishing counts as use."""
    try:
        os.utime(folder, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (*_MAY_NOT, errno.ENOENT):
            raise


def temporary_name() -> str:
    """Return a new name for the folder of a writer, which says which process writes in it."""
    return f"{TMP_PREFIX}{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"


def discard_folder(folder: Path) -> None:
    """Rename an entry or what a writer left out of the way, then delete it; nothing happens if it is gone already.

    Raises
    ------
    StoreError
        If it cannot be renamed or deleted.
    """
    root = folder.parent if folder.name.startswith(TMP_PREFIX) else folder.parent.parent
    trash = root / f"{TRASH_PREFIX}{secrets.token_hex(8)}"
    try:
        folder.rename(trash)
        remove_tree(trash)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{folder}: cannot be removed ({error.strerror}); let the store's owner run this") from error


def remove_tree(path: Path) -> None:
    """Delete a folder and all in it; fine if it is gone, or if another process deletes it too.

    No link is followed: a link is deleted, wherever it is, and so is whatever else is no folder.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        for _, folders, files, descriptor in os.fwalk(path, topdown=False):
            for name in files:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=descriptor)
            for name in folders:
                with suppress(FileNotFoundError):
                    _remove_folder_or_link(name, descriptor)
        os.rmdir(path)


def _remove_folder_or_link(name: str, parent: int) -> None:
    """Delete an empty folder, or a link to a folder."""
    try:
        os.rmdir(name, dir_fd=parent)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)


def sweep_stale(root: Path) -> list[Path]:
    """Remove folders of writers that are gone, and trash; return their paths.

    A writer on this host is gone when its process is and nothing was written for ten minutes (another container may
    share the host's name); a writer elsewhere when nothing was written for two days. What no writer of this package
    made is left alone, and so is what this user may not remove.
    """
    swept = []
    for path in sorted(root.glob(f"{TMP_PREFIX}*")):
        name = _TMP_NAME.fullmatch(path.name)
        if name is None:
            continue
        is_here = name["host"] == socket.gethostname()
        if is_here and _is_running(int(name["pid"])):
            continue
        age = _youngest_age(path)
        if age is not None and age > (_STALE_HERE_S if is_here else _STALE_ELSEWHERE_S):
            with suppress(StoreError):
                discard_folder(path)
                swept.append(path)
    for path in sorted(root.glob(f"{TRASH_PREFIX}*")):
        if _TRASH_NAME.fullmatch(path.name):
            with suppress(OSError):
                remove_tree(path)
                swept.append(path)
    return swept


def _is_running(pid: int) -> bool:
    """Return whether a process of this host runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _age(path: str | os.PathLike[str]) -> float | None:
    """Return seconds since the last change of a path, of a link itself; None if it is gone."""
    try:
        return time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:
        return None


def _youngest_age(path: Path) -> float | None:
    """Return seconds since anything in a folder changed; None if it is gone."""
    ages = [age for one in (str(path), *_contents(path)) if (age := _age(one)) is not None]
    return min(ages, default=None)


def _size(path: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(os.lstat(one).st_size for one in _contents(path) if os.path.isfile(one) and not os.path.islink(one))


def _contents(path: Path) -> Iterator[str]:
    """Yield the paths of all that is in a folder, at any depth; no link is followed, at the top neither."""
    if path.is_symlink():
        return
    for top, folders, files in os.walk(path):
        yield from (os.path.join(top, name) for name in (*folders, *files))
