"""Headers of MetaImage files with data in the same file (`.mha`), raw or zlib compressed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.header import Header, checked_geometry, checked_sizes, parse_numbers
from softlabels.inputs.stream import ZLIB, Stream

_DTYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip
#: First 4 bytes by which the format is recognised.
STARTS = (b"Obje", b"NDim", b"Comm", b"Bina")


def read_header(stream: Stream, start: bytes) -> Header:
    """Read the header of a MetaImage file whose first 4 bytes, `start`, are already read.

    Raises
    ------
    InputError
        A field is missing or makes no sense, or the data is in another file.
    """
    path = stream.path
    fields = _fields(stream, start)
    if fields["ElementDataFile"] != "LOCAL":
        raise InputError(
            f"{path}: got data in {fields['ElementDataFile']!r}, expected in the same file; write it as .mha"
        )
    if not _flag(fields, "BinaryData", True) or fields.get("HeaderSize", "0") not in ("0", "-1"):
        raise InputError(f"{path}: got ASCII data or a header size, expected binary data after the header")
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
    if _flag(fields, "CompressedData", False):
        stream.inflate(ZLIB)
    is_big = _flag(fields, "BinaryDataByteOrderMSB", False) or _flag(fields, "ElementByteOrderMSB", False)
    width, height, depth = (*sizes, 1)[:3]
    return Header(
        dtype=np.dtype((">" if is_big else "<") + _DTYPES[element]),
        size_xyz=(width, height, depth),
        n_channels=sizes[3] if len(sizes) == 4 else interleaved[0],
        channels_first=interleaved[0] > 1,
        affine=affine,
        spacing_xyz=spacing,
    )


def _fields(stream: Stream, start: bytes) -> dict[str, str]:
    """Return the fields up to and with `ElementDataFile`, which is the last."""
    fields: dict[str, str] = {}
    while "ElementDataFile" not in fields:
        line = (start + stream.read_line()).decode("latin-1")
        start = b""
        key, separator, value = line.partition("=")
        if not separator:
            raise InputError(f"{stream.path}: got MetaImage header line {line[:60]!r}, expected 'field = value'")
        fields[key.strip()] = value.strip()
    return fields


def _flag(fields: dict[str, str], key: str, default: bool) -> bool:
    """Return a True/False field."""
    return fields.get(key, str(default)).lower() in ("true", "1", "t")


def _geometry(
    path: Path, fields: dict[str, str], n_axes: int
) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
    """Return the affine to RAS+ mm (the file speaks LPS) and the voxel size (x, y, z) in mm."""

    def numbers(names: tuple[str, ...], default: list[float]) -> NDArray[np.float64]:
        text = next((fields[name] for name in names if name in fields), None)
        values = default if text is None else parse_numbers(path, text, float, names[0])
        if len(values) != len(default):
            raise InputError(f"{path}: {names[0]}: got {len(values)} numbers, expected {len(default)}")
        return checked_geometry(path, np.array(values, float), names[0])

    matrix = (
        numbers(("TransformMatrix", "Rotation", "Orientation"), np.eye(n_axes).ravel().tolist())
        .reshape(n_axes, n_axes)
        .T
    )
    spacing = numbers(("ElementSpacing", "ElementSize"), [1.0] * n_axes)
    offset = numbers(("Offset", "Position", "Origin"), [0.0] * n_axes)
    in_space = min(n_axes, 3)
    if n_axes == 4 and (matrix[:3, 3].any() or matrix[3, :3].any()):
        raise InputError(f"{path}: got a fourth axis that is not apart from space; expected channels there")
    affine = np.eye(4)
    affine[:in_space, :in_space] = (matrix * spacing)[:in_space, :in_space]
    affine[:in_space, 3] = offset[:in_space]
    affine[:2] *= -1.0
    x, y, z = (float(v) for v in (*spacing[:in_space], 1.0)[:3])
    return affine, (x, y, z)
