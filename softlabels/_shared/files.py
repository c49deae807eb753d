"""Files written in one step, and small files read with care: the one place that does either.

A reader sees either the complete new file or the former one, even if the writer fails. Reading a small file
never hangs on a pipe or a device that has the file's name, and never takes more memory than such a file may need.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from softlabels.errors import SoftLabelsError, StoreError

#: Bytes that a small file may have: receipts, manifests and configurations are far below this.
SMALL_FILE_BYTES = 64 * 2**20

_MAY_NOT_WRITE = "you may not write here: choose another folder, or ask its owner for write permission"
_REMEDIES = {
    errno.ENOSPC: "the disk is full: free space on this file system, then run again",
    errno.EDQUOT: "your quota is used up: free space, then run again",
    errno.EFBIG: "the limit on file sizes (ulimit -f) is too low: raise it, then run again",
    errno.EACCES: _MAY_NOT_WRITE,
    errno.EPERM: _MAY_NOT_WRITE,
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "a file is where a folder should be: choose another path",
    errno.ENOTDIR: "a file is where a folder should be: choose another path",
    errno.EISDIR: "a folder has this name: choose another path",
}


def write_atomically(path: str | os.PathLike[str], content: bytes | str) -> None:
    r"""Write a file in one step; its folder is made.

    Parameters
    ----------
    path : path
        Replaced if it exists. A link is replaced, not followed.
    content : bytes or str
        Text is written as UTF-8; the bytes of file names that are not the locale's stay what they are.

    Raises
    ------
    StoreError
        If it cannot be written; `path` is as it was then, and nothing is left behind.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "folder", "file.txt")
    >>> write_atomically(path, "3 µm")
    >>> path.read_bytes()
    b'3 \xc2\xb5m'
    """
    with atomic_writer(path) as file:
        file.write(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


@contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` at the end of the block, unless an error ends the block.

    Parameters
    ----------
    path : path
        As in `write_atomically`.

    Raises
    ------
    StoreError
        In place of any OSError, also one of the block.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_writer(folder / "numbers") as file:
    ...     _ = file.write(b"123")
    >>> [found.name for found in folder.iterdir()]
    ['numbers']
    """
    path = Path(path)
    with explained(path, "cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _name_beside(path)
        try:
            # "x": the name is random and must not exist, so that neither a planted link nor another's file is opened.
            with open(temporary, "xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def link_atomically(link: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Make a symbolic link in one step, in place of whatever link or file has its name; its folder is made.

    Raises
    ------
    StoreError
        If it cannot be made.
    """
    link = Path(link)
    with explained(link, "cannot be written"):
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary = _name_beside(link)
        os.symlink(target, temporary)
        try:
            os.replace(temporary, link)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def relative_path(target: str | os.PathLike[str], folder: str | os.PathLike[str]) -> str:
    """Return a path that leads from a folder to a target: still true where both are moved together.

    The folder's links are followed first, as the system does before it goes up from a folder.

    Examples
    --------
    >>> relative_path("/project/store", "/project/results/case")
    '../../store'
    """
    return os.path.relpath(Path(target).absolute(), Path(folder).resolve())


def read_small_file(path: str | os.PathLike[str], limit: int = SMALL_FILE_BYTES) -> bytes:
    """Return the bytes of a regular file.

    Parameters
    ----------
    path : path
        May be a link to a regular file.
    limit : int
        The most bytes it may have.

    Raises
    ------
    OSError
        If it cannot be read, is no regular file (a folder, pipe, device or socket), or is larger than `limit`;
        `strerror` says which. See `is_damage`.

    Examples
    --------
    >>> read_small_file("/dev/null")
    Traceback (most recent call last):
    OSError: [Errno 22] not a regular file: '/dev/null'
    """
    # Without O_NONBLOCK, opening a pipe without a writer would block. A file object would take twice the time.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
        content = os.read(descriptor, min(status.st_size, limit) + 1)
        # A file that was read in parts or grows meanwhile, or one of /proc, which says that it is empty.
        while len(content) <= limit and (more := os.read(descriptor, 1 << 16)):
            content += more
    finally:
        os.close(descriptor)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than the {limit} bytes that such a file may have", os.fspath(path))
    return content


def read_small_text(path: str | os.PathLike[str], limit: int = SMALL_FILE_BYTES) -> str:
    """Return the text of a regular file in UTF-8, with or without a byte order mark.

    Raises
    ------
    OSError
        As `read_small_file`.
    UnicodeDecodeError
        If it is not UTF-8.
    """
    return read_small_file(path, limit).decode("utf-8-sig")


def read_tail(path: str | os.PathLike[str], n_bytes: int) -> str:
    r"""Return the last bytes of a text file, all of a smaller one; what is not UTF-8 is replaced.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "job.log")
    >>> write_atomically(path, "10:00 reading\n10:01 done\n")
    >>> read_tail(path, 11)
    '10:01 done\n'
    """
    with open(path, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - n_bytes))
        return file.read().decode(errors="replace")


def is_damage(error: OSError) -> bool:
    """Return whether a file could not be read because of what it is: missing, a loop of links, not a file, too large.

    Everything else, such as a missing permission, is a fault of the machine or its set-up.

    Examples
    --------
    >>> is_damage(FileNotFoundError(errno.ENOENT, "")), is_damage(PermissionError(errno.EACCES, ""))
    (True, False)
    """
    return error.errno in (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.EINVAL,
        errno.ENXIO,
        errno.EFBIG,
    )


@contextmanager
def explained(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn an OSError of the block into a StoreError with the path, `what` ("cannot be written"), reason and remedy."""
    try:
        yield
    except SoftLabelsError:
        raise
    except OSError as error:
        number = error.errno if error.errno is not None else 0
        remedy = _REMEDIES.get(number, "check the file system, then run again")
        raise StoreError(f"{path}: {what} ({error.strerror or error}); {remedy}") from error


def _name_beside(path: Path) -> Path:
    """Return a new name in the folder of a path, which no pattern for finished files matches."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
