"""A channel of a layer as the bytes of a NIfTI-1 file with 8 or 16 bits per voxel, its error known. Pure.

A viewer needs no more: a screen shows 256 levels of a colour scale.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.grid import Grid

_HEADER_BYTES, _OFFSET = 348, 352
_DATATYPES = {"uint8": (2, 8), "uint16": (512, 16)}
_MM = 2
#: Aligned to a scanner's or any other known space.
_SCANNER = 1


@dataclass(frozen=True)
class Coded:
    """Values as integers: ``codes * slope + inter``, with code 0 kept for what is not finite, where there is such.

    Attributes
    ----------
    codes : (D, H, W) ndarray of uint8 or uint16
    slope, inter : float
        float32 values, as NIfTI has them.
    error : float
        Largest distance of a finite value from its code's value, as measured.
    has_nonfinite : bool
        Whether code 0 stands for inf or nan; no finite value has it then.
    """

    codes: NDArray[np.unsignedinteger]
    slope: float
    inter: float
    error: float
    has_nonfinite: bool


def coded(values: ArrayLike, bits: int) -> Coded:
    """Return values as unsigned integers of 8 or 16 bits.

    Integers that fit are kept exactly, in 8 bits if these are enough; everything else is spread evenly between the
    smallest and the largest finite value.

    Parameters
    ----------
    values : (D, H, W) array_like of bool, integers or floats
        Not modified. inf and nan all get code 0, and the lowest finite value code 1.
    bits : {8, 16}

    Examples
    --------
    >>> coded(np.array([[[0.0, 0.4, 1.0]]]), 8).codes.tolist()
    [[[0, 102, 255]]]
    >>> coded(np.array([[[-1000.0, 30.0, np.inf]]]), 16)
    Coded(codes=array([[[   1, 1031,    0]]], dtype=uint16), slope=1.0, inter=-1001.0, error=0.0, has_nonfinite=True)
    """
    values = np.asarray(values)
    if values.dtype.kind != "f":
        values = values.astype(np.float64 if values.dtype.itemsize > 2 else np.float32)
    is_finite = np.isfinite(values)
    has_nonfinite = not bool(is_finite.all())
    finite = values[is_finite] if has_nonfinite else values.ravel()
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    is_integral = high - low < 2**bits - has_nonfinite and abs(low) < 2**24 and bool((finite == np.rint(finite)).all())
    dtype = np.dtype("uint8" if is_integral and high - low < 256 - has_nonfinite else f"uint{bits}")
    top = int(np.iinfo(dtype).max) - has_nonfinite
    # Of a constant, the size itself is the step that no rounding touches. A step must not be rounded to 0.
    step = np.float32(abs(low) if high == low else (high - low) / top)
    slope = 1.0 if is_integral else float(max(step, np.finfo(np.float32).smallest_subnormal))
    inter = float(np.float32(low - slope * has_nonfinite))
    codes = np.zeros(values.shape, dtype)
    scaled = np.clip(np.rint((finite - inter) / slope), has_nonfinite, np.iinfo(dtype).max).astype(dtype)
    codes[is_finite] = scaled
    error = float(np.abs(scaled * slope + inter - finite.astype(np.float64)).max(initial=0.0))
    return Coded(codes, slope, inter, error, has_nonfinite)


def nifti_bytes(coded: Coded, grid: Grid, display: tuple[float, float], step: tuple[int, int, int]) -> bytes:
    """Return a NIfTI-1 file.

    Parameters
    ----------
    coded : Coded
    grid : Grid
        Of the codes; written as sform.
    display : tuple of 2 floats
        Ends of the colour scale (``cal_min``, ``cal_max``).
    step : tuple of 3 ints
        Of how many voxels of the case one is drawn along each axis, (z, y, x). Together with the largest error
        and whether code 0 means not finite it is written as JSON into the field ``descrip``.

    Returns
    -------
    bytes
    """
    note = {"error": float(f"{coded.error:.3g}"), "step": step, "nonfinite": int(coded.has_nonfinite)}
    description = json.dumps(note, separators=(",", ":")).encode()
    datatype, bits = _DATATYPES[coded.codes.dtype.name]
    depth, height, width = coded.codes.shape
    z, y, x = grid.spacing
    header = bytearray(_OFFSET)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, 3, width, height, depth, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, datatype, bits)
    struct.pack_into("<8f", header, 76, 1.0, x, y, z, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<3f", header, 108, _OFFSET, coded.slope, coded.inter)
    struct.pack_into("<B", header, 123, _MM)
    struct.pack_into("<2f", header, 124, display[1], display[0])
    struct.pack_into("<80s", header, 148, description)
    struct.pack_into("<2h", header, 252, 0, _SCANNER)
    struct.pack_into("<12f", header, 280, *grid.to_nifti_affine()[:3].ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    return bytes(header) + coded.codes.astype(f"<u{bits // 8}", copy=False).tobytes()
