"""The comparison as a picture: every change with its interval, a panel for each score."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .scores import METRICS
from .study import Study
from .table import Cells

#: The panels, where known.
PANELS = (
    "brier_truth",
    "brier_truth_ambiguous",
    "ece_truth",
    "dice",
    "dice_fine",
    "assd_mm",
    "brier_label",
    "hd95_mm",
    "volume_bias",
)
_N_COLUMNS = 3
_COLOUR = {True: "#1f6f5c", False: "#a8432f"}


def comparison_picture(cells: Cells, study: Study) -> Figure:
    """Return a panel for each score: the change of each row from the baseline, filled for the longest training."""
    lengths = sorted({steps for _, steps, _ in cells})
    rows = [name for name in study.rows if name != study.baseline and any(key[0] == name for key in cells)]
    shown = [name for name in PANELS if any(key[2] == name for key in cells)]
    n_lines = math.ceil(len(shown) / _N_COLUMNS)
    size = (4.3 * _N_COLUMNS, n_lines * (1.1 + 0.3 * len(rows)))
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(n_lines, _N_COLUMNS, sharey=True, squeeze=False).ravel()
    for ax, name in zip(panels, shown, strict=False):
        _draw(ax, cells, study, rows, lengths, name)
    for ax in panels[len(shown) :]:
        ax.set_visible(False)
    lines = [
        f"{'filled' if steps == lengths[-1] else 'open'}: {steps} {study.training.unit}" for steps in reversed(lengths)
    ]
    baseline = study.titles()[study.baseline]
    figure.suptitle(
        f"{study.name}: change from “{baseline}”, 95 % interval; {', '.join(lines)}; green is better, red worse",
        fontsize=11,
    )
    return figure


def write_picture(cells: Cells, study: Study, path: Path) -> None:
    """Write `comparison_picture`; the suffix says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    comparison_picture(cells, study).savefig(path, dpi=110)


def _draw(ax: Axes, cells: Cells, study: Study, rows: list[str], lengths: list[int], name: str) -> None:
    """Draw one score."""
    metric, titles = METRICS[name], study.titles()
    sign = 1 if metric.better == "higher" else -1
    for place, row in enumerate(rows):
        for number, steps in enumerate(lengths):
            cell = cells.get((row, steps, name))
            if cell is None or cell.change is None:
                continue
            change, is_longest = cell.change, steps == lengths[-1]
            colour = _COLOUR[sign * change.mean > 0] if change.is_sure and metric.better != "zero" else "0.45"
            y = place + 0.22 * (number - (len(lengths) - 1) / 2)
            ax.plot([100 * change.low, 100 * change.high], [y, y], color=colour, linewidth=1.6)
            ax.plot(100 * change.mean, y, "o", color=colour, markersize=5, mfc=colour if is_longest else "white")
    ax.axvline(0, color="0.7", linewidth=1, zorder=0)
    ax.set_yticks(range(len(rows)), [titles[row] for row in rows])
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_title(f"{metric.title}, {'%' if metric.unit == '%' else 'points'}", fontsize=10)
    ax.grid(axis="y", color="0.93")
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(labelsize=8.5, left=False)
