"""GeoLS of many classes: what is computed in boxes is what the dense arrays give, and near what all distances give."""

from typing import ClassVar

import numpy as np
import pytest
from helpers.real_volumes import real_volumes
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.boxed import BoxedVolumes
from softlabels.errors import InputError, SeedError
from softlabels.geodesic import distances_for_distribution, geodesic_distance
from softlabels.methods import METHODS
from softlabels.methods.arrays import BoxedInputs
from softlabels.methods.geols import boxed_paper_map, paper_map
from softlabels.methods.quality import boxed_quality_figures, quality_figures
from softlabels.methods.seeded import least_gap, share_bound

SHAPES = [(7, 41, 23), (1, 45, 50), (2, 30, 5), (83, 1, 9), (11, 12, 13)]
#: Shares are computed in float32 from distances in float32.
ROUNDING = 2e-5


def a_case(seed, n_channels=2):
    """Return image, masks and seeds of blocks of classes, one of them absent, with some voxels of no class."""
    rng = np.random.default_rng(seed)
    shape = SHAPES[seed % len(SHAPES)]
    labels = np.zeros(shape, int)
    for value in range(1, 7):
        corners = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
        labels[tuple(slice(a, b) for a, b in corners)] = value
    labels[rng.random(shape) < 0.01] = 99
    masks = np.stack([labels == value for value in range(8)])
    seeds = masks & (rng.random(masks.shape) < 0.05)
    for mask, own in zip(masks, seeds, strict=True):
        own[tuple(np.argwhere(mask)[:1].T)] = True
    image = rng.normal(labels % 3, 0.3, (n_channels, *shape)).astype(np.float32)
    return image, masks, seeds, {"metric": "pythagorean", "gamma": 1.0}


def near(image, seeds, gap, options, domain=None):
    """Return boxed distances of each channel and (M, C) farthest."""
    found = [distances_for_distribution(one, seeds, (2.0, 1.0, 1.0), gap, domain=domain, **options) for one in image]
    return [one.maps for one in found], np.array([one.farthest for one in found], np.float32)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**4), has_walls=st.booleans(), gap=st.sampled_from([2.0, 9.0]), threads=st.integers(1, 3))
def test_boxes_give_the_bits_of_the_dense_arrays(seed, has_walls, gap, threads):
    image, masks, seeds, options = a_case(seed)
    domain = np.random.default_rng(seed).random(masks.shape[1:]) < 0.7 if has_walls else None
    distance, farthest = near(image, seeds, gap, options, domain)
    boxed = boxed_paper_map(distance, BoxedVolumes.of_array(masks, fill=False), farthest, threads=threads)
    dense = paper_map(np.stack([one.dense() for one in distance]), masks, farthest=farthest)
    np.testing.assert_array_equal(boxed.dense(), dense)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**4), has_walls=st.booleans(), gap=st.sampled_from([3.0, 8.0, 14.0]))
def test_no_share_is_further_from_that_of_all_distances_than_the_bound(seed, has_walls, gap):
    image, masks, seeds, options = a_case(seed)
    domain = np.random.default_rng(seed).random(masks.shape[1:]) < 0.7 if has_walls else None
    full = np.stack([geodesic_distance(one, seeds, (2.0, 1.0, 1.0), domain=domain, **options) for one in image])
    distance, farthest = near(image, seeds, gap, options, domain)
    found = boxed_paper_map(distance, BoxedVolumes.of_array(masks, fill=False), farthest)
    assert np.abs(found.dense() - paper_map(full, masks)).max() <= share_bound(len(masks), gap) + ROUNDING


def test_figures_in_boxes_are_those_of_the_dense_arrays():
    image, masks, seeds, options = a_case(0)
    distance, farthest = near(image, seeds, 9.0, options)
    boxed_masks = BoxedVolumes.of_array(masks, fill=False)
    soft = boxed_paper_map(distance, boxed_masks, farthest)
    found, expected = boxed_quality_figures(soft, boxed_masks), quality_figures(soft.dense(), masks)
    assert found.keys() == expected.keys() and found["volume_bias"][7] is None
    for name, value in expected.items():
        if name == "volume_bias":
            for one, other in zip(found[name], value, strict=True):
                assert one == other or one == pytest.approx(other, rel=1e-4, abs=1e-6)
        else:
            assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-8), name
    assert 0 < expected["disagreement"] < 1 and expected["entropy_mean"] > 0


def test_what_is_missing_is_said():
    image, masks, seeds, options = a_case(4)
    distance, farthest = near(image, seeds, 9.0, options)
    inputs = {
        "masks": BoxedVolumes.of_array(masks, fill=False),
        "spacing": (2.0, 1.0, 1.0),
        "class_names": tuple("abcdefgh"),
        "background": 0,
        "distance": tuple(distance),
    }
    found = METHODS["geols"]().compute_boxed(BoxedInputs(**inputs, farthest=farthest))
    assert found.flags == [f"class '{n}' absent" for n, mask in zip("abcdefgh", masks, strict=True) if not mask.any()]
    with pytest.raises(InputError, match="method geols: farthest: missing"):
        METHODS["geols"]().compute_boxed(BoxedInputs(**inputs))
    unseeded = seeds & (np.arange(8) != 3)[:, None, None, None]
    distance, farthest = near(image, unseeded, 9.0, options)
    assert masks[3].any()
    with pytest.raises(SeedError, match="class 'd': present, but none of its seeds can be reached"):
        METHODS["geols"]().compute_boxed(BoxedInputs(**inputs | {"distance": tuple(distance)}, farthest=farthest))


def test_the_least_gap_is_the_least():
    for n_classes in (8, 105, 1000):
        for bound in (1e-2, 1e-4, 5e-7):
            gap = least_gap(n_classes, bound)
            assert share_bound(n_classes, gap) <= bound < share_bound(n_classes, gap - 0.011)


def test_41_real_organs_are_the_same_to_the_stored_precision():
    from softlabels.inputs.volume import read_volume
    from softlabels.seeds import SkeletonSeeds, make_seeds

    folder = real_volumes()
    if folder is None or not (folder / "ct_organs_small").is_dir():
        pytest.skip("no real volumes")
    ct = read_volume(folder / "ct_organs_small" / "ct.nii.gz", role="image")
    labels = read_volume(folder / "ct_organs_small" / "label.nii.gz", role="label").values
    image = ((ct.values - ct.values.mean()) / ct.values.std()).astype(np.float32)
    masks = np.stack([labels == value for value in np.unique(labels)])
    names = [str(value) for value in range(len(masks))]
    seeds, _ = make_seeds(masks, ct.grid.spacing, SkeletonSeeds(), class_names=names, case_id="ct", threads=2)
    options = {"metric": "pythagorean", "gamma": 1.0}
    expected = paper_map(geodesic_distance(image, seeds, ct.grid.spacing, **options)[None], masks, threads=2)
    gap = METHODS["geols"]().gap_of(len(masks), "softlabels")
    near = distances_for_distribution(image, seeds, ct.grid.spacing, gap, **options)
    found = boxed_paper_map(
        [near.maps], BoxedVolumes.of_array(masks, fill=False), np.float32(near.farthest)[None], threads=2
    )
    half_level = 1 / 510
    assert len(masks) == 42 and share_bound(42, gap) <= half_level / 16
    assert np.abs(found.dense() - expected).max() <= half_level / 16
    assert found.nbytes < expected.nbytes / 5


def test_a_class_that_changes_one_form_only_is_refused():
    with pytest.raises(TypeError, match="has the soft_map of Lopsided and the boxed_map of SVLS; implement both"):

        class Lopsided(METHODS["svls"]):
            """Half of a method."""

            name: ClassVar[str] = "lopsided"

            def soft_map(self, inputs):
                return super().soft_map(inputs)

    with pytest.raises(TypeError, match="has gap_variants, but no boxed_map"):

        class Gapless(METHODS["sing"]):
            """A gap, and nothing that can do with one."""

            name: ClassVar[str] = "gapless"
            gap_variants: ClassVar[frozenset[str]] = frozenset({"paper"})
