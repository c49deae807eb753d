"""Thinning gives scikit-image's skeleton, voxel for voxel, and its tables say what they are said to."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import euler_number
from skimage.morphology import skeletonize

from softlabels.seeds import thinning
from softlabels.seeds.thinning import thin

SHAPES = [(9, 10, 11), (2, 17, 13), (3, 30, 4), (14, 1, 9), (20, 20, 1), (2, 1, 7), (24, 23, 22)]


def masks(shape, seed):
    """Noise of several densities, smooth blobs, and what is around them."""
    rng = np.random.default_rng(seed)
    noise = rng.random(shape)
    blobs = ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > 0.02
    return [*(noise < density for density in (0.05, 0.3, 0.5, 0.7, 0.95)), blobs, ~blobs]


@pytest.mark.parametrize("shape", SHAPES)
def test_skeleton_is_that_of_scikit_image(shape):
    for seed in range(6):
        for mask in masks(shape, seed):
            np.testing.assert_array_equal(thin(mask), skeletonize(mask, method="lee"))


def test_solids_boxes_and_nothing_are_as_in_scikit_image():
    for sides in np.ndindex(6, 6, 9):
        solid = np.ones(np.add(sides, (2, 1, 1)), bool)
        np.testing.assert_array_equal(thin(solid), skeletonize(solid, method="lee"))
    assert not thin(np.zeros((4, 5, 6), bool)).any()


def test_a_thick_mask_of_real_size_is_as_in_scikit_image():
    z, y, x = np.indices((40, 60, 50))
    hollow = np.hypot(np.hypot(z - 20, y - 30), x - 25) > 9
    np.testing.assert_array_equal(thin(hollow), skeletonize(hollow, method="lee"))


def test_mask_is_not_changed_and_need_not_be_contiguous():
    mask = masks((11, 12, 13), 0)[5]
    before = mask.copy()
    np.testing.assert_array_equal(thin(mask.T), skeletonize(np.ascontiguousarray(mask.T), method="lee"))
    np.testing.assert_array_equal(thin(mask[::-2]), skeletonize(mask[::-2].copy(), method="lee"))
    np.testing.assert_array_equal(mask, before)


def test_euler_number_is_kept_where_nothing_vanishes():
    for seed in range(4):
        mask = masks((16, 17, 18), seed)[5]
        mask = ndimage.binary_opening(mask, np.ones((3, 3, 3)))
        skeleton = thin(mask)
        labels, n = ndimage.label(mask, np.ones((3, 3, 3)))
        kept = np.unique(labels[skeleton])
        assert n >= 1 and euler_number(skeleton, 3) == euler_number(np.isin(labels, kept) & mask, 3)


def test_tables_agree_with_counting_on_the_whole_neighbourhood():
    rng = np.random.default_rng(0)
    kinds = np.zeros(2**26, np.uint8)
    for _ in range(300):
        block = rng.random((3, 3, 3)) < rng.choice([0.2, 0.5, 0.8])
        block[1, 1, 1] = False
        around = sum(1 << bit for bit, (z, y, x) in enumerate(thinning._OFFSETS) if block[z + 1, y + 1, x + 1])
        kind = int(thinning._kind(around, kinds))
        n_components = ndimage.label(block, np.ones((3, 3, 3)))[1]
        filled = block.copy()
        filled[1, 1, 1] = True
        keeps_euler = euler_number(np.pad(block, 1), 3) == euler_number(np.pad(filled, 1), 3)
        assert bool(kind & thinning._SIMPLE) == (n_components <= 1)
        may_go = n_components <= 1 and keeps_euler and block.sum() != 1
        assert bool(kind & thinning._REMOVABLE) == may_go
        assert kinds[around] == kind
