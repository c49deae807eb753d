"""Laws of a case with its target: what it gives is what was stored, in a window as in the whole, and well named."""

import pickle
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import ROOT
from helpers.made_cohort import CLASSES, IGNORE, SHAPES, SPARSE, TARGETS, make_cohort, open_made, volumes

from softlabels.blend import blend
from softlabels.cohort.case import IndexedCohort
from softlabels.errors import FormatError, InputError
from softlabels.sparse import to_dense
from softlabels.store.format import entry_folder

#: A quantised map is off by half a step of uint8 over [-1, 1] at most, a sparse one by a step of uint8 over [0, 1].
STEP = 0.5 * 2 / 255 + 1e-6


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), targets=TARGETS | SPARSE)


def windows(shape):
    """Return some windows of a volume: all of it, one voxel, and a part."""
    return [
        [(0, n) for n in shape],
        [(n - 1, n) for n in shape],
        [(n // 3, max(2 * n // 3, n // 3 + 1)) for n in shape],
    ]


@pytest.mark.parametrize("case_id", SHAPES)
@pytest.mark.parametrize("name", [*TARGETS, *SPARSE])
def test_everything_is_what_was_stored_in_every_window(index, case_id, name):
    prepared, targets = open_made(index, case_id)
    target = targets[name]
    image, labels, probabilities, signed = volumes(case_id, SHAPES[case_id])
    maps = {"geols": probabilities, "svls": probabilities, "sing": signed}
    expected_map = maps.get(name.removeprefix("few_"))
    masks = np.stack([np.isin(labels, c.values) for c in target.classes])
    overlaps = target.description.is_overlapping
    soft_label = blend(masks, expected_map, is_overlapping=overlaps, **target.description.blend.to_json())
    assert prepared.shape == prepared.grid.shape == SHAPES[case_id] and prepared.channels == ("T1", "T2")
    for window in [None, *windows(SHAPES[case_id])]:
        part = (..., *(slice(*pair) for pair in window)) if window else ...
        np.testing.assert_array_equal(prepared.image(window), image[part])
        np.testing.assert_array_equal(prepared.labels(window), labels[part])
        np.testing.assert_array_equal(prepared.valid(window), labels[part] != IGNORE)
        np.testing.assert_array_equal(target.masks(window), masks[part])
        np.testing.assert_allclose(target.soft_label(window), soft_label[part], rtol=0, atol=STEP)
        if expected_map is not None:
            np.testing.assert_allclose(target.stored(window), expected_map[part], rtol=0, atol=STEP)


@pytest.mark.parametrize("case_id", SHAPES)
@pytest.mark.parametrize("name", [*SPARSE, "onehot", "smooth"])
def test_the_sparse_soft_label_is_the_dense_one(index, case_id, name):
    _, targets = open_made(index, case_id)
    target = targets[name]
    for window in [None, *windows(SHAPES[case_id])]:
        label, soft = target.sparse_label(window), target.soft_label(window)
        np.testing.assert_array_equal(to_dense(label, len(CLASSES)), soft)
        assert len(label.classes) <= target.description.n_slots
        if name in SPARSE:
            stored = target.stored(window)
            hard = target.case.labels(window)
            np.testing.assert_array_equal(target.description.soft_label(hard, stored), soft)
            np.testing.assert_array_equal(target.stored_map.dense(window, channels=(1, 3)), stored[1:])
            expected = (stored.sum(axis=0) - 1)[np.isin(hard, [0, 1, 2, 4])]
            np.testing.assert_allclose(expected, 0, atol=1e-6)


def test_a_map_that_is_stored_dense_has_no_sparse_form(index):
    _, targets = open_made(index, "small")
    with pytest.raises(InputError, match="case small: target 'geols' is stored dense. Set its `storage: sparse`"):
        targets["geols"].sparse_label()
    with pytest.raises(InputError, match="the map is stored dense. Set `storage: sparse`"):
        targets["geols"].stored_map.sparse()
    with pytest.raises(InputError, match="overlapping regions have no sparse form"):
        targets["sing"].description.sparse_label(targets["sing"].case.labels())
    assert [targets[name].description.n_slots for name in ("geols", "sing", "onehot", "few_geols", "few_svls")] == [
        None, None, 1, 4, 3,
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"channels: got \(2, 4\), expected .* inside \(3,\)"):
        targets["few_svls"].stored_map.dense(channels=(2, 4))


def test_labels_that_were_read_already_give_the_same(index):
    prepared, targets = open_made(index, "small")
    labels = prepared.labels()
    for target in targets.values():
        np.testing.assert_array_equal(target.soft_label(labels=labels), target.soft_label())
    np.testing.assert_array_equal(prepared.valid(labels=labels), prepared.valid())


def test_without_an_ignore_label_all_voxels_are_valid(index):
    prepared, _ = open_made(index, "small")
    assert replace(prepared, ignore_label=None).valid().all()
    assert prepared.domain() is None


def test_another_blend_is_another_soft_label_of_the_same_map(index):
    _, targets = open_made(index, "small")
    geols, hard = targets["geols"], targets["onehot"].soft_label()
    np.testing.assert_array_equal(geols.with_blend(alpha=0.0).soft_label(), hard)
    np.testing.assert_array_equal(geols.with_blend(alpha=1.0, delta=None).soft_label(), geols.stored())
    assert geols.description.blend.value == 0.1
    with pytest.raises(InputError, match="got delta, expected only alpha"):
        geols.with_blend(delta=0.5)


def test_a_target_that_is_derived_has_no_stored_map(index):
    _, targets = open_made(index, "small")
    with pytest.raises(InputError, match="case small: target 'smooth' is derived from the labels"):
        targets["smooth"].stored()


def test_a_case_may_be_pickled(index):
    target = pickle.loads(pickle.dumps(open_made(index, "small")[1]["geols"]))
    np.testing.assert_array_equal(target.soft_label(), open_made(index, "small")[1]["geols"].soft_label())


def test_what_is_missing_is_named_with_the_remedy(tmp_path):
    index = make_cohort(tmp_path, {"small": SHAPES["small"]})
    cohort = IndexedCohort.open(index)
    case = cohort.index.case("small")
    with pytest.raises(FormatError, match="case small: the index has no entry of target 'geols'. Run snakemake again"):
        cohort.target(replace(case, targets={}), "geols")
    with pytest.raises(InputError, match="target: got 'nope'"):
        cohort.target(case, "nope")
    entry_folder(tmp_path / "store", case.targets["geols"].key).rename(tmp_path / "aside")
    missing = rf"case small, target 'geols', entry {case.targets['geols'].key[:12]}: it is not in store .*store=\.\.\."
    with pytest.raises(FormatError, match=missing):
        cohort.target(case, "geols")
    assert cohort.target(case, "onehot").soft_label().shape == (len(CLASSES), *SHAPES["small"])


def test_the_entry_of_another_case_is_not_taken(tmp_path):
    index = make_cohort(tmp_path, {"small": SHAPES["small"], "empty": SHAPES["empty"]})
    cohort = IndexedCohort.open(index)
    small, empty = cohort.index.cases
    exchanged = replace(small, prepare=replace(small.prepare, manifest=empty.prepare.manifest))
    with pytest.raises(FormatError, match="case small, prepare, entry .*: .*got manifest"):
        cohort.case(exchanged)


def test_a_damaged_byte_is_named_when_it_is_read(tmp_path):
    index = make_cohort(tmp_path, {"small": SHAPES["small"]})
    prepared, targets = open_made(index, "small")
    for entry, read, role in (
        (prepared.entry, prepared.image, "prepare"),
        (targets["geols"].entry, targets["geols"].soft_label, "target 'geols'"),
    ):
        shard = max(entry.path.rglob("c/0/*/0/0"), key=lambda path: path.stat().st_size)
        content = bytearray(shard.read_bytes())
        content[len(content) // 3] ^= 4
        shard.chmod(0o644)
        shard.write_bytes(content)
        with pytest.raises(FormatError, match=f"case small, {role}, entry {entry.key[:12]}: .*crc32c"):
            read()


def test_the_code_of_the_page_on_looking_runs(index, monkeypatch, capsys):
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "looking.md").read_text(), re.DOTALL)
    monkeypatch.chdir(index.parents[1])
    names = {}
    exec(block, names)
    assert names["soft_label"].shape == (3, *SHAPES["empty"]) and names["more"].shape == (3, 1, 6, 4)
    assert capsys.readouterr().out.splitlines()[-1].startswith("empty (3.0, 1.0, 1.0)")


def test_a_case_needs_numpy_and_the_store_only():
    script = (
        "import sys, softlabels.cohort.case; "
        "print([m for m in ('torch', 'scipy', 'skimage', 'SimpleITK', 'numba', 'pydantic', 'typer', 'dask', "
        "'matplotlib', 'softlabels.training', 'softlabels.config') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
