"""Copying single entries of a store, every byte compared with what was published."""

from __future__ import annotations

import errno
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from softlabels._shared.archive import blocks_of
from softlabels._shared.files import explained
from softlabels.errors import FormatError
from softlabels.store.format import MANIFEST, PROVENANCE, REMEDY, VERSION_FOLDER, entry_folder
from softlabels.store.garbage import discard_folder
from softlabels.store.publish import temporary_folder
from softlabels.store.read import Entry, open_entry, readable
from softlabels.store.shard import new_file

#: The earliest time that a ZIP archive can hold: equal entries make equal archives.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def has_entry(store: Path, entry: Entry) -> bool:
    """Return whether a store has an entry with the files of `entry`; damaged ones are discarded.

    Sizes and the hashes of small files are compared; the checksums of data are compared at each reading.
    """
    try:
        found = open_entry(store, entry.key, entry.manifest_digest)
        if found is not None:
            _ = found.provenance
        return found is not None
    except FormatError:
        discard_folder(entry_folder(store, entry.key))
        return False


def copy_entry(entry: Entry, store: Path) -> None:
    """Copy an entry into another store, which has it whole or not at all.

    Parameters
    ----------
    entry : Entry
        Of another store, or of an archive.
    store : Path
        Its folder is made. If another process publishes the same entry meanwhile, that one stays.

    Raises
    ------
    FormatError
        If a file of the entry is not what was published; nothing is copied.
    StoreError
        If it cannot be read or written.
    """
    final = entry_folder(store, entry.key)
    with explained(final, "cannot be written"), temporary_folder(store) as tmp:
        for name in _names(entry):
            (tmp / name).parent.mkdir(parents=True, exist_ok=True)
            with new_file(tmp / name) as file:
                for block in _checked_blocks(entry, name):
                    file.write(block)
        final.parent.mkdir(exist_ok=True)
        try:
            tmp.rename(final)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def archive_entry(entry: Entry, archive: zipfile.ZipFile, folder: str) -> None:
    """Add an entry to an archive, not compressed.

    Parameters
    ----------
    entry : Entry
    archive : ZipFile
        Open for writing.
    folder : str
        The store's folder in the archive.

    Raises
    ------
    FormatError, StoreError
        As `copy_entry`; the archive is incomplete then.
    """
    place = entry_folder(Path(VERSION_FOLDER), entry.key).relative_to(VERSION_FOLDER).as_posix()
    for name in _names(entry):
        member = zipfile.ZipInfo(f"{folder}/{place}/{name}", _NO_TIME)
        member.external_attr = 0o444 << 16
        member.file_size = entry.files[name]["size"] if name in entry.files else 0
        with archive.open(member, "w") as file:
            for block in _checked_blocks(entry, name):
                file.write(block)


def _names(entry: Entry) -> list[str]:
    """Return the files of an entry, relative to its folder."""
    return [*entry.files, MANIFEST, PROVENANCE]


def _checked_blocks(entry: Entry, name: str) -> Iterator[bytes]:
    """Yield the bytes of a file, and raise FormatError at the end if they are not what was published."""
    path, digest = entry.path / name, hashlib.sha256()
    with readable(path):
        for block in blocks_of(path):
            digest.update(block)
            yield block
    if name == PROVENANCE:
        _ = entry.provenance  # compares its own seal
        return
    expected = entry.manifest_digest if name == MANIFEST else entry.files[name]["sha256"]
    if digest.hexdigest() != expected:
        raise FormatError(f"{path}: the file is damaged (sha256 differs from the manifest); {REMEDY}")
