"""Calibrations, fitted and chosen on all cases and judged on each without it; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from softlabels.calibration import Calibration
from softlabels.errors import InputError
from softlabels.evaluation.calibrate import LEAST_CASES, fit_calibration
from softlabels.evaluation.selection import is_within_one_error

#: Other cases, evenly taken, whose scores say which calibrated soft label is chosen without a case.
_MOST_OTHERS = 20


@dataclass(frozen=True)
class UndecidedVoxels:
    """The voxels of a soft label that a calibration can change, and the squared error of all others.

    Parameters
    ----------
    soft, truth : (C, N, 1, 1) float32 arrays
    rest : float
        Sum over the other voxels of the squared error.
    n_voxels : int
        How many voxels count, undecided or not.
    is_overlapping : bool
        Whether each class is a region of its own.
    """

    soft: NDArray[np.float32]
    truth: NDArray[np.float32]
    rest: float
    n_voxels: int
    is_overlapping: bool = False

    @classmethod
    def of(
        cls,
        soft: NDArray[np.floating],
        reference: NDArray[np.floating],
        counted: NDArray[np.bool_],
        *,
        is_overlapping: bool = False,
    ) -> Self:
        """Return those of a soft label and its reference, (C, D, H, W) both, among the counted voxels (D, H, W)."""
        share, truth = (one[:, counted].astype(np.float32) for one in (soft, reference))
        if not is_overlapping:
            total = share.sum(axis=0)
            share /= np.where(total > 0, total, np.float32(1))
        is_undecided = ((share > 0) & (share < 1)).any(axis=0)
        rest = (share[:, ~is_undecided].astype(np.float64) - truth[:, ~is_undecided]) ** 2
        inner, inner_truth = (one[:, is_undecided][..., None, None] for one in (share, truth))
        return cls(inner, inner_truth, float(rest.sum()), int(np.count_nonzero(counted)), is_overlapping)

    def brier(self, calibration: Calibration | None) -> float:
        """Return the Brier score over all voxels that count, calibrated or not."""
        soft = self.soft
        if calibration is not None:
            soft = calibration.applied(soft, is_overlapping=self.is_overlapping)
        total = float(((soft.astype(np.float64) - self.truth) ** 2).sum()) + self.rest
        # Outside of a region the error is that of inside; the score is the mean over regions.
        return total / self.n_voxels * (2 / len(self.truth) if self.is_overlapping else 1)


@dataclass(frozen=True)
class CalibratedCandidate:
    """One soft label, calibrated on all cases and without each of them.

    Attributes
    ----------
    calibration : Calibration or None
        Fitted on all cases; None where no voxel is between 0 and 1.
    fitted : float
        Mean Brier score of all cases with it.
    before, after : tuple of float
        Brier score of each case: as it is, and with a calibration that was fitted on the others.
    others : tuple of float
        For each case, the mean score of the others with the calibration that was fitted on them: what may be chosen by
        without the case.
    """

    calibration: Calibration | None
    fitted: float
    before: tuple[float, ...]
    after: tuple[float, ...]
    others: tuple[float, ...]


def calibrated_candidate(cases: Sequence[UndecidedVoxels], *, fitted_for: str) -> CalibratedCandidate:
    """Return how a soft label is calibrated on all cases and without each of them.

    Parameters
    ----------
    cases : sequence of n UndecidedVoxels
        Of the soft label; at least three.
    fitted_for : str
        The annotator or protocol of the hard labels.

    Raises
    ------
    InputError
        If there are too few cases.

    Notes
    -----
    Cost: n + 1 fits, and the scores of up to n x (1 + `_MOST_OTHERS`) cases.
    """
    if len(cases) < LEAST_CASES:
        raise InputError(
            f"calibrate: got {len(cases)} cases with a reference, expected at least {LEAST_CASES}; leave it out"
        )

    def fitted(used: Sequence[UndecidedVoxels]) -> Calibration | None:
        """Return the calibration of some cases; None where no soft label is between 0 and 1."""
        if not any(one.soft.size for one in used):
            return None
        pairs = [(one.soft, one.truth) for one in used if one.soft.size]
        return fit_calibration(pairs, fitted_for=fitted_for, is_overlapping=used[0].is_overlapping, least_cases=1)

    whole = fitted(cases)
    after, of_others = [], []
    for left, one in enumerate(cases):
        others = [other for index, other in enumerate(cases) if index != left]
        calibration = fitted(others)
        after.append(one.brier(calibration))
        some = others[:: -(-len(others) // _MOST_OTHERS)]
        of_others.append(float(np.mean([other.brier(calibration) for other in some])))
    return CalibratedCandidate(
        whole,
        float(np.mean([one.brier(whole) for one in cases])),
        tuple(one.brier(None) for one in cases),
        tuple(after),
        tuple(of_others),
    )


@dataclass(frozen=True)
class JudgedCalibration:
    """A soft label with a calibration, both chosen on all cases and judged on each without it.

    Attributes
    ----------
    candidate : str
        The soft label that is best when calibrated.
    calibration : Calibration
    before, after : tuple of float
        Brier score of each case: of what is best as it is, and of what is best when calibrated, both chosen and fitted
        on the others.
    is_kept : bool
        Whether the mean gain is more than its standard error.
    """

    candidate: str
    calibration: Calibration
    before: tuple[float, ...]
    after: tuple[float, ...]
    is_kept: bool


def judged_calibration(
    candidates: Mapping[str, CalibratedCandidate], shortlists: Sequence[Sequence[str]], shortlist: Sequence[str]
) -> JudgedCalibration:
    """Return the soft label that is best when calibrated, with its scores on cases left out.

    A calibration repairs sharpness and bias, so the parameters that are best without one are not the best with one.

    Parameters
    ----------
    candidates : mapping of str to CalibratedCandidate
        By name; all on the same n cases.
    shortlists : sequence of n sequences of str
        For each case left out, the names that were chosen without it, the best one as it is first.
    shortlist : sequence of str
        The same, chosen on all cases.

    Raises
    ------
    InputError
        If no soft label of the list is between 0 and 1 anywhere.
    """
    before = np.array([candidates[names[0]].before[left] for left, names in enumerate(shortlists)])
    picks = [min(names, key=lambda name: candidates[name].others[left]) for left, names in enumerate(shortlists)]
    after = np.array([candidates[name].after[left] for left, name in enumerate(picks)])
    final = min(shortlist, key=lambda name: candidates[name].fitted)
    calibration = candidates[final].calibration
    if calibration is None:
        raise InputError("calibrate: no voxel is between 0 and 1; a hard label has nothing to calibrate")
    is_kept = not is_within_one_error(before, after)
    return JudgedCalibration(final, calibration, tuple(before.tolist()), tuple(after.tolist()), is_kept)
