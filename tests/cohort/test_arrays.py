"""The cohort as dask arrays: the same values as reading whole volumes, in blocks, checked, in bounded memory."""

import json
import subprocess
import sys

import dask
import numpy as np
import pytest
from helpers.made_cohort import description, write_index

from softlabels.blend import Blend, blend
from softlabels.classes import LabelClass
from softlabels.cohort import arrays
from softlabels.cohort.arrays import open_cohort
from softlabels.cohort.case_table import EntryAddress, IndexedCase
from softlabels.errors import FormatError, InputError
from softlabels.grid import Grid
from softlabels.store import Layer, ScaleOffset, Store, entry_key
from softlabels.store.format import block_shape

SHAPES = {"one": (9, 140, 131), "two": (1, 20, 33), "three": (130, 7, 8)}
CLASSES = (LabelClass("background", (0,)), LabelClass("tissue", (1, 2)), LabelClass("lesion", (3,)))
TARGETS = {
    "geols": description("geols", "paper", CLASSES, Blend("mix_onehot", 0.25)),
    "smoothed": description("label_smoothing", "standard", CLASSES, Blend("label_smoothing", 0.1)),
}


def address(store, stage, case_id, grid, *layers):
    key = entry_key(stage=stage, algorithm="1", params={"case": case_id}, inputs={})
    entry, _ = store.publish(key, layers, grid=grid, attributes={}, quality={}, provenance={})
    return EntryAddress(entry.key, entry.manifest_digest)


def repeated(rng, shape):
    """Return random values in [0, 1) that are made, and compressed, fast."""
    return np.resize(rng.random(4099, np.float32), shape)


def write_cohort(folder, shapes):
    """Write a store and an index of cases with random labels and maps; return the index."""
    store, cases, rng = Store(folder / "store"), [], np.random.default_rng(0)
    for case_id, shape in shapes.items():
        grid = Grid(shape, (2.0, 1.0, 1.0))
        image = repeated(rng, (2, *shape))
        labels = (4 * repeated(rng, shape)).astype(np.uint8)
        target = repeated(rng, (3, *shape))
        target /= target.sum(axis=0)
        prepared = address(
            store, "prepare", case_id, grid, Layer("image", image, "ab"), Layer("labels", labels, role="labels")
        )
        geols = address(
            store, "target", case_id, grid, Layer("target", target, list("abc"), ScaleOffset("uint8", 0, 1))
        )
        cases.append(IndexedCase(case_id, "train", (), prepared, {"geols": geols}))
    return write_index(folder, cases, TARGETS)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_cohort(tmp_path_factory.mktemp("cohort"), SHAPES)


@pytest.fixture
def cohort(index):
    return open_cohort(index)


def whole(index, case_id, role, name):
    """Read a layer through its entry: the oracle."""
    content = json.loads(index.read_text())
    case = next(case for case in content["cases"] if case["id"] == case_id)
    chosen = case["prepare"] if role == "prepare" else case["targets"][role]
    return Store(index.parent / content["store"]).find(chosen["key"], chosen["manifest"]).read(name)


@pytest.mark.parametrize("case_id", SHAPES)
def test_layers_are_what_the_entries_hold(index, cohort, case_id):
    case = cohort[case_id]
    for array, role, name in [
        (case.image, "prepare", "image"),
        (case.labels, "prepare", "labels"),
        (case.stored("geols"), "geols", "target"),
    ]:
        expected = whole(index, case_id, role, name)
        assert (array.shape, array.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(array.compute(), expected)


@pytest.mark.parametrize(
    "part",
    [
        np.s_[1],
        np.s_[:, 3],
        np.s_[:, 2:7, 100:, ::3],
        np.s_[0, :, 139, -1],
        np.s_[:, ::-1],
        np.s_[-1, 8:2:-2],
        np.s_[:, 4:4],
    ],
    ids=str,
)
def test_slicing_before_computing_gives_the_same_part(index, cohort, part):
    np.testing.assert_array_equal(cohort["one"].image[part].compute(), whole(index, "one", "prepare", "image")[part])


@pytest.mark.parametrize("case_id", SHAPES)
def test_soft_labels_are_blended_as_the_loader_blends_them(index, cohort, case_id):
    labels = whole(index, case_id, "prepare", "labels")
    masks = np.stack([np.isin(labels, c.values) for c in CLASSES])
    stored = whole(index, case_id, "geols", "target")
    case = cohort[case_id]
    np.testing.assert_array_equal(case.masks("geols").compute(), masks)
    for overrides, alpha in [({}, 0.25), ({"alpha": 0.5}, 0.5)]:
        expected = blend(masks, stored, rule="mix_onehot", alpha=alpha)
        np.testing.assert_array_equal(case.soft_label("geols", **overrides).compute(), expected)
    smoothed = case.soft_label("smoothed")
    assert smoothed.dtype == np.float32
    np.testing.assert_array_equal(smoothed.compute(), blend(masks, rule="label_smoothing", epsilon=0.1))


@pytest.mark.parametrize("many", [1, 100])
def test_blocks_make_the_same_soft_label_without_dask(cohort, monkeypatch, many):
    monkeypatch.setattr(arrays, "_MANY", many)
    for case in cohort:
        for target in cohort.targets:
            expected = case.soft_label(target).compute()
            found, n_covered = np.full_like(expected, np.nan), 0
            for window, block in case.blocks(target):
                part = tuple(slice(*pair) for pair in window)
                found[(slice(None), *part)] = block
                n_covered += block[0].size
                assert all(n <= most for n, most in zip(block.shape[1:], block_shape(expected.shape[1:]), strict=True))
            np.testing.assert_array_equal(found, expected)
            assert n_covered == expected[0].size
    with pytest.raises(InputError, match="target: got 'nothing', expected one of 'geols', 'smoothed'"):
        next(case.blocks("nothing"))


def test_statistics_over_all_voxels_of_all_cases(index, cohort):
    soft = cohort.voxels(lambda case: case.soft_label("geols"))
    labels = cohort.voxels(lambda case: case.labels)
    n_voxels = sum(int(np.prod(shape)) for shape in SHAPES.values())
    assert soft.shape == (3, n_voxels)
    assert labels.shape == (n_voxels,)
    lesion = (soft[2] * (labels == 3)).sum() / (labels == 3).sum()
    expected = []
    for case_id in SHAPES:
        case = cohort[case_id]
        expected.append(case.soft_label("geols").compute()[2][whole(index, case_id, "prepare", "labels") == 3])
    np.testing.assert_allclose(lesion.compute(), np.concatenate(expected).mean(), rtol=1e-5)


def test_the_order_of_voxels_is_the_same_for_every_layer(cohort):
    masks = cohort.voxels(lambda case: case.masks("geols"))
    labels = cohort.voxels(lambda case: case.labels)
    np.testing.assert_array_equal(masks[1].compute(), np.isin(labels.compute(), [1, 2]))


def test_a_cohort_is_a_sequence_of_cases(cohort):
    assert len(cohort) == 3
    assert [case.id for case in cohort] == list(cohort.case_ids) == list(SHAPES)
    assert cohort["two"].grid.shape == SHAPES["two"]
    assert cohort["two"].split == "train"
    with pytest.raises(InputError, match="case 'four': not in the index"):
        cohort["four"]
    with pytest.raises(InputError, match="target: got 'sing', expected one of 'geols', 'smoothed'"):
        cohort["one"].soft_label("sing")
    with pytest.raises(InputError, match="nothing is stored for it"):
        cohort["one"].stored("smoothed")


def test_damage_and_absence_are_errors_not_zeros(tmp_path):
    index = write_cohort(tmp_path, {"two": SHAPES["two"]})
    image = open_cohort(index)["two"].image
    (file,) = tmp_path.glob("store/v1/*/*/entry.zarr/image/c/0/0/0/0")
    content = bytearray(file.read_bytes())
    content[50] ^= 4
    file.unlink()
    file.write_bytes(content)
    named = "case two, prepare, entry .*crc32c"
    with pytest.raises(FormatError, match=named), dask.config.set(scheduler="synchronous"):
        image.sum().compute()
    file.parents[5].parent.rename(tmp_path / "elsewhere")
    with pytest.raises(FormatError, match="case two, prepare, entry .* is not in store"):
        _ = open_cohort(index)["two"].image


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other", "version": 1}', '{"format": "softlabels-index"}'])
def test_only_an_index_is_an_index(tmp_path, content):
    with pytest.raises(FormatError, match="no such file"):
        open_cohort(tmp_path / "index.json")
    (tmp_path / "index.json").write_text(content)
    with pytest.raises(FormatError, match="index .*index.json: (got|not JSON)"):
        open_cohort(tmp_path / "index.json")


STATISTICS = """
import re, sys
from softlabels.cohort import arrays
from softlabels.cohort.arrays import open_cohort
import dask, dask.array
cohort = open_cohort(sys.argv[1])
# Not getrusage: its peak begins with that of the parent process.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024
cohort["c0"].soft_label("geols")[:, 0].sum().compute()
before = peak()
with dask.config.set(scheduler="threads", num_workers=2):
    cohort.voxels(lambda case: case.soft_label("geols")).mean(axis=1).compute()
print(peak() - before)
"""


def test_statistics_need_less_memory_than_the_voxels(tmp_path):
    shape, n_cases = (48, 256, 256), 4
    index = write_cohort(tmp_path, {f"c{i}": shape for i in range(n_cases)})
    megabytes = n_cases * 3 * np.prod(shape) * 4 / 2**20
    done = subprocess.run([sys.executable, "-c", STATISTICS, str(index)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < megabytes / 2
