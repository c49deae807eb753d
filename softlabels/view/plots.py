"""Plots of a whole cohort: seconds per node, quality figures per target, values over all voxels; from plain numbers."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

#: Quality figures that are plotted per target, with the axis label of each.
QUALITY = {
    "disagreement": "voxels whose class differs\nfrom the hard label (share)",
    "entropy_mean": "mean entropy of the\nstored map (bits)",
    "sum_deviation_max": "largest deviation of the\nsum over classes from 1",
    "saturated": "values within 0.001\nof 0 or 1 (share)",
}
_DOT: dict[str, Any] = {"s": 12, "alpha": 0.6, "linewidths": 0, "color": "#0072B2"}
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#555555")


def seconds_plot(seconds: Mapping[str, Sequence[float]]) -> Figure:
    """Return a strip of dots per node: the seconds of each computed job, on a logarithmic axis.

    Parameters
    ----------
    seconds : dict
        Node to the seconds of its jobs.
    """
    figure = Figure(figsize=(8, 0.8 + 0.35 * max(len(seconds), 1)), layout="constrained")
    ax = figure.subplots()
    _strips(ax, seconds)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.tick_params(axis="x", which="both", labelsize=8)
    ax.set_xlabel("seconds per case")
    return figure


def quality_plot(series: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Return one small plot per quality figure, a strip of dots per target, a dot per case.

    Parameters
    ----------
    series : dict
        Quality figure to target to its values; figures without values are left out.
    """
    shown = {name: targets for name, targets in series.items() if any(targets.values())}
    n_targets = max((len(targets) for targets in shown.values()), default=1)
    figure = Figure(figsize=(3.0 * max(len(shown), 1), 1.0 + 0.35 * n_targets), layout="constrained")
    axes = figure.subplots(1, max(len(shown), 1), squeeze=False)[0]
    for ax, (name, targets) in zip(axes, shown.items(), strict=False):
        _strips(ax, targets)
        ax.set_xlabel(QUALITY[name])
        ax.set_xlim(0, 1.1 * max(max(values) for values in targets.values()) or 1)
    return figure


def values_plot(title: str, edges: NDArray[np.float64], counts: Mapping[str, NDArray[np.int64]]) -> Figure:
    """Return the histogram of a soft label over voxels, one line per class, counts on a logarithmic axis.

    Parameters
    ----------
    title : str
    edges : (B+1,) ndarray
    counts : dict
        Class name to (B,) counts.
    """
    figure = Figure(figsize=(4.2, 2.8), layout="constrained")
    ax = figure.subplots()
    for number, (name, count) in enumerate(counts.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        ax.stairs(np.maximum(count, 0.5), edges, color=colour, label=name.replace("_", " "), baseline=0.5)
    ax.set_yscale("log")
    ax.set_xlabel("soft label")
    ax.set_ylabel("voxels")
    ax.set_title(title, fontsize=9)
    if len(counts) <= 10:
        ax.legend(fontsize=7, frameon=False)
    _plain(ax)
    return figure


def data_uri(figure: Figure, dpi: int = 110) -> str:
    """Return a figure as a PNG within a data URI; equal figures give equal text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _strips(ax: Axes, groups: Mapping[str, Sequence[float]]) -> None:
    """Draw a row of dots per group, its median as a line; dots are spread a little, always alike."""
    for row, values in enumerate(groups.values()):
        spread = 0.15 * np.sin(2.4 * np.arange(len(values)))
        ax.scatter(values, row + spread, **_DOT)
        if len(values) > 1:
            ax.plot([np.median(values)] * 2, [row - 0.3, row + 0.3], color="black", linewidth=1)
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set_ylim(len(groups) - 0.5, -0.5)
    _plain(ax)


def _plain(ax: Axes) -> None:
    """Take away what carries no information."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    ax.xaxis.label.set_fontsize(8)
    ax.yaxis.label.set_fontsize(8)
