"""How the values of a layer are stored: as few bits as they need, with a bound that is checked on every value written.

`ScaleOffset` maps an interval to all values of an unsigned integer: soft labels in [0, 1] need 8 bits. `BitRound` keeps
the leading mantissa bits of float32, for distances, where infinity means unreachable. `Lossless` changes nothing. The
names are those of numcodecs and Zarr.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from softlabels.errors import InputError

_LEVELS = {"uint8": 2**8 - 1, "uint16": 2**16 - 1}
_LOSSLESS_DTYPES = (
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"
)  # fmt: skip
_MANTISSA_BITS, _INFINITY, _LARGEST_EXPONENT = 23, 0x7F800000, 0x7F000000
#: Values that are rounded at a time: two arrays of 128 KiB.
_ROUNDED_TOGETHER = 2**15


class _Decoding(ABC):
    """Decoding in two steps: part by part a copy, and what can be done to all parts at once, which is faster."""

    @abstractmethod
    def copy(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Write stored values to a part of an array of values, as `finish` takes them."""

    def finish(self, out: NDArray[Any]) -> None:  # noqa: B027  # most encodings have nothing left to do
        """Make values of what `copy` has written, in place."""

    @abstractmethod
    def decoded_dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of values that are stored as `stored`."""

    def decode(self, stored: NDArray[Any], out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the values of what is stored, written to `out` if given."""
        if out is None:
            out = np.empty(stored.shape, self.decoded_dtype(stored.dtype))
        self.copy(stored, out)
        self.finish(out)
        return out


@dataclass(frozen=True)
class ScaleOffset(_Decoding):
    """Values of [lo, hi] as the nearest of 256 or 65536 evenly spaced levels; `lo` and `hi` themselves are exact.

    Parameters
    ----------
    dtype : {"uint8", "uint16"}
        What is stored.
    lo, hi : float
        The interval, lo < hi. Both come back exactly when they are float32 numbers.

    Examples
    --------
    >>> code = ScaleOffset("uint8", 0.0, 1.0)
    >>> stored, error = code.encode(np.array([0.0, 0.5, 1.0], np.float32))
    >>> stored
    array([  0, 128, 255], dtype=uint8)
    >>> code.decode(stored)
    array([0.       , 0.5019608, 1.       ], dtype=float32)
    >>> round(code.bound, 5), error <= code.bound
    (0.00196, True)
    """

    dtype: str
    lo: float
    hi: float

    def __post_init__(self) -> None:
        if self.dtype not in _LEVELS:
            raise InputError(f"scale-offset encoding: got dtype {self.dtype!r}, expected 'uint8' or 'uint16'")
        if not (np.isfinite([self.lo, self.hi]).all() and self.lo < self.hi):
            raise InputError(f"scale-offset encoding: got [{self.lo}, {self.hi}], expected finite bounds with lo < hi")

    @classmethod
    def signed(cls, dtype: str) -> ScaleOffset:
        """Return the encoding of [-1, 1] in which -1, 0 and 1 are exact, so that no value changes its sign.

        Examples
        --------
        >>> code = ScaleOffset.signed("uint8")
        >>> stored, _ = code.encode(np.array([-1.0, -0.001, 0.0, 1.0], np.float32))
        >>> code.decode(stored).tolist()
        [-1.0, 0.0, 0.0, 1.0]
        """
        # One level is left over above 1, because an even number of levels has none in the middle.
        levels = _LEVELS[dtype]
        return cls(dtype, -1.0, -1.0 + 2.0 * levels / (levels - 1))

    @property
    def scale(self) -> float:
        """The distance of two levels."""
        return (self.hi - self.lo) / _LEVELS[self.dtype]

    @property
    def bound(self) -> float:
        """The largest absolute error that a value may suffer: half a level and the rounding of float32."""
        return 0.5 * self.scale + 2.0**-23 * max(abs(self.lo), abs(self.hi))

    def for_values(self, dtype: DTypeLike) -> ScaleOffset:
        """Return the encoding of values of `dtype`: itself."""
        return self

    def stored_dtype(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return the dtype on disk of values of `dtype`."""
        return np.dtype(self.dtype)

    def values_dtype(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return the dtype that `decode` gives."""
        return np.dtype(np.float32)

    def encode(self, values: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """Return the stored integers and the largest absolute error; raise InputError outside [lo, hi] or at NaN."""
        values = np.asarray(values)
        if not values.size:
            return values.astype(self.dtype), 0.0
        low, high = values.min(), values.max()
        if not (low >= self.lo and high <= self.hi):
            raise InputError(
                f"values for {self.dtype} storage: got a range of [{low}, {high}], expected [{self.lo}, {self.hi}] "
                "without NaN; clip them first or widen the interval"
            )
        exact = values.astype(np.float64)
        level = exact - self.lo
        level /= self.scale
        stored = np.rint(level, out=level).astype(self.dtype)
        error = np.subtract(self.decode(stored), exact, out=level)
        return stored, float(max(error.max(), -error.min()))

    def decoded_dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return float32."""
        return np.dtype(np.float32)

    def copy(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the stored integers, as floats."""
        if _line_of_levels(self.dtype, self.lo, self.hi) is not None:
            np.copyto(out, stored)
        else:
            # Each stored value is an index of the table: "wrap" only switches off numpy's slow bounds check.
            np.take(self.levels, stored, out=out, mode="wrap")

    def finish(self, out: NDArray[Any]) -> None:
        """Turn integers into values."""
        line = _line_of_levels(self.dtype, self.lo, self.hi)
        if line is not None:
            zero, unit = line
            if zero:
                np.subtract(out, zero, out=out)
            np.divide(out, unit, out=out)

    @property
    def levels(self) -> NDArray[np.float32]:
        """The float32 value of each stored integer: 256 or 65536 of them, read-only."""
        return _values_of_levels(self.dtype, self.lo, self.hi)

    def to_json(self) -> dict[str, Any]:
        """Return the encoding as plain JSON values."""
        return {"kind": "integer", "dtype": self.dtype, "lo": float(self.lo), "hi": float(self.hi)}


@lru_cache(maxsize=64)
def _values_of_levels(dtype: str, lo: float, hi: float) -> NDArray[np.float32]:
    """Return the float32 value of each level of a `ScaleOffset`."""
    levels = _LEVELS[dtype]
    # Weights of both ends, so that the first and the last level are lo and hi to the last bit.
    step = np.arange(levels + 1) / levels
    table = ((1.0 - step) * lo + step * hi).astype(np.float32)
    # A level that misses zero by rounding alone would give it a sign.
    table[np.abs(table) < 2.0**-40 * (hi - lo)] = 0.0
    table.flags.writeable = False
    return table


@lru_cache(maxsize=64)
def _line_of_levels(dtype: str, lo: float, hi: float) -> tuple[np.float32, np.float32] | None:
    """Return (zero, unit) where ``(level - zero) / unit`` in float32 gives the bits of the table, else None.

    Two operations on floats take a third of the time of a table.

    Examples
    --------
    >>> [float(number) for number in _line_of_levels("uint8", -1.0, 1.0)]
    [127.5, 127.5]
    """
    table = _values_of_levels(dtype, lo, hi)
    zero, unit = np.float32(-lo * (len(table) - 1) / (hi - lo)), np.float32((len(table) - 1) / (hi - lo))
    line = (np.arange(len(table), dtype=np.float32) - zero) / unit
    return (zero, unit) if np.array_equal(line.view(np.uint32), table.view(np.uint32)) else None


@dataclass(frozen=True)
class BitRound(_Decoding):
    """float32 with `keep_bits` of its 23 mantissa bits, rounded to nearest, ties to even; infinities stay.

    The rounding is that of numcodecs' codec of this name.

    Parameters
    ----------
    keep_bits : int
        1 to 23. The relative error is at most 2**-(keep_bits + 1); 23 changes nothing.

    Examples
    --------
    >>> stored, error = BitRound(keep_bits=2).encode(np.array([1.0, 1.2, 7.9, np.inf], np.float32))
    >>> stored
    array([1.  , 1.25, 8.  ,  inf], dtype=float32)
    >>> round(error, 4)  # 1.2 moved by 0.05, and 7.9 = 4 * 1.975 by 0.025 of 4
    0.05
    """

    keep_bits: int

    def __post_init__(self) -> None:
        if type(self.keep_bits) is not int or not 1 <= self.keep_bits <= _MANTISSA_BITS:
            raise InputError(f"bit-round encoding: got keep_bits {self.keep_bits!r}, expected an integer in 1..23")

    @property
    def bound(self) -> float:
        """The largest relative error that a normal float32 may suffer; 0 if nothing is rounded."""
        return 0.0 if self.keep_bits == _MANTISSA_BITS else 2.0 ** -(self.keep_bits + 1)

    def for_values(self, dtype: DTypeLike) -> BitRound:
        """Return the encoding of values of `dtype`: itself."""
        return self

    def stored_dtype(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return the dtype on disk of values of `dtype`."""
        if np.dtype(dtype) != np.float32:
            raise InputError(f"values for rounded storage: got {np.dtype(dtype)}, expected float32")
        return np.dtype(np.float32)

    def values_dtype(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return the dtype that `decode` gives."""
        return np.dtype(np.float32)

    def encode(self, values: NDArray[Any], out: NDArray[np.float32] | None = None) -> tuple[NDArray[Any], float]:
        """Return the rounded values and a tight bound of their relative error; raise InputError at NaN or overflow.

        `out`, if given, is where the rounded values go: an array of the shape of `values`, or `values` itself.
        """
        # A memory map would be another object than the same memory as an array.
        values = np.asarray(values)
        before = np.asarray(values, self.stored_dtype(values.dtype), order="C")
        if out is not None and out.flags.c_contiguous:
            after = out
        else:
            after = np.empty_like(before) if before is values else before
        step = _round(before.reshape(-1).view(np.uint32), after.reshape(-1).view(np.uint32), self.keep_bits)
        if out is not None and after is not out:
            out[...] = after
        return after, step * 2.0**-_MANTISSA_BITS

    def decoded_dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return float32."""
        return np.dtype(np.float32)

    def copy(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the values as they are stored."""
        _copy_rows(stored, out)

    def to_json(self) -> dict[str, Any]:
        """Return the encoding as plain JSON values."""
        return {"kind": "rounded", "keep_bits": self.keep_bits}


def _round(before: NDArray[np.uint32], after: NDArray[np.uint32], keep_bits: int) -> int:
    """Round bit patterns, which may be done in place; return how many units in the last place one moved at most.

    The arithmetic is that of numcodecs.BitRound. It is done in blocks that stay in a core's cache, in the same few
    arrays, because arrays of the size of a chunk are new memory each time: rounding then takes three times as long.
    """
    n_dropped = _MANTISSA_BITS - keep_bits
    odd, half = (np.uint32(1), np.uint32(2 ** (n_dropped - 1) - 1)) if n_dropped else (np.uint32(0), np.uint32(0))
    kept, magnitude = np.uint32(2**32 - 2**n_dropped), np.uint32(0x7FFFFFFF)
    scratch = np.empty((2, min(before.size, _ROUNDED_TOGETHER)), np.uint32)
    step = 0
    for start in range(0, before.size, _ROUNDED_TOGETHER):
        block = before[start : start + _ROUNDED_TOGETHER]
        rounded, other = scratch[:, : block.size]
        largest = np.bitwise_and(block, magnitude, out=other).max()
        if largest > _INFINITY:
            raise InputError("values for rounded storage: got NaN, expected numbers or infinities")
        np.right_shift(block, np.uint32(n_dropped), out=rounded)
        np.bitwise_and(rounded, odd, out=rounded)
        np.add(rounded, half, out=rounded)
        np.add(rounded, block, out=rounded)
        np.bitwise_and(rounded, kept, out=rounded)
        moved = np.subtract(rounded, block, out=other).view(np.int32)
        # Only from the largest exponent does rounding lead to infinity.
        if largest >= _LARGEST_EXPONENT and ((rounded & magnitude == _INFINITY) & (moved != 0)).any():
            raise InputError("values for rounded storage: got values that round to infinity, expected below 3e38")
        step = max(step, int(moved.max()), -int(moved.min()))
        after[start : start + _ROUNDED_TOGETHER] = rounded
    return step


@dataclass(frozen=True)
class Lossless(_Decoding):
    """Every value as it is; booleans become the integers 0 and 1, because few viewers know booleans.

    Parameters
    ----------
    is_bool : bool
        Whether the values are booleans; `for_values` finds out.

    Examples
    --------
    >>> stored, error = Lossless().encode(np.array([True, False]))
    >>> stored, error
    (array([1, 0], dtype=uint8), 0.0)
    """

    is_bool: bool = False

    @property
    def bound(self) -> float:
        """The error that a value may suffer: none."""
        return 0.0

    def for_values(self, dtype: DTypeLike) -> Lossless:
        """Return the encoding of values of `dtype`, which gives booleans back as booleans."""
        return replace(self, is_bool=np.dtype(dtype) == np.bool_)

    def stored_dtype(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return the dtype on disk of values of `dtype`, or raise InputError for one that readers lack."""
        name = np.dtype(dtype).name
        if name not in _LOSSLESS_DTYPES:
            raise InputError(f"values for lossless storage: got {name}, expected one of {', '.join(_LOSSLESS_DTYPES)}")
        return np.dtype("uint8" if name == "bool" else name)

    def values_dtype(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return the dtype that `decode` gives: the one that came."""
        return np.dtype(dtype).newbyteorder("=")

    def encode(self, values: NDArray[Any]) -> tuple[NDArray[Any], float]:
        """Return the values, booleans as 0 and 1, and the error 0."""
        values = np.asarray(values)
        return values.astype(self.stored_dtype(values.dtype), copy=False), 0.0

    def decoded_dtype(self, stored: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype that came."""
        return np.dtype(np.bool_) if self.is_bool else stored

    def copy(self, stored: NDArray[Any], out: NDArray[Any]) -> None:
        """Write the values as they came."""
        _copy_rows(stored, out)

    def to_json(self) -> dict[str, Any]:
        """Return the encoding as plain JSON values."""
        return {"kind": "exact", "is_bool": self.is_bool}


Encoding = ScaleOffset | BitRound | Lossless
#: What entries on disk call them, since before they had the names of numcodecs.
_KINDS: dict[str, type[Encoding]] = {"integer": ScaleOffset, "rounded": BitRound, "exact": Lossless}


def encoding_from_json(data: dict[str, Any]) -> Encoding:
    """Return the encoding that `to_json` wrote."""
    fields = dict(data)
    return _KINDS[fields.pop("kind")](**fields)


def _copy_rows(stored: NDArray[Any], out: NDArray[Any]) -> None:
    """Copy bytes to an array of items of the same size, a row at a time: a third faster than item by item."""
    if out.size and out.strides[-1:] == stored.strides[-1:] == (out.itemsize,):
        row = f"V{out.shape[-1] * out.itemsize}"
        out, stored = out.view(row), stored.view(row)
    elif out.dtype == np.bool_:
        stored = stored.view(np.bool_)
    np.copyto(out, stored)
