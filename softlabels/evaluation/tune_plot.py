"""Tuning as a picture: for each case the error of every method against how sharp its soft label is."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from softlabels.evaluation.trial import FIRST
from softlabels.evaluation.tuned import Tuned

#: Cases that are drawn, spread evenly over all.
_MOST_CASES = 12
_MARKERS = "osD^vP*X"


def tune_plot(found: Tuned) -> Figure:
    """Return a panel for each case: Brier score against the entropy of the soft label.

    The line is the Gaussian, from narrow to wide. Each mark is a method with the parameters that were chosen without
    the case (with all candidates of a single case). The vertical line is the entropy of the reference.
    """
    step = -(-len(found.cases) // _MOST_CASES)
    shown = range(0, len(found.cases), step)
    n_columns = min(len(shown), 4)
    n_rows = math.ceil(len(shown) / n_columns)
    figure = Figure(figsize=(3.1 * max(n_columns, 2), 2.7 * n_rows + 0.9), layout="constrained")
    axes = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    for ax, index in zip(axes, shown, strict=False):
        _draw_case(ax, found, index)
    for ax in axes[len(shown) :]:
        ax.set_axis_off()
    figure.supxlabel("entropy of the soft label (bits per voxel): sharper to the left", fontsize="medium")
    figure.supylabel("Brier score (lower is better)", fontsize="medium")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=4, frameon=False, fontsize="small")
    return figure


def _draw_case(ax: Axes, found: Tuned, index: int) -> None:
    """Draw one case."""
    case = found.cases[index]
    gaussian = [case.errors[name] for name in found.trial.families[FIRST[0]]]
    entropy, brier = [one.entropy for one in gaussian], [one.brier for one in gaussian]
    ax.plot(entropy, brier, color="0.7", linewidth=1, label="Gaussian, all widths")
    ax.axvline(case.entropy, color="0.5", linewidth=1, linestyle=":", label="entropy of the reference")
    for number, family in enumerate(found.families):
        if family.errors:
            error, title = family.errors[index], family.name
        else:
            candidate = found.trial.families[family.name][found.selection.folds[number].best]
            error, title = case.errors[candidate], f"{family.name} (chosen on this case)"
        is_winner = family is found.winner
        face = f"C{number}" if is_winner else "none"
        title = f"{title}, chosen" if is_winner else title
        marker = _MARKERS[number % len(_MARKERS)]
        ax.plot(error.entropy, error.brier, marker, color=f"C{number}", mfc=face, markersize=6, label=title)
    ax.set_title(case.case, fontsize="small")
    highest = max(error for error in (*brier[:1], case.errors[found.trial.families[FIRST[1]][0]].brier))
    lowest = min(error.brier for error in case.errors.values())
    ax.set_ylim(max(0.0, lowest - 0.15 * (highest - lowest)), highest * 1.1)
    picked = [family.errors[index].entropy for family in found.families if family.errors]
    right = 1.6 * max([case.entropy, 1e-6, *picked])
    ax.set_xlim(-0.03 * right, right)
    ax.tick_params(labelsize="small")
    ax.spines[["top", "right"]].set_visible(False)
