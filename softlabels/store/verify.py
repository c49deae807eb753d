"""Looking at every entry of a store: sizes and seals on each visit, every byte's hash with `deep`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from softlabels.errors import StoreError
from softlabels.store.format import MANIFEST, PROVENANCE, REMEDY, entry_folder
from softlabels.store.read import open_entry


@dataclass(frozen=True)
class Problem:
    """One damaged entry: its key and the message, which names the file and the remedy."""

    key: str
    message: str

    def __str__(self):
        return f"{self.key[:12]}: {self.message}"


def verify_store(store, *, deep: bool = False, progress: Callable[[int, int], None] | None = None) -> list[Problem]:
    """Return the problems of all entries; an empty list is a sound store.

    Parameters
    ----------
    store : Store
        What to look at; nothing is changed.
    deep : bool
        Read all files and compare their hashes, at about 1 GB/s and core.
    progress : callable, optional
        Called with (entries done, entries in all) after each entry.
    """
    keys, problems = list(store.keys()), []
    for done, key in enumerate(keys, 1):
        problems += verify_entry(store.path, key, deep=deep)
        if progress is not None:
            progress(done, len(keys))
    return problems


def verify_entry(store: Path, key: str, *, deep: bool = False) -> list[Problem]:
    """Return the problems of one entry."""
    try:
        entry = open_entry(store, key)
        if entry is None:
            return []
        _ = entry.provenance
    except StoreError as error:
        return [Problem(key, str(error))]
    folder = entry_folder(store, key)
    known = {MANIFEST, PROVENANCE, *entry.files}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    strangers = sorted(found - known)
    problems = [Problem(key, f"{folder / name}: nobody published this file; {REMEDY}") for name in strangers]
    if deep:
        problems += [p for name, record in entry.files.items() for p in _hash_problems(key, folder / name, record)]
    return problems


def _hash_problems(key, path, record):
    """Return a problem if a file's hash is not the manifest's."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return [Problem(key, f"{path}: the file is missing; {REMEDY}")]
    if digest != record["sha256"]:
        return [Problem(key, f"{path}: the file is damaged (sha256 differs from the manifest); {REMEDY}")]
    return []
