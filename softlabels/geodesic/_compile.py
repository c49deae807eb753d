"""Compilation of the CPU kernels, kept on disk so that the next process starts at once.

numba recompiles a cached function when its own file changes, but not when a file that it calls into does. So the cache
lies in a directory named after the sources of all kernels and the versions at work. Many jobs may share it: numba
writes each file under a temporary name and renames it, and tells processors apart by itself.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from functools import cache
from pathlib import Path

import llvmlite
import numba

#: The modules that compiled code comes from.
_SOURCES = ("metric", "_compile", "_simd", "_cpu_layout", "_cpu_kernels", "_cpu_sweeps", "_certify_pass", "_reference")


@cache
def cache_directory() -> Path | None:
    """Return where compiled kernels are kept; None, with a warning, if it cannot be written to."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for module in _SOURCES:
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    directory = Path(os.environ.get("NUMBA_CACHE_DIR") or home / "softlabels") / f"geodesic-{digest.hexdigest()[:16]}"
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


def compiled(function):
    """Compile a function that releases the GIL, follows IEEE 754 throughout, and is kept on disk."""
    directory, before = cache_directory(), numba.config.CACHE_DIR
    numba.config.CACHE_DIR = "" if directory is None else str(directory)
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=directory is not None)(function)
    finally:
        numba.config.CACHE_DIR = before


def inlined(function):
    """Compile a function as a part of the kernels that call it."""
    return numba.njit(forceinline=True, error_model="numpy")(function)
