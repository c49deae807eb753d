"""A ranking as a picture: the scores of all candidates, and how reliable the first few are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from softlabels.evaluation.rank import ScoredCandidate

#: The number of reliability curves that can be distinguished.
_N_CURVES = 6
#: Where a score of 0 is drawn on the logarithmic axis.
_LEAST = 1e-6


def ranking_plot(ranked: Sequence[ScoredCandidate]) -> Figure:
    """Return the Brier scores of all candidates beside the reliability of the first few.

    Parameters
    ----------
    ranked : sequence of ScoredCandidate
        At least one, in the order in which they are drawn.
    """
    figure = Figure(figsize=(11, max(4.5, 0.9 + 0.24 * len(ranked))), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_scores(left, ranked)
    _draw_reliability(right, ranked[:_N_CURVES])
    return figure


def write_plot(ranked: Sequence[ScoredCandidate], path: str | Path) -> None:
    """Write `ranking_plot` to a file; the suffix says the format."""
    ranking_plot(ranked).savefig(path)


def _draw_scores(ax: Axes, ranked: Sequence[ScoredCandidate]) -> None:
    """Draw the Brier score of each candidate over all voxels and over the ambiguous ones."""
    names = [candidate.name for candidate in ranked]
    everywhere = [candidate.everywhere for candidate in ranked]
    ambiguous = [candidate.ambiguous for candidate in ranked]
    for voxels, scores, face in (("everywhere", everywhere, "black"), ("ambiguous", ambiguous, "white")):
        values = [max(score.brier, _LEAST) for score in scores]
        ax.plot(values, names, "o", label=f"{voxels} ({scores[0].n_voxels} voxels)", color="black", mfc=face)
    ax.set(xscale="log", xlabel="Brier score against the reference (left is better)")
    ax.invert_yaxis()
    ax.grid(axis="y", color="0.9")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(fontsize="small", loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)


def _draw_reliability(ax: Axes, ranked: Sequence[ScoredCandidate]) -> None:
    """Draw the mean of the reference against the probability in the soft label."""
    ax.plot([0, 1], [0, 1], color="0.8", linewidth=1)
    for candidate in ranked:
        ax.plot(candidate.forecast, candidate.observed, marker=".", linewidth=1, label=candidate.name)
    ax.set(xlabel="probability in the soft label", ylabel="mean of the reference, ambiguous voxels")
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    ax.legend(fontsize="small", title=f"first {len(ranked)}")
