"""A page that shows a case from image to soft labels: a row per target, with what it was computed from."""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from softlabels._shared.files import link_atomically
from softlabels.classes import LabelClass, foreground
from softlabels.config import Config
from softlabels.errors import InputError, SoftLabelsError
from softlabels.pipeline.plan import Plan
from softlabels.view.entries import CaseEntries, TargetEntries, case_entries, distance_channels
from softlabels.view.panels import Panel, draw_page, save_png
from softlabels.view.picture_files import PICTURE, THUMBNAIL
from softlabels.view.slices import (
    CaseSlice,
    case_slices,
    entropy_panel,
    footer,
    spoken,
    target_title,
)
from softlabels.view.thumbnail import save_thumbnail

log = logging.getLogger(__name__)

#: With more columns of images than this left of the targets, a target in one line with others would be hard to find.
MAX_LEAD_COLUMNS = 2
#: Soft label, its difference from the hard one, and entropy: the panels of a target without seeds and distance.
N_SHORT = 3


def case_picture(
    entries: CaseEntries, *, class_name: str | None = None, plane: str | None = None, slice_number: int | None = None
) -> Figure:
    """Return one page from image to soft labels, at the slice with most foreground.

    Left, image and labels; then a row per target: its seeds, the distance from them, the soft label, its difference
    from the hard label, and its entropy. Targets without seeds and distance follow, several in a row (see `arranged`).

    Parameters
    ----------
    entries : CaseEntries
        A case with at least one target.
    class_name : str, optional
        The class whose distance and soft labels are shown, of those targets that have it; by default the foreground
        class with most voxels in the slice, of those that all targets have (if none, each target shows its own).
    plane : {"axial", "coronal", "sagittal"}, optional
        By default the plane of the finest pixels.
    slice_number : int, optional
        Counted from 1 as the footer counts; by default the slice with most foreground.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If no target has a class of that name, or the plane no such slice.
    """
    targets = _having(entries.targets, class_name)
    first, *others = [target.target.classes for target in targets.values()]
    (page,) = case_slices(entries.case, first, plane, 1, others, slice_number)
    shared = foreground([c for c in first if all(c in classes for classes in others)])
    titles = _distinct_titles(targets)
    rows = [_target_row(page, target, titles[name], class_name, shared) for name, target in targets.items()]
    lead = [page.image_panel(0), page.labels_panel(first), *map(page.image_panel, range(1, len(entries.case.channels)))]
    return draw_page(
        arranged(lead, rows),
        spacing=page.plane.spacing,
        letters=page.plane.letters,
        title=f"{entries.case.id}: from image to soft label",
        footer=footer([page]),
    )


def write_pictures(config: Config, plan: Plan, case_ids: Iterable[str], results: Path) -> dict[str, str]:
    """Write picture and thumbnail of each case into `results/<case>`; a picture that fails does not stop the others.

    Returns
    -------
    dict of str to str
        The cases without a picture, and why. The traceback of an error that softlabels does not raise on purpose is
        logged.
    """
    failed = {}
    for case_id in case_ids:
        try:
            entries = case_entries(config, plan, case_id)
            save_png(case_picture(entries), results / case_id / PICTURE)
            save_thumbnail(entries, results / case_id / THUMBNAIL)
        except SoftLabelsError as error:
            failed[case_id] = str(error)
        except Exception as error:
            log.exception("the picture of case %s failed", case_id)
            failed[case_id] = f"{type(error).__name__}: {error}"
    return failed


def link_pictures(case_ids: Iterable[str], results: Path, folder: Path) -> None:
    """Make a folder with a link `<case>.png` to the picture of each case."""
    for case_id in case_ids:
        link_atomically(folder / f"{case_id}.png", os.path.relpath(results / case_id / PICTURE, folder))


def _having(targets: Mapping[str, TargetEntries], class_name: str | None) -> Mapping[str, TargetEntries]:
    """Return the targets that have a class of that name; all if none is named."""
    if class_name is None:
        return targets
    names = {name: entries.target.description.class_names for name, entries in targets.items()}
    if not any(class_name in known for known in names.values()):
        listed = "; ".join(f"{name}: {', '.join(known)}" for name, known in names.items())
        raise InputError(f"class: got {class_name!r}, expected one that a target has ({listed})")
    return {name: entries for name, entries in targets.items() if class_name in names[name]}


def _distinct_titles(targets: Mapping[str, TargetEntries]) -> dict[str, str]:
    """Return the title of each target: method and parameters, or its name where two targets agree in these."""
    titles = {name: target_title(entries.target.description) for name, entries in targets.items()}
    count = Counter(titles.values())
    return {name: title if count[title] == 1 else spoken(name) for name, title in titles.items()}


def arranged(lead: Sequence[Panel], rows: Sequence[Sequence[Panel | None]]) -> list[list[Panel | None]]:
    """Return the panels of a page as lines of equal length.

    Parameters
    ----------
    lead : sequence of Panels
        Image and labels, which are left of the rows, in equal parts for each.
    rows : sequence of rows
        As `_target_row` returns them. A column that no row has is left out. Where some targets have seeds or distances
        and others have neither, the others follow, several in a line: each alone would leave most of its line empty.
    """
    whole = [row for row in rows if row[0] or row[1]]
    short = [row[-N_SHORT:] for row in rows if not (row[0] or row[1])]
    lines = _beside(lead, whole)
    n_short = len(lines[0]) // N_SHORT if lines else 0
    if n_short < 2 or -(-len(lead) // len(whole)) > MAX_LEAD_COLUMNS:
        return _beside(lead, rows)
    for start in range(0, len(short), n_short):
        panels = list(itertools.chain.from_iterable(short[start : start + n_short]))
        lines.append(_filled(panels, len(lines[0])))
    return lines


def _beside(lead: Sequence[Panel], rows: Sequence[Sequence[Panel | None]]) -> list[list[Panel | None]]:
    """Return the rows, without the columns that none of them uses, and equal parts of `lead` left of them."""
    if not rows:
        return []
    used = [any(column) for column in zip(*rows, strict=True)]
    n_lead = -(-len(lead) // len(rows))
    parts = [_filled(lead[i * n_lead : (i + 1) * n_lead], n_lead) for i in range(len(rows))]
    return [[*part, *itertools.compress(row, used)] for part, row in zip(parts, rows, strict=True)]


def _filled(panels: Sequence[Panel | None], width: int) -> list[Panel | None]:
    """Return a line of that width, with gaps at its end."""
    return [*panels, *[None] * (width - len(panels))]


def _target_row(
    page: CaseSlice, entries: TargetEntries, title: str, class_name: str | None, shared: Sequence[LabelClass]
) -> list[Panel | None]:
    """Return seeds, distance, soft label, its difference from the hard one, and entropy; None where there is none."""
    target = entries.target
    channel = _shown_channel(page, target.classes, class_name, shared)
    soft_label = page.soft_label(target)
    seeds = distance = None
    if entries.seeds is not None:
        seeds = page.seeds_panel(entries.seeds, target.classes)
    if entries.distance is not None:
        of_class = [name.of_class for name in distance_channels(entries.distance)]
        distance = page.distance_panel(entries.distance, of_class.index(target.classes[channel].name), target.classes)
    soft = page.soft_label_panel(soft_label, target.description, channel, title)
    difference = page.difference_panel(soft_label, target.description, channel, title)
    return [seeds, distance, soft, difference, entropy_panel(soft_label, target.description, title)]


def _shown_channel(
    page: CaseSlice, classes: Sequence[LabelClass], class_name: str | None, shared: Sequence[LabelClass]
) -> int:
    """Return the channel of the class of that name, or of the shared one with most voxels in the slice."""
    if class_name is None:
        shown = shared or foreground(classes) or classes
        class_name = shown[int(page.masks(shown).sum(axis=(1, 2)).argmax())].name
    return [c.name for c in classes].index(class_name)
