"""A ranking as tables of tab-separated values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels.evaluation.rank import ScoredCandidate
from softlabels.evaluation.ranking import RankedCandidate, Ranking

_SCORES = (
    "n_voxels",
    "brier",
    "mae",
    "cross_entropy_bits",
    "calibration",
    "brier_calibration",
    "brier_refinement",
    "entropy_bits",
)
COLUMNS = ("candidate", "voxels", *_SCORES, "sum_deviation")
MEAN_COLUMNS = ("candidate", "voxels", *_SCORES, "brier_change", "low", "high", "n_better", "n_cases")


def ranking_table(ranked: Sequence[ScoredCandidate]) -> str:
    """Return a header and three rows per candidate, in the order given: all voxels, ambiguous ones, near boundaries.

    Returns
    -------
    str
        Lines of tab-separated values, each with a line end.
    """
    return _lines([COLUMNS, *(row for candidate in ranked for row in _score_rows(candidate))])


def cases_table(ranking: Ranking) -> str:
    """Return the rows of `ranking_table` for every case, which comes first."""
    rows = [
        [case, *row]
        for index, case in enumerate(ranking.cases)
        for candidate in ranking.candidates
        for row in _score_rows(candidate.by_case[index])
    ]
    return _lines([("case", *COLUMNS), *rows])


def means_table(ranking: Ranking) -> str:
    """Return the means over cases: a header and three rows per candidate.

    The change of the Brier score relative to the hard label, with its interval, is in the rows of all voxels.
    """
    rows: list[Sequence[str]] = [MEAN_COLUMNS]
    for candidate in ranking.candidates:
        change = candidate.change
        known = [] if change is None else [f"{one:.6g}" for one in (change.mean, change.low, change.high)]
        counts = [] if change is None else [str(change.n_better), str(change.n_cases)]
        for row in _figures(candidate):
            ours = [*known, *counts] if row[1] == "all" else []
            rows.append([*row, *ours, *[""] * (len(MEAN_COLUMNS) - len(row) - len(ours))])
    return _lines(rows)


def write_table(ranked: Sequence[ScoredCandidate], path: str | Path) -> None:
    """Write `ranking_table` to a file."""
    write_atomically(path, ranking_table(ranked))


def _score_rows(candidate: ScoredCandidate) -> Iterator[list[str]]:
    """Yield the rows of a candidate on one case."""
    for row in _figures(candidate):
        yield [*row, f"{candidate.sum_deviation:.3g}"]


def _figures(candidate: ScoredCandidate | RankedCandidate) -> Iterator[list[str]]:
    """Yield name, set of voxels and scores."""
    sets = {"all": candidate.everywhere, "ambiguous": candidate.ambiguous, "boundary": candidate.boundary}
    for voxels, scores in sets.items():
        n_voxels, *figures = astuple(scores)
        yield [candidate.name, voxels, str(n_voxels), *(f"{f:.6g}" for f in figures)]


def _lines(rows: Sequence[Sequence[str]]) -> str:
    """Return lines of tab-separated values."""
    return "".join("\t".join(row) + "\n" for row in rows)
