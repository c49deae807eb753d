"""Headers of MetaImage files, raw or zlib compressed: `.mha`, or `.mhd` with its data in another file.

Written from the format's documentation (itk.org/Wiki/ITK/MetaIO/Documentation).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.header import (
    DataFile,
    Header,
    checked_geometry,
    checked_sizes,
    data_file_beside,
    parse_numbers,
)
from softlabels.inputs.stream import ZLIB, Stream

_DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "?": 1.0, "um": 0.001, "micron": 0.001, "cm": 10.0, "m": 1000.0}
#: First 4 bytes by which the format is recognised.
STARTS = (b"Obje", b"NDim", b"Comm", b"Bina")


def read_header(stream: Stream, start: bytes) -> Header:
    """Read the header of a MetaImage file whose first 4 bytes, `start`, are already read.

    Raises
    ------
    InputError
        A field is missing or makes no sense, or the data is in several files.
    """
    path = stream.path
    fields = _fields(stream, start)
    if not _flag(fields, "BinaryData", True) or fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise InputError(f"{path}: got ASCII data or a header size, expected binary data after the header")
    packing = ZLIB if _flag(fields, "CompressedData", False) else None
    data = _data_file(path, fields["ElementDataFile"], packing)
    sizes = checked_sizes(path, parse_numbers(path, fields.get("DimSize", ""), int, "DimSize"))
    if fields.get("NDims") != str(len(sizes)) or not 2 <= len(sizes) <= 4:
        raise InputError(f"{path}: got NDims {fields.get('NDims')!r} and DimSize {list(sizes)}, expected 2 to 4 axes")
    n_channels = parse_numbers(path, fields.get("ElementNumberOfChannels", "1"), int, "ElementNumberOfChannels")
    interleaved = checked_sizes(path, n_channels)
    if len(interleaved) != 1 or (interleaved[0] > 1 and len(sizes) == 4):
        raise InputError(f"{path}: got {interleaved} channels for sizes {list(sizes)}, expected one axis of channels")
    element = fields.get("ElementType", "")
    if element not in _DTYPES:
        raise InputError(f"{path}: got ElementType {element!r}, expected real numbers")
    affine, spacing = _geometry(path, fields, len(sizes))
    if data is not None:
        stream.read_rest(0)
    elif packing is not None:
        stream.inflate(packing)
    is_big = _flag(fields, "BinaryDataByteOrderMSB", False) or _flag(fields, "ElementByteOrderMSB", False)
    width, height, depth = (*sizes, 1)[:3]
    return Header(
        dtype=np.dtype((">" if is_big else "<") + _DTYPES[element]),
        size_xyz=(width, height, depth),
        n_channels=sizes[3] if len(sizes) == 4 else interleaved[0],
        channels_first=interleaved[0] > 1,
        affine=affine,
        spacing_xyz=spacing,
        scale=_scale(path, fields),
        data=data,
    )


def _data_file(path: Path, name: str, packing: int | None) -> DataFile | None:
    """Return the file of the samples, or None if they follow the header."""
    if name.upper() == "LOCAL":
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path}: got samples in several files ({name[:60]!r}), expected one; write it as .mha")
    return DataFile(data_file_beside(path, name), packing)


def _fields(stream: Stream, start: bytes) -> dict[str, str]:
    """Return the fields up to and with `ElementDataFile`, which is the last."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = (start + stream.read_line()).decode("latin-1")
        start = b""
        key, separator, value = line.partition("=")
        if not separator:
            raise InputError(f"{stream.path}: got MetaImage header line {line[:60]!r}, expected 'field = value'")
        name = key.strip()
        if name in fields:
            raise InputError(f"{stream.path}: got MetaImage field {name!r} twice, expected it once; repair its header")
        fields[name] = value.strip()
    return fields


def _flag(fields: dict[str, str], key: str, default: bool) -> bool:
    """Return a True/False field."""
    return fields.get(key, str(default)).lower() in ("true", "1", "t")


def _geometry(
    path: Path, fields: dict[str, str], n_axes: int
) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
    """Return the affine to RAS+ mm (the file speaks LPS) and the voxel size (x, y, z) in mm."""

    def numbers(names: tuple[str, ...], default: list[float]) -> NDArray[np.float64]:
        given = {name: parse_numbers(path, fields[name], float, name) for name in names if name in fields}
        if any(values != next(iter(given.values())) for values in given.values()):
            raise InputError(f"{path}: got {given}, expected the same numbers in all; repair its header")
        values = next(iter(given.values()), default)
        if len(values) != len(default):
            raise InputError(f"{path}: {names[0]}: got {len(values)} numbers, expected {len(default)}")
        return checked_geometry(path, np.array(values, float), names[0])

    matrix = (
        numbers(("TransformMatrix", "Rotation", "Orientation"), np.eye(n_axes).ravel().tolist())
        .reshape(n_axes, n_axes)
        .T
    )
    # The size of an element may differ from the distance between elements, which counts.
    unit = _unit(path, fields)
    spacing = unit * numbers(("ElementSpacing" if "ElementSpacing" in fields else "ElementSize",), [1.0] * n_axes)
    offset = unit * numbers(("Offset", "Position", "Origin"), [0.0] * n_axes)
    in_space = min(n_axes, 3)
    if n_axes == 4 and (matrix[:3, 3].any() or matrix[3, :3].any()):
        raise InputError(f"{path}: got a fourth axis that is not apart from space; expected channels there")
    affine = np.eye(4)
    affine[:in_space, :in_space] = (matrix * spacing)[:in_space, :in_space]
    affine[:in_space, 3] = offset[:in_space]
    affine[:2] *= -1.0
    x, y, z = (float(v) for v in (*spacing[:in_space], 1.0)[:3])
    return affine, (x, y, z)


def _unit(path: Path, fields: dict[str, str]) -> float:
    """Return mm for one unit of the header."""
    unit = fields.get("DistanceUnits", "mm").lower()
    if unit not in _MM_PER_UNIT:
        raise InputError(f"{path}: got DistanceUnits {unit!r}, expected one of {sorted(_MM_PER_UNIT)}")
    return _MM_PER_UNIT[unit]


def _scale(path: Path, fields: dict[str, str]) -> tuple[float, float] | None:
    """Return (slope, intercept) of the intensities, or None if the samples are the values."""
    names = ("ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset")
    found = [parse_numbers(path, fields.get(name, text), float, name) for name, text in zip(names, "10", strict=True)]
    if any(len(numbers) != 1 for numbers in found):
        raise InputError(f"{path}: got {found} for {names}, expected one number each; repair its header")
    slope, intercept = found[0][0], found[1][0]
    if not np.isfinite([slope, intercept]).all() or slope == 0:
        raise InputError(f"{path}: got slope {slope} and offset {intercept}, expected finite numbers and a slope not 0")
    return None if (slope, intercept) == (1, 0) else (slope, intercept)
