"""Parts of the Brier score, the boundary band, and whether a reference looks like raters: by hand and in general."""

import numpy as np
import pytest
from helpers.soft_truth import averaged
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.evaluation.disagreement import reference_softness
from softlabels.evaluation.rank import rank
from softlabels.evaluation.scores import VoxelSets, boundary_band, squared_error


def column(*voxels):
    """Return a map (C, 1, 1, n) of one probability of class 1 per voxel."""
    inside = np.float32(voxels)
    return np.stack([1 - inside, inside])[:, None, None]


def test_parts_of_the_brier_score_by_hand():
    # All values of class 1 are .5: one bin. Errors .5, .5, -.5, .1: mean .15, so calibration is 2 * .15^2.
    (found,) = rank({"half": column(0.5, 0.5, 0.5, 0.5)}, column(0.0, 0.0, 1.0, 0.4))
    scores = found.everywhere
    errors = np.array([0.5, 0.5, -0.5, 0.1])
    assert scores.brier_calibration == pytest.approx(2 * errors.mean() ** 2, rel=1e-5)
    assert scores.brier_refinement == pytest.approx(2 * errors.var(), rel=1e-5)
    assert scores.entropy == pytest.approx(1)


def test_a_forecast_that_is_right_on_average_has_refinement_alone():
    (found,) = rank({"mean": column(0.25, 0.25, 0.25, 0.25)}, column(0.0, 0.0, 0.0, 1.0))
    assert found.everywhere.brier_calibration == pytest.approx(0, abs=1e-12)
    assert found.everywhere.brier_refinement == pytest.approx(found.everywhere.brier)
    # One that is always wrong by the same amount has calibration alone.
    (found,) = rank({"off": column(0.4, 0.4)}, column(0.3, 0.3))
    assert found.everywhere.brier_refinement == pytest.approx(0, abs=1e-9)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), n_classes=st.integers(2, 4))
def test_the_parts_sum_to_the_brier_score(seed, n_classes):
    rng = np.random.default_rng(seed)
    soft, truth = (rng.dirichlet([0.4] * n_classes, (1, 8, 9)).transpose(3, 0, 1, 2) for _ in range(2))
    (found,) = rank({"soft": soft}, truth)
    for scores in (found.everywhere, found.ambiguous, found.boundary):
        if scores.n_voxels:
            assert scores.brier_calibration + scores.brier_refinement == pytest.approx(scores.brier, rel=1e-12)
            assert scores.brier_calibration >= 0 and scores.brier_refinement >= -1e-12
    gaps = (soft.astype(np.float32) - truth.astype(np.float32)) ** 2
    assert found.everywhere.brier == pytest.approx(gaps.sum(axis=0).mean(), rel=1e-5)
    assert squared_error(soft, truth).mean() == pytest.approx(found.everywhere.brier, rel=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 1.0, 0.5)])
@pytest.mark.parametrize("shape", [(5, 7, 6), (1, 9, 8), (2, 1, 20)])
def test_boundary_band_is_what_a_search_finds(shape, spacing):
    labels = np.random.default_rng(1).integers(0, 12, shape).clip(0, 1)
    width = 1.6
    positions = np.argwhere(np.ones(shape, bool))
    edges = [
        p
        for p in positions
        for axis in range(3)
        for step in (-1, 1)
        if 0 <= (p[axis] + step) < shape[axis]
        and labels[tuple(p + step * np.eye(3, dtype=int)[axis])] != labels[tuple(p)]
    ]
    expected = np.zeros(shape, bool)
    for p in positions:
        expected[tuple(p)] = any(np.linalg.norm((p - e) * spacing) <= width for e in edges)
    np.testing.assert_array_equal(boundary_band(labels, spacing, width), expected)
    assert not boundary_band(np.zeros(shape, int), spacing, width).any()


def test_sets_are_within_what_is_included():
    truth = column(0, 0, 0.2, 0.9, 1, 1)
    included = np.array([[[True, True, False, True, True, True]]])
    sets = VoxelSets.of(truth, included, (1, 1, 1))
    assert sets.ambiguous.ravel().tolist() == [False, False, False, True, False, False]
    assert not sets.boundary[0, 0, 2] and sets.boundary[0, 0, 1]
    with pytest.raises(InputError, match="no voxel"):
        VoxelSets.of(truth, np.zeros((1, 1, 6), bool), (1, 1, 1))


def test_raters_are_told_from_block_means():
    z, y, x = np.indices((8, 40, 40))
    radii = (8, 9.5, 11, 12, 14)
    raters = np.mean([(y - 20) ** 2 + (x - 20) ** 2 < r * r for r in radii], axis=0).astype(np.float32)
    found = reference_softness(np.stack([1 - raters, raters]))
    assert found.n_levels == 5 and found.looks_like_raters
    fine = ((y - 20) ** 2 + (x - 20) ** 2 < 121).astype(np.uint8)
    for block in ((1, 2, 2), (2, 2, 2), (1, 5, 1)):
        _, shares = averaged(fine[None].astype(np.float32), fine, block)
        softness = reference_softness(shares)
        assert softness.n_levels is not None and not softness.looks_like_raters
    # An atlas has a wide zone, but no few levels.
    smooth = np.float32(1 / (1 + np.exp((np.hypot(y - 20, x - 20) - 11) / 2)))
    atlas = reference_softness(np.stack([1 - smooth, smooth]))
    assert atlas.n_levels is None and atlas.inner_share > 0.5 and not atlas.looks_like_raters
    hard = reference_softness(np.stack([1 - fine, fine]).astype(np.float32))
    assert hard.n_levels == 1 and not hard.looks_like_raters
