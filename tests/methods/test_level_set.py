"""Level sets: exact millimetres, the authors' two slips, and the normalised form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels.errors import InputError
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.level_set import level_set


def brute_force(mask, spacing):
    """Return the signed distance between voxel centres, every pair compared."""
    grid = np.indices(mask.shape).reshape(3, -1).T * np.asarray(spacing)
    flat = mask.ravel()
    apart = np.sqrt(((grid[:, None] - grid[None]) ** 2).sum(-1))
    return np.where(flat, -apart[:, ~flat].min(1), apart[:, flat].min(1)).reshape(mask.shape)


def authors_level_set(mask, spacing, dtype=None):
    """Return boundary loss's map of one class, from its description: D_out outside, -(D_in - 1) inside."""
    out = np.zeros(mask.shape, dtype or np.float64)
    if mask.any():
        outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
        inside = ndimage.distance_transform_edt(mask, sampling=spacing)
        out[...] = outside * ~mask - (inside - 1) * mask
    return out


def authors_normalised(mask, spacing):
    """Return SegWithDistMap's map with the spacing it lacks; the inner boundary by comparing the six neighbours."""
    outside = ndimage.distance_transform_edt(~mask, sampling=spacing)
    inside = ndimage.distance_transform_edt(mask, sampling=spacing)
    sdf = outside / outside.max() - inside / inside.max()
    padded = np.pad(mask, 1, mode="edge")
    same = mask.copy()
    for axis in range(3):
        for shift in (1, -1):
            same &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
    sdf[mask & ~same] = 0
    return sdf


def a_mask(seed, shape=(5, 7, 6)):
    """Return a random mask, neither empty nor full."""
    mask = np.random.default_rng(seed).random(shape) < 0.5
    mask.ravel()[[0, 1]] = True, False
    return mask


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), spacing=st.sampled_from([(1, 1, 1), (5, 1, 1), (0.7, 2.0, 0.3)]))
def test_level_sets_are_what_brute_force_and_scipy_say(seed, spacing):
    mask = a_mask(seed)
    np.testing.assert_allclose(level_set(mask, spacing, variant="mm"), brute_force(mask, spacing), rtol=1e-6)
    np.testing.assert_allclose(
        level_set(mask, spacing, variant="official"), authors_level_set(mask, spacing), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        level_set(mask, spacing, variant="normalised"), authors_normalised(mask, spacing), rtol=1e-5, atol=1e-6
    )


def test_quirk_one_voxel_is_one_millimetre_whatever_the_voxel():
    row = np.array([[[0, 0, 1, 1, 1, 0]]], bool)
    inner = {s: level_set(row, (1, 1, s), variant="official")[0, 0, 2] for s in (0.5, 1.0, 5.0)}
    assert inner == {0.5: 0.5, 1.0: 0.0, 5.0: -4.0}
    for side in (0.5, 1.0, 5.0):
        np.testing.assert_allclose(level_set(row, (1, 1, side), variant="mm")[0, 0, 1:3], [side, -side])


def test_quirk_their_integers_truncate_toward_zero_and_ours_only_if_asked():
    mask = np.zeros((1, 6, 6), bool)
    mask[0, :3, :3] = True
    inputs = TargetInputs(mask[None], (1, 1, 1), ("organ",))
    exact = METHODS["level_set"](variant="official").compute(inputs).values[0]
    cut = METHODS["level_set"](variant="official", truncate=True).compute(inputs).values[0]
    assert exact[0, 4, 4] == pytest.approx(np.sqrt(8)) and cut[0, 4, 4] == 2
    np.testing.assert_array_equal(cut, authors_level_set(mask, (1, 1, 1), np.int32))
    assert np.abs(exact - cut).max() == pytest.approx(np.sqrt(18) - 4, abs=1) and np.abs(exact - cut).max() < 1


@pytest.mark.parametrize("spacing", [(0.7, 0.3, 0.1), (1.1, 0.9, 0.2), (5.0, 0.6, 0.6)])
def test_their_integers_are_cut_from_float64(spacing):
    mask = np.zeros((7, 41, 62), bool)
    mask[2:5, 10:30, 15:50] = True
    inputs = TargetInputs(mask[None], spacing, ("organ",))
    cut = METHODS["level_set"](variant="official", truncate=True).compute(inputs).values[0]
    np.testing.assert_array_equal(cut, authors_level_set(mask, spacing, np.int32))


def test_truncation_outside_of_the_official_form_and_unknown_variants_are_refused():
    with pytest.raises(InputError, match="got variant 'meters'"):
        level_set(a_mask(0), (1, 1, 1), variant="meters")
    with pytest.raises(ValueError, match="only variant official"):
        METHODS["level_set"](variant="mm", truncate=True)


def test_normalised_is_minus_one_at_the_deepest_voxel_and_one_at_the_farthest():
    grid = np.indices((9, 21, 21)) - np.array([4, 10, 10])[:, None, None, None]
    mask = (grid**2).sum(0) <= 16
    found = level_set(mask, (1, 1, 1), variant="normalised")
    assert found[4, 10, 10] == -1 and found.max() == 1 and found[4, 10, 14] == 0


def test_a_sheet_one_voxel_thick_has_no_depth_in_the_normalised_form():
    # Every voxel is inner boundary; the original asserts min == -1 here and stops.
    mask = np.zeros((3, 5, 5), bool)
    mask[1] = True
    found = level_set(mask, (1, 1, 1), variant="normalised")
    assert (found[1] == 0).all() and (found[0] == 1).all()


def test_regions_that_overlap_are_each_treated_alone():
    masks = np.stack([a_mask(1), a_mask(2)])
    inputs = TargetInputs(masks, (2, 1, 1), ("core", "whole"))
    found = METHODS["level_set"]().compute(inputs).values
    for mask, phi in zip(masks, found, strict=True):
        np.testing.assert_array_equal(phi, level_set(mask, (2, 1, 1), variant="mm"))


def test_against_the_signed_distance_of_simpleitk():
    import SimpleITK as sitk

    mask = np.zeros((9, 16, 17), bool)
    mask[2:7, 4:12, 5:13] = True
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing((0.7, 1.0, 3.0))
    theirs = sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, False, False, True))
    # ITK measures to the inner boundary voxels on both sides; outside that is the distance to the mask.
    found = level_set(mask, (3.0, 1.0, 0.7), variant="mm")
    np.testing.assert_allclose(found[~mask], theirs[~mask], rtol=1e-5)
    assert (found[mask] < 0).all()
