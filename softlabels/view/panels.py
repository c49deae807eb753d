"""How one slice of each kind of map is drawn: colours, limits, outlines and a labelled colour bar.

matplotlib is used without pyplot: no global state and no display.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import BoundaryNorm, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from softlabels._shared.files import atomic_writer
from softlabels.errors import InputError

#: With more classes than this, their colour bar has no names.
MAX_NAMED = 10
#: Colour map and, where it is fixed, its ends.
SCALES = {
    "image": ("gray", None),
    "distance": ("magma", None),
    "probability": ("viridis", (0.0, 1.0)),
    "signed": ("RdBu_r", (-1.0, 1.0)),
    "level": ("RdBu_r", None),
    "entropy": ("inferno", None),
}
STYLES = ("labels", "seeds", *SCALES)
_PANEL_INCHES = 2.7
#: Lowest and highest height of a panel over its width; below, the labels of colour bars would leave a picture no room.
_HEIGHTS = (0.5, 2.0)
_DIM = 0.5
_TEXT: dict[str, Any] = {"fontsize": 8, "color": "white", "ha": "center", "va": "center"}


class LegendEntry(NamedTuple):
    """The name and the colour of a class."""

    name: str
    colour: str


@dataclass(frozen=True)
class Panel:
    """One picture of a page.

    Parameters
    ----------
    title : str
    style : str
        One of `STYLES`.
    values : ndarray
        (h, w) map; (C, h, w) masks for "labels" and "seeds".
    bar : str
        Label of the colour bar, with unit.
    under : (h, w) ndarray, optional
        Image beneath "labels" and "seeds", which need it.
    outline : (C, h, w) ndarray of bool, optional
        Masks whose edges are drawn.
    legend : tuple of C LegendEntry
        The classes of "labels" and "seeds".
    focus : (h, w) ndarray of bool, optional
        The pixels whose values decide the colour scale; by default all.

    Raises
    ------
    InputError
        If the style is unknown, or the image beneath "labels" or "seeds" is missing.
    """

    title: str
    style: str
    values: NDArray[Any]
    bar: str
    under: NDArray[np.floating] | None = None
    outline: NDArray[np.bool_] | None = None
    legend: tuple[LegendEntry, ...] = ()
    focus: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise InputError(f"panel style: got {self.style!r}, expected one of {', '.join(STYLES)}")
        if self.style in ("labels", "seeds") and self.under is None:
            raise InputError(f"panel {self.title!r}: got no image, expected one beneath {self.style}")

    @property
    def colours(self) -> tuple[str, ...]:
        """The colour of each class."""
        return tuple(one.colour for one in self.legend)


def draw_page(
    rows: Sequence[Sequence[Panel | None]],
    *,
    spacing: tuple[float, float],
    letters: Sequence[str],
    title: str,
    footer: str,
) -> Figure:
    """Return a figure with a grid of panels.

    Parameters
    ----------
    rows : list of lists of Panel or None
        None leaves a gap. All panels have slices of one shape.
    spacing : tuple of 2 floats
        mm per voxel: down, along. The pictures keep their shape in mm.
    letters : tuple of 4 str
        Patient directions at the left, right, top and bottom edge of each row's first panel.
    title, footer : str

    Returns
    -------
    matplotlib.figure.Figure
    """
    n_columns = max(len(row) for row in rows)
    shape = next(panel for row in rows for panel in row if panel).values.shape[-2:]
    height = _PANEL_INCHES * np.clip(shape[0] * spacing[0] / (shape[1] * spacing[1]), *_HEIGHTS)
    size = (n_columns * (_PANEL_INCHES + 0.75) + 0.2, len(rows) * (height + 0.3) + 0.6)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06, wspace=0.02, hspace=0.02)
    figure = Figure(figsize=size, layout=layout, facecolor="white")
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.012, ha="left")
    figure.supxlabel(footer, fontsize=8, color="#555555", x=0.012, ha="left")
    axes = figure.subplots(len(rows), n_columns, squeeze=False)
    for row, row_axes in zip(rows, axes, strict=True):
        for panel, ax in itertools.zip_longest(row, row_axes):
            if panel is None:
                ax.set_axis_off()
            else:
                _draw_panel(ax, panel, spacing[0] / spacing[1])
                if panel is row[0]:
                    _write_letters(ax, letters)
    return figure


def save_png(figure: Figure, path: str | Path, dpi: int = 150) -> None:
    """Write a figure as PNG, in one step; equal figures give equal bytes."""
    with atomic_writer(path) as file:
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})


def _draw_panel(ax: Axes, panel: Panel, aspect: float) -> None:
    """Draw one panel with its title and colour bar."""
    ax.set_title(panel.title, fontsize=9)
    # Ticks that are not there would be measured for the layout all the same.
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_visible(False)
    ax.spines[:].set_visible(False)
    if panel.style in ("labels", "seeds"):
        _draw_masks(ax, panel, aspect)
    else:
        _draw_map(ax, panel, aspect)
    ax.set_xlim(-0.5, panel.values.shape[-1] - 0.5)
    ax.set_ylim(panel.values.shape[-2] - 0.5, -0.5)


def _draw_map(ax: Axes, panel: Panel, aspect: float) -> None:
    """Draw a map of numbers; what is not finite stays grey."""
    colours, fixed = SCALES[panel.style]
    low, high = fixed or _limits(panel)
    picture = ax.imshow(
        np.ma.masked_invalid(panel.values), cmap=colours, vmin=low, vmax=high, aspect=aspect, interpolation="nearest"
    )
    ax.set_facecolor("black" if panel.style == "image" else "#bbbbbb")
    if panel.outline is not None:
        edge = "black" if panel.style in ("signed", "level") else "white"
        _draw_outlines(ax, panel.outline, [edge] * len(panel.outline), 0.7)
    finite = panel.values[np.isfinite(panel.values)]
    extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(finite.min(initial=low) < low), bool(finite.max(initial=high) > high)), "neither"
    )
    _finish_bar(ax.figure.colorbar(picture, cax=_bar_axes(ax), extend=extend), panel.bar)


def _limits(panel: Panel) -> tuple[float, float]:
    """Return the ends of a scale that the values decide."""
    in_focus = panel.values[panel.focus] if panel.focus is not None and panel.focus.any() else panel.values
    finite = in_focus[np.isfinite(in_focus)]
    if finite.size == 0:
        return 0.0, 1.0
    if panel.style == "image":
        low, high = np.percentile(finite, [0.5, 99.5])
    elif panel.style == "level":
        high = np.percentile(np.abs(finite), 99.5)
        low = -high
    elif panel.style == "distance":
        low, high = 0.0, np.percentile(finite, 99.5)
    else:
        low, high = 0.0, finite.max()
    return float(low), float(high if high > low else low + 1)


def _draw_masks(ax: Axes, panel: Panel, aspect: float) -> None:
    """Draw classes in their colours on the dimmed image: filled regions, or seeds as dots within outlines."""
    image = np.asarray(panel.under)
    low, high = _limits(Panel("", "image", image, ""))
    grey = np.clip((image - low) / (high - low), 0, 1) * (_DIM if panel.style == "seeds" else 1.0)
    page = np.repeat(np.nan_to_num(grey)[..., None], 3, axis=-1)
    if panel.style == "labels":
        # Largest first, so that regions within regions stay visible.
        for i in np.argsort([-mask.sum() for mask in panel.values], kind="stable"):
            page[panel.values[i]] = 0.45 * page[panel.values[i]] + 0.55 * np.array(to_rgb(panel.colours[i]))
    ax.imshow(page, aspect=aspect, interpolation="nearest")
    outline = panel.values if panel.style == "labels" else panel.outline
    if outline is not None:
        _draw_outlines(ax, outline, panel.colours, 0.9 if panel.style == "labels" else 0.5)
    if panel.style == "seeds":
        points = 72 * _PANEL_INCHES / page.shape[1]
        for mask, colour in zip(panel.values, panel.colours, strict=True):
            rows, columns = np.nonzero(mask)
            ax.scatter(columns, rows, s=max(1.4 * points**2, 2.5), c=colour, marker="s", linewidths=0)
    _class_bar(ax, panel)


def _draw_outlines(ax: Axes, masks: NDArray[np.bool_], colours: Sequence[str], width: float) -> None:
    """Draw the edge of each mask.

    Contours need two pixels along each axis. A slice one pixel wide gets its pixel twice, at its two ends.
    """
    for mask, colour in zip(masks, colours, strict=True):
        if mask.any() and not mask.all():
            rows, columns = (np.arange(n) if n > 1 else np.array([-0.5, 0.5]) for n in mask.shape)
            level = np.broadcast_to(mask, (len(rows), len(columns))).astype(float)
            ax.contour(columns, rows, level, levels=[0.5], colors=[colour], linewidths=width)


def _class_bar(ax: Axes, panel: Panel) -> None:
    """Add a colour bar with one field per class."""
    n = len(panel.legend)
    scale = ScalarMappable(BoundaryNorm(np.arange(n + 1) - 0.5, n), ListedColormap(panel.colours))
    bar = ax.figure.colorbar(scale, cax=_bar_axes(ax), ticks=range(n) if n <= MAX_NAMED else [])
    _finish_bar(bar, panel.bar if n <= MAX_NAMED else f"{n} classes")
    bar.ax.tick_params(length=0, which="both")
    if n <= MAX_NAMED:
        bar.ax.set_yticklabels([one.name for one in panel.legend], rotation=90, va="center")


def _bar_axes(ax: Axes) -> Axes:
    """Return axes for a colour bar as high as the picture, just right of it."""
    bar = ax.inset_axes((1.03, 0.0, 0.045, 1.0))
    bar.xaxis.set_visible(False)
    return bar


def _finish_bar(bar: Colorbar, label: str) -> None:
    """Label a colour bar in small print."""
    bar.set_label(label, fontsize=8)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.outline.set_linewidth(0.4)


def _write_letters(ax: Axes, letters: Sequence[str]) -> None:
    """Write the patient directions at the four edges."""
    places = ((0.04, 0.5), (0.96, 0.5), (0.5, 0.96), (0.5, 0.04))
    for letter, (x, y) in zip(letters, places, strict=True):
        ax.text(
            x, y, letter, transform=ax.transAxes, path_effects=[withStroke(linewidth=1.5, foreground="black")], **_TEXT
        )
