"""Seeds: each strategy against an independent restatement."""

import hashlib
import itertools

import numpy as np
import pytest
from helpers.made_masks import ALL_26, MASKS, blobs, box_mask, few, seed_one
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage import feature, morphology

from softlabels.methods import METHODS
from softlabels.seeds import (
    RandomSeeds,
    boundary_seeds,
    canny_seeds,
    erosion_seeds,
    make_seeds,
    random_key,
    random_seeds,
    skeleton_seeds,
)

# Skeleton


@pytest.mark.parametrize("seed", range(4))
def test_skeleton_is_that_of_the_whole_volume_for_a_class_at_the_border(seed):
    mask = blobs(seed=seed)
    assert mask[0].any() and mask[:, -1].any()
    np.testing.assert_array_equal(skeleton_seeds(mask), morphology.skeletonize(mask))


@pytest.mark.parametrize("axis", range(3))
def test_skeleton_does_not_depend_on_empty_space_around(axis):
    mask = blobs()
    width = [(0, 0)] * 3
    width[axis] = (3, 5)
    inner = tuple(slice(low, low + n) for (low, _), n in zip(width, mask.shape, strict=True))
    np.testing.assert_array_equal(skeleton_seeds(np.pad(mask, width))[inner], skeleton_seeds(mask))


def test_a_single_slice_takes_the_2d_skeleton():
    mask = blobs((1, 40, 30))
    np.testing.assert_array_equal(skeleton_seeds(mask)[0], morphology.skeletonize(mask[0]))


def test_geols_script_thins_a_single_slice_as_a_volume():
    mask = blobs((1, 40, 30))
    found = skeleton_seeds(mask, lone_slice="3d")
    np.testing.assert_array_equal(found, morphology.skeletonize(mask))
    assert (found != skeleton_seeds(mask)).any()
    official = METHODS["geols"](variant="official").seed_strategy
    np.testing.assert_array_equal(official.seeds(mask, case_id="a", class_name="b"), found)
    assert "lone_slice" not in METHODS["geols"]().seed_strategy.to_json()


@pytest.mark.parametrize("size", [(2, 2, 2), (4, 4, 4), (6, 6, 6), (8, 8, 8), (16, 16, 16), (4, 4, 100)])
def test_where_the_skeleton_vanishes_the_deepest_voxels_seed_the_class(size):
    low = (2, 3, 1)
    mask = box_mask(np.add(size, 6), (low, np.add(low, size)))
    assert not skeleton_seeds(mask).any()
    seeds, report = seed_one(mask, strategy="skeleton")
    assert (report["used"], report["fallback"], report["n_components_missed"]) == ("distance_maxima", True, 1)
    core = [max(0, (n - 1) // 2) for n in sorted(size)[:2]] + [(min(size) - 1) // 2]
    expected = box_mask(mask.shape, (np.add(low, core), np.add(low, np.subtract(size, core))))
    np.testing.assert_array_equal(seeds, expected)


# Erosion


@given(MASKS, st.integers(1, 3), st.integers(1, 2))
@few
def test_erosion_is_that_by_the_footprint_of_the_ball(mask, radius, iterations):
    expected = mask
    # One at a time: SciPy's own `iterations` (1.17) erodes [[1,1,1,0],[1,1,1,1],[1,1,1,1]] too far at radius 2.
    for _ in range(iterations):
        expected = ndimage.binary_erosion(expected, morphology.ball(radius).astype(bool), border_value=1)
    np.testing.assert_array_equal(erosion_seeds(mask, radius, iterations), expected)


def test_erosion_twice_by_hand():
    mask = np.ones((1, 3, 4), bool)
    mask[0, 0, 3] = False
    # Once: more than 2 voxels from the hole. Twice: only the corner is more than 2 from what the first took away.
    once = [[[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]]]
    twice = [[[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]]
    assert erosion_seeds(mask, 2, 1).astype(int).tolist() == once
    assert erosion_seeds(mask, 2, 2).astype(int).tolist() == twice


@pytest.mark.parametrize("seed", range(3))
def test_erosion_of_smooth_shapes_is_that_by_the_footprint_of_the_ball(seed):
    mask = blobs(seed=seed, share=0.7)
    for radius in (1, 2, 3):
        expected = ndimage.binary_erosion(mask, morphology.ball(radius), border_value=1)
        assert expected.any()
        np.testing.assert_array_equal(erosion_seeds(mask, radius, 1), expected)


def test_erosion_is_what_the_authors_script_defines():
    mask = blobs(share=0.7)
    np.testing.assert_array_equal(
        erosion_seeds(mask, 1, 1), morphology.erosion(mask.astype(np.uint8), morphology.ball(1))
    )


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 2, 2), (2, 9, 9), (1, 9, 9), (9, 2, 1)])
def test_erosion_empties_what_is_two_voxels_thick_and_the_chain_fills_in(size):
    mask = box_mask((12, 12, 12), ((1, 1, 1), np.add(1, size)))
    assert not erosion_seeds(mask, 1, 1).any()
    seeds, report = seed_one(mask, strategy="erosion")
    assert seeds.any() and not (seeds & ~mask).any() and report["used"] == "distance_maxima"


def test_erosion_on_one_slice_is_that_by_a_disk():
    mask = blobs((1, 40, 30), share=0.7)
    expected = ndimage.binary_erosion(mask[0], morphology.disk(2), border_value=1)
    np.testing.assert_array_equal(erosion_seeds(mask, 2, 1)[0], expected)


# Random draw


@given(MASKS, st.integers(1, 12), st.text(max_size=5))
@few
def test_random_seeds_are_the_first_n_of_a_shuffle_of_the_class(mask, n, key):
    pool = [int(v) for v in np.flatnonzero(mask)]
    for i in range(min(n, len(pool))):
        j = i + int(hashlib.sha256(f"{key}:{i}".encode()).hexdigest(), 16) % (len(pool) - i)
        pool[i], pool[j] = pool[j], pool[i]
    assert sorted(pool[:n]) == np.flatnonzero(random_seeds(mask, n, key=key)).tolist()


def test_random_seeds_favour_no_voxel():
    mask = box_mask((1, 3, 5), ((0, 0, 1), (1, 3, 4)))
    drawn = sum(random_seeds(mask, 3, key=str(k)).astype(int) for k in range(900))
    assert drawn[~mask].sum() == 0
    # Each of 9 voxels is drawn 300 times on average, with a standard deviation of 14.
    assert np.abs(drawn[mask] - 300).max() < 60


def test_random_seeds_do_not_depend_on_the_order_or_number_of_classes():
    masks = np.stack([blobs(seed=seed) for seed in range(3)])
    options = {"spacing": (1, 1, 1), "case_id": "p1", "strategy": RandomSeeds(n=7)}
    forward, reports = make_seeds(masks, class_names=["a", "b", "c"], **options)
    backward, _ = make_seeds(masks[::-1], class_names=["c", "b", "a"], **options)
    alone, _ = make_seeds(masks[1:2], class_names=["b"], **options)
    np.testing.assert_array_equal(forward, backward[::-1])
    np.testing.assert_array_equal(forward[1], alone[0])
    assert [report["n_seeds"] for report in reports] == [7, 7, 7]


def test_case_class_and_seed_each_give_another_draw():
    keys = {
        random_key(*parts) for parts in [("ab", "c", 0), ("a", "bc", 0), ("ab", "c", 1), ("ab", "d", 0), ("", "abc", 0)]
    }
    assert len(keys) == 5


# Canny


def test_slice_mode_is_the_2d_canny_of_the_complement_of_each_slice():
    mask = blobs((9, 40, 33))
    mask[2], mask[3] = True, False
    expected = np.stack([feature.canny(mask[z] == 0) for z in range(len(mask))])
    assert expected.any()
    np.testing.assert_array_equal(canny_seeds(mask, "slices", 1.0), expected)
    np.testing.assert_array_equal(canny_seeds(mask, "slices", 2.0)[0], feature.canny(mask[0] == 0, sigma=2.0))


def test_slice_mode_misses_the_caps_and_volume_mode_covers_them():
    mask = box_mask((20, 24, 24), ((4, 4, 4), (16, 20, 20)))
    cap = (4, slice(7, 17), slice(7, 17))
    assert not canny_seeds(mask, "slices", 1.0)[cap].any()
    assert canny_seeds(mask, "volume", 1.0)[cap].all()


def test_slice_mode_leaves_out_the_border_of_a_slice_and_volume_mode_does_not():
    mask = box_mask((6, 20, 20), ((0, 0, 0), (6, 20, 9)))
    assert not canny_seeds(mask, "slices", 1.0)[:, [0, -1]].any()
    expected = box_mask(mask.shape, ((0, 0, 8), (6, 20, 10)))
    np.testing.assert_array_equal(canny_seeds(mask, "volume", 1.0), expected)


def explicit_canny(mask, sigma) -> np.ndarray:
    """The steps of 3D Canny, voxel by voxel, on a mask continued beyond its box."""
    pad = int(4 * sigma + 0.5) + 4
    smooth = ndimage.gaussian_filter(np.pad(mask, pad, mode="edge").astype(float), sigma)
    weights = {-1: 1, 0: 2, 1: 1}
    gradient = np.zeros((3, *smooth.shape))
    for axis, offset in itertools.product(range(3), itertools.product((-1, 0, 1), repeat=3)):
        weight = offset[axis] * np.prod([weights[o] for a, o in enumerate(offset) if a != axis]) / 4
        gradient[axis] += weight * np.roll(smooth, tuple(-o for o in offset), (0, 1, 2))
    magnitude = np.linalg.norm(gradient, axis=0)

    def along(voxel, step):
        main = int(np.argmax(np.abs(step)))
        others = [a for a in range(3) if a != main]
        total = 0.0
        for corner in itertools.product((0, 1), repeat=2):
            neighbour, weight = list(voxel), 1.0
            neighbour[main] += int(round(step[main]))
            for axis, one in zip(others, corner, strict=True):
                neighbour[axis] += int(np.sign(step[axis])) * one
                weight *= abs(step[axis]) if one else 1 - abs(step[axis])
            total += weight * magnitude[tuple(neighbour)]
        return total

    weak = np.zeros(mask.shape, bool)
    for voxel in np.argwhere(np.ones(mask.shape, bool)):
        inner = tuple(voxel + pad)
        g, m = gradient[(slice(None), *inner)], magnitude[inner]
        if m >= 0.1:
            step = g / np.abs(g).max()
            weak[tuple(voxel)] = max(along(inner, step), along(inner, -step)) <= m * (1 + 1e-9)
    strong = weak & (magnitude[(slice(pad, -pad),) * 3] >= 0.2)
    return ndimage.binary_propagation(strong, ALL_26, mask=weak)


@pytest.mark.parametrize("sigma", [0.8, 1.0, 2.0])
def test_volume_mode_is_canny_written_out_voxel_by_voxel(sigma):
    for mask in (blobs((8, 9, 10), seed=3), blobs((9, 12, 3), seed=4, share=0.2)):
        expected = explicit_canny(mask, sigma)
        assert expected.any()
        np.testing.assert_array_equal(canny_seeds(mask, "volume", sigma), expected)


def test_on_an_extruded_mask_volume_mode_has_the_edges_of_the_slices():
    mask = np.repeat(np.pad(blobs((1, 40, 33)), ((0, 0), (8, 8), (8, 8))), 5, axis=0)
    volume, slices = canny_seeds(mask, "volume", 1.0), canny_seeds(mask, "slices", 1.0)
    assert slices.any()
    assert not (slices & ~volume).any()
    # skimage lets rounding choose one of two equal voxels; both are edges here.
    assert not (volume & ~ndimage.binary_dilation(slices, ALL_26)).any()
    np.testing.assert_array_equal(volume, np.repeat(canny_seeds(mask[:1], "volume", 1.0), 5, axis=0))


@given(MASKS)
@few
def test_volume_mode_commutes_with_flips_and_transposes(mask):
    edges = canny_seeds(mask, "volume", 1.0)
    np.testing.assert_array_equal(canny_seeds(mask[::-1, :, ::-1], "volume", 1.0), edges[::-1, :, ::-1])
    np.testing.assert_array_equal(canny_seeds(mask.transpose(2, 0, 1), "volume", 1.0), edges.transpose(2, 0, 1))
    np.testing.assert_array_equal(canny_seeds(~mask, "volume", 1.0), edges)


@pytest.mark.parametrize("slab", [1, 5, 13])
def test_volume_mode_does_not_depend_on_how_many_slices_it_takes_at_a_time(slab, monkeypatch):
    mask = blobs()
    edges = canny_seeds(mask, "volume", 1.0)
    monkeypatch.setattr("softlabels.seeds.canny._SLAB", slab)
    np.testing.assert_array_equal(canny_seeds(mask, "volume", 1.0), edges)


def test_volume_mode_closes_around_a_ball():
    mask = np.pad(morphology.ball(7).astype(bool), 6)
    edges = canny_seeds(mask, "volume", 1.0)
    outside, _ = ndimage.label(~edges)
    assert outside[0, 0, 0] != outside[13, 13, 13]
    assert not (edges & ~ndimage.binary_dilation(boundary_seeds(mask, "both"), ALL_26)).any()


# Boundary


@given(MASKS)
@few
def test_boundary_sides_are_the_voxels_that_share_a_face_across_it(mask):
    inner, outer = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for voxel, axis in itertools.product(np.argwhere(np.ones(mask.shape, bool)), range(3)):
        neighbour = voxel.copy()
        neighbour[axis] += 1
        if neighbour[axis] < mask.shape[axis] and mask[tuple(voxel)] != mask[tuple(neighbour)]:
            for one in (tuple(voxel), tuple(neighbour)):
                (inner if mask[one] else outer)[one] = True
    np.testing.assert_array_equal(boundary_seeds(mask, "inner"), inner)
    np.testing.assert_array_equal(boundary_seeds(mask, "outer"), outer)
    np.testing.assert_array_equal(boundary_seeds(mask, "both"), inner | outer)
