"""A calibration, fitted on all cases and judged on each without it; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from softlabels.calibration import Calibration
from softlabels.errors import InputError
from softlabels.evaluation.calibrate import LEAST_CASES, fit_calibration
from softlabels.evaluation.selection import is_within_one_error


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
    """

    soft: NDArray[np.float32]
    truth: NDArray[np.float32]
    rest: float
    n_voxels: int

    @classmethod
    def of(cls, soft: NDArray[np.floating], reference: NDArray[np.floating], counted: NDArray[np.bool_]) -> Self:
        """Return those of a soft label and its reference, (C, D, H, W) both, among the counted voxels (D, H, W)."""
        share, truth = (one[:, counted].astype(np.float32) for one in (soft, reference))
        total = share.sum(axis=0)
        share /= np.where(total > 0, total, np.float32(1))
        is_undecided = ((share > 0) & (share < 1)).any(axis=0)
        rest = (share[:, ~is_undecided].astype(np.float64) - truth[:, ~is_undecided]) ** 2
        inner, inner_truth = (one[:, is_undecided][..., None, None] for one in (share, truth))
        return cls(inner, inner_truth, float(rest.sum()), int(np.count_nonzero(counted)))

    def brier(self, calibration: Calibration | None) -> float:
        """Return the Brier score over all voxels that count, calibrated or not."""
        soft = self.soft if calibration is None else calibration.applied(self.soft)
        return (float(((soft.astype(np.float64) - self.truth) ** 2).sum()) + self.rest) / self.n_voxels


@dataclass(frozen=True)
class JudgedCalibration:
    """A calibration, fitted on all cases and judged on each without it.

    Attributes
    ----------
    calibration : Calibration
    before, after : tuple of float
        Brier score of each case: as it is, and with a calibration that was fitted on the others.
    is_kept : bool
        Whether the mean gain is more than its standard error.
    """

    calibration: Calibration
    before: tuple[float, ...]
    after: tuple[float, ...]
    is_kept: bool


def judged_calibration(
    cases: Sequence[UndecidedVoxels], folds: Sequence[Sequence[UndecidedVoxels]], *, fitted_for: str
) -> JudgedCalibration:
    """Return a calibration with its scores on cases left out.

    Parameters
    ----------
    cases : sequence of n UndecidedVoxels
        Of the soft label that is calibrated; at least three.
    folds : sequence of n sequences of n UndecidedVoxels
        For each case left out, all cases with the soft label that was chosen without it. Where nothing was chosen,
        each is `cases`.
    fitted_for : str
        The annotator or protocol of the hard labels.

    Raises
    ------
    InputError
        If there are too few cases.
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
        return fit_calibration(pairs, fitted_for=fitted_for, least_cases=1)

    before = np.array([fold[left].brier(None) for left, fold in enumerate(folds)])
    after = np.array(
        [
            fold[left].brier(fitted([one for index, one in enumerate(fold) if index != left]))
            for left, fold in enumerate(folds)
        ]
    )
    whole = fitted(cases)
    if whole is None:
        raise InputError("calibrate: no voxel is between 0 and 1; a hard label has nothing to calibrate")
    is_kept = not is_within_one_error(before, after)
    return JudgedCalibration(whole, tuple(before.tolist()), tuple(after.tolist()), is_kept)
