"""How sure a difference between two rows is: persons and seeds are drawn again, together for both rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError

#: The share of draws inside an interval.
LEVEL = 0.95


@dataclass(frozen=True)
class Draws:
    """How often each seed and each person was drawn: the same for all rows, scores and lengths.

    Parameters
    ----------
    seeds : (n, S) array
    persons : (n, P) array
        Counts; each row sums to S and to P.
    """

    seeds: NDArray[np.int64]
    persons: NDArray[np.int64]

    @classmethod
    def make(cls, n: int, n_seeds: int, n_persons: int, seed: int) -> Draws:
        """Return n draws with replacement, of seeds and of persons independently.

        Examples
        --------
        >>> draws = Draws.make(4, 3, 5, seed=0)
        >>> draws.seeds.sum(axis=1).tolist(), draws.persons.sum(axis=1).tolist()
        ([3, 3, 3, 3], [5, 5, 5, 5])
        """
        rng = np.random.default_rng(seed)
        counts = [rng.multinomial(m, [1 / m] * m, size=n) for m in (n_seeds, n_persons)]
        return cls(counts[0], counts[1])

    def means(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of (S, P) values in each draw, (n,); what is NaN does not count.

        Examples
        --------
        >>> Draws(np.array([[1, 1], [2, 0]]), np.array([[1], [1]])).means(np.array([[1.0], [3.0]])).tolist()
        [2.0, 1.0]
        """
        known = np.isfinite(values)
        total = np.einsum("ns,np,sp->n", self.seeds, self.persons, np.where(known, values, 0.0), optimize=True)
        weight = np.einsum("ns,np,sp->n", self.seeds, self.persons, known.astype(float), optimize=True)
        return total / np.where(weight > 0, weight, np.nan)


@dataclass(frozen=True)
class Change:
    """By how much a row differs from the baseline.

    Attributes
    ----------
    mean : float
        Difference of the means over seeds and persons; divided by the baseline's mean if `is_relative`.
    low, high : float
        Interval of `LEVEL`; NaN where one person and one seed leave nothing to draw.
    wins, n_persons : int
        Persons for whom the row is better, in the mean over seeds, of how many.
    draws : (n,) float64 array
        The change in each draw.
    """

    mean: float
    low: float
    high: float
    wins: int
    n_persons: int
    draws: NDArray[np.float64]

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves 0 out."""
        return bool(self.low > 0 or self.high < 0)


def paired_change(
    row: NDArray[np.float64],
    baseline: NDArray[np.float64],
    draws: Draws,
    *,
    is_relative: bool,
    row_loss: NDArray[np.float64] | None = None,
    baseline_loss: NDArray[np.float64] | None = None,
) -> Change:
    """Return the change from a baseline to a row on the same persons and seeds.

    Two-way bootstrap: seeds and persons are drawn independently with replacement, and a draw takes the same for both
    rows, so that what all rows have in common cancels. With k seeds and n persons whose values are
    ``m + a_s + b_p + e_sp``, the variance of a draw's mean is ``var(a) / k + var(b) / n + var(e) / (k n)``, with
    variances that divide by their number; three seeds thus give intervals that are somewhat too narrow.

    Parameters
    ----------
    row, baseline : (S, P) float64 arrays
        Scores per seed and person. A person without a value in one of the two counts in neither.
    draws : Draws
    is_relative : bool
        Divide the difference by the baseline's mean.
    row_loss, baseline_loss : (S, P) float64 arrays, optional
        What wins are counted by, lower is better; by default the scores.

    Examples
    --------
    >>> rows = np.array([[1.0, 2.0], [1.0, 2.0]]), np.array([[2.0, 4.0], [2.0, 4.0]])
    >>> change = paired_change(*rows, Draws.make(100, 2, 2, seed=0), is_relative=True)
    >>> change.mean, change.low, change.high, change.wins
    (-0.5, -0.5, -0.5, 2)
    """
    if row.shape != baseline.shape or row.ndim != 2:
        raise InputError(
            f"bootstrap: got scores of shape {row.shape} and {baseline.shape}, expected one (seeds, persons)"
        )
    known = np.isfinite(row) & np.isfinite(baseline)
    ours, theirs = np.where(known, row, np.nan), np.where(known, baseline, np.nan)
    drawn = draws.means(ours) - draws.means(theirs)
    mean = (np.nanmean(ours) - np.nanmean(theirs)) if known.any() else np.nan
    if is_relative:
        drawn = drawn / draws.means(theirs)
        mean = mean / np.nanmean(theirs) if known.any() else np.nan
    low, high = np.nan, np.nan
    if known.any() and max(row.shape) > 1:
        low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    lost = [_person_means(row if row_loss is None else row_loss, known)]
    lost.append(_person_means(baseline if baseline_loss is None else baseline_loss, known))
    counted = np.isfinite(lost[0])
    wins = int((lost[0][counted] < lost[1][counted]).sum())
    return Change(float(mean), float(low), float(high), wins, int(counted.sum()), drawn)


def disagree(short: Change, long: Change) -> bool:
    """Return whether two lengths of training disagree: the interval of the difference of their changes leaves 0 out.

    Both changes must come from the same draws.
    """
    apart = long.draws - short.draws
    if not np.isfinite(apart).any() or not np.isfinite(long.low):
        return False
    low, high = np.nanquantile(apart, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return bool(low > 0 or high < 0)


def _person_means(values: NDArray[np.float64], known: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the mean over seeds of each person, (P,); NaN where nothing is known."""
    weight = known.sum(axis=0)
    return np.where(known, values, 0.0).sum(axis=0) / np.where(weight > 0, weight, np.nan)
