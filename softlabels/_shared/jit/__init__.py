"""Compilation of CPU kernels, kept on disk so that the next process starts at once.

numba recompiles a cached function when its own file changes, but not when a file that it calls into does. So the cache
of a package is a folder named after the sources of all its kernels and the versions at work. Any number of jobs, on
processors of any kind, may share it and start on it at once.

All that is known of numba's insides is in `_numba_cache`; where they are not as expected, kernels are compiled in each
process, with the same results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import llvmlite
import numba

from softlabels._shared.cache import PrivateCache, warn_unknown_numba

_OWN_SOURCES = [Path(__file__), Path(__file__).with_name("_numba_cache.py")]


class Compiler:
    """Compiles the kernels of one package. Nothing is read or written before the first kernel is called.

    Parameters
    ----------
    name : str
        First word of the cache's folder.
    sources : sequence of Path
        Every module that compiled code comes from.
    """

    def __init__(self, name: str, sources: Sequence[Path]):
        self.name, self.sources = name, tuple(sources)

    @cached_property
    def cache(self) -> PrivateCache:
        """Where compiled kernels are kept."""
        digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
        for source in (*_OWN_SOURCES, *self.sources):
            digest.update(source.read_bytes())
        return PrivateCache(f"{self.name}-{digest.hexdigest()[:16]}")

    def compiled(self, function: Callable[..., Any]) -> Any:
        """Compile a function that releases the GIL, follows IEEE 754 throughout, and is kept on disk."""
        dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
        if numba.config.DISABLE_JIT:
            return dispatcher
        try:
            from softlabels._shared.jit._numba_cache import attach_cache

            attach_cache(dispatcher, lambda: self.cache)
        except (ImportError, AttributeError) as error:
            warn_unknown_numba(repr(error))
        return dispatcher

    @staticmethod
    def called(function: Callable[..., Any]) -> Any:
        """Compile a function that only kernels call: it is linked into their code, which is what is kept on disk."""
        return numba.njit(error_model="numpy")(function)

    @staticmethod
    def inlined(function: Callable[..., Any]) -> Any:
        """Compile a function as a part of the code of the kernels that call it."""
        return numba.njit(forceinline=True, error_model="numpy")(function)
