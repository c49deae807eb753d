"""A montage of one entry of the store: a row per slice, a column per channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from matplotlib.figure import Figure

from softlabels.cohort.case import CaseTarget
from softlabels.errors import InputError
from softlabels.pipeline.stages import STAGES
from softlabels.view.entries import NodeEntry
from softlabels.view.panels import Panel, draw_page
from softlabels.view.slices import CaseSlice, case_slices, distance_channels, entropy_panel, footer, target_title

#: Maximum number of channels shown side by side.
MAX_CHANNELS = 5


def montage(node: NodeEntry, *, n_slices: int = 3, plane: str | None = None) -> Figure:
    """Return a page that shows what one node computed for a case.

    Parameters
    ----------
    node : NodeEntry
    n_slices : int
        The largest number of rows; the slices are chosen so that they split the foreground evenly.
    plane : {"axial", "coronal", "sagittal"}, optional
        By default the plane of the finest pixels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the stage is unknown.
    """
    classes = node.description.classes
    slices = case_slices(node.case, classes, plane, n_slices)
    return draw_page(
        [[page.labels_panel(classes), *_panels(page, node)] for page in slices],
        spacing=slices[0].plane.spacing,
        letters=slices[0].plane.letters,
        title=f"{node.case.id}: {node.stage}",
        footer=footer(slices),
    )


def _panels(page: CaseSlice, node: NodeEntry) -> list[Panel]:
    """Return the panels of one slice of an entry, beside its labels."""
    if node.stage not in STAGES:
        raise InputError(f"stage: got {node.stage!r}, expected one of {', '.join(STAGES)}")
    return PICTURES[STAGES[node.stage].picture](page, node)


def _image_panels(page: CaseSlice, node: NodeEntry) -> list[Panel]:
    """Return each channel of the image."""
    return [page.image_panel(channel) for channel in range(min(len(node.case.channels), MAX_CHANNELS))]


def _seeds_panels(page: CaseSlice, node: NodeEntry) -> list[Panel]:
    """Return the seeds of all classes in one panel."""
    return [page.seeds_panel(node.entry, node.description.classes)]


def _distance_panels(page: CaseSlice, node: NodeEntry) -> list[Panel]:
    """Return the distance map of each channel and class."""
    n_channels = min(len(distance_channels(node.entry)), MAX_CHANNELS)
    return [page.distance_panel(node.entry, channel, node.description.classes) for channel in range(n_channels)]


def _soft_label_panels(page: CaseSlice, node: NodeEntry) -> list[Panel]:
    """Return the soft label of each class, and the entropy over all."""
    target = CaseTarget(node.case, node.name, node.description, node.entry)
    description, title = target.description, target_title(target.description)
    soft_label = page.soft_label(target)
    channels = range(min(len(target.classes), MAX_CHANNELS))
    panels = [page.soft_label_panel(soft_label, description, channel, title) for channel in channels]
    entropy = entropy_panel(soft_label, description, title)
    return panels if entropy is None else [*panels, entropy]


#: What draws each picture that a stage can name.
PICTURES: Mapping[str, Callable[[CaseSlice, NodeEntry], list[Panel]]] = {
    "image": _image_panels,
    "seeds": _seeds_panels,
    "distance": _distance_panels,
    "soft label": _soft_label_panels,
}
