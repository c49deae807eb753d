"""Hostile files: whatever is in them, reading ends soon, in an answer or in one line of our own."""

import struct
import time

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from softlabels.config import load_config, parse_config
from softlabels.errors import ConfigError, InputError
from softlabels.inputs.volume import read_volume

#: Long enough for a busy machine; a bomb takes minutes.
PATIENCE_S = 20
BOUNDED = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def _ends_well(read, errors, name):
    """Call a function, which must end soon, in a value or one line that names the file; return the value."""
    begun = time.monotonic()
    try:
        return read()
    except errors as error:
        assert name in str(error)
        assert max(map(len, str(error).splitlines())) < 2000
    finally:
        assert time.monotonic() - begun < PATIENCE_S
    return None


# Configurations: one that is right, of which any part is replaced by anything.

RIGHT = {
    "channels": ["T1"],
    "labels": {"background": 0, "core": 1, "rim": [1, 2]},
    "prepare": {"spacing": [1, 1, 1], "normalise": "zscore", "clip_percentiles": [1, 99]},
    "targets": {"soft": {"method": "sing", "delta": 0.5, "seeds": {"strategy": "erosion"}}},
    "cases_per_job": 4,
}
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 3), st.floats(), st.text(max_size=30),
    st.sampled_from(["", "~", "$HOME", "../..", "a" * 5000, "\x1b[31m", "1e999", ".inf", "no", "{a}", 10**400]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)


def _paths(value, path=()):
    """Yield the place of every part of a configuration."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def _replaced(value, path, new):
    """Return a copy with another value at a place."""
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = _replaced(value[path[0]], path[1:], new)
    return copied


@given(path=st.sampled_from(list(_paths(RIGHT))), new=VALUES)
@BOUNDED
def test_any_value_in_a_configuration_ends_in_an_answer_or_in_faults(path, new):
    _ends_well(lambda: parse_config(_replaced(RIGHT, path, new), "config.yaml"), ConfigError, "config.yaml")


@given(key=st.text(max_size=20), new=VALUES, path=st.sampled_from(list(_paths(RIGHT))))
@BOUNDED
def test_any_further_key_is_named(key, new, path):
    place = RIGHT
    for part in path:
        place = place[part]
    if not isinstance(place, dict) or key in place:
        return
    _ends_well(
        lambda: parse_config(_replaced(RIGHT, path, {**place, key: new}), "config.yaml"), ConfigError, "config.yaml"
    )


YAML_PIECES = st.sampled_from(
    ["a: &a [", "*a", "<<: *a", "!!python/object/apply:os.system ['id']", "!!int x", "2026-13-45", "- ", "{", "}", "["]
    + ["]", "? ", ": ", "\n", "  ", "'", '"', "|", ">", "%YAML 9.9", "---", "...", "\t", "\x00", "&b ", "!!binary ="]
    + ["0x", "1_0", "é"]
)


@given(pieces=st.lists(YAML_PIECES | st.text(max_size=5), max_size=40), mixed=st.booleans())
@BOUNDED
def test_any_text_in_the_file_ends_in_one_answer(tmp_path_factory, pieces, mixed):
    path = tmp_path_factory.getbasetemp() / "config.yaml"
    text = "".join(pieces)
    path.write_text((yaml.safe_dump(RIGHT) if mixed else "") + text, encoding="utf-8", errors="surrogatepass")
    _ends_well(lambda: load_config(path), ConfigError, "config.yaml")


# Image headers: fields by the formats' own rules, any of which is replaced.

SHAPE = (3, 4, 5)
#: Where fields of a NIfTI-1 header are.
_INTEGERS = (40, 42, 44, 46, 48, 70, 72, 123, 252, 254)
_FLOATS = (76, 80, 84, 88, 108, 112, 116, 256, 260, 280, 284, 300)
N_BYTES = int(np.prod(SHAPE))
NUMBERS = st.one_of(
    st.integers(-(2**15), 2**15 - 1), st.sampled_from([0, 1, -1, 2, 7, 32767]), st.floats(width=32, allow_nan=True)
)


@given(
    changes=st.lists(
        st.tuples(st.sampled_from([*_INTEGERS, *_FLOATS]), NUMBERS),
        min_size=1, max_size=4,
    ),
    is_big=st.booleans(),
)  # fmt: skip
@BOUNDED
def test_any_field_of_a_nifti_header_ends_in_its_voxels_or_one_line(tmp_path_factory, changes, is_big):
    order = ">" if is_big else "<"
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, 3, *SHAPE[::-1], 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", header, 70, 2, 8)
    struct.pack_into(f"{order}8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into(f"{order}f", header, 108, 352.0)
    header[344:348] = b"n+1\0"
    for offset, number in changes:
        is_float = offset in _FLOATS or isinstance(number, float)
        if is_float:
            struct.pack_into(f"{order}f", header, offset, float(number))
        else:
            struct.pack_into(f"{order}h", header, offset, number)
    path = tmp_path_factory.getbasetemp() / "fuzzed.nii"
    path.write_bytes(bytes(header) + bytes(range(N_BYTES)))
    volume = _ends_well(lambda: read_volume(path), InputError, "fuzzed.nii")
    if volume is not None:
        assert volume.values.nbytes % N_BYTES == 0 or volume.values.size <= N_BYTES
        assert min(volume.grid.spacing) > 0 and np.isfinite(volume.grid.affine_ras).all()


NRRD_LINES = {
    "type": ["uint8", "float", "block", ""],
    "dimension": ["3", "0", "4", "x"],
    "sizes": ["5 4 3", "5 4", "-5 4 3", "5 4 3 99999999999", ""],
    "encoding": ["raw", "gzip", "hex", ""],
    "endian": ["little", "big", "pdp"],
    "space": ["left-posterior-superior", "RAS", "3D-right-handed", ""],
    "space directions": ["(1,0,0) (0,1,0) (0,0,1)", "(nan,0,0) (0,1,0) (0,0,1)", "none (1,0,0)", "(1,0) (0,1)", ""],
    "space origin": ["(0,0,0)", "(inf,0,0)", "(0,0)", "x"],
    "spacings": ["1 1 1", "0 1 1", "nan nan nan", "1"],
    "units": ['"mm" "mm" "mm"', '"um" "mm" "mm"', '"furlong"', ""],
    "kinds": ["domain domain domain", "list domain domain", ""],
    "data file": ["fuzzed.raw", "/etc/hostname", "LIST", "%03d 1 2 1"],
    "byte skip": ["0", "-1", "7", "x"],
    "line skip": ["0", "3"],
    "axis mins": ["0 0 0", "nan nan nan"],
}
MHA_LINES = {
    "ObjectType": ["Image", "Scene"],
    "NDims": ["3", "2", "9", ""],
    "DimSize": ["5 4 3", "5 4", "0 0 0", "5 4 99999999"],
    "ElementType": ["MET_UCHAR", "MET_FLOAT", "MET_OTHER"],
    "ElementSpacing": ["1 1 1", "0 0 0", "nan 1 1", "1 1"],
    "Offset": ["0 0 0", "1e300 0 0", "x"],
    "Origin": ["0 0 0", "1 0 0"],
    "TransformMatrix": ["1 0 0 0 1 0 0 0 1", "0 0 0 0 0 0 0 0 0", "1"],
    "CompressedData": ["True", "False", "?"],
    "BinaryData": ["True", "False"],
    "HeaderSize": ["0", "-1", "99"],
    "DistanceUnits": ["mm", "um", "ly"],
    "ElementNumberOfChannels": ["1", "3", "-1"],
    "ElementToIntensityFunctionSlope": ["1", "0", "nan", "2"],
}


def _lines(table, separator):
    """Return a strategy of header lines, some missing, some twice, in any order."""
    line = st.sampled_from([f"{key}{separator}{value}" for key, values in table.items() for value in values])
    right = [f"{key}{separator}{values[0]}" for key, values in table.items()]
    return st.tuples(st.sets(st.sampled_from(right)), st.lists(line, max_size=3)).map(
        lambda two: [*sorted(two[0]), *two[1]]
    )


@pytest.mark.parametrize("name", ["fuzzed.nrrd", "fuzzed.nhdr"])
@given(lines=_lines(NRRD_LINES, ": "))
@BOUNDED
def test_any_fields_of_an_nrrd_header_end_in_its_voxels_or_one_line(tmp_path_factory, name, lines):
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzzed.raw").write_bytes(bytes(range(N_BYTES)))
    (folder / name).write_bytes("\n".join(["NRRD0005", *lines, "", ""]).encode() + bytes(range(N_BYTES)))
    _ends_well(lambda: read_volume(folder / name), InputError, "fuzzed.")


@given(lines=_lines(MHA_LINES, " = "), data=st.sampled_from(["LOCAL", "fuzzed.raw", "../x", "LIST", ""]))
@BOUNDED
def test_any_fields_of_a_metaimage_header_end_in_its_voxels_or_one_line(tmp_path_factory, lines, data):
    folder = tmp_path_factory.getbasetemp()
    (folder / "fuzzed.raw").write_bytes(bytes(range(N_BYTES)))
    ending = "mha" if data == "LOCAL" else "mhd"
    first = [] if lines and lines[0].startswith("ObjectType") else ["ObjectType = Image"]
    content = "\n".join([*first, *(one for one in lines if first or one), f"ElementDataFile = {data}", ""]).encode()
    (folder / f"fuzzed.{ending}").write_bytes(content + (bytes(range(N_BYTES)) if data == "LOCAL" else b""))
    _ends_well(lambda: read_volume(folder / f"fuzzed.{ending}"), InputError, "fuzzed.")
