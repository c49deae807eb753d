"""exp(x) and exp(x) - 1 of float32 numbers <= 0 from additions and products alone: the same bits on every processor.

NumPy's own differ in the last bit between instruction sets; two hosts would then store different maps under one key.
"""

from __future__ import annotations

import numpy as np

_LOG2_E = np.float32(1.44269504088896341)
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
_SLAB = 1 << 14


def exp_nonpositive(x: np.ndarray) -> np.ndarray:
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
    return _by_slab(x, _exp)


def expm1_nonpositive(x: np.ndarray) -> np.ndarray:
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
    return _by_slab(x, _expm1)


def _by_slab(x: np.ndarray, function) -> np.ndarray:
    """Return a function of all elements, some at a time."""
    flat = np.ravel(x)
    found = np.empty(flat.shape, np.float32)
    for start in range(0, flat.size, _SLAB):
        part = slice(start, start + _SLAB)
        found[part] = function(flat[part])
    return found.reshape(np.shape(x))


def _exp(x: np.ndarray) -> np.ndarray:
    """Return exp(x) of a slab."""
    scale, rest = _parts(x)
    rest *= scale
    rest += scale
    rest[x < _LEAST] = 0
    return rest


def _expm1(x: np.ndarray) -> np.ndarray:
    """Return exp(x) - 1 of a slab."""
    scale, rest = _parts(x)
    rest *= scale
    scale -= np.float32(1)
    rest += scale
    return rest


def _parts(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return 2^k and exp(r) - 1 with x = k ln 2 + r and |r| <= ln 2 / 2."""
    r = np.maximum(x, _LEAST)
    k = np.rint(r * _LOG2_E)
    r -= k * _LN2_HIGH
    r -= k * _LN2_LOW
    rest = r * _POLYNOMIAL[0]
    for coefficient in _POLYNOMIAL[1:]:
        rest += coefficient
        rest *= r
    rest *= r
    rest += r
    # The exponent's bits of 2^k.
    scale = ((k.astype(np.int32) + np.int32(127)) << np.int32(23)).view(np.float32)
    return scale, rest
