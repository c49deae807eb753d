"""The cache of one kernel, in place of numba's own: all that this package knows of numba's insides.

numba's own numbers its files in an index. Of two processes that begin together, for different signatures or processors,
both take the number 1; then one's code is found under the other's name, and every later start fails. It also readies
its compiler before it loads anything, and imports SciPy's linear algebra for it: half a second in every process.

Known to be so in numba 0.60 to 0.68. Where it is not, nothing is kept, and a warning says so.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from typing import Any

from numba.core.compiler import CompileResult
from numba.core.event import Listener, register
from numba.core.runtime import rtsys
from numba.core.serialize import dumps

from softlabels._shared.cache import PrivateCache, warn_unknown_numba
from softlabels._shared.compile_clock import clock


class _Compilations(Listener):  # type: ignore[misc]  # numba has no types
    """Tells the clock of this process when numba compiles. It does so in one thread at a time."""

    def on_start(self, event: Any) -> None:
        """Start the clock."""
        clock.start()

    def on_end(self, event: Any) -> None:
        """Stop it."""
        clock.end()


register("numba:compile", _Compilations())


def attach_cache(dispatcher: Any, cache: Callable[[], PrivateCache]) -> None:
    """Let a dispatcher ask a cache before it compiles for a signature, and keep there what it compiled.

    Parameters
    ----------
    dispatcher : numba dispatcher
        Of a function that is defined in a module, without a closure.
    cache : callable
        Returns the cache; first called when the kernel is.

    Raises
    ------
    AttributeError
        If numba's insides are not as expected.
    """
    known = (dispatcher._cache.load_overload, dispatcher._cache.save_overload, CompileResult._reduce)
    if not all(map(callable, (*known, CompileResult._rebuild, rtsys.initialize, dumps))):
        raise AttributeError("numba's cache is another")
    dispatcher._cache = _KernelCache(dispatcher.py_func, cache)


class _KernelCache:
    """What a dispatcher expects of its cache: one file for each signature and kind of processor, named after them."""

    def __init__(self, function: Any, cache: Callable[[], PrivateCache]):
        self._function, self._cache = function, cache

    @property
    def cache_path(self) -> str | None:
        """The folder, as numba's statistics show it."""
        folder = self._cache().folder
        return None if folder is None else str(folder)

    def load_overload(self, signature: Any, target_context: Any) -> CompileResult | None:
        """Return what was compiled for a signature, ready to be called, or None."""
        try:
            # Of all that the compiler needs, compiled code needs the functions that allocate arrays.
            rtsys.initialize(target_context)
            code = self._cache().load(self._file_name(signature, target_context.codegen()))
            return None if code is None else CompileResult._rebuild(target_context, *pickle.loads(code))
        except Exception as error:
            warn_unknown_numba(repr(error))
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep what was compiled for a signature."""
        try:
            if not result.library.has_dynamic_globals:
                self._cache().save(self._file_name(signature, result.codegen), dumps(result._reduce()))
        except Exception as error:
            warn_unknown_numba(repr(error))

    def flush(self) -> None:
        """Do nothing: numba calls this when a kernel is compiled anew, and the file is then replaced."""

    enable = disable = flush

    def _file_name(self, signature: Any, codegen: Any) -> str:
        """Return the name of the file for a signature, the processor with its features, and the bytecode."""
        bytecode = hashlib.sha256(self._function.__code__.co_code).hexdigest()
        key = f"{sys.implementation.cache_tag} {signature} {codegen.magic_tuple()} {bytecode}"
        return f"{self._function.__qualname__}-{hashlib.sha256(key.encode()).hexdigest()[:32]}.nbc"
