"""One slice of a case: what it reads of the store, and the panels that are made of it.

Only the slices that are shown are read, the labels once to choose them, and the seeds class by class where those of all
slices are shown. So large volumes and many classes need little memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.blend import entropy_bits
from softlabels.classes import LabelClass, foreground
from softlabels.cohort.case import CaseTarget, PreparedCase, naming
from softlabels.cohort.index import TargetDescription
from softlabels.errors import InputError
from softlabels.grid import Window
from softlabels.methods import METHODS
from softlabels.store.read import Entry
from softlabels.view.colours import class_colours
from softlabels.view.entries import distance_channels
from softlabels.view.panels import LegendEntry, Panel
from softlabels.view.planes import Plane, chosen_slices, content_box

#: With fewer seeds than this in a slice, all seeds of the volume are projected onto it.
FEW_SEEDS = 20
#: How a map of each kind of method is drawn, and what its numbers are.
_KINDS = {
    "probability": ("probability", "soft label"),
    "signed": ("signed", "signed soft label"),
    "distance": ("level", "signed distance"),
}
_SYMBOLS = {"alpha": "α", "delta": "δ", "epsilon": "ε"}


@dataclass(frozen=True)
class CaseSlice:
    """One slice of a case, cut to what the page is about.

    Parameters
    ----------
    case : PreparedCase
    plane : Plane
    index : int
        Which slice of the plane, from 0.
    box : tuple of 2 slices
        Rows and columns of the page that are shown.
    classes : tuple of LabelClass
        Every class that is drawn somewhere on the page; its position decides its colour.
    """

    case: PreparedCase
    plane: Plane
    index: int
    box: tuple[slice, slice]
    classes: tuple[LabelClass, ...]

    @property
    def window(self) -> Window:
        """What the slice is of the volume, before it is cut."""
        return self.plane.window(self.index, self.case.shape)

    def cut(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return what the window of the slice holds, (..., d, h, w), as the page shows it: (..., rows, columns)."""
        return self.plane.page(part)[(..., *self.box)]

    def read(self, role: str, entry: Entry, channels: tuple[int, int] | None = None) -> NDArray[Any]:
        """Return this slice of the layer of an entry that has the name of its stage; by default all channels."""
        with naming(self.case.id, role, entry.key):
            return self.cut(entry.read(role, self.window, channels=channels))

    def image(self, channel: int = 0) -> NDArray[np.float32]:
        """Return the (h, w) slice of one channel; NaN outside the domain, if the case has one."""
        image: NDArray[np.float32] = self.cut(self.case.image(self.window))[channel]
        domain = self.case.domain(self.window)
        return image if domain is None else np.where(self.cut(domain), image, np.float32(np.nan))

    def masks(self, classes: Sequence[LabelClass]) -> NDArray[np.bool_]:
        """Return the (C, h, w) masks of classes."""
        return self.cut(self.case.masks(classes, self.window))

    def image_panel(self, channel: int) -> Panel:
        """Return one channel of the image."""
        name = self.case.channels[channel]
        return Panel(f"image, {name}", "image", self.image(channel), "intensity, as prepared")

    def labels_panel(self, classes: Sequence[LabelClass]) -> Panel:
        """Return the foreground classes on the first channel."""
        shown = foreground(classes) or classes
        return Panel("labels", "labels", self.masks(shown), "class", under=self.image(), legend=self._legend(shown))

    def seeds_panel(self, entry: Entry, classes: Sequence[LabelClass], channels: Sequence[int] | None = None) -> Panel:
        """Return the seeds of classes: those in the slice, or all of the volume projected where these are few.

        Parameters
        ----------
        entry : Entry
        classes : sequence of LabelClass
            All of the entry, in its order.
        channels : sequence of int, optional
            Which of them are shown; by default all.
        """
        chosen = list(range(len(classes)) if channels is None else channels)
        classes = [classes[channel] for channel in chosen]
        seeds, title = self.read("seeds", entry)[chosen], "seeds in this slice"
        strategy = entry.attributes.get("params", {}).get("strategy")
        if seeds.sum() < FEW_SEEDS:
            seeds = np.stack([self._projected_seeds(entry, channel) for channel in chosen])
            title = "seeds of all slices"
        return Panel(
            f"{title} ({strategy})" if strategy else title,
            "seeds",
            seeds,
            "class",
            under=self.image(),
            outline=self.masks(classes),
            legend=self._legend(classes),
        )

    def distance_panel(self, entry: Entry, channel: int, classes: Sequence[LabelClass]) -> Panel:
        """Return the distance from the seeds of one class; its mask is outlined."""
        name = distance_channels(entry)[channel]
        return Panel(
            f"distance to seeds of {spoken(name.of_class)} ({name.of_image})",
            "distance",
            self.read("distance", entry, (channel, channel + 1))[0],
            distance_label(entry.attributes.get("params", {})),
            outline=self.masks([c for c in classes if c.name == name.of_class]),
            focus=np.any(self.masks(foreground(classes)), axis=0),
        )

    def soft_label(self, target: CaseTarget) -> NDArray[np.float32]:
        """Return the (C, h, w) soft label of the slice."""
        return self.cut(target.soft_label(self.window))

    def soft_label_panel(
        self, soft_label: NDArray[np.float32], target: TargetDescription, channel: int, title: str
    ) -> Panel:
        """Return the soft label of one class; its mask is outlined."""
        of_class = target.classes[channel]
        style, bar = _KINDS[target.kind]
        if style == "level":
            bar += " (share of the largest)" if target.variant == "normalised" else " (mm)"
        outline = self.masks([of_class])
        return Panel(f"{title}: {spoken(of_class.name)}", style, soft_label[channel], bar, outline=outline)

    def difference_panel(
        self, soft_label: NDArray[np.float32], target: TargetDescription, channel: int, title: str
    ) -> Panel | None:
        """Return the soft minus the hard label (0 and 1, or -1 and +1) of one class; None for distances and one-hot.

        A soft label with a small alpha looks like the mask on the scale from 0 to 1; here it does not.
        """
        if target.kind == "distance" or target.blend.rule == "onehot":
            return None
        of_class = target.classes[channel]
        mask = self.masks([of_class])
        hard = 2.0 * mask[0] - 1.0 if target.kind == "signed" else mask[0].astype(np.float32)
        difference = (soft_label[channel] - hard).astype(np.float32)
        name, focus = f"{title}: {spoken(of_class.name)}, minus hard", difference != 0
        return Panel(name, "level", difference, "soft minus hard label", outline=mask, focus=focus)

    def _projected_seeds(self, entry: Entry, channel: int) -> NDArray[np.bool_]:
        """Return the (h, w) seeds of one class in any slice."""
        with naming(self.case.id, "seeds", entry.key):
            seeds = entry.read("seeds", channels=(channel, channel + 1))[0]
        return self.cut(np.any(seeds, axis=self.plane.axis, keepdims=True))

    def _legend(self, shown: Sequence[LabelClass]) -> tuple[LegendEntry, ...]:
        """Return name and colour of each class; a class keeps its colour whichever others are shown."""
        colours = class_colours(self.classes)
        return tuple(LegendEntry(spoken(c.name), colours[c.values]) for c in shown)


def case_slices(
    case: PreparedCase,
    classes: Sequence[LabelClass],
    plane: str | None,
    n_slices: int,
    others: Sequence[Sequence[LabelClass]] = (),
    slice_number: int | None = None,
) -> list[CaseSlice]:
    """Return the slices to show, all cut to the box around the foreground of every one of them.

    Parameters
    ----------
    case : PreparedCase
    classes : sequence of LabelClass
        Their foreground decides which slices are shown.
    plane : {"axial", "coronal", "sagittal"}, optional
        By default the plane of the finest pixels.
    n_slices : int
        The largest number of slices.
    others : sequence of sequences of LabelClass
        Further classes that the page will show.
    slice_number : int, optional
        The one slice to show, counted from 1 as the footer counts; by default those with most foreground.

    Raises
    ------
    InputError
        If the plane has no such slice.
    """
    drawn = tuple(dict.fromkeys(itertools.chain(classes, *others)))
    shown_plane = Plane.of(case.grid, plane)
    inside = _union(case.labels(), foreground(classes) or classes)
    projected = shown_plane.page(np.any(inside, axis=shown_plane.axis, keepdims=True))
    box = content_box(projected, shown_plane.spacing)
    chosen = chosen_slices(shown_plane.sums(inside), n_slices)
    if slice_number is not None:
        of = case.shape[shown_plane.axis]
        if not 1 <= slice_number <= of:
            raise InputError(f"slice: got {slice_number}, expected 1 to {of} in the {shown_plane.name} plane")
        chosen = [slice_number - 1]
    return [CaseSlice(case, shown_plane, index, box, drawn) for index in chosen]


def _union(labels: NDArray[np.integer], classes: Sequence[LabelClass]) -> NDArray[np.bool_]:
    """Return where labels are of any of some classes, without a mask of each: of a hundred classes, these are large."""
    values = [value for one in classes for value in one.values]
    union = np.empty(labels.shape, bool)
    # `numpy.isin` takes some 14 bytes a voxel.
    for plane, found in zip(labels, union, strict=True):
        found[...] = np.isin(plane, values)
    return union


def entropy_panel(soft_label: NDArray[np.float32], target: TargetDescription, title: str) -> Panel | None:
    """Return the entropy over all classes; None for distances, which have none."""
    if target.kind == "distance":
        return None
    entropy = entropy_bits(soft_label, is_signed=target.kind == "signed", is_overlapping=target.is_overlapping)
    return Panel(f"{title}: entropy", "entropy", entropy, "entropy over all classes (bits)")


def target_title(target: TargetDescription) -> str:
    """Return method, variant, load-time parameter and calibration of a target in a few words."""
    method = METHODS[target.method].title if target.method in METHODS else spoken(target.method)
    variant = "" if target.variant == "standard" else f" {target.variant}"
    parameter = target.blend.parameter
    share = "" if parameter is None else f", {_SYMBOLS[parameter]} = {target.blend.value:g}"
    calibration = target.blend.calibration
    calibrated = "" if calibration is None else f", calibrated for {calibration.fitted_for}"
    return f"{method}{variant}{share}{calibrated}"


def footer(slices: Sequence[CaseSlice]) -> str:
    """Return which slices a page shows, how large a voxel is, and which side is which."""
    plane = slices[0].plane
    n_slices = slices[0].case.shape[plane.axis]
    word = "slice" if len(slices) == 1 else "slices"
    numbers = ", ".join(str(shown.index + 1) for shown in slices)
    down, along = plane.spacing
    which = "" if n_slices == 1 else f"{plane.name} {word} {numbers} of {n_slices}, "
    side = "; patient's right is on the left" if plane.letters[0] == "R" else ""
    return f"{which}{along:.3g} x {down:.3g} mm per voxel{side}"


def spoken(name: str) -> str:
    """Return a config name with spaces."""
    return name.replace("_", " ")


def distance_label(params: Mapping[str, Any]) -> str:
    r"""Return what the colour bar of a distance says, from the parameters of its entry.

    Examples
    --------
    >>> distance_label({"metric": "sum"})
    'geodesic distance (sum)'
    >>> distance_label({"metric": "sum", "gap": 13.44})
    'geodesic distance (sum)\ngrey: beyond the gap'
    """
    label = f"geodesic distance ({params['metric']})" if "metric" in params else "geodesic distance"
    return f"{label}\ngrey: beyond the gap" if "gap" in params else label
