"""Scores against closed forms, MONAI and brute force."""

import numpy as np
import pytest
from comparison.scores import (
    METRICS,
    FineLabels,
    case_scores,
    dice_of,
    distances_mm,
    hard_masks,
    label_brier,
    volume_bias,
)
from scipy import ndimage
from scipy.spatial.distance import cdist

from softlabels.grid import Grid

SPACING = (3.0, 1.0, 0.7)


def blobs(seed, shape=(7, 15, 13)):
    """Return masks of two classes, drawn at random and smooth."""
    rng = np.random.default_rng(seed)
    return np.stack([ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > 0.05 for _ in range(2)])


def surface(mask):
    """Return the voxels of a mask with a face neighbour outside of it, in mm."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * SPACING


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_those_between_all_pairs_of_surface_voxels(seed):
    predicted, masks = blobs(seed), blobs(seed + 100)
    hd95, assd = distances_mm(predicted, masks, SPACING)
    for c in range(2):
        apart = cdist(surface(predicted[c]), surface(masks[c]))
        there, back = apart.min(axis=1), apart.min(axis=0)
        assert hd95[c] == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
        assert assd[c] == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)


def test_a_class_that_one_side_lacks_counts_the_diagonal_and_one_that_both_lack_nothing():
    masks = np.zeros((2, 3, 4, 5), bool)
    masks[0, 1, 1, 1] = True
    for measured in distances_mm(np.zeros_like(masks), masks, (1.0, 2.0, 2.0)):
        assert measured[0] == pytest.approx(np.sqrt(9 + 64 + 100)) and np.isnan(measured[1])


@pytest.mark.parametrize("seed", range(3))
def test_dice_is_monais(seed):
    import torch
    from monai.metrics import compute_dice

    predicted, masks = blobs(seed), blobs(seed + 50)
    pair = (torch.from_numpy(one[None].astype(np.float32)) for one in (predicted, masks))
    np.testing.assert_allclose(dice_of(predicted, masks), compute_dice(*pair)[0], rtol=1e-6)


def test_dice_of_what_one_side_lacks_is_nothing():
    empty, full = np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool)
    assert dice_of(empty, full)[0] == 0 and dice_of(full, empty)[0] == 0 and np.isnan(dice_of(empty, empty)[0])


def made(seed=0, shape=(6, 8, 7)):
    """Return probabilities, hard masks, truth and grid of three exclusive classes."""
    rng = np.random.default_rng(seed)
    truth, probabilities = (rng.dirichlet([1, 1, 1], shape).transpose(3, 0, 1, 2).astype(np.float32) for _ in range(2))
    return probabilities, hard_masks(truth, False), truth, Grid(shape, SPACING)


def test_scores_of_probabilities_are_their_definitions():
    probabilities, masks, truth, grid = made()
    found = case_scores(probabilities, masks, grid, is_overlapping=False, truth=truth)
    gap = probabilities.astype(float) - truth
    doubtful = ((truth > 0.05) & (truth < 0.95)).any(axis=0)
    assert found["brier_truth"] == pytest.approx((gap**2).sum(axis=0).mean(), rel=1e-5)
    assert found["brier_truth_ambiguous"] == pytest.approx((gap**2).sum(axis=0)[doubtful].mean(), rel=1e-5)
    assert found["mae_truth"] == pytest.approx(0.5 * np.abs(gap).sum(axis=0).mean(), rel=1e-5)
    assert found["brier_label"] == pytest.approx(((probabilities - masks) ** 2).sum(axis=0).mean(), rel=1e-5)
    assert found["bits_label"] == pytest.approx(-np.log2(np.maximum(probabilities[masks], 1e-3)).mean(), rel=1e-5)
    brier = ((probabilities - masks) ** 2).sum(axis=0)[doubtful].mean()
    assert found["brier_label_ambiguous"] == pytest.approx(brier, rel=1e-5)
    volume, known = (one[1:].sum(axis=(1, 2, 3), dtype=np.float64) for one in (probabilities, truth))
    assert found["volume_bias_truth"] == pytest.approx((volume / known - 1).mean(), rel=1e-4)
    assert set(found) <= set(METRICS)


def test_a_perfect_prediction_has_perfect_scores():
    _, masks, truth, grid = made()
    found = case_scores(
        truth, masks, grid, is_overlapping=False, truth=truth, fine=FineLabels(masks, np.ones(grid.shape, bool), grid)
    )
    best = {"dice": 1, "dice_fine": 1, "brier_truth": 0, "mae_truth": 0, "hd95_mm": 0, "assd_mm": 0, "volume_bias": 0}
    assert {name: found[name] for name in best} == pytest.approx(best, abs=1e-6)
    assert found["ece_truth"] == pytest.approx(0, abs=1e-6)


def test_voxels_of_the_ignore_label_count_nowhere():
    probabilities, masks, truth, grid = made()
    valid = np.random.default_rng(1).random(grid.shape) < 0.7
    masks = masks & valid
    options = {"is_overlapping": False, "truth": truth, "valid": valid}
    found = case_scores(probabilities, masks, grid, **options)
    other = np.where(valid, probabilities, np.float32([[[[0]]], [[[1]]], [[[0]]]]))
    assert case_scores(other, masks, grid, **options) == pytest.approx(found, rel=1e-5)


def test_regions_are_problems_of_their_own():
    probabilities, _, truth, grid = made()
    regions, shares = probabilities[1:], truth[1:]
    masks = shares > 0.5
    found = case_scores(regions, masks, grid, is_overlapping=True, truth=shares)
    expected = np.mean([2 * ((p - r) ** 2).mean() for p, r in zip(regions, shares, strict=True)])
    assert found["brier_truth"] == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(found["dice"], np.nanmean(dice_of(regions > 0.5, masks)))


def test_finer_labels_are_met_by_interpolated_probabilities():
    coarse = np.zeros((2, 1, 1, 4), np.float32)
    coarse[1] = [0, 0, 1, 1]
    coarse[0] = 1 - coarse[1]
    fine = np.zeros((2, 1, 1, 8), bool)
    fine[1, ..., 4:] = True
    fine[0] = ~fine[1]
    fine_grid = Grid((1, 1, 8), (1, 1, 0.5))
    coarse_grid = Grid((1, 1, 4), (1, 1, 1), np.array([[0, 0, 1, 0.25], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]))
    valid = np.ones(fine_grid.shape, bool)
    options = {"masks": coarse > 0.5, "grid": coarse_grid, "is_overlapping": False}
    assert case_scores(coarse, fine=FineLabels(fine, valid, fine_grid), **options)["dice_fine"] == 1
    # A last voxel that is ignored has no mask, and is no mistake of the prediction.
    fine[..., -1], valid[..., -1] = False, False
    assert case_scores(coarse, fine=FineLabels(fine, valid, fine_grid), **options)["dice_fine"] == 1


def test_volume_bias_is_signed_and_leaves_absent_classes_out():
    true = np.array([[1, 1, 0, 0], [0, 0, 0, 0]], bool)
    assert volume_bias(np.array([[1, 0, 0, 0], [1, 1, 1, 1]], bool), true) == -0.5
    assert np.isnan(volume_bias(true, np.zeros_like(true)))


def test_the_nearest_soft_label_is_the_truth():
    _, masks, truth, grid = made()
    valid, options = np.random.default_rng(2).random(grid.shape) < 0.6, {"is_overlapping": False}
    assert label_brier(truth, truth, valid, **options) == pytest.approx(0, abs=1e-12)
    expected = ((masks - truth) ** 2).sum(axis=0)[valid].mean()
    assert label_brier(masks.astype(np.float32), truth, valid, **options) == pytest.approx(expected, rel=1e-5)
