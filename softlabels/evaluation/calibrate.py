"""Fit slope and class offsets to cases whose soft truth is known.

The Brier score of each case, relative to what it is uncalibrated, is averaged over cases, and the parameters are pulled
towards "change nothing" by a ridge that weighs less the more cases there are. A few numbers fitted to few cases of one
annotator describe that annotator: judge them on cases that they were not fitted on (`leave_one_case_out`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.calibration import Calibration
from softlabels.errors import InputError

#: The number of cases that is needed by default: fewer do not separate an annotator's bias from the cases.
LEAST_CASES = 3
#: Weight of the ridge for one case.
RIDGE = 0.05
#: Voxels drawn of a case with more undecided ones.
_MOST_VOXELS = 200_000

Case = tuple[NDArray[np.floating], NDArray[np.floating]]


@dataclass(frozen=True)
class _Sample:
    """The undecided voxels of one case: all others stay what they are."""

    logs: NDArray[np.float64]
    truth: NDArray[np.float64]
    #: Brier score summed over these voxels, uncalibrated.
    uncalibrated: float


def fit_calibration(
    cases: Sequence[Case],
    *,
    fitted_for: str,
    is_overlapping: bool = False,
    with_offsets: bool = True,
    ridge: float = RIDGE,
    least_cases: int = LEAST_CASES,
) -> Calibration:
    """Return the slope and offsets that bring soft labels nearest to their truth.

    Parameters
    ----------
    cases : sequence of pairs of (C, D, H, W) float arrays
        A soft label and its reference, both probabilities; None is modified.
    fitted_for : str
        The annotator or protocol of the hard labels.
    is_overlapping : bool
        Whether each class is a problem of its own.
    with_offsets : bool
        False fits the slope alone: 1 / slope is a network's temperature.
    ridge : float
        Weight of ``(log slope)^2 + sum offset^2``, divided by the number of cases, >= 0.
    least_cases : int
        Fewer cases are refused.

    Returns
    -------
    Calibration
        Its offsets are relative to the first class if classes exclude each other.

    Raises
    ------
    InputError
        If there are too few cases, or their shapes or values do not fit.

    Notes
    -----
    Cost: some 20 evaluations of the classes' shares on up to 200,000 voxels of each case.

    Examples
    --------
    An annotator whose half is another's two thirds:

    >>> soft = np.float32([[[[0.5, 0.3, 0.7]]], [[[0.5, 0.7, 0.3]]]])
    >>> truth = Calibration(1.0, (0.7, 0.0), "truth").applied(soft)
    >>> found = fit_calibration([(soft, truth)] * 30, fitted_for="rater 2", ridge=1e-3)
    >>> f"{found.slope:.1f} {found.offsets[1]:.1f}"
    '1.0 -0.7'
    """
    from scipy.optimize import minimize

    if len(cases) < least_cases:
        raise InputError(
            f"calibrate: got {len(cases)} cases with a reference, expected at least {least_cases}; leave it out"
        )
    n_classes = len(cases[0][0])
    samples = [_sampled(index, soft, truth, n_classes, is_overlapping) for index, (soft, truth) in enumerate(cases)]

    def loss(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        """Return the loss of (log slope, offsets), and its gradient."""
        value = ridge / len(cases) * float(parameters @ parameters)
        gradient = 2 * ridge / len(cases) * parameters
        for sample in samples:
            score, slopes = _brier(sample, parameters, is_overlapping)
            value += score / len(cases)
            gradient += slopes / len(cases)
        if not with_offsets:
            gradient[1:] = 0
        return value, gradient

    found = minimize(loss, np.zeros(n_classes + 1), jac=True, method="L-BFGS-B").x
    offsets = found[1:] if is_overlapping else found[1:] - found[1]
    return Calibration(float(np.exp(found[0])), tuple(float(b) for b in offsets), fitted_for)


def leave_one_case_out(
    cases: Sequence[Case], *, fitted_for: str, is_overlapping: bool = False, ridge: float = RIDGE
) -> list[tuple[float, float]]:
    """Return for each case the Brier score before and after a calibration that was fitted on all others.

    Parameters
    ----------
    cases, fitted_for, is_overlapping, ridge
        As for `fit_calibration`; at least three cases.

    Returns
    -------
    list of (float, float)
        Means over voxels of the sum over classes of the squared difference.
    """
    if len(cases) < LEAST_CASES:
        raise InputError(f"calibrate: got {len(cases)} cases with a reference, expected at least {LEAST_CASES}")
    scores = []
    for index, (soft, truth) in enumerate(cases):
        others = [case for other, case in enumerate(cases) if other != index]
        fitted = fit_calibration(
            others, fitted_for=fitted_for, is_overlapping=is_overlapping, ridge=ridge, least_cases=2
        )
        after = fitted.applied(soft, is_overlapping=is_overlapping)
        scores.append((_mean_brier(soft, truth), _mean_brier(after, truth)))
    return scores


def _mean_brier(soft: NDArray[np.floating], truth: NDArray[np.floating]) -> float:
    """Return the Brier score of a soft label."""
    return float(((np.asarray(soft, np.float64) - truth) ** 2).sum(axis=0).mean())


def _sampled(
    index: int, soft: NDArray[np.floating], truth: NDArray[np.floating], n_classes: int, is_overlapping: bool
) -> _Sample:
    """Return the voxels of a case that calibration can change, (C, N) or for regions (2, C N)."""
    if soft.shape != truth.shape or len(soft) != n_classes:
        raise InputError(
            f"calibrate: case {index + 1} has a soft label of shape {soft.shape} and a reference of shape "
            f"{truth.shape}, expected both with {n_classes} classes and of one shape"
        )
    flat = [np.asarray(one, np.float64).reshape(n_classes, -1) for one in (soft, truth)]
    for what, one in zip(("soft label", "reference"), flat, strict=True):
        if not (one.min() >= 0 and one.max() <= 1 + 1e-6):
            raise InputError(f"calibrate: the {what} of case {index + 1} has values outside of [0, 1], or NaN")
    undecided = np.flatnonzero(((flat[0] > 0) & (flat[0] < 1)).any(axis=0))
    if undecided.size > _MOST_VOXELS:
        undecided = np.sort(np.random.default_rng(0).choice(undecided, _MOST_VOXELS, replace=False))
    p, t = (one[:, undecided] for one in flat)
    if is_overlapping:
        p, t = (np.stack([one, 1 - one]) for one in (p, t))
    with np.errstate(divide="ignore"):
        logs = np.log(p)
    return _Sample(logs, t, max(float(((p / p.sum(axis=0) - t) ** 2).sum()), 1e-12))


def _brier(sample: _Sample, parameters: NDArray[np.float64], is_overlapping: bool) -> tuple[float, NDArray[np.float64]]:
    """Return the Brier score of one case relative to the uncalibrated one, and its gradient."""
    slope, offsets = np.exp(parameters[0]), parameters[1:]
    if is_overlapping:
        shift = np.stack([offsets, np.zeros_like(offsets)])[..., None]
    else:
        shift = offsets[:, None]
    # 0 log 0 is 0 in the gradient, and e^-inf is 0 in the share.
    finite = np.where(np.isfinite(sample.logs), sample.logs, 0.0)
    logits = np.where(np.isfinite(sample.logs), slope * finite + shift, -np.inf)
    share = np.exp(logits - logits.max(axis=0))
    share /= share.sum(axis=0)
    gap = share - sample.truth
    by_logit = 2 * share * (gap - (gap * share).sum(axis=0))
    by_offset = by_logit[0].sum(axis=-1) if is_overlapping else by_logit.sum(axis=-1)
    gradient = np.concatenate([[slope * (by_logit * finite).sum()], by_offset])
    return float((gap**2).sum()) / sample.uncalibrated, gradient / sample.uncalibrated
