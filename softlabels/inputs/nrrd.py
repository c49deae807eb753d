"""Headers of NRRD files, raw or gzip encoded: `.nrrd`, or `.nhdr` with its data in another file.

Written from the format's definition (teem.sourceforge.net/nrrd/format.html).

pynrrd's parser was tried on the lines of the stream: 114 statements instead of 113. It splits fields and vectors, gives
no affine, does not distinguish an axis without direction from a direction of NaN, and raises six kinds of errors.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.header import (
    DataFile,
    Header,
    Segment,
    checked_geometry,
    checked_sizes,
    data_file_beside,
    parse_numbers,
)
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
#: Fields that have several spellings.
_SPELLINGS = {
    "datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins",
    "axismaxs": "axis maxs", "axis maxes": "axis maxs",
}  # fmt: skip
_DATA_FILE = "data file"
_LONGEST_LINE = 1 << 16
_MOST_SKIPPED = 1 << 26
_SPACE_KINDS = {"domain", "space", "???", "none"}
_MM_PER_UNIT = {"": 1.0, "mm": 1.0, "millimeter": 1.0, "um": 0.001, "micron": 0.001, "cm": 10.0, "m": 1000.0}


def read_header(stream: Stream) -> Header:
    """Read the header of an NRRD file whose first 4 bytes, `NRRD`, are already read.

    Raises
    ------
    InputError
        A field is missing or makes no sense, fields contradict each other, or the data is in several files.
    """
    path = stream.path
    fields, pairs = _fields(stream)
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise InputError(f"{path}: got NRRD encoding {encoding!r}, expected raw or gzip; write the file again as .nrrd")
    packing = None if encoding == "raw" else GZIP
    data = _data_file(path, fields, packing)
    sizes = checked_sizes(path, parse_numbers(path, fields.get("sizes", ""), int, "NRRD sizes"))
    if fields.get("dimension") != str(len(sizes)) or not 2 <= len(sizes) <= 4:
        raise InputError(f"{path}: got dimension {fields.get('dimension')!r} and sizes {list(sizes)}, expected 2 to 4")
    channel = _channel_axis(path, fields, len(sizes))
    space = [n for axis, n in enumerate(sizes) if axis != channel]
    if len(space) not in (2, 3):
        raise InputError(f"{path}: got sizes {list(sizes)}, expected 2 or 3 axes in space and at most one of channels")
    notes: list[str] = []
    affine, spacing = _geometry(path, fields, len(space), channel, notes)
    if data is not None:
        stream.read_rest(0)
    elif packing is not None:
        stream.inflate(packing)
    width, height, depth = (*space, 1)[:3]
    return Header(
        dtype=_dtype(path, fields),
        size_xyz=(width, height, depth),
        n_channels=1 if channel is None else sizes[channel],
        channels_first=channel == 0,
        affine=affine,
        spacing_xyz=spacing,
        skip=_number_of(path, fields, "byte skip") if data else 0,
        notes=notes,
        data=data,
        segments=_segments(path, pairs),
    )


def _fields(stream: Stream) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fields and the key/value pairs (`:=`) of a header, without its comments.

    The header ends at an empty line, or with the file if its samples are in another.
    """
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    stream.read_line()
    while not (_DATA_FILE in fields and stream.is_at_end) and (line := stream.read_line().decode("utf-8", "replace")):
        key, separator, value = line.partition(":")
        if line.startswith("#"):
            continue
        if not separator:
            raise InputError(f"{stream.path}: got NRRD header line {line[:60]!r}, expected 'field: value'")
        is_pair = value.startswith("=")
        name = key.strip() if is_pair else _SPELLINGS.get(key.strip().lower(), key.strip().lower())
        into = pairs if is_pair else fields
        if name in into:
            raise InputError(f"{stream.path}: got NRRD field {name!r} twice, expected it once; repair its header")
        into[name] = value[1:] if is_pair else value.strip()
        if len(line) > _LONGEST_LINE:
            raise InputError(f"{stream.path}: got an NRRD header line of {len(line)} bytes; its header is damaged")
    return fields, pairs


def _data_file(path: Path, fields: dict[str, str], packing: int | None) -> DataFile | None:
    """Return the file of the samples, or None if they follow the header."""
    if _number_of(path, fields, "line skip"):
        raise InputError(f"{path}: got NRRD 'line skip', expected samples without text before them; write it as .nrrd")
    name = fields.get(_DATA_FILE)
    if name is None:
        if _number_of(path, fields, "byte skip"):
            raise InputError(f"{path}: got NRRD 'byte skip', expected samples right after the header")
        return None
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(f"{path}: got samples in several files ({name[:60]!r}), expected one; write it as .nrrd")
    return DataFile(data_file_beside(path, name), packing)


def _number_of(path: Path, fields: dict[str, str], name: str) -> int:
    """Return the number of bytes or lines to skip."""
    numbers = parse_numbers(path, fields.get(name, "0"), int, f"NRRD {name}")
    if len(numbers) != 1 or not 0 <= numbers[0] <= _MOST_SKIPPED:
        raise InputError(f"{path}: got NRRD {name} {fields[name][:60]!r}, expected a number in 0..{_MOST_SKIPPED}")
    return numbers[0]


def _segments(path: Path, pairs: dict[str, str]) -> tuple[Segment, ...]:
    """Return the segments that Slicer describes in the pairs `Segment<i>_<property>`."""
    found: list[Segment] = []
    for number in itertools.count():
        prefix = f"Segment{number}_"
        if f"{prefix}LabelValue" not in pairs:
            return tuple(found)
        given = (pairs[f"{prefix}LabelValue"], pairs.get(f"{prefix}Layer", "0"))
        value, layer = parse_numbers(path, " ".join(given), int, f"{prefix}LabelValue and Layer")
        shares = parse_numbers(path, pairs.get(f"{prefix}Color", ""), float, f"{prefix}Color")
        colour = None
        if len(shares) == 3 and all(0 <= share <= 1 for share in shares):
            colour = "#" + "".join(f"{round(255 * share):02x}" for share in shares)
        found.append(Segment(pairs.get(f"{prefix}Name", f"segment_{value}"), value, layer, colour))
    raise AssertionError  # count() does not end


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
    _refuse_contradictions(path, fields, n_axes, channel)
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
        units = _axis_units(path, fields, n_axes)
        in_space = [v * u for axis, (v, u) in enumerate(zip(spacings, units, strict=True)) if axis != channel]
        affine[range(n_space), range(n_space)] = in_space
        checked_geometry(path, affine, "spacings")
    space = fields.get("space", "lps").lower()
    if space not in _TO_RAS:
        notes.append(f"NRRD space {space!r} is not anatomical: axes taken as left, posterior, superior")
    affine[:3] *= np.array(_TO_RAS.get(space, _TO_RAS["lps"]), float)[:, None]
    x, y, z = (float(f"{v:.12g}") for v in np.linalg.norm(affine[:3, :3], axis=0))
    return affine, (x, y, z)


def _refuse_contradictions(path: Path, fields: dict[str, str], n_axes: int, channel: int | None) -> None:
    """Raise InputError if two fields give the geometry differently, or one gives it in a way that is not read."""
    for name in ("axis mins", "axis maxs"):
        numbers = parse_numbers(path, fields.get(name, ""), float, name)
        if any(np.isfinite(one) for axis, one in enumerate(numbers) if axis != channel):
            raise InputError(f"{path}: got NRRD {name!r}, expected positions as space origin; write it again with ITK")
    if "space" in fields and "space dimension" in fields:
        raise InputError(f"{path}: got both NRRD space and space dimension, expected one; repair its header")
    vectors = _vectors(path, fields, n_axes)
    if not vectors:
        return
    spacings = parse_numbers(path, fields.get("spacings", ""), float, "spacings")
    lengths = [float("nan") if v is None else float(np.linalg.norm(v)) for v in vectors]
    # An axis without a direction or spacing has NaN there, which differs from nothing.
    if any(abs(spacing - length) > 1e-4 * length for spacing, length in zip(spacings, lengths, strict=False)):
        raise InputError(
            f"{path}: got NRRD spacings {spacings} and space directions {lengths} long, expected the same; "
            "repair its header"
        )
    units = _axis_units(path, fields, n_axes)
    space = _unit(path, fields)
    if "units" in fields and any(
        unit != space and fields["units"] for axis, unit in enumerate(units) if axis != channel and vectors[axis]
    ):
        raise InputError(
            f"{path}: got NRRD units {fields['units']} beside space units of {space} mm, expected one unit; "
            "repair its header"
        )


def _axis_units(path: Path, fields: dict[str, str], n_axes: int) -> list[float]:
    """Return mm for one unit of the spacing of each axis."""
    if "units" not in fields:
        return [1.0] * n_axes
    names = [name.strip().lower() for name in re.findall(r'"([^"]*)"', fields["units"])]
    if len(names) != n_axes or not set(names) <= set(_MM_PER_UNIT):
        raise InputError(
            f"{path}: got NRRD units {fields['units'][:60]!r}, expected mm, um, cm or m for each of {n_axes} axes"
        )
    return [_MM_PER_UNIT[name] for name in names]


def _unit(path: Path, fields: dict[str, str]) -> float:
    """Return mm for one unit of the header's space."""
    units = {u.strip().lower() for u in re.findall(r'"([^"]*)"', fields.get("space units", ""))} or {""}
    if len(units) > 1 or not units <= set(_MM_PER_UNIT):
        raise InputError(f"{path}: got space units {sorted(units)}, expected mm, um, cm or m, the same for all axes")
    return _MM_PER_UNIT[units.pop()]
