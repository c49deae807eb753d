"""Headers of NRRD files with attached data (`.nrrd`), raw or gzip encoded.

Written from the format's definition (teem.sourceforge.net/nrrd/format.html).

pynrrd's parser was tried on the lines of the stream: 114 statements instead of 113. It splits fields and vectors, gives
no affine, does not distinguish an axis without direction from a direction of NaN, and raises six kinds of errors.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.header import Header, checked_geometry, checked_sizes, parse_numbers
from softlabels.inputs.stream import GZIP, Stream

_DTYPES = {
    "i1": "signed char, int8, int8_t",
    "u1": "uchar, unsigned char, uint8, uint8_t",
    "i2": "short, short int, signed short, signed short int, int16, int16_t",
    "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
    "i4": "int, signed int, int32, int32_t",
    "u4": "uint, unsigned int, uint32, uint32_t",
    "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
    "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
    "f4": "float",
    "f8": "double",
}
_DTYPE_OF = {name: code for code, names in _DTYPES.items() for name in names.split(", ")}
#: Signs that turn the named axes into right, anterior, superior.
_TO_RAS = {
    "right-anterior-superior": (1, 1, 1), "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1), "las": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1), "lps": (-1, -1, 1),
}  # fmt: skip
_SPACE_KINDS = {"domain", "space", "???", "none"}
_MM_PER_UNIT = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "um": 0.001, "micron": 0.001, "cm": 10.0, "m": 1000.0}


def read_header(stream: Stream) -> Header:
    """Read the header of an NRRD file whose first 4 bytes, `NRRD`, are already read.

    Raises
    ------
    InputError
        A field is missing or makes no sense, or the data is in another file or encoding.
    """
    path = stream.path
    fields = _fields(stream)
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise InputError(f"{path}: got NRRD encoding {encoding!r}, expected raw or gzip; write the file again as .nrrd")
    detached = [key for key in ("data file", "datafile", "line skip", "byte skip") if fields.get(key, "0") != "0"]
    if detached:
        raise InputError(
            f"{path}: got NRRD field {detached[0]!r}, expected data after the header; write it as one .nrrd"
        )
    sizes = checked_sizes(path, parse_numbers(path, fields.get("sizes", ""), int, "NRRD sizes"))
    if fields.get("dimension") != str(len(sizes)) or not 2 <= len(sizes) <= 4:
        raise InputError(f"{path}: got dimension {fields.get('dimension')!r} and sizes {list(sizes)}, expected 2 to 4")
    channel = _channel_axis(path, fields, len(sizes))
    space = [n for axis, n in enumerate(sizes) if axis != channel]
    if len(space) not in (2, 3):
        raise InputError(f"{path}: got sizes {list(sizes)}, expected 2 or 3 axes in space and at most one of channels")
    notes: list[str] = []
    affine, spacing = _geometry(path, fields, len(space), channel, notes)
    if encoding != "raw":
        stream.inflate(GZIP)
    width, height, depth = (*space, 1)[:3]
    return Header(
        dtype=_dtype(path, fields),
        size_xyz=(width, height, depth),
        n_channels=1 if channel is None else sizes[channel],
        channels_first=channel == 0,
        affine=affine,
        spacing_xyz=spacing,
        notes=notes,
    )


def _fields(stream: Stream) -> dict[str, str]:
    """Return the fields up to the empty line; comments and key/value pairs (`:=`) are passed over."""
    fields = {}
    stream.read_line()
    while line := stream.read_line().decode("latin-1"):
        key, separator, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):
            continue
        if not separator:
            raise InputError(f"{stream.path}: got NRRD header line {line[:60]!r}, expected 'field: value'")
        name = key.strip().lower()
        if name in fields:
            raise InputError(f"{stream.path}: got NRRD field {name!r} twice, expected it once; repair its header")
        fields[name] = value.strip()
    return fields


def _dtype(path: Path, fields: dict[str, str]) -> np.dtype[Any]:
    """Return the dtype of the samples."""
    name = " ".join(fields.get("type", "").lower().split())
    if name not in _DTYPE_OF:
        raise InputError(f"{path}: got NRRD type {name!r}, expected real numbers")
    code = _DTYPE_OF[name]
    endian = fields.get("endian", "little" if code[1] == "1" else "").lower()
    if endian not in ("little", "big"):
        raise InputError(f"{path}: got NRRD endian {endian!r}, expected little or big")
    return np.dtype(("<" if endian == "little" else ">") + code)


def _vectors(path: Path, fields: dict[str, str], n_axes: int) -> list[list[float] | None]:
    """Return the direction of each axis in space units, None where it has none; empty if the header gives none."""
    text = fields.get("space directions")
    if text is None:
        return []
    words = re.findall(r"\([^()]*\)|none|\S+", text)
    if len(words) != n_axes:
        raise InputError(f"{path}: got space directions {text[:80]!r}, expected one for each of {n_axes} axes")
    return [
        None if w == "none" else parse_numbers(path, w.strip("()").replace(",", " "), float, "direction") for w in words
    ]


def _channel_axis(path: Path, fields: dict[str, str], n_axes: int) -> int | None:
    """Return the axis of channels, or None: the one without a direction, or whose kind is not one of space."""
    vectors = _vectors(path, fields, n_axes)
    kinds = fields.get("kinds", "").lower().split()
    without = [axis for axis, vector in enumerate(vectors) if vector is None]
    if not vectors and len(kinds) == n_axes:
        without = [axis for axis, kind in enumerate(kinds) if kind not in _SPACE_KINDS]
    elif n_axes == 4 and not without:
        without = [3]
    if len(without) > 1 or (without and without[0] not in (0, n_axes - 1)):
        raise InputError(f"{path}: got axes {without} outside space, expected at most one, the first or the last")
    return without[0] if without else None


def _geometry(
    path: Path, fields: dict[str, str], n_space: int, channel: int | None, notes: list[str]
) -> tuple[NDArray[np.float64], tuple[float, float, float]]:
    """Return the affine to RAS+ mm and the voxel size (x, y, z) in mm."""
    n_axes = n_space + (channel is not None)
    vectors = [v or [] for axis, v in enumerate(_vectors(path, fields, n_axes)) if axis != channel]
    affine = np.eye(4)
    if vectors:
        origin = fields.get("space origin", "").strip("()").replace(",", " ")
        offset = parse_numbers(path, origin, float, "space origin") or [0.0] * len(vectors[0])
        if {len(v) for v in vectors} != {len(offset)} or not n_space <= len(offset) <= 4:
            raise InputError(f"{path}: got {len(offset)}D origin for directions {vectors}; its header is damaged")
        vectors, offset = [v[:3] for v in vectors], offset[:3]
        affine[: len(offset), :n_space] = np.array(vectors).T
        affine[: len(offset), 3] = offset
        checked_geometry(path, affine, "space directions")
        affine[: len(offset)] *= _unit(path, fields)
        if n_space == 2 and len(offset) == 3:
            affine[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
            affine[:3, 2] /= np.linalg.norm(affine[:3, 2]) or 1.0
    else:
        notes.append("no orientation in the header: axes taken as stored")
        spacings = parse_numbers(path, fields.get("spacings", ""), float, "spacings") or [1.0] * n_axes
        if len(spacings) != n_axes:
            raise InputError(f"{path}: got spacings {spacings}, expected one for each of {n_axes} axes")
        in_space = [v for axis, v in enumerate(spacings) if axis != channel]
        affine[range(n_space), range(n_space)] = in_space
        checked_geometry(path, affine, "spacings")
    space = fields.get("space", "lps").lower()
    if space not in _TO_RAS:
        notes.append(f"NRRD space {space!r} is not anatomical: axes taken as left, posterior, superior")
    affine[:3] *= np.array(_TO_RAS.get(space, _TO_RAS["lps"]), float)[:, None]
    x, y, z = (float(f"{v:.12g}") for v in np.linalg.norm(affine[:3, :3], axis=0))
    return affine, (x, y, z)


def _unit(path: Path, fields: dict[str, str]) -> float:
    """Return mm for one unit of the header's space."""
    units = {u.strip().lower() for u in re.findall(r'"([^"]*)"', fields.get("space units", ""))} or {""}
    if len(units) > 1 or not units <= set(_MM_PER_UNIT):
        raise InputError(f"{path}: got space units {sorted(units)}, expected mm, um, cm or m, the same for all axes")
    return _MM_PER_UNIT[units.pop()]
