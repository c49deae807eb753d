"""A montage of one entry of the store: a row per slice, a column per channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from softlabels.cohort.case import CaseTarget
from softlabels.errors import InputError
from softlabels.pipeline.stages import STAGES
from softlabels.view.entries import NodeEntry, distance_channels
from softlabels.view.panels import Panel, draw_page
from softlabels.view.slices import CaseSlice, case_slices, entropy_panel, footer, target_title

#: Maximum number of channels shown side by side.
MAX_CHANNELS = 5


@dataclass(frozen=True)
class ShownChannels:
    """Which channels of an entry a montage shows.

    Parameters
    ----------
    numbers : tuple of int
        Their places in the entry.
    n_left_out : int
        How many more fit the choice and are not shown.
    """

    numbers: tuple[int, ...]
    n_left_out: int

    @property
    def words(self) -> str:
        """What is left out and how to see it; empty if nothing is."""
        if not self.n_left_out:
            return ""
        n_all = len(self.numbers) + self.n_left_out
        return f"{len(self.numbers)} of {n_all} maps shown; choose others with --class-name and --channel"


def shown_channels(node: NodeEntry, class_name: str | None = None, channel: str | None = None) -> ShownChannels:
    """Return which channels a montage of a node shows.

    Parameters
    ----------
    node : NodeEntry
    class_name, channel : str, optional
        Only those of this class, of this image channel. What belongs to all classes or to no image is always shown.

    Raises
    ------
    InputError
        If none is left; the message lists the classes and image channels that there are.
    """
    names = _names(node)
    fitting = [
        number
        for number, (of_image, of_class) in enumerate(names)
        if class_name in (None, of_class) and channel in (None, of_image)
    ]
    if names and not fitting:
        images, classes = (", ".join(dict.fromkeys(filter(None, one))) for one in zip(*names, strict=True))
        known = "; ".join(f"{word}: {found}" for word, found in (("classes", classes), ("channels", images)) if found)
        chosen = " and ".join(f"{word} {one}" for word, one in (("class", class_name), ("channel", channel)) if one)
        raise InputError(f"show: got {chosen}, expected some of the {known}")
    # Seeds of all classes are in one panel.
    most = len(fitting) if _picture(node) == "seeds" else MAX_CHANNELS
    return ShownChannels(tuple(fitting[:most]), max(0, len(fitting) - most))


def _picture(node: NodeEntry) -> str:
    """Return which picture shows a node; empty if its stage is unknown."""
    return STAGES[node.stage].picture if node.stage in STAGES else ""


def _names(node: NodeEntry) -> list[tuple[str | None, str | None]]:
    """Return image channel and class, or None, of each channel of an entry that has a panel of its own."""
    picture = _picture(node)
    if picture == "image":
        return [(name, None) for name in node.case.channels]
    if picture == "distance":
        return [(name.of_image, name.of_class) for name in distance_channels(node.entry)]
    return [(None, name) for name in node.description.class_names] if picture in ("soft label", "seeds") else []


def montage(
    node: NodeEntry,
    *,
    n_slices: int = 3,
    plane: str | None = None,
    class_name: str | None = None,
    channel: str | None = None,
    slice_number: int | None = None,
) -> Figure:
    """Return a page that shows what one node computed for a case.

    Parameters
    ----------
    node : NodeEntry
    n_slices : int
        The largest number of rows; the slices are chosen so that they split the foreground evenly.
    plane : {"axial", "coronal", "sagittal"}, optional
        By default the plane of the finest pixels.
    class_name, channel : str, optional
        See `shown_channels`. The footer says how many maps are left out.
    slice_number : int, optional
        The one slice to show, counted from 1 as the footer counts.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If the stage is unknown, or there is no such class, channel or slice.
    """
    if node.stage not in STAGES:
        raise InputError(f"stage: got {node.stage!r}, expected one of {', '.join(STAGES)}")
    classes, shown = node.description.classes, shown_channels(node, class_name, channel)
    slices = case_slices(node.case, classes, plane, n_slices, slice_number=slice_number)
    draw = PICTURES[STAGES[node.stage].picture]
    return draw_page(
        [[page.labels_panel(classes), *draw(page, node, shown.numbers)] for page in slices],
        spacing=slices[0].plane.spacing,
        letters=slices[0].plane.letters,
        title=f"{node.case.id}: {node.stage}",
        footer="; ".join(filter(None, [footer(slices), shown.words])),
    )


def _image_panels(page: CaseSlice, node: NodeEntry, channels: Sequence[int]) -> list[Panel]:
    """Return channels of the image."""
    return [page.image_panel(channel) for channel in channels]


def _seeds_panels(page: CaseSlice, node: NodeEntry, channels: Sequence[int]) -> list[Panel]:
    """Return the seeds of the chosen classes in one panel."""
    return [page.seeds_panel(node.entry, node.description.classes, channels)]


def _distance_panels(page: CaseSlice, node: NodeEntry, channels: Sequence[int]) -> list[Panel]:
    """Return distance maps, each of a channel of the image and a class."""
    return [page.distance_panel(node.entry, channel, node.description.classes) for channel in channels]


def _soft_label_panels(page: CaseSlice, node: NodeEntry, channels: Sequence[int]) -> list[Panel]:
    """Return the soft label of classes, of a single one also its difference from the hard label; and the entropy."""
    target = CaseTarget(node.case, node.name, node.description, node.entry)
    description, title = target.description, target_title(target.description)
    soft_label = page.soft_label(target)
    panels = [page.soft_label_panel(soft_label, description, channel, title) for channel in channels]
    single = [page.difference_panel(soft_label, description, channels[0], title)] if len(channels) == 1 else []
    return [panel for panel in [*panels, *single, entropy_panel(soft_label, description, title)] if panel is not None]


#: What draws each picture that a stage can name.
PICTURES: Mapping[str, Callable[[CaseSlice, NodeEntry, Sequence[int]], list[Panel]]] = {
    "image": _image_panels,
    "seeds": _seeds_panels,
    "distance": _distance_panels,
    "soft label": _soft_label_panels,
}
