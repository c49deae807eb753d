"""A ranking as a picture: the scores of all candidates, and how reliable the first few are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from softlabels.evaluation.ranking import RankedCandidate, Ranking

#: The number of reliability curves that can be distinguished.
_N_CURVES = 6
#: Where a score of 0 is drawn on the logarithmic axis.
_LEAST = 1e-6


def ranking_plot(ranking: Ranking) -> Figure:
    """Return the Brier scores of all candidates, their parts, and the reliability of the first few.

    Parameters
    ----------
    ranking : Ranking
        In the order in which candidates are drawn.
    """
    candidates = ranking.candidates
    figure = Figure(figsize=(15, max(4.5, 1.2 + 0.26 * len(candidates))), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.3, 1, 1))
    _draw_scores(left, ranking)
    _draw_parts(middle, candidates)
    _draw_reliability(right, candidates[:_N_CURVES])
    return figure


def write_plot(ranking: Ranking, path: str | Path) -> None:
    """Write `ranking_plot` to a file; the suffix says the format."""
    ranking_plot(ranking).savefig(path)


def _draw_scores(ax: Axes, ranking: Ranking) -> None:
    """Draw the Brier score of each candidate: every case, and the means over three sets of voxels."""
    candidates = ranking.candidates
    rows = np.arange(len(candidates))
    if len(ranking.cases) > 1:
        for row, candidate in enumerate(candidates):
            values = [max(one.everywhere.brier, _LEAST) for one in candidate.by_case]
            ax.plot(values, [row] * len(values), "|", color="0.6", label="all voxels, each case" if row == 0 else None)
    sets = {
        "all voxels": ("o", "black", [one.everywhere for one in candidates]),
        "near boundaries": ("s", "white", [one.boundary for one in candidates]),
        "ambiguous": ("o", "white", [one.ambiguous for one in candidates]),
    }
    for name, (marker, face, scores) in sets.items():
        shown = [(max(one.brier, _LEAST), row) for one, row in zip(scores, rows, strict=True) if one.n_voxels]
        if shown:
            ax.plot(*zip(*shown, strict=True), marker, label=name, color="black", mfc=face, linestyle="none")
    ax.set_yticks(rows, [one.name for one in candidates])
    ax.set(xscale="log", xlabel="Brier score against the reference (left is better)")
    ax.invert_yaxis()
    ax.grid(axis="y", color="0.9")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, columnspacing=1)


def _draw_parts(ax: Axes, candidates: tuple[RankedCandidate, ...]) -> None:
    """Draw the two parts of each Brier score as one bar."""
    rows = np.arange(len(candidates))
    refinement = [max(one.everywhere.brier_refinement, 0.0) for one in candidates]
    calibration = [one.everywhere.brier_calibration for one in candidates]
    ax.barh(rows, refinement, color="0.75", label="refinement")
    ax.barh(rows, calibration, left=refinement, color="tab:red", label="calibration")
    # A label that is vague everywhere would leave no room for the others.
    totals = sorted(one.everywhere.brier for one in candidates)
    ax.set_xlim(0, 1.1 * min(totals[-1], 4 * totals[len(totals) // 2]))
    ax.set_yticks(rows, [""] * len(rows))
    ax.invert_yaxis()
    ax.set(xlabel="parts of the Brier score, all voxels")
    ax.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def _draw_reliability(ax: Axes, candidates: tuple[RankedCandidate, ...]) -> None:
    """Draw the mean of the reference against the probability in the soft label."""
    ax.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for candidate in candidates:
        ax.plot(candidate.forecast, candidate.observed, marker=".", linewidth=1, label=candidate.name)
    ax.set(xlabel="probability in the soft label", ylabel="mean of the reference, ambiguous voxels")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.legend(fontsize="small", title=f"first {len(candidates)}")
