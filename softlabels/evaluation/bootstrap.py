"""How sure a difference between two soft labels is: the cases of a cohort, drawn again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.errors import InputError

_N_DRAWS = 10_000
#: Draws handled at a time.
_CHUNK = 1_000


@dataclass(frozen=True)
class Change:
    """The mean score of a soft label, relative to that of a baseline on the same cases.

    Attributes
    ----------
    mean : float
        Mean score over cases, relative to the baseline's: -0.3 is 30 % less.
    low, high : float
        95 % interval over cases; NaN for one case, which has none.
    n_better, n_cases : int
        How many cases have a lower score than the baseline, of how many.
    """

    mean: float
    low: float
    high: float
    n_better: int
    n_cases: int

    def __str__(self) -> str:
        interval = "" if np.isnan(self.low) else f" [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        return f"{100 * self.mean:+.1f} %{interval}, lower in {self.n_better} of {self.n_cases} cases"


def paired_change(scores: ArrayLike, baseline: ArrayLike, *, n_draws: int = _N_DRAWS, seed: int = 0) -> Change:
    """Return by how much scores differ from a baseline's, with a bootstrap interval over cases.

    Cases are drawn with replacement, scores and baseline of a case together, so that a difference that all cases
    share is sure however much the cases differ. The interval holds the middle 95 % of the draws (Efron and Tibshirani,
    1993, ch. 13). With few cases it is too narrow: in a simulation of log-normal scores it covered 75, 84, 91 and
    91 % for 3, 6, 12 and 20 cases.

    Parameters
    ----------
    scores, baseline : (n,) array_like
        One score per case, in the same order; lower is better.
    n_draws, seed : int
        Equal seeds give equal intervals.

    Raises
    ------
    InputError
        If there is no case, or the numbers of cases differ.

    Examples
    --------
    >>> str(paired_change([0.9, 1.8, 2.7], [1.0, 2.0, 3.0]))
    '-10.0 % [-10.0, -10.0], lower in 3 of 3 cases'
    >>> str(paired_change([0.5], [1.0]))
    '-50.0 %, lower in 1 of 1 cases'
    """
    ours, theirs = np.asarray(scores, np.float64), np.asarray(baseline, np.float64)
    if ours.ndim != 1 or ours.shape != theirs.shape or not ours.size:
        raise InputError(f"bootstrap: got {ours.shape} and {theirs.shape} scores, expected one per case of both")
    n_cases = len(ours)
    better = int(np.count_nonzero(ours < theirs))
    change = _relative(ours.mean(), theirs.mean())
    if n_cases == 1:
        return Change(float(change), np.nan, np.nan, better, 1)
    draws = np.random.default_rng(seed)
    found = []
    for start in range(0, n_draws, _CHUNK):
        drawn = draws.integers(0, n_cases, (min(_CHUNK, n_draws - start), n_cases))
        found.append(_relative(ours[drawn].mean(axis=1), theirs[drawn].mean(axis=1)))
    # Without interpolation: where the baseline may be 0 in a draw, the upper end is infinite.
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975], method="inverted_cdf")
    return Change(float(change), float(low), float(high), better, n_cases)


def _relative(ours: ArrayLike, theirs: ArrayLike) -> NDArray[np.float64]:
    """Return the relative change; 0 where both are 0."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ours == theirs, 0.0, ours / theirs - 1)
