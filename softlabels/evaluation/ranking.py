"""The ranking of soft labels over several cases: mean scores with intervals, and pooled reliability; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.evaluation.bootstrap import Change, paired_change
from softlabels.evaluation.rank import ScoredCandidate
from softlabels.evaluation.scores import Scores

#: What the candidates are compared with: the hard label.
BASELINE = "one-hot"


@dataclass(frozen=True)
class RankedCandidate:
    """A soft label with its mean scores over cases.

    Attributes
    ----------
    name : str
    everywhere, ambiguous, boundary : Scores
        Means over cases, each case counting alike; the number of voxels is the sum. A case without such voxels is left
        out of the mean.
    by_case : tuple of ScoredCandidate
        In the order of the cases.
    change : Change or None
        Of the Brier score over all voxels, relative to the baseline's; None if there is none.
    forecast, observed, share : (20,) float64 arrays
        Reliability over the ambiguous voxels of all cases, as in `ScoredCandidate`.
    """

    name: str
    everywhere: Scores
    ambiguous: Scores
    boundary: Scores
    by_case: tuple[ScoredCandidate, ...]
    change: Change | None
    forecast: NDArray[np.float64]
    observed: NDArray[np.float64]
    share: NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Soft labels of the same cases, nearest to the reference first.

    Attributes
    ----------
    cases : tuple of str
    candidates : tuple of RankedCandidate
    """

    cases: tuple[str, ...]
    candidates: tuple[RankedCandidate, ...]


def combined(cases: Mapping[str, Sequence[ScoredCandidate]], baseline: str = BASELINE) -> Ranking:
    """Return the ranking of the candidates that every case has.

    Parameters
    ----------
    cases : mapping of str to sequence of ScoredCandidate
        Case id to what `rank` returned.
    baseline : str
        The candidate that changes are relative to.

    Returns
    -------
    Ranking
        Sorted by the mean Brier score over all voxels.

    Raises
    ------
    InputError
        If there is no case, or no candidate that all cases have.

    Examples
    --------
    >>> from softlabels.evaluation.rank import rank
    >>> hard, truth = np.float32([[[[1, 0]]], [[[0, 1]]]]), np.float32([[[[0.8, 0.2]]], [[[0.2, 0.8]]]])
    >>> ranking = combined({"a": rank({"one-hot": hard, "soft": 0.8 * hard + 0.1}, truth)})
    >>> [(one.name, str(one.change)) for one in ranking.candidates]
    [('soft', '-75.0 %, lower in 1 of 1 cases'), ('one-hot', '+0.0 %, lower in 0 of 1 cases')]
    """
    if not cases:
        raise InputError("rank: got no case, expected at least one")
    by_name = [{one.name: one for one in found} for found in cases.values()]
    names = [name for name in by_name[0] if all(name in of_case for of_case in by_name)]
    if not names:
        raise InputError("rank: no target can be judged on every case; rank the cases one by one")
    columns = {name: tuple(of_case[name] for of_case in by_name) for name in names}
    of_baseline = [one.everywhere.brier for one in columns[baseline]] if baseline in columns else None
    ranked = [_ranked(name, scored, of_baseline) for name, scored in columns.items()]
    return Ranking(tuple(cases), tuple(sorted(ranked, key=lambda one: one.everywhere.brier)))


def _ranked(name: str, scored: tuple[ScoredCandidate, ...], baseline: list[float] | None) -> RankedCandidate:
    """Return one candidate's means."""
    change = None if baseline is None else paired_change([one.everywhere.brier for one in scored], baseline)
    return RankedCandidate(
        name,
        _mean([one.everywhere for one in scored]),
        _mean([one.ambiguous for one in scored]),
        _mean([one.boundary for one in scored]),
        scored,
        change,
        *_pooled(scored),
    )


def _mean(scores: Sequence[Scores]) -> Scores:
    """Return the mean of each score over the cases that have voxels, and the sum of their voxels."""
    counted = [one for one in scores if one.n_voxels] or list(scores)
    names = [field.name for field in fields(Scores) if field.name != "n_voxels"]
    means = {name: float(np.mean([getattr(one, name) for one in counted])) for name in names}
    return Scores(sum(one.n_voxels for one in scores), **means)


def _pooled(scored: Sequence[ScoredCandidate]) -> tuple[NDArray[np.float64], ...]:
    """Return mean forecast, mean truth and share of each bin over the values of all cases."""
    counts = np.array([one.share * one.ambiguous.n_voxels for one in scored])
    total = counts.sum(axis=0)
    filled = np.where(total > 0, total, np.nan)
    forecast, observed = (
        np.array([np.nan_to_num(getattr(one, name)) for one in scored]) for name in ("forecast", "observed")
    )
    share = total / (total.sum() or 1)
    return (forecast * counts).sum(axis=0) / filled, (observed * counts).sum(axis=0) / filled, share
