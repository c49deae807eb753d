"""Memory for the arrays of samples, reused as soon as nobody holds the sample.

A patch of 128 voxels a side has arrays of more than 32 MiB. glibc gives such memory back to the system at once, so that
each sample would touch its pages for the first time, which takes longer than reading the patch.
"""

from __future__ import annotations

import math
import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Bytes of unused memory that a process keeps.
KEPT_BYTES = 2**30


class BufferPool:
    """Uninitialised arrays whose memory is used again when they, and all views and tensors of them, are gone.

    Parameters
    ----------
    kept_bytes : int
        Unused memory to keep at most; what exceeds it is freed, first what has been unused for longest.

    Notes
    -----
    May be used by several threads, and after a fork. Memory is used again for arrays of about the same size: sizes are
    rounded up by at most an eighth, because boxes that are clipped at the border of a volume differ a little.

    Examples
    --------
    >>> pool = BufferPool()
    >>> first = pool.empty((2, 3), np.float32)
    >>> address = first.ctypes.data
    >>> part = first[0]
    >>> del first
    >>> pool.empty((6,), np.float32).ctypes.data == address  # `part` still needs it
    False
    >>> del part
    >>> pool.empty((6,), np.float32).ctypes.data == address
    True
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self._unused: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)

    def empty(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
        """Return an uninitialised array, in C order."""
        n_items, itemsize = math.prod(shape), np.dtype(dtype).itemsize
        n_bytes = _rounded_up(n_items * itemsize)
        try:
            memory = self._unused[n_bytes].pop()
        except IndexError:
            memory = np.empty(n_bytes, np.uint8)
        # numpy makes an array over a buffer the base of all its views: the memory is unused when that array dies.
        lent = np.frombuffer(memory.data, dtype, n_items)
        weakref.finalize(lent, self._take_back, memory).atexit = False
        return lent.reshape(shape)

    @property
    def unused_bytes(self) -> int:
        """Bytes that are kept for the next arrays."""
        return sum(n_bytes * len(blocks) for n_bytes, blocks in self._unused.items())

    def _take_back(self, memory: NDArray[np.uint8]) -> None:
        """Keep the memory of an array that is gone, unless too much is kept already."""
        if self.unused_bytes + memory.nbytes <= self.kept_bytes:
            self._unused[memory.nbytes].append(memory)


def _rounded_up(n_bytes: int) -> int:
    """Return one of the eight sizes between two powers of two.

    Examples
    --------
    >>> [_rounded_up(n_bytes) for n_bytes in (0, 24, 1000, 1025, 1152, 1153)]
    [0, 24, 1024, 1152, 1152, 1280]
    """
    step = 1 << max(0, n_bytes.bit_length() - 4)
    return -(-n_bytes // step) * step


#: The memory of the samples of this process.
SAMPLES = BufferPool()
