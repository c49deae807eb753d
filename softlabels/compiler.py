"""Compilation of CPU kernels, kept on disk so that the next process starts at once.

numba recompiles a cached function when its own file changes, but not when a file that it calls into does. So the cache
lies in a directory named after the sources of all kernels of a package and the versions at work. Many jobs may share
it: numba writes each file under a temporary name and renames it, and tells processors apart by itself.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import llvmlite
import numba


class Compiler:
    """Compiles the kernels of one package.

    Parameters
    ----------
    name : str
        First word of the cache directory.
    sources : sequence of Path
        Every module that compiled code comes from.
    """

    def __init__(self, name: str, sources: Sequence[Path]):
        self.name, self.sources = name, tuple(sources)

    @cached_property
    def cache_directory(self) -> Path | None:
        """Where compiled kernels are kept; None, with a warning, if it cannot be written to."""
        digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
        for source in (Path(__file__), *self.sources):
            digest.update(source.read_bytes())
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
        root = Path(os.environ.get("NUMBA_CACHE_DIR") or home / "softlabels")
        directory = root / f"{self.name}-{digest.hexdigest()[:16]}"
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            warnings.warn(
                f"kernels are compiled anew in each process: cannot write {directory} ({error.strerror}); "
                "set NUMBA_CACHE_DIR to a directory that can be written to",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        return directory

    def compiled(self, function):
        """Compile a function that releases the GIL, follows IEEE 754 throughout, and is kept on disk."""
        directory, before = self.cache_directory, numba.config.CACHE_DIR
        numba.config.CACHE_DIR = "" if directory is None else str(directory)
        try:
            return numba.njit(nogil=True, error_model="numpy", cache=directory is not None)(function)
        finally:
            numba.config.CACHE_DIR = before

    @staticmethod
    def inlined(function):
        """Compile a function as a part of the kernels that call it."""
        return numba.njit(forceinline=True, error_model="numpy")(function)
