"""Files in a ZIP archive, by paths that lead into it: ``cohort.zip/store/v1/...``; for archives without compression.

A member that is not compressed is a range of bytes of the archive, so that a part of it can be read like a part of a
file. No archive is kept open: what is known of it may be used after a fork, and is read again when the archive changes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from softlabels._shared.files import SMALL_FILE_BYTES, read_small_file

_LOCAL_HEADER = struct.Struct("<26xHH")


class Place(NamedTuple):
    """Where bytes are: a file, the first byte and how many."""

    file: Path
    offset: int
    size: int


def located(path: str | os.PathLike[str]) -> Place:
    """Return which bytes of which file a path names; it may lead into an archive.

    Raises
    ------
    OSError
        If there is no such file or member, or the member is compressed.
    """
    try:
        return Place(Path(path), 0, os.stat(path).st_size)
    except NotADirectoryError:
        archive, member = _split(Path(path))
        found = _members(*archive).get(member)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
        return Place(Path(archive[0]), _data_offset(*archive, found.header_offset), found.file_size)


def read_small(path: str | os.PathLike[str], limit: int = SMALL_FILE_BYTES) -> bytes:
    """Return the bytes of a small file, as `read_small_file`; the path may lead into an archive."""
    try:
        return read_small_file(path, limit)
    except NotADirectoryError:
        place = located(path)
        if place.size > limit:
            text = f"larger than the {limit} bytes that such a file may have"
            raise OSError(errno.EFBIG, text, os.fspath(path)) from None
        with open(place.file, "rb") as file:
            file.seek(place.offset)
            return file.read(place.size)


def blocks_of(path: str | os.PathLike[str], size: int = 2**20) -> Iterator[bytes]:
    """Yield the bytes of a file block by block; the path may lead into an archive.

    Raises
    ------
    OSError
        As `located`.
    """
    place = located(path)
    with open(place.file, "rb") as file:
        file.seek(place.offset)
        left = place.size
        while left > 0 and (block := file.read(min(size, left))):
            left -= len(block)
            yield block


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file, hex; the path may lead into an archive."""
    digest = hashlib.sha256()
    for block in blocks_of(path):
        digest.update(block)
    return digest.hexdigest()


def folder_identity(path: Path) -> tuple[int, int, int]:
    """Return what changes when a folder is renamed or replaced, or the archive that it is in.

    Raises
    ------
    OSError
        If there is no such folder.
    """
    try:
        found = path.stat()
    except NotADirectoryError:
        archive, member = _split(path)
        if not any(name.startswith(f"{member}/") for name in _members(*archive)):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path)) from None
        found = os.stat(archive[0])
    return found.st_dev, found.st_ino, found.st_ctime_ns


def is_folder(path: Path) -> bool:
    """Return whether there is a folder of this path, perhaps in an archive."""
    try:
        folder_identity(path)
    except OSError:
        return False
    return True


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is a ZIP archive."""
    return os.path.isfile(path) and zipfile.is_zipfile(path)


def archive_of(path: Path) -> Path | None:
    """Return the archive that a path leads into; None for all other paths."""
    if os.path.lexists(path):
        return None
    return next((parent for parent in path.parents if is_archive(parent)), None)


#: An archive as its path, size and time of last change.
_Archive = tuple[str, int, int]


def _split(path: Path) -> tuple[_Archive, str]:
    """Return the archive that a path leads into and the name of the member, or raise NotADirectoryError."""
    for parent in path.parents:
        if parent.is_file():
            status = parent.stat()
            if zipfile.is_zipfile(parent):
                return (str(parent), status.st_size, status.st_mtime_ns), path.relative_to(parent).as_posix()
            break
    raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), os.fspath(path))


@lru_cache(maxsize=8)
def _members(path: str, size: int, mtime_ns: int) -> Mapping[str, zipfile.ZipInfo]:
    """Return the members of an archive by name; OSError if one is compressed or the directory is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except zipfile.BadZipFile as error:
        raise OSError(errno.EINVAL, f"a damaged archive: {error}", path) from error
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
        raise OSError(
            errno.EINVAL, "an archive with compressed members, expected one that `softlabels copy` made", path
        )
    return members


@lru_cache(maxsize=2**16)
def _data_offset(path: str, size: int, mtime_ns: int, header_offset: int) -> int:
    """Return where the bytes of a member begin: behind its own header, whose length only it knows."""
    with open(path, "rb") as file:
        file.seek(header_offset)
        lengths = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    return header_offset + _LOCAL_HEADER.size + sum(lengths)
