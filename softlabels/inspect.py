"""Pictures of what the store holds: a montage of any entry, and one page that shows a case from image to soft label.

Only the slices that are shown are read, and the labels once to choose them, so large volumes need little memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from softlabels.errors import InputError
from softlabels.panels import draw_page
from softlabels.views import View

#: At most so many channels of an entry stand side by side.
MAX_CHANNELS = 5
#: With fewer seeds than this in a slice, all seeds of the volume are projected onto it.
FEW_SEEDS = 20


@dataclass(frozen=True)
class Page:
    """One slice of a case: reads layers as they lie on the page, cut to what the page is about."""

    prepare: object
    view: View
    index: int
    classes: tuple[dict, ...]
    box: tuple[slice, slice] = (slice(None), slice(None))

    def read(self, entry, layer: str) -> np.ndarray:
        """Return the slice of a layer: (..., h, w)."""
        window = self.view.window(self.index, self.prepare.grid.shape)
        return self.view.page(entry.read(layer, window=window))[(..., *self.box)]

    def masks(self) -> np.ndarray:
        """Return the (C, h, w) masks of the foreground classes."""
        labels = self.read(self.prepare, "labels")
        return np.stack([np.isin(labels, c["values"]) for c in self.classes])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the foreground classes."""
        return tuple(c["name"] for c in self.classes)

    @property
    def footer(self) -> str:
        """Which slice this is, in words."""
        down, along = self.view.spacing
        side = "; patient's right on the left of the page" if self.view.letters[0] == "R" else ""
        of = self.prepare.grid.shape[self.view.axis]
        return f"{self.view.plane} slice {self.index + 1} of {of}, {along:.3g} x {down:.3g} mm per voxel{side}"


def case_picture(case_id, prepare, seeds, distance, targets, *, class_name=None, plane=None) -> Figure:
    """Return one page from image to soft labels, at the slice with most foreground.

    It shows image, labels, seeds and distance; then for each target its soft label and the entropy of it.

    Parameters
    ----------
    case_id : str
    prepare, seeds, distance : Entry
        Store entries of the case.
    targets : dict
        Target name to (entry, or None if nothing is stored, and the target's description in index.json).
    class_name : str, optional
        The class whose distance and soft labels are shown; by default the foreground class with most voxels in the
        slice.
    plane : {"axial", "coronal", "sagittal"}, optional
        By default the plane of the finest pixels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If no class has that name.
    """
    classes = next(iter(targets.values()))[1]["classes"]
    (page,) = _pages(prepare, classes, plane, 1)
    name = class_name or page.names[int(page.masks().sum(axis=(1, 2)).argmax())]
    panels = [
        _image_panel(page, 0),
        _labels_panel(page),
        _seeds_panel(page, seeds),
        _distance_panel(page, distance, _channel_of_class(distance, name)),
    ]
    for target_name, (entry, target) in targets.items():
        soft_label = _soft_label(page, entry, target)
        panels.append(_soft_panel(page, soft_label, target, name, f"{target_name}: {_describe(target)}"))
        panels += _entropy_panels(page, soft_label, target, f"{target_name}: entropy")
    rows = [panels[i : i + 4] for i in range(0, len(panels), 4)]
    return draw_page(
        rows, spacing=page.view.spacing, letters=page.view.letters, title=f"{case_id}, {_spoken(name)}", footer=page.footer
    )


def montage(case_id, prepare, entry, stage, *, target=None, n_slices=3, plane=None) -> Figure:
    """Return a page that shows one entry: a row per slice, a column per channel.

    Parameters
    ----------
    case_id : str
    prepare : Entry
        The case's prepare entry: image and labels.
    entry : Entry or None
        The entry to show; None for a target of which nothing is stored.
    stage : {"prepare", "seeds", "distance", "target"}
    target : dict, optional
        For stage "target": its description in index.json.
    n_slices : int
        Rows; chosen so that they split the foreground evenly.
    plane : {"axial", "coronal", "sagittal"}, optional
        By default the plane of the finest pixels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the stage is unknown, or the target's description is missing.
    """
    if stage not in _COLUMNS:
        raise InputError(f"stage: got {stage!r}, expected one of {', '.join(_COLUMNS)}")
    if stage == "target" and target is None:
        raise InputError("target: got None, expected the target's description from index.json")
    classes = target["classes"] if target else _label_classes(prepare, entry, stage)
    pages = _pages(prepare, classes, plane, n_slices)
    rows = [[*_COLUMNS[stage](page, entry, target)] for page in pages]
    slices = ", ".join(str(page.index + 1) for page in pages)
    footer = pages[0].footer.replace(f"slice {pages[0].index + 1} of", f"slices {slices} of")
    return draw_page(
        rows, spacing=pages[0].view.spacing, letters=pages[0].view.letters, title=f"{case_id}: {stage}", footer=footer
    )
