"""Fitting a calibration: known parameters come back, too few cases do not, and a real annotator's habit is repaired."""

import numpy as np
import pytest
from helpers.soft_truth import averaged, brier, masks_of, read, tissue_shares
from scipy.optimize import approx_fprime

from softlabels.calibration import Calibration
from softlabels.errors import InputError
from softlabels.evaluation.calibrate import _brier, _sampled, fit_calibration, leave_one_case_out
from softlabels.methods.gaussian import gaussian_map
from softlabels.methods.unmix import unmix_map


def cases_of(calibration, n_cases, is_overlapping=False, noise=0.0, seed=0):
    """Return soft labels whose truth is a calibration of them, with noise."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_cases):
        soft = rng.dirichlet((0.5,) * 3, (4, 9, 9)).transpose(3, 0, 1, 2).astype(np.float32)
        soft[:, 0] = np.eye(3)[0][:, None, None]
        truth = calibration.applied(soft, is_overlapping=is_overlapping)
        if noise:
            truth = np.clip(truth + rng.normal(0, noise, truth.shape), 0, 1)
            truth /= truth.sum(axis=0)
        found.append((soft, truth))
    return found


@pytest.mark.parametrize("is_overlapping", [False, True])
def test_known_parameters_are_found(is_overlapping):
    known = Calibration(0.7, (0.0, 0.8, -0.5), "rater 2")
    cases = cases_of(known, 4, is_overlapping)
    found = fit_calibration(cases, fitted_for="rater 2", is_overlapping=is_overlapping, ridge=1e-6)
    assert found.fitted_for == "rater 2"
    np.testing.assert_allclose([found.slope, *found.offsets], [0.7, 0, 0.8, -0.5], atol=5e-3)


def test_the_ridge_pulls_towards_no_change_and_less_with_more_cases():
    known = Calibration(0.7, (0.0, 0.8, -0.5), "a")
    cases = cases_of(known, 12, noise=0.2)
    offsets = [fit_calibration(cases[:n], fitted_for="a", ridge=2.0).offsets[1] for n in (3, 12)]
    assert 0 < offsets[0] < offsets[1] < 0.8
    rigid = fit_calibration(cases, fitted_for="a", ridge=1e6)
    np.testing.assert_allclose([rigid.slope, *rigid.offsets], [1, 0, 0, 0], atol=1e-3)


@pytest.mark.parametrize("is_overlapping", [False, True])
def test_the_gradient_is_that_of_the_loss(is_overlapping):
    (case,) = cases_of(Calibration(0.7, (0.0, 0.8, -0.5), "a"), 1, is_overlapping, noise=0.1)
    sample = _sampled(0, *case, 3, is_overlapping)
    at = np.array([0.2, 0.1, -0.3, 0.4])
    expected = approx_fprime(at, lambda x: _brier(sample, x, is_overlapping)[0], 1e-7)
    np.testing.assert_allclose(_brier(sample, at, is_overlapping)[1], expected, atol=1e-5)


def test_too_few_cases_are_refused():
    cases = cases_of(Calibration(0.7, (0.0, 0.8, -0.5), "a"), 2)
    with pytest.raises(InputError, match="got 2 cases with a reference, expected at least 3"):
        fit_calibration(cases, fitted_for="a")
    with pytest.raises(InputError, match="at least 3"):
        leave_one_case_out(cases, fitted_for="a")


def test_arrays_that_do_not_fit_are_refused():
    cases = cases_of(Calibration(1.0, (0.0,) * 3, "a"), 3)
    with pytest.raises(InputError, match="case 3"):
        fit_calibration([*cases[:2], (cases[2][0], cases[2][1][:2])], fitted_for="a")
    with pytest.raises(InputError, match="soft label of case 1"):
        fit_calibration([(cases[0][0] * 2, cases[0][1]), *cases[1:]], fitted_for="a")


def test_cases_left_out_are_scored_by_what_the_others_say():
    known = Calibration(0.6, (0.0, 1.0, 0.0), "a")
    cases = cases_of(known, 4, noise=0.05)
    scores = leave_one_case_out(cases, fitted_for="a")
    assert all(after < 0.5 * before for before, after in scores)
    # A case of somebody else: what was fitted on the others does it harm.
    stranger = cases_of(Calibration(0.6, (0.0, -1.0, 0.0), "b"), 1, seed=9)
    before, after = leave_one_case_out([*cases, *stranger], fitted_for="a")[-1]
    assert after > before


def test_an_annotator_who_draws_too_tight_is_corrected_on_cells_not_fitted_on(shared_data):
    cases = []
    for folder in sorted((shared_data / "cells_tune" / "d1").iterdir()):
        labels = read(folder / "label.nii.gz")
        masks = np.stack([labels == 0, labels > 0])
        cases.append((gaussian_map(masks, (1, 1, 1), sigma_mm=5.0), read(folder / "reference.nii.gz")))
    before, after = np.mean(leave_one_case_out(cases, fitted_for="person 2"), axis=0)
    assert after < 0.85 * before
    assert fit_calibration(cases, fitted_for="person 2").offsets[1] > 0.3


def test_tissue_shares_at_2_mm_are_told_on_slabs_that_nothing_was_chosen_on():
    image, shares = tissue_shares()
    inside = image[0] > 0.05 * image.max()
    head = tuple(slice(i.min(), i.max() + 1) for i in np.nonzero(inside))
    nowhere = np.zeros(inside.shape, int)[head]
    coarse, _ = averaged(image[:, *head], nowhere, (2, 2, 2))
    truth, _ = averaged(shares[:, *head], nowhere, (2, 2, 2))
    slabs = np.array_split(np.arange(coarse.shape[2]), 4)
    cases = [(coarse[:, :, s], masks_of(truth[:, :, s]), truth[:, :, s]) for s in slabs]
    spacing = (2, 2, 2)

    def mean_brier(soften, chosen):
        """Return the mean Brier score of a soft label over slabs."""
        return np.mean([brier(soften(image, masks), reference).brier for image, masks, reference in chosen])

    def gaussian(sigma_mm):
        """Return a Gaussian label's function of image and masks."""
        return lambda image, masks: gaussian_map(masks, spacing, sigma_mm=sigma_mm)

    def unmixed(sigma_mm, rho):
        """Return an unmixed label's function of image and masks."""
        return lambda image, masks: unmix_map(image, masks, spacing, sigma_mm=sigma_mm, rho=rho)

    others = [cases[0], *cases[2:]]
    best = min((gaussian(sigma) for sigma in (1.0, 1.2, 1.4, 1.6)), key=lambda one: mean_brier(one, cases[1:2]))
    chosen = min(
        (unmixed(sigma, rho) for sigma in (2.0, 2.5, 3.0) for rho in (2.0, 3.0)),
        key=lambda one: mean_brier(one, cases[1:2]),
    )
    image, masks, reference = cases[1]
    calibration = fit_calibration([(chosen(image, masks), reference)], fitted_for="atlas", least_cases=1)
    before = mean_brier(best, others)
    assert mean_brier(chosen, others) <= 0.706 * before
    assert mean_brier(lambda i, m: calibration.applied(chosen(i, m)), others) <= 0.6 * before
