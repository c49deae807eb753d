"""Looking at every entry of a store: sizes and seals on each visit, every byte's hash with `deep`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from softlabels._shared.archive import sha256_of
from softlabels.errors import FormatError, StoreError
from softlabels.store.format import MANIFEST, PROVENANCE, REMEDY, entry_folder
from softlabels.store.read import identity_of, open_entry, readable


@dataclass(frozen=True)
class Damage:
    """What is wrong with one entry.

    Attributes
    ----------
    key : str
    message : str
        Names the file and the remedy.
    is_certain : bool
        False where the file system could not be read, for want of permission or for an error of the disk. The entry may
        be sound then, and must not be discarded.
    """

    key: str
    message: str
    is_certain: bool = True

    def __str__(self) -> str:
        return f"{self.key[:12]}: {self.message}"


def verify_store(
    store: Path, keys: Sequence[str], *, deep: bool = False, progress: Callable[[int, int], None] | None = None
) -> list[Damage]:
    """Return the damage of entries; an empty list means that all are sound.

    Parameters
    ----------
    store : Path
        The store's folder; nothing in it is changed.
    keys : sequence of str
        The entries to look at.
    deep : bool
        Read all files and compare their hashes, at about 1 GB/s and core.
    progress : callable, optional
        Called with (entries done, entries in all) after each entry.
    """
    found = []
    for done, key in enumerate(keys, 1):
        found += verify_entry(store, key, deep=deep)
        if progress is not None:
            progress(done, len(keys))
    return found


def verify_entry(store: Path, key: str, manifest_digest: str | None = None, *, deep: bool = False) -> list[Damage]:
    """Return the damage of one entry, which may be anything that has its name; nothing if there is none.

    Parameters
    ----------
    store : Path
    key : str
    manifest_digest : str, optional
        What an index promised.
    deep : bool
        As for `verify_store`.
    """
    folder = entry_folder(store, key)
    while True:
        before = _identity(folder)
        found = _verified(store, key, manifest_digest, deep=deep)
        # If the entry was discarded, or discarded and published again, in the meantime, this was no damage.
        if not found or _identity(folder) == before:
            return found


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when an entry is replaced; None if it is absent, or so damaged that it has none."""
    try:
        return identity_of(folder)
    except StoreError:
        return None


def _verified(store: Path, key: str, manifest_digest: str | None, *, deep: bool) -> list[Damage]:
    """Return what looks like damage of an entry that may be discarded at the same time."""
    folder = entry_folder(store, key)
    try:
        entry = open_entry(store, key, manifest_digest)
        if entry is None:
            return []
        _ = entry.provenance
        with readable(folder):
            unexpected = sorted(_files_in(folder) - {MANIFEST, PROVENANCE, *entry.files})
    except StoreError as error:
        return [_damage(key, error)]
    found = [Damage(key, f"{folder / name}: not listed in the manifest; {REMEDY}") for name in unexpected]
    for name, record in entry.files.items() if deep else ():
        try:
            _check_hash(folder / name, record["sha256"])
        except StoreError as error:
            found.append(_damage(key, error))
    return found


def _damage(key: str, error: StoreError) -> Damage:
    """Return an error of reading as damage."""
    return Damage(key, str(error), is_certain=isinstance(error, FormatError))


def _files_in(folder: Path) -> set[str]:
    """Return the relative paths of all that is in a folder and no folder itself; no link is followed."""
    found = set()
    for top, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        found |= {os.path.relpath(os.path.join(top, name), folder) for name in (*files, *links)}
    return found


def _check_hash(path: Path, sha256: str) -> None:
    """Raise FormatError if a file's hash is not the manifest's."""
    with readable(path):
        digest = sha256_of(path)
    if digest != sha256:
        raise FormatError(f"{path}: the file is damaged (sha256 differs from the manifest); {REMEDY}")
