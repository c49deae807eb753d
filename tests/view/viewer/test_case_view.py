"""Laws of what the viewer shows of a case: the loader's soft label, whatever block, part or channel is asked for."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.made_cohort import (
    CLASSES,
    REGIONS,
    SPARSE,
    TARGETS,
    key_of,
    make_cohort,
    publish,
    seeds_and_distance,
    volumes,
)

from softlabels.blend import Blend, entropy_bits
from softlabels.calibration import Calibration
from softlabels.cohort.case import IndexedCohort, PreparedCase
from softlabels.errors import FormatError, InputError
from softlabels.grid import Grid
from softlabels.store import Layer, Lossless, Store
from softlabels.view.colours import class_colours
from softlabels.view.entries import TargetEntries
from softlabels.view.viewer.case_view import CaseView
from softlabels.view.viewer.fields import Field, whole_field
from softlabels.view.viewer.layers import SCALES, colour_scale

#: More than a chunk along two axes.
SHAPE = (20, 70, 133)


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Return a case and its targets with their entries, by name."""
    folder = tmp_path_factory.mktemp("cohort")
    cohort = IndexedCohort.open(make_cohort(folder, {"case": SHAPE}, targets=TARGETS | SPARSE))
    store, grid = Store(folder / "store"), Grid(SHAPE, (3.0, 1.0, 1.0))
    seeds, distance = seeds_and_distance("case", SHAPE)
    publish(store, key_of("seeds"), [seeds], grid)
    publish(store, key_of("distance"), [distance], grid)
    way = {"seeds": store.find(key_of("seeds")), "distance": store.find(key_of("distance"))}
    (case,) = cohort.index.cases
    prepared = cohort.case(case)
    targets = {
        name: TargetEntries(cohort.target(case, name, prepared=prepared), **(way if name == "geols" else {}))
        for name in [*TARGETS, *SPARSE]
    }
    # A calibration makes each channel depend on all others.
    calibrated = Blend("mix_onehot", 0.4, Calibration(0.7, (0.0, 0.8, -0.5), "rater 2"))
    described = replace(TARGETS["geols"], blend=calibrated)
    targets["calibrated"] = TargetEntries(replace(targets["geols"].target, name="calibrated", description=described))
    return prepared, targets


@pytest.fixture(scope="module")
def view(entries):
    return CaseView(*entries)


@pytest.mark.parametrize("name", ["onehot", "smooth", "geols", "sing", "svls", "calibrated", *SPARSE])
def test_soft_label_difference_and_entropy_are_those_of_the_whole_volume(entries, view, name):
    target = entries[1][name].target
    soft, masks = target.soft_label(), target.masks()
    field = whole_field(SHAPE, (3.0, 1.0, 1.0), 10**9)
    is_signed = target.description.kind == "signed"
    for channel in range(len(soft)):
        np.testing.assert_array_equal(view.values(f"{name}/soft", channel, field), soft[channel])
        hard = 2.0 * masks[channel] - 1 if is_signed else masks[channel].astype(float)
        difference = view.values(f"{name}/difference", channel, field)
        np.testing.assert_allclose(difference, soft[channel] - hard, atol=1e-6)
    expected = entropy_bits(soft, is_signed=is_signed, is_overlapping=target.description.is_overlapping)
    np.testing.assert_allclose(view.values(f"{name}/entropy", 0, field), expected, atol=1e-6)


@pytest.mark.parametrize("layer", ["image", "labels", "geols/seeds", "geols/distance", "geols/soft", "sing/entropy"])
def test_a_part_at_any_step_is_that_part_of_the_whole(view, layer):
    whole = view.values(layer, 0, whole_field(SHAPE, (3.0, 1.0, 1.0), 10**9))
    for field in (
        Field((3, 11, 60), (20, 70, 133), (1, 1, 1)),
        Field((0, 5, 7), (19, 66, 131), (2, 3, 5)),
        Field((19, 69, 132), (20, 70, 133)),
    ):
        part = tuple(slice(*line) for line in zip(field.start, field.stop, field.step, strict=True))
        found = view.values(layer, 0, field)
        assert found.dtype == whole.dtype
        np.testing.assert_array_equal(found, whole[part])
    assert view.value(layer, 0, (7, 30, 64)) == pytest.approx(float(whole[7, 30, 64]), nan_ok=True)


def test_labels_are_drawn_by_codes_that_the_table_explains(view):
    _, labels, _, _ = volumes("case", SHAPE)
    table = {row["value"]: row for row in view.describe()["labels"]}
    assert set(table) == set(np.unique(labels))
    drawn, scale = view.drawn("labels", 0, whole_field(SHAPE, (3.0, 1.0, 1.0), 10**9), 8)
    for value, row in table.items():
        assert (drawn.codes[labels == value] == row["code"]).all()
    assert table[0]["code"] == 0
    assert scale[1] == max(row["code"] for row in table.values())
    # 2 and 4 are of "tumour" and "core", the first of which is named, and of the larger "whole".
    # 9 is the ignore label, of no class.
    colours = class_colours([*CLASSES, *REGIONS])
    assert [table[v]["name"] for v in (1, 2, 4)] == ["organ", "tumour", "tumour"]
    assert table[2]["colour"] == table[4]["colour"] == colours[2, 4]
    assert table[9]["name"] == "label 9, of no class"


@pytest.mark.parametrize("n_labels", [3, 41, 130, 1000])
def test_label_codes_stay_clear_of_the_start_of_the_colour_table(tmp_path, n_labels):
    labels = np.arange(n_labels + 1, dtype=np.int32).reshape(1, 1, -1) * 70_001
    layers = [
        Layer("image", np.zeros((1, *labels.shape), np.float32), ["T1"], Lossless()),
        Layer("labels", labels, encoding=Lossless(), role="labels"),
    ]
    store = Store(tmp_path / "store")
    publish(store, key_of("many"), layers, Grid(labels.shape, (1.0, 1.0, 1.0)))
    view = CaseView(PreparedCase("many", store.find(key_of("many"))))
    drawn, (_, last) = view.drawn("labels", 0, whole_field(labels.shape, (1.0, 1.0, 1.0), 10**6), 8)
    codes = [row["code"] for row in view.label_table()]
    assert len(set(codes)) == n_labels + 1
    np.testing.assert_array_equal(drawn.codes.ravel(), codes)
    # NiiVue draws every value above the lowest at 2/256 of its table or further: no label may lie nearer to 0.
    assert (codes[1] + 0.5) / (last + 1) >= 2 / 256


def test_a_target_is_described_in_a_few_words(view):
    titles = {one["name"]: one["title"] for one in view.describe()["targets"]}
    assert titles["geols"] == "paper, alpha 0.1"
    assert titles["calibrated"] == "geols, paper, alpha 0.4, calibrated for rater 2"
    assert titles["smooth"] == "label_smoothing, epsilon 0.3"
    assert titles["onehot"] == ""


@pytest.mark.parametrize(("variant", "unit"), [("mm", "mm"), ("normalised", "share of the largest")])
def test_the_unit_of_a_level_set_is_that_of_its_variant(entries, variant, unit):
    case, targets = entries
    target = targets["svls"].target
    level = replace(target, description=replace(target.description, kind="distance", variant=variant))
    layers = CaseView(case, {"svls": TargetEntries(level)}).describe()["layers"]
    assert {one["id"]: one["unit"] for one in layers}["svls/soft"] == unit


def test_an_infinite_distance_is_explained_by_the_gap_it_may_end_at(tmp_path, entries):
    case, targets = entries
    _, distance = seeds_and_distance("case", SHAPE)
    store, grid, found = Store(tmp_path), Grid(SHAPE, (3.0, 1.0, 1.0)), {}
    for name, params in {"whole": {}, "near": {"gap": 13.44}}.items():
        records = {"attributes": {"params": params}, "quality": {}, "provenance": {}}
        entry, _ = store.publish(key_of(name), [distance], grid=grid, **records)
        as_target = CaseView(case, {"geols": replace(targets["geols"], distance=entry)})
        as_entry = CaseView(None, others=[entry])
        found[name] = {as_target.layers["geols/distance"].infinite, as_entry.layers["distance"].infinite}
        assert as_target.layers["geols/soft"].infinite == "infinite"
        assert as_target.layers["image"].infinite == "outside of the domain"
    assert found == {"whole": {"not reached"}, "near": {"beyond the gap, or not reached"}}


def test_the_start_is_in_the_fullest_slice_of_the_labels(view):
    _, labels, _, _ = volumes("case", SHAPE)
    assert labels[view.start] == view.start_label != 0
    assert (labels[view.start[0]] != 0).sum() == (labels != 0).sum(axis=(1, 2)).max()


def test_a_target_without_its_map_shows_what_it_has(entries):
    case, targets = entries
    geols = targets["geols"]
    view = CaseView(case, {"geols": TargetEntries(replace(geols.target, entry=None), geols.seeds)})
    assert list(view.layers) == ["image", "labels", "geols/seeds"]


def test_what_does_not_exist_is_refused_with_what_does(view):
    with pytest.raises(InputError, match="got layer 'geols/x', expected one of image, labels, "):
        view.layer("geols/x")
    with pytest.raises(InputError, match="layer image: got channel 2, expected 0 to 1"):
        view.layer("image", 2)
    with pytest.raises(InputError, match="view empty: no entry to show"):
        CaseView(None, title="empty")


def test_a_damaged_chunk_is_an_error_and_no_picture(tmp_path):
    _, labels, _, _ = volumes("case", SHAPE)
    store = Store(tmp_path / "store")
    layers = [Layer("image", np.random.default_rng(0).random((1, *SHAPE)).astype(np.float32), ["T1"], Lossless())]
    layers.append(Layer("labels", labels, encoding=Lossless(), role="labels"))
    publish(store, key_of("damaged"), layers, Grid(SHAPE, (3.0, 1.0, 1.0)))
    entry = store.find(key_of("damaged"))
    view = CaseView(PreparedCase("damaged", entry))
    (shard,) = entry.zarr_path.glob("**/c/0/0/0/0")
    content = bytearray(shard.read_bytes())
    content[100] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(content)
    with pytest.raises(FormatError, match="is damaged"):
        view.values("image", 0, whole_field(SHAPE, (3.0, 1.0, 1.0), 10**9))


@pytest.mark.parametrize("role", SCALES)
@pytest.mark.parametrize("values", [[0.0, 0.0], [-3.0, 7.0], [np.inf, np.inf], [np.nan, 5.0]])
def test_a_scale_always_ascends(role, values):
    low, high = colour_scale(role, np.array(values))
    assert np.isfinite([low, high]).all()
    assert low < high


def test_a_2d_image_has_one_plane(tmp_path):
    shape = (1, 12, 9)
    layers = [Layer("image", np.zeros((1, *shape), np.float32), ["T1"], Lossless())]
    layers.append(Layer("labels", np.ones(shape, np.uint8), encoding=Lossless(), role="labels"))
    store = Store(tmp_path / "store")
    publish(store, key_of("flat"), layers, Grid(shape, (1.0, 1.0, 1.0)))
    described = CaseView(PreparedCase("flat", store.find(key_of("flat")))).describe()
    assert described["plane"] == "axial"
    assert sorted(described["axes"].values()) == [0, 1, 2]
