"""Writing NIfTI-1 with numpy alone: the only writer, because machines that only train have no image library."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.files import atomic_writer
from softlabels.errors import InputError

SUFFIXES = (".nii.gz", ".nii")
_HEADER_BYTES, _OFFSET = 348, 352
_CODES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256, "uint16": 512, "uint32": 768}
_MM_AND_SECONDS = 10
_LONGEST_AXIS = 2**15 - 1
#: Aligned to a scanner's or any other known space.
_SCANNER = 1


def write_nifti_file(values: NDArray[Any], affine: NDArray[np.float64], path: str | os.PathLike[str]) -> Path:
    """Write a volume as NIfTI-1, in one step.

    Parameters
    ----------
    values : (D, H, W) or (C, D, H, W) ndarray
        bool is written as uint8. Channels become the fourth axis of the file. Not modified.
    affine : (4, 4) float64 array
        Voxel index (x, y, z, 1) to RAS+ mm, without shear; written as sform and as qform.
    path : path
        Ends in .nii.gz or .nii.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the suffix or the dtype is another, or an axis is longer than the format allows.
    StoreError
        If the file cannot be written.
    """
    path = Path(path)
    suffix = next((s for s in SUFFIXES if path.name.endswith(s)), None)
    if suffix is None:
        raise InputError(f"NIfTI: got {path.name!r}, expected a name that ends in {' or '.join(SUFFIXES)}")
    values = values.astype(np.uint8) if values.dtype == bool else values
    if values.dtype.name not in _CODES or values.ndim not in (3, 4):
        raise InputError(
            f"NIfTI: got {values.dtype} {values.shape}, expected 3 or 4 axes of one of {', '.join(_CODES)}. Convert it"
        )
    if max(values.shape) > _LONGEST_AXIS:
        raise InputError(f"NIfTI: got a volume of {values.shape}, expected at most {_LONGEST_AXIS} along each axis")
    header = _header(values.shape, values.dtype, np.asarray(affine, np.float64))
    with atomic_writer(path) as file:
        # No time in the gzip header: equal volumes make equal files.
        packed = gzip.GzipFile("", "wb", 6, file, mtime=0) if suffix == ".nii.gz" else file
        packed.write(header)
        for volume in values if values.ndim == 4 else values[None]:
            packed.write(np.ascontiguousarray(volume, volume.dtype.newbyteorder("<")).data)
        if packed is not file:
            packed.close()
    return path


def _header(shape: tuple[int, ...], dtype: np.dtype[Any], affine: NDArray[np.float64]) -> bytes:
    """Return the header and the four bytes that say that no extension follows."""
    n_channels, (depth, height, width) = (shape[0] if len(shape) == 4 else 1), shape[-3:]
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    rotation = affine[:3, :3] / sides
    handedness = float(np.sign(np.linalg.det(rotation)))
    rotation[:, 2] *= handedness
    header = bytearray(_OFFSET)
    struct.pack_into("<i", header, 0, _HEADER_BYTES)
    struct.pack_into("<8h", header, 40, len(shape), width, height, depth, n_channels, 1, 1, 1)
    struct.pack_into("<2h", header, 70, _CODES[dtype.name], 8 * dtype.itemsize)
    struct.pack_into("<8f", header, 76, handedness, *sides, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<3f", header, 108, _OFFSET, 1.0, 0.0)
    struct.pack_into("<B", header, 123, _MM_AND_SECONDS)
    struct.pack_into("<2h", header, 252, _SCANNER, _SCANNER)
    struct.pack_into("<6f", header, 256, *_quaternion(rotation), *affine[:3, 3])
    struct.pack_into("<12f", header, 280, *affine[:3].ravel())
    struct.pack_into("<4s", header, 344, b"n+1\0")
    return bytes(header)


def _quaternion(rotation: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return b, c, d of the unit quaternion (a, b, c, d) with a >= 0 of a rotation.

    It is the eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack, J. Guid. Control Dyn. 23(6),
    2000), which is well conditioned for every rotation, half turns included.

    Examples
    --------
    >>> _quaternion(np.diag([-1.0, -1.0, 1.0]))
    (0.0, 0.0, 1.0)
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    a, b, c, d = np.linalg.eigh(symmetric)[1][:, -1]
    first = next(value for value in (a, d, c, b) if abs(value) > 1e-12)
    sign = 1.0 if first > 0 else -1.0
    return float(sign * b) + 0.0, float(sign * c) + 0.0, float(sign * d) + 0.0
