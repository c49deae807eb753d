"""Compiled code kept between processes, in folders that nobody but this user can have written to.

The content is loaded and run. So a folder is used only if it belongs to this user and is closed to all others; anything
else would let anyone with write access run code in every job. Any number of processes may share a folder.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import stat
import warnings
from functools import cached_property
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels.errors import StoreError


class PrivateCache:
    """Files in one folder of the user's cache. Nothing is made on disk before something is loaded or saved.

    The folder is `softlabels-<user id>/<name>` in the directory that NUMBA_CACHE_DIR names, else `softlabels/<name>` in
    the user's cache (XDG_CACHE_HOME, else ~/.cache; on macOS ~/Library/Caches). Where there can be no such folder,
    nothing is kept, and one warning says why.

    Parameters
    ----------
    name : str
        Of the folder; names the content, such as by a hash of the sources that it is made from.

    Examples
    --------
    >>> import tempfile
    >>> from unittest.mock import patch
    >>> cache = PrivateCache("kernels-1")
    >>> with patch.dict(os.environ, NUMBA_CACHE_DIR=tempfile.mkdtemp()):
    ...     before = cache.load("add")
    ...     cache.save("add", b"code")
    ...     print(before, cache.load("add"))
    None b'code'
    """

    def __init__(self, name: str):
        self.name = name

    @cached_property
    def folder(self) -> Path | None:
        """The folder, made if need be; None, with a warning, if it may not be used."""
        root = _root()
        if not root.is_absolute():
            _warn_unkept(root, "this user has no home directory")
            return None
        folder = root / self.name
        reason = _why_not_made(folder) or _why_untrusted(folder)
        if reason is not None:
            _warn_unkept(folder, reason)
            return None
        return folder

    def load(self, file_name: str) -> bytes | None:
        """Return what was saved under a name, or None; incomplete files and files of other users are ignored."""
        if self.folder is None:
            return None
        try:
            with open(self.folder / file_name, "rb", opener=_without_waiting) as file:
                status = os.fstat(file.fileno())
                # Whoever may rename folders above ours can exchange it; a file of this user they cannot make.
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                    return None
                digest, _, content = file.read().partition(b"\n")
        except OSError:
            return None
        return content if digest == hashlib.sha256(content).hexdigest().encode() else None

    def save(self, file_name: str, content: bytes) -> None:
        """Keep a file in one step. Where the disk is full, the next process makes it again, and a warning says so."""
        if self.folder is None:
            return
        try:
            write_atomically(self.folder / file_name, hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        except StoreError as error:
            _warn_unkept(self.folder, f"it cannot be written to ({getattr(error.__cause__, 'strerror', error)})")


def _root() -> Path:
    """Return the directory of all caches of this package."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    if named:
        return Path(named).absolute() / f"softlabels-{os.geteuid()}"
    from platformdirs import user_cache_path

    return user_cache_path("softlabels", appauthor=False)


def _without_waiting(path: str, flags: int) -> int:
    """Open a file for `open`; a pipe under its name is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _why_not_made(folder: Path) -> str | None:
    """Make a folder and the one that it is in for this user alone; return why that is impossible, or None."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        return f"it cannot be made ({error.strerror})"
    return None


def _why_untrusted(folder: Path) -> str | None:
    """Return who else may have written to a folder, or None."""
    status = os.lstat(folder)
    if not stat.S_ISDIR(status.st_mode):
        return "it is a link"
    if status.st_uid != os.geteuid():
        return "it belongs to another user"
    if stat.S_IMODE(status.st_mode) & 0o077:
        return "it is open to other users (delete it, and it is made anew with mode 0700)"
    return None


def warn_unknown_numba(reason: str) -> None:
    """Warn once that compiled code is not kept, because this version of numba is not supported."""
    version = importlib.metadata.version("numba")
    _warn(f"numba {version} is none that this release knows ({reason})", "install one that softlabels asks for")


def _warn_unkept(folder: Path, reason: str) -> None:
    """Say once why a folder cannot be used."""
    _warn(f"{folder}: {reason}", "set NUMBA_CACHE_DIR to a directory of your own")


@functools.cache
def _warn(reason: str, remedy: str) -> None:
    """Warn once that compiled code is not kept, which takes time but changes no result."""
    warnings.warn(f"kernels are compiled anew in each process: {reason}; {remedy}", RuntimeWarning, stacklevel=3)
