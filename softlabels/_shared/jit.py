"""Compilation of CPU kernels, kept on disk so that the next process starts at once.

numba recompiles a cached function when its own file changes, but not when a file that it calls into does. So the cache
lies in a directory named after the sources of all kernels of a package and the versions at work. Any number of jobs, on
processors of any kind, may share it and start on it at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
import uuid
import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import llvmlite
import numba
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys
from numba.core.serialize import dumps


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
            _warn_uncached(directory, error)
            return None
        return directory

    def compiled(self, function):
        """Compile a function that releases the GIL, follows IEEE 754 throughout, and is kept on disk."""
        directory, before = self.cache_directory, numba.config.CACHE_DIR
        numba.config.CACHE_DIR = "" if directory is None else str(directory)
        try:
            dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
            if directory is not None:
                dispatcher._cache = _KernelCache(function)
        finally:
            numba.config.CACHE_DIR = before
        return dispatcher

    @staticmethod
    def inlined(function):
        """Compile a function as a part of the kernels that call it."""
        return numba.njit(forceinline=True, error_model="numpy")(function)


class _KernelCache(FunctionCache):
    """numba's cache of one function, with files of our own, and without a start of the compiler to load them.

    numba readies its compiler before it loads anything, and imports SciPy's linear algebra for it: half a second in
    every process. Compiled code needs neither; where none is found, compiling readies the compiler by itself.
    """

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _KernelFiles(Path(self.cache_path), function.__qualname__)

    def load_overload(self, sig, target_context):
        """Return what was compiled for a signature, ready to be called, or None."""
        # Of all that the compiler needs, compiled code needs the functions that allocate arrays.
        rtsys.initialize(target_context)
        return self._load_overload(sig, target_context)


class _KernelFiles:
    """Compiled code of one kernel: a file for each signature and kind of processor, named after them.

    It stands in for numba's own class, which numbers its files in an index. Of two processes that begin together, for
    different signatures or processors, both take the number 1; then one's code lies under the other's name, and every
    later start fails.
    """

    def __init__(self, folder: Path, kernel: str):
        self._folder, self._kernel = folder, kernel

    def _path(self, key) -> Path:
        """Return the file of a key: signature, processor with its features, and bytecode."""
        digest = hashlib.sha256(f"{sys.implementation.cache_tag} {key}".encode()).hexdigest()
        return self._folder / f"{self._kernel}-{digest[:32]}.nbc"

    def load(self, key):
        """Return what was compiled for a key, or None; a file that is not whole is none."""
        with contextlib.suppress(OSError):
            digest, _, code = self._path(key).read_bytes().partition(b"\n")
            if digest == hashlib.sha256(code).hexdigest().encode():
                return pickle.loads(code)
        return None

    def save(self, key, data) -> None:
        """Keep what was compiled for a key, in one step; where the disk is full, the next process compiles again."""
        path, code = self._path(key), dumps(data)
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_bytes(hashlib.sha256(code).hexdigest().encode() + b"\n" + code)
            os.replace(temporary, path)
        except OSError as error:
            _warn_uncached(self._folder, error)
            with contextlib.suppress(OSError):
                temporary.unlink()


def _warn_uncached(folder: Path, error: OSError) -> None:
    """Say that kernels cannot be kept."""
    warnings.warn(
        f"kernels are compiled anew in each process: cannot write {folder} ({error.strerror}); "
        "set NUMBA_CACHE_DIR to a directory that can be written to",
        RuntimeWarning,
        stacklevel=3,
    )
