"""A ranking as a table of tab-separated values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels.evaluation.rank import ScoredCandidate

COLUMNS = (
    "candidate",
    "voxels",
    "n_voxels",
    "brier",
    "mae",
    "cross_entropy_bits",
    "calibration",
    "brier_calibration",
    "brier_refinement",
    "entropy_bits",
    "sum_deviation",
)


def ranking_table(ranked: Sequence[ScoredCandidate]) -> str:
    """Return a header and three rows per candidate, in the order given: all voxels, ambiguous ones, near boundaries.

    Returns
    -------
    str
        Lines of tab-separated values, each with a line end.
    """
    rows: list[Sequence[str]] = [COLUMNS]
    for candidate in ranked:
        sets = {"all": candidate.everywhere, "ambiguous": candidate.ambiguous, "boundary": candidate.boundary}
        for voxels, scores in sets.items():
            n_voxels, *figures = astuple(scores)
            deviation = f"{candidate.sum_deviation:.3g}"
            rows.append([candidate.name, voxels, str(n_voxels), *(f"{f:.6g}" for f in figures), deviation])
    return "".join("\t".join(row) + "\n" for row in rows)


def write_table(ranked: Sequence[ScoredCandidate], path: str | Path) -> None:
    """Write `ranking_table` to a file."""
    write_atomically(path, ranking_table(ranked))
