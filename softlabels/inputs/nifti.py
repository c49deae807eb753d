"""Headers of NIfTI-1 and NIfTI-2 files (`.nii`, `.nii.gz`; `.hdr` with `.img` or `.img.gz`).

Written from the format's definition (nifti1.h, nifti2.h): affine by sform if its code is set, else by qform.

nibabel's header classes were tried in place of the table of fields, the data types and the quaternion: 110 statements
instead of 113, because every check here remains, a `KeyError` for an unknown data type, a refusal of pixdim[0] = 0,
which the definition allows, and a tenth of a second to import it in every job.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.foreign import unknown_format
from softlabels.inputs.header import DataFile, Header, checked_geometry, checked_sizes, shortest_decimal
from softlabels.inputs.stream import GZIP, Stream

#: Name of each field: (offset, format) in the two versions.
_FIELDS_1 = {
    "dim": (40, "8h"), "datatype": (70, "h"), "bitpix": (72, "h"), "pixdim": (76, "8f"), "vox_offset": (108, "f"),
    "slope": (112, "f"), "intercept": (116, "f"), "units": (123, "B"), "qform_code": (252, "h"),
    "sform_code": (254, "h"), "quaternion": (256, "3f"), "offset": (268, "3f"), "srow": (280, "12f"),
}  # fmt: skip
_FIELDS_2 = {
    "datatype": (12, "h"), "bitpix": (14, "h"), "dim": (16, "8q"), "pixdim": (104, "8d"), "vox_offset": (168, "q"),
    "slope": (176, "d"), "intercept": (184, "d"), "qform_code": (344, "i"), "sform_code": (348, "i"),
    "quaternion": (352, "3d"), "offset": (376, "3d"), "srow": (400, "12d"), "units": (500, "i"),
}  # fmt: skip
#: Size of the header: (fields, where its magic is, magic of one file, magic of two files).
_VERSIONS = {
    348: (_FIELDS_1, 344, b"n+1\0", b"ni1\0"),
    540: (_FIELDS_2, 4, b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"),
}
_DTYPES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_MAX_EXTENSION = 1 << 26
#: What b^2 + c^2 + d^2 of float32 leave of 1 counts as 0 below this (nifti1_io.c, nifti_quatern_to_mat44).
_NO_REST = 1e-7
_EPSILON = float(np.finfo(np.float32).eps)

Fields = dict[str, tuple[Any, ...]]
Triple = tuple[float, float, float]


def read_header(stream: Stream, start: bytes) -> Header:
    """Read the header of a NIfTI file whose first 4 bytes, `start`, are already read.

    Raises
    ------
    InputError
        The file is not NIfTI, or a field contradicts another or makes no sense.
    """
    path = stream.path
    order = next((o for o in "<>" if struct.unpack(f"{o}i", start)[0] in _VERSIONS), None)
    if order is None:
        raise InputError(unknown_format(path, stream.start))
    size = struct.unpack(f"{order}i", start)[0]
    fields, magic_at, magic, magic_of_pair = _VERSIONS[size]
    block = start + stream.read(size - 4)
    found = block[magic_at : magic_at + len(magic)]
    if found not in (magic, magic_of_pair):
        raise InputError(
            f"{path}: got magic {found[:4]!r}, expected NIfTI ({magic[:3]!r}, or {magic_of_pair[:3]!r} for a pair); "
            "Analyze does not say where left is: convert it with software that knows how it was written"
        )
    raw: Fields = {name: struct.unpack_from(order + form, block, at) for name, (at, form) in fields.items()}
    if size == 348:
        raw["pixdim"] = tuple(shortest_decimal(v) for v in raw["pixdim"])
    notes: list[str] = []
    size_xyz, n_channels = _sizes(path, raw["dim"])
    spacing, unit = _spacing(path, raw, size_xyz, notes)
    affine, noise_mm = _affine(path, raw, spacing, unit, size_xyz, notes)
    data = _data_of_pair(path, found) if found == magic_of_pair else None
    if data:
        stream.read_rest(_MAX_EXTENSION)
    return Header(
        dtype=_dtype(path, raw, order),
        size_xyz=size_xyz,
        n_channels=n_channels,
        channels_first=False,
        affine=affine,
        spacing_xyz=spacing,
        noise_mm=noise_mm,
        skip=_skip(path, raw["vox_offset"][0], 0 if data else size),
        data=data,
        scale=_scale(path, raw),
        notes=notes,
    )


def is_nifti(start: bytes) -> bool:
    """Whether a file that begins with these 4 bytes may be NIfTI, which is then read or refused by name."""
    return any(struct.unpack(f"{order}i", start)[0] in _VERSIONS for order in "<>")


def _data_of_pair(path: Path, magic: bytes) -> DataFile:
    """Return the file of samples that belongs to a header without any."""
    name = re.sub(r"\.hdr(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    found = [one for one in (path.with_name(f"{name}.img"), path.with_name(f"{name}.img.gz")) if one.is_file()]
    if len(found) != 1:
        raise InputError(
            f"{path}: got magic {magic[:3]!r}, a header without samples, and {len(found)} files of them; expected one "
            f"of {name}.img and {name}.img.gz beside it"
        )
    return DataFile(found[0], GZIP if found[0].suffix == ".gz" else None)


def _sizes(path: Path, dim: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
    """Return (x, y, z) sizes and the number of channels, which may be the fourth or (vector images) fifth axis."""
    if not 1 <= dim[0] <= 7:
        raise InputError(f"{path}: got {dim[0]} dimensions, expected 1..7; its header is damaged")
    sizes = checked_sizes(path, dim[1 : dim[0] + 1]) + (1,) * (7 - dim[0])
    beyond = [n for n in sizes[3:] if n > 1]
    if len(beyond) > 1:
        raise InputError(f"{path}: got sizes {list(sizes)}, expected 3 axes in space and at most one of channels")
    width, height, depth = sizes[:3]
    return (width, height, depth), beyond[0] if beyond else 1


def _dtype(path: Path, raw: Fields, order: str) -> np.dtype[Any]:
    """Return the dtype of the samples."""
    code, bits = raw["datatype"][0], raw["bitpix"][0]
    if code not in _DTYPES:
        raise InputError(
            f"{path}: got NIfTI datatype {code}, expected real numbers; convert colour or complex data first"
        )
    dtype = np.dtype(order + _DTYPES[code])
    if bits != 8 * dtype.itemsize:
        raise InputError(f"{path}: got {bits} bits a voxel for {dtype.name}; its header is damaged")
    return dtype


def _skip(path: Path, offset: float, size: int) -> int:
    """Return the bytes between the header and the samples (extensions)."""
    if not (size <= offset <= _MAX_EXTENSION and offset == int(offset)):
        least = size + 4 if size else 0
        raise InputError(f"{path}: got data offset {offset}, expected {least} or more; its header is damaged")
    return int(offset) - size


def _scale(path: Path, raw: Fields) -> tuple[float, float] | None:
    """Return (slope, intercept), or None if values are the stored samples (slope 0 or NaN: not set)."""
    slope, intercept = raw["slope"][0], raw["intercept"][0]
    if slope == 0 or np.isnan(slope) or (slope, intercept) == (1, 0):
        return None
    if not np.isfinite([slope, intercept]).all():
        raise InputError(f"{path}: got scaling {slope} and {intercept}, expected finite numbers; its header is damaged")
    return slope, intercept


def _spacing(path: Path, raw: Fields, size_xyz: tuple[int, int, int], notes: list[str]) -> tuple[Triple, float]:
    """Return the voxel size (x, y, z) in mm, and mm for one unit of the header."""
    code = raw["units"][0] & 7
    if code not in _MM_PER_UNIT:
        raise InputError(f"{path}: got unit code {code}, expected metre, millimetre or micron; its header is damaged")
    unit = _MM_PER_UNIT[code]
    spacing = [float(v) for v in raw["pixdim"][1:4]]
    for axis in range(3):
        if spacing[axis] == 0 and size_xyz[axis] == 1:
            spacing[axis] = 1.0 / unit
            notes.append(f"no voxel size along the flat axis {'xyz'[axis]}: 1 mm taken")
    checked_geometry(path, np.array(spacing), "voxel size (pixdim)")
    if min(spacing) <= 0:
        raise InputError(f"{path}: got voxel size {spacing}, expected values > 0; repair its header (pixdim)")
    x, y, z = (v * unit for v in spacing)
    return (x, y, z), unit


def _affine(
    path: Path, raw: Fields, spacing: Triple, unit: float, size_xyz: tuple[int, int, int], notes: list[str]
) -> tuple[NDArray[np.float64], float]:
    """Return voxel (x, y, z, 1) to RAS+ mm, and how far in mm the rounding of the fields may move a corner.

    The two ways in which a header can say it are compared.
    """
    q_code, s_code = raw["qform_code"][0], raw["sform_code"][0]
    qform, noise_mm = _qform(path, raw, spacing, unit, size_xyz) if q_code > 0 else (None, 0.0)
    if s_code <= 0:
        if qform is not None:
            return qform, noise_mm
        notes.append("no orientation in the header (sform and qform code 0): axes taken as stored")
        return np.diag([*spacing, 1.0]), 0.0
    sform = checked_geometry(path, np.vstack([np.reshape(raw["srow"], (3, 4)), [0, 0, 0, 1]]).astype(float), "sform")
    sform[:3] *= unit
    if qform is not None:
        apart = _corner_distance(sform, qform, size_xyz)
        are_apart = apart > 0.1 * min(spacing) + noise_mm
        if are_apart and s_code == q_code:
            raise InputError(
                f"{path}: sform and qform both have code {s_code} but put corners {apart:.3g} mm apart; "
                "repair its header so that they agree"
            )
        if are_apart:
            notes.append(f"sform (code {s_code}, taken) and qform (code {q_code}) name different spaces")
    return sform, 0.0


def _qform(
    path: Path, raw: Fields, spacing: Triple, unit: float, size_xyz: tuple[int, int, int]
) -> tuple[NDArray[np.float64], float]:
    """Return the affine of the quaternion fields, and how far in mm their rounding may move a corner."""
    b, c, d = (float(v) for v in raw["quaternion"])
    rest = 1.0 - (b * b + c * c + d * d)
    if not (np.isfinite([b, c, d]).all() and rest > -1e-4):
        raise InputError(f"{path}: got quaternion {(b, c, d)}, expected a rotation; repair its header")
    # As in the definition's own code: what is left by rounding must not turn a half turn further.
    a = np.sqrt(rest) if rest >= _NO_REST else 0.0
    # a is the root of what the others leave of 1: where that is little, their last bits turn the volume.
    angle = 2.0 * min(_EPSILON / a if a > 0 else np.inf, np.sqrt(_NO_REST))
    extent = float(np.linalg.norm([(n - 1) * side for n, side in zip(size_xyz, spacing, strict=True)]))
    length = np.sqrt(a * a + b * b + c * c + d * d)
    a, b, c, d = a / length, b / length, c / length, d / length
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    handed = -1.0 if raw["pixdim"][0] < 0 else 1.0
    affine = np.eye(4)
    affine[:3, :3] = rotation * np.array([spacing[0], spacing[1], spacing[2] * handed])
    affine[:3, 3] = np.array(raw["offset"], float) * unit
    return checked_geometry(path, affine, "qform"), float(angle * extent)


def _corner_distance(first: NDArray[np.float64], second: NDArray[np.float64], size_xyz: tuple[int, int, int]) -> float:
    """Return the largest distance in mm, per coordinate, between the corners that two affines give."""
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in size_xyz], [1])).reshape(4, -1)
    return float(np.abs((first - second) @ corners).max())
