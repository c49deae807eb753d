"""Seeds: the chain that leaves no present class without, and what make_seeds says of it."""

import hashlib
import json

import numpy as np
import pytest
from helpers.made_masks import ALL_26, MASKS, SPACINGS, blobs, box_mask, few, n_unreached, seed_one
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels.classes import LabelClass
from softlabels.errors import InputError
from softlabels.preprocess.masks import boxed_class_masks
from softlabels.seeds import (
    STRATEGIES,
    SkeletonSeeds,
    centre_voxel,
    deepest_voxels,
    make_boxed_seeds,
    make_seeds,
)

# The fallback chain


@given(MASKS, st.sampled_from(SPACINGS))
@few
def test_deepest_voxels_are_those_furthest_from_the_outside_of_their_component(mask, spacing):
    units, n = ndimage.label(mask, ALL_26)
    seeds = deepest_voxels(units, spacing)
    if mask.all():
        assert not seeds.any()
        return
    expected = np.zeros(mask.shape, bool)
    for k in range(1, n + 1):
        outside = np.argwhere(units != k) * spacing
        voxels = np.argwhere(units == k)
        depth = np.array([np.linalg.norm(outside - v * spacing, axis=1).min() for v in voxels])
        expected[tuple(voxels[depth > depth.max() - 1e-6].T)] = True
    np.testing.assert_array_equal(seeds, expected)


def test_spacing_steers_the_deepest_voxels():
    # 3 x 7 x 7 in air: at 1 mm the mid-plane's middle ties at 2 mm; with 10 mm slices only the middle line is deepest.
    mask = box_mask((5, 9, 9), ((1, 1, 1), (4, 8, 8)))
    assert deepest_voxels(mask.astype(int), (1, 1, 1)).sum() == 25
    assert np.argwhere(deepest_voxels(mask.astype(int), (10, 1, 1))).tolist() == [[1, 4, 4], [2, 4, 4], [3, 4, 4]]


@given(MASKS, st.sampled_from(sorted(STRATEGIES.built_in)), st.sampled_from(SPACINGS))
@settings(derandomize=True, deadline=None, max_examples=80)
def test_every_component_of_a_present_class_gets_a_seed(mask, strategy, spacing):
    before = mask.copy()
    seeds, report = seed_one(mask, spacing, strategy=strategy)
    np.testing.assert_array_equal(mask, before)
    touching = strategy in ("canny", "boundary")
    assert n_unreached(mask, seeds, touching=touching) == report["n_components_without_seed"] == 0
    assert report["n_components"] == ndimage.label(mask, ALL_26)[1]
    assert (report["n_voxels"], report["n_seeds"]) == (mask.sum(), seeds.sum())
    assert report["n_seeds_outside"] == (seeds & ~mask).sum() and (touching or not (seeds & ~mask).any())
    assert json.loads(json.dumps(report)) == report


@given(MASKS, st.sampled_from(sorted(STRATEGIES.built_in)))
@few
def test_without_per_component_only_a_class_without_any_seed_is_filled(mask, strategy):
    own, report = seed_one(mask, strategy=strategy, fallback=False)
    assert not report["fallback"] and report["used"] == (strategy if own.any() else "none")
    seeds, report = seed_one(mask, strategy=strategy, per_component=False)
    if own.any() and strategy not in ("canny", "boundary"):
        np.testing.assert_array_equal(seeds, own)
    assert seeds.any() == mask.any()


def test_a_class_is_filled_as_one_when_components_do_not_count():
    mask = box_mask((9, 9, 30), ((2, 2, 2), (4, 4, 4)), ((2, 2, 10), (6, 6, 14)))
    seeds, report = seed_one(mask, strategy="skeleton", per_component=False)
    np.testing.assert_array_equal(seeds, box_mask(mask.shape, ((3, 3, 11), (5, 5, 13))))
    assert (report["n_components"], report["n_components_missed"], report["n_components_without_seed"]) == (2, 2, 1)
    assert seed_one(mask, strategy="skeleton")[0].sum() == 16


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.built_in))
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 5), (2, 5, 6), (8, 8, 8), (4, 3, 1)])
def test_a_class_that_fills_the_volume_gets_seeds_inside(strategy, shape):
    seeds, report = seed_one(np.ones(shape, bool), (3, 1, 1), strategy=strategy)
    assert seeds.any()
    if report["fallback"]:
        assert report["used"] == "centre"
        np.testing.assert_array_equal(seeds, centre_voxel(np.ones(shape, bool), (3, 1, 1)))


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.built_in))
def test_an_absent_class_gets_none_and_is_reported(strategy):
    masks = np.stack([blobs(), np.zeros(blobs().shape, bool)])
    seeds, reports = make_seeds(masks, (1, 1, 1), STRATEGIES[strategy](), class_names=["a", "b"], case_id="p")
    assert seeds[0].any() and not seeds[1].any()
    absent = reports[1]
    assert (absent["class"], absent["used"], absent["fallback"], absent["n_voxels"]) == ("b", "none", False, 0)
    assert absent["n_components"] == absent["n_components_without_seed"] == 0


def test_a_one_voxel_class_keeps_the_edges_around_it():
    mask = box_mask((9, 9, 9), ((4, 4, 4), (5, 5, 5)))
    seeds, report = seed_one(mask, strategy="canny", mode="slices")
    assert report["used"] == "canny" and report["n_seeds"] == report["n_seeds_outside"] == 8


def test_a_class_too_small_for_canny_gets_its_boundary():
    mask = box_mask((9, 9, 9), ((4, 4, 4), (5, 5, 5)))
    seeds, report = seed_one(mask, strategy="canny", sigma=4.0)
    np.testing.assert_array_equal(seeds, mask)
    assert report["used"] == "boundary"


def test_the_background_can_be_left_out():
    masks = np.stack([~blobs(), blobs()])
    options = {"spacing": (1, 1, 1), "strategy": SkeletonSeeds(), "class_names": ["background", "x"], "case_id": "p"}
    seeds, reports = make_seeds(masks, background=0, **options)
    everything, _ = make_seeds(masks, **options)
    assert not seeds[0].any() and (reports[0]["strategy"], reports[0]["used"]) == ("none", "none")
    np.testing.assert_array_equal(seeds[1], everything[1])


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.built_in))
def test_threads_change_nothing(strategy):
    masks = np.stack([blobs(seed=seed) for seed in range(5)])
    options = {"spacing": (2, 1, 1), "strategy": STRATEGIES[strategy](), "class_names": list("abcde"), "case_id": "p"}
    one, first = make_seeds(masks, threads=1, **options)
    many, second = make_seeds(masks, threads=4, **options)
    np.testing.assert_array_equal(one, many)
    assert first == second


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"masks": np.zeros((1, 4, 4, 4))}, "float64"),
        ({"masks": np.zeros((4, 4, 4), bool)}, "(C, D, H, W)"),
        ({"masks": np.zeros((1, 0, 4, 4), bool)}, "(1, 0, 4, 4)"),
        ({"class_names": ["a", "b"]}, "expected 1 different names"),
        ({"spacing": (1, 1)}, "spacing"),
        ({"spacing": (1, 0, 1)}, "spacing"),
        ({"background": 1}, "index below 1"),
    ],
)
def test_what_does_not_fit_is_named(change, words):
    options = {
        "masks": blobs()[None],
        "spacing": (1, 1, 1),
        "strategy": SkeletonSeeds(),
        "class_names": ["a"],
        "case_id": "p7",
    }
    with pytest.raises(InputError) as error:
        make_seeds(**(options | change))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"strategy": "erosion", "radius": 2}, "radius: unknown key"),
        ({"strategy": "erosion", "radius_vox": 0}, "radius_vox: got 0"),
        ({"strategy": "erosion", "iterations": 1.5}, "iterations: got 1.5"),
        ({"strategy": "random", "n": 0}, "n: got 0"),
        ({"strategy": "canny", "sigma": float("nan")}, "sigma: got nan"),
        ({"strategy": "canny", "mode": "3d"}, "'volume' or 'slices'"),
        ({"strategy": "boundary", "side": "left"}, "'inner', 'outer' or 'both'"),
    ],
)
def test_a_wrong_parameter_is_named(content, words):
    with pytest.raises(InputError, match=words):
        STRATEGIES.from_json(content)


# What is stored must not change unnoticed: a new release of SciPy or scikit-image, or a change here, that gives other
# seeds needs another version of the strategy, or of all of them if it is the chain.
GOLDEN = {
    "skeleton": "6a515316b0cf8aba",
    "erosion": "ffaf2aba58d4f955",
    "random": "7c3c60280b81b1ab",
    "canny": "c85efe105b9a5f0c",
    "boundary": "0121a9aaa78778d1",
}


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.built_in))
def test_seeds_of_version_1_stay_what_they_were(strategy):
    z, y, x = np.ogrid[:16, :20, :24]
    ring = np.abs(np.hypot((y - 9) * 1.0, (x - 10) * 0.8) - 5) + np.abs(z - 7) * 0.4 < 2.5
    seeds, _ = seed_one(ring | box_mask(ring.shape, ((1, 1, 20), (3, 3, 22))), strategy=strategy)
    assert hashlib.sha256(np.packbits(seeds).tobytes()).hexdigest()[:16] == GOLDEN[strategy]


# Real labels


@pytest.mark.parametrize(
    ("path", "strategy"),
    [
        ("ct_organs_small/label.nii.gz", "skeleton"),
        ("ms_p19/label_lesion.nii.gz", "erosion"),
        ("spinal_cord/t2s_label_wm1_gm2.nii.gz", "canny"),
    ],
)
def test_every_component_of_a_real_label_gets_a_seed(shared_data, path, strategy):
    import SimpleITK

    image = SimpleITK.ReadImage(str(shared_data / path))
    labels = SimpleITK.GetArrayFromImage(image)
    values = [int(v) for v in np.unique(labels) if v]
    masks = np.stack([labels == v for v in values])
    _, reports = make_seeds(
        masks, image.GetSpacing()[::-1], STRATEGIES[strategy](), class_names=values, case_id=path, threads=2
    )
    assert all(report["n_components_without_seed"] == 0 for report in reports)
    assert all(report["n_seeds"] > 0 for report in reports)


# Each class in its box


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.built_in))
@pytest.mark.parametrize("shape", [(9, 14, 15), (1, 20, 21), (2, 30, 5)])
def test_seeds_in_boxes_are_those_on_the_whole_volume(strategy, shape, monkeypatch):
    rng = np.random.default_rng(3)
    kind = STRATEGIES[strategy]
    for number in range(4):
        labels = np.zeros(shape, np.uint8)
        for value in (1, 2, 3, 4):
            corners = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
            part = labels[tuple(slice(a, b) for a, b in corners)]
            part[rng.random(part.shape) < (0.5 if number % 2 else 1.1)] = value
        classes = [LabelClass(f"c{value}", (value,)) for value in (0, 1, 2, 3, 4, 9)]
        options = {"class_names": [one.name for one in classes], "case_id": "p", "threads": 2}
        masks = boxed_class_masks(labels, classes)
        boxed, reports = make_boxed_seeds(masks, (2.0, 1.0, 0.7), kind(), **options)
        with monkeypatch.context() as patch:
            patch.setattr(kind, "margin_vox", None)
            whole, expected = make_seeds(masks.dense(), (2.0, 1.0, 0.7), kind(), **options)
        np.testing.assert_array_equal(boxed.dense(), whole)
        assert reports == expected
        assert all(values.size == 0 or values.any() for _, values in boxed)
