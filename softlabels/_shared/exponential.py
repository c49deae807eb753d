"""exp(x) and exp(x) - 1 of float32 numbers <= 0 from additions and products alone: the same bits on every processor.

NumPy's own differ in the last bit between instruction sets; two hosts would then store different maps under one key.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.jit import Compiler

#: Where compiled code comes from; kernels that call into it name it among their own sources.
SOURCE = Path(__file__)
_compiled = Compiler("exponential", [SOURCE]).compiled

_ONE, _LOG2_E = np.float32(1), np.float32(1.44269504088896341)
#: ln 2 in two parts, the first with so few bits that its product with an exponent is exact.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
#: Minimax coefficients of (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2, highest power first (Cephes, expf).
_POLYNOMIAL = tuple(
    np.float32(c)
    for c in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
#: Below it exp(x) is no normal float32; it counts as 0.
_LEAST = np.float32(-87.0)
#: Numbers handled at a time: the temporaries stay in the first cache.
BLOCK = 1 << 10


def exp_nonpositive(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return exp(x).

    Parameters
    ----------
    x : (...) float32 array
        At most 0; -inf is allowed. Not modified.

    Returns
    -------
    (...) float32 array
        Relative error below 1e-7; 0 for x < -87.

    Examples
    --------
    >>> exp_nonpositive(np.float32([0, -1, -100])).tolist()
    [1.0, 0.3678794503211975, 0.0]
    """
    found: NDArray[np.float32] = _exponentials(np.ravel(x), 0)
    return found.reshape(np.shape(x))


def expm1_nonpositive(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return exp(x) - 1, precise near 0, too.

    Parameters
    ----------
    x : (...) float32 array
        At most 0; -inf is allowed. Not modified.

    Returns
    -------
    (...) float32 array
        Relative error below 1e-7.

    Examples
    --------
    >>> expm1_nonpositive(np.float32([0, -1e-6, -100])).tolist()
    [0.0, -9.999995427278918e-07, -1.0]
    """
    found: NDArray[np.float32] = _exponentials(np.ravel(x), 1)
    return found.reshape(np.shape(x))


@_compiled
def exponentials_of_block(
    x: NDArray[np.float32], less: int, out: NDArray[np.float32], exponents: NDArray[np.int32]
) -> None:
    """Write exp(x) - less for less = 0 or 1 of a 1D block; `exponents` is int32 scratch of its size."""
    scale = exponents.view(np.float32)
    for i in range(x.size):
        # x = k ln 2 + r with |r| <= ln 2 / 2.
        r = max(x[i], _LEAST)
        k = np.rint(r * _LOG2_E)
        r -= k * _LN2_HIGH
        r -= k * _LN2_LOW
        # The polynomial of exp(r) - 1.
        rest = r * _POLYNOMIAL[0]
        rest = (rest + _POLYNOMIAL[1]) * r
        rest = (rest + _POLYNOMIAL[2]) * r
        rest = (rest + _POLYNOMIAL[3]) * r
        rest = (rest + _POLYNOMIAL[4]) * r
        rest = (rest + _POLYNOMIAL[5]) * r
        out[i] = rest * r + r
        # The exponent's bits of 2^k.
        exponents[i] = (np.int32(k) + np.int32(127)) << np.int32(23)
    if less:
        for i in range(x.size):
            out[i] = out[i] * scale[i] + (scale[i] - _ONE)
    else:
        for i in range(x.size):
            out[i] = np.float32(0) if x[i] < _LEAST else out[i] * scale[i] + scale[i]


@_compiled
def _exponentials(x: NDArray[np.float32], less: int) -> NDArray[np.float32]:
    """Return exp(x) - less of a 1D array."""
    out, exponents = np.empty(x.size, np.float32), np.empty(BLOCK, np.int32)
    for start in range(0, x.size, BLOCK):
        part = x[start : start + BLOCK]
        exponentials_of_block(part, less, out[start : start + BLOCK], exponents[: part.size])
    return out
