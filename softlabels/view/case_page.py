"""Pictures of what the store holds: a montage of any entry, and one page that shows a case from image to soft label.

Only the slices that are shown are read, and the labels once to choose them, so large volumes need little memory.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from softlabels.blend import RULES, blend, class_masks, entropy_bits, resolved_blend
from softlabels.errors import InputError
from softlabels.view.colours import BACKGROUND_COLOUR, PALETTE
from softlabels.view.panels import Panel, draw_page
from softlabels.view.planes import View, chosen_slices, content_box

#: At most so many channels of an entry stand side by side.
MAX_CHANNELS = 5
#: With fewer seeds than this in a slice, all seeds of the volume are projected onto it.
FEW_SEEDS = 20
#: How a map of each kind of method is drawn, and what its numbers are.
_KINDS = {
    "probability": ("probability", "soft label"),
    "signed": ("signed", "signed soft label"),
    "distance": ("level", "signed distance"),
}
_NAMES = {"geols": "GeoLS", "sing": "SiNG", "svls": "SVLS", "onehot": "one-hot"}
_SYMBOLS = {"alpha": "α", "delta": "δ", "epsilon": "ε"}


@dataclass(frozen=True)
class TargetEntries:
    """One target of a case, with the store entries on its way.

    Parameters
    ----------
    described : dict
        The target's description in index.json.
    entry : Entry, optional
        The target's own entry; None if the loader derives it.
    seeds, distance : Entry, optional
        What it was computed from, where it has such.
    """

    described: dict
    entry: object = None
    seeds: object = None
    distance: object = None


@dataclass(frozen=True)
class Page:
    """One slice of a case: reads layers as they lie on the page, cut to what the page is about."""

    prepare: object
    view: View
    index: int
    box: tuple[slice, slice] = (slice(None), slice(None))
    #: Every class that is drawn somewhere on the page; its place in the list is its colour.
    classes: tuple[dict, ...] = ()

    def read(self, entry, layer: str) -> np.ndarray:
        """Return the slice of a layer: (..., h, w)."""
        window = self.view.window(self.index, self.prepare.grid.shape)
        return self.view.page(entry.read(layer, window=window))[(..., *self.box)]

    def image(self, channel: int = 0) -> np.ndarray:
        """Return the (h, w) slice of one modality; NaN outside the domain, if the case has one."""
        image = self.read(self.prepare, "image")[channel]
        if "domain" not in self.prepare.layers:
            return image
        return np.where(self.read(self.prepare, "domain"), image, np.nan)

    def masks(self, classes) -> np.ndarray:
        """Return the (C, h, w) masks of classes."""
        return class_masks(self.read(self.prepare, "labels"), classes)


def case_picture(case_id, prepare, targets, *, class_name=None, plane=None) -> Figure:
    """Return one page from image to soft labels, at the slice with most foreground.

    Left, image and labels; then a row per target: its seeds, the distance from them, the soft label and its entropy.

    Parameters
    ----------
    case_id : str
    prepare : Entry
        The case's prepare entry: image and labels.
    targets : dict
        Target name to `TargetEntries`; at least one.
    class_name : str, optional
        The class whose distance and soft labels are shown, of those targets that have it; by default the foreground
        class with most voxels in the slice, of those that all targets have (if none, each target shows its own).
    plane : {"axial", "coronal", "sagittal"}, optional
        By default the plane of the finest pixels.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    InputError
        If no target has a class of that name.
    """
    targets = _having(targets, class_name)
    first, *others = [target.described["classes"] for target in targets.values()]
    (page,) = _pages(prepare, first, plane, 1, others)
    lead = [_labels_panel(page, first)]
    lead += [_image_panel(page, channel) for channel in range(len(prepare.channels("image")))]
    lead = [lead[1], lead[0], *lead[2:]]
    common = [c for c in first if all(c in target.described["classes"] for target in targets.values())]
    words = _distinct({name: _described(target.described) for name, target in targets.items()})
    rows = [_target_row(page, words[name], target, class_name, _foreground(common)) for name, target in targets.items()]
    used = [any(row[column] for row in rows) for column in range(4)]
    rows = [[panel for panel, is_used in zip(row, used, strict=True) if is_used] for row in rows]
    n_lead = -(-2 // len(rows))
    rows = [[*_padded(lead[i * n_lead : (i + 1) * n_lead], n_lead), *row] for i, row in enumerate(rows)]
    return _drawn(rows, [page], f"{case_id}: from image to soft label")


def montage(case_id, prepare, entry, stage, *, target=None, n_slices=3, plane=None) -> Figure:
    """Return a page that shows one entry: a row per slice, a column per channel.

    Parameters
    ----------
    case_id : str
    prepare : Entry
        The case's prepare entry: image and labels.
    entry : Entry or None
        The entry to show; None for a target that the loader derives from the labels.
    stage : {"prepare", "seeds", "distance", "target"}
    target : dict, optional
        The description in index.json of the target (of a target that uses the entry, for other stages): its classes are
        drawn. Needed for stage "target"; else by default each label value is a class.
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
    if stage not in ("prepare", "seeds", "distance", "target"):
        raise InputError(f"stage: got {stage!r}, expected prepare, seeds, distance or target")
    if stage == "target" and target is None:
        raise InputError("target: got None, expected the target's description from index.json")
    classes = target["classes"] if target else _label_classes(prepare)
    pages = _pages(prepare, classes, plane, n_slices)
    rows = [[_labels_panel(page, classes), *_montage_row(page, entry, stage, target, classes)] for page in pages]
    return _drawn(rows, pages, f"{case_id}: {stage}")


def _montage_row(page, entry, stage, target, classes) -> list[Panel]:
    """Return the panels of one slice of an entry, beside its labels."""
    if stage == "prepare":
        return [_image_panel(page, i) for i in range(len(page.prepare.channels("image")))][:MAX_CHANNELS]
    if stage == "seeds":
        return [_seeds_panel(page, entry, classes)]
    if stage == "distance":
        return [_distance_panel(page, entry, i, classes) for i in range(len(entry.channels("distance")))][:MAX_CHANNELS]
    soft_label = _soft_label(page, entry, target)
    word = _described(target)
    panels = [_soft_panel(page, soft_label, target, i, word) for i in range(len(classes))][:MAX_CHANNELS]
    return [*panels, *_entropy_panel(soft_label, target, word)]


def _having(targets, class_name) -> dict:
    """Return the targets that have a class of that name; all if none is named."""
    if class_name is None:
        return targets
    names = {name: [c["name"] for c in target.described["classes"]] for name, target in targets.items()}
    if not any(class_name in known for known in names.values()):
        known = "; ".join(f"{name}: {', '.join(known)}" for name, known in names.items())
        raise InputError(f"class: got {class_name!r}, expected one that a target has ({known})")
    return {name: target for name, target in targets.items() if class_name in names[name]}


def _distinct(words: dict[str, str]) -> dict[str, str]:
    """Return what each target is called on the page: its description, or its name where two have one description."""
    said = list(words.values())
    return {name: word if said.count(word) == 1 else _spoken(name) for name, word in words.items()}


def _target_row(page, word, target, class_name, common) -> list[Panel | None]:
    """Return seeds, distance, soft label and entropy of a target; None where it has no such thing."""
    classes = target.described["classes"]
    class_id = _class_id(page, classes, class_name, common)
    soft_label = _soft_label(page, target.entry, target.described)
    seeds = distance = None
    if target.seeds is not None:
        seeds = _seeds_panel(page, target.seeds, classes)
    if target.distance is not None:
        wanted = classes[class_id]["name"]
        channels = [channel.rpartition(":")[2] for channel in target.distance.channels("distance")]
        distance = _distance_panel(page, target.distance, channels.index(wanted), classes)
    soft = _soft_panel(page, soft_label, target.described, class_id, word)
    (entropy,) = _entropy_panel(soft_label, target.described, word) or [None]
    return [seeds, distance, soft, entropy]


def _pages(prepare, classes, plane, n_slices, others=()) -> list[Page]:
    """Return the slices to show, all cut to the box around the foreground of every one of them.

    `others` are further lists of classes that the page will show.
    """
    drawn: list[dict] = []
    for one in itertools.chain(classes, *others):
        drawn += [one] if one not in drawn else []
    view, shown = View.of(prepare.grid, plane), _foreground(classes) or classes
    inside = class_masks(prepare.read("labels"), shown).any(axis=0)
    box = content_box(view.page(inside.any(axis=view.axis, keepdims=True)), view.spacing)
    return [Page(prepare, view, i, box, tuple(drawn)) for i in chosen_slices(view.scores(inside), n_slices)]


def _drawn(rows, pages, title) -> Figure:
    """Return the figure of a page, with its slices named at the foot."""
    view, of = pages[0].view, pages[0].prepare.grid.shape[pages[0].view.axis]
    word = "slice" if len(pages) == 1 else "slices"
    slices = ", ".join(str(page.index + 1) for page in pages)
    down, along = view.spacing
    side = "; patient's right is on the left" if view.letters[0] == "R" else ""
    which = "" if of == 1 else f"{view.plane} {word} {slices} of {of}, "
    footer = f"{which}{along:.3g} x {down:.3g} mm per voxel{side}"
    return draw_page(rows, spacing=view.spacing, letters=view.letters, title=title, footer=footer)


def _image_panel(page, channel) -> Panel:
    """Return one modality."""
    name = page.prepare.channels("image")[channel]
    return Panel(f"image, {name}", "image", page.image(channel), "intensity, as prepared")


def _labels_panel(page, classes) -> Panel:
    """Return the foreground classes on the first modality."""
    shown = _foreground(classes) or classes
    return Panel("labels", "labels", page.masks(shown), "class", under=page.image(), **_legend(shown, page.classes))


def _seeds_panel(page, entry, classes) -> Panel:
    """Return the seeds of all classes: those in the slice, or all of the volume projected where these are few."""
    seeds, title = page.read(entry, "seeds"), "seeds in this slice"
    strategy = entry.attributes.get("params", {}).get("strategy")
    if seeds.sum() < FEW_SEEDS:
        every = entry.read("seeds").any(axis=1 + page.view.axis, keepdims=True)
        seeds, title = page.view.page(every)[(..., *page.box)], "seeds of all slices"
    return Panel(
        f"{title} ({strategy})" if strategy else title,
        "seeds",
        seeds,
        "class",
        under=page.image(),
        outline=page.masks(classes),
        **_legend(classes, page.classes),
    )


def _distance_panel(page, entry, channel, classes) -> Panel:
    """Return the distance from the seeds of one class; its mask is outlined."""
    modality, _, name = entry.channels("distance")[channel].rpartition(":")
    metric = entry.attributes.get("params", {}).get("metric")
    return Panel(
        f"distance to seeds of {_spoken(name)} ({modality})",
        "distance",
        page.read(entry, "distance")[channel],
        f"geodesic distance ({metric})" if metric else "geodesic distance",
        outline=page.masks([c for c in classes if c["name"] == name]),
        focus=page.masks(_foreground(classes)).any(axis=0),
    )


def _soft_label(page, entry, target) -> np.ndarray:
    """Return the (C, h, w) soft label of a slice, blended as the index says."""
    stored = page.read(entry, "target") if RULES[target["blend"]["rule"]][1] else None
    rule = resolved_blend(target["blend"])
    return blend(page.masks(target["classes"]), stored, is_overlapping=target["is_overlapping"], **rule)


def _soft_panel(page, soft_label, target, class_id, word) -> Panel:
    """Return the soft label of one class; its mask is outlined."""
    one = target["classes"][class_id]
    style, bar = _KINDS[target["kind"]]
    if style == "level":
        bar += " (share of the largest)" if target["variant"] == "normalised" else " (mm)"
    title = f"{word}: {_spoken(one['name'])}"
    return Panel(title, style, soft_label[class_id], bar, outline=page.masks([one]))


def _entropy_panel(soft_label, target, word) -> list[Panel]:
    """Return the entropy over all classes; nothing for distances, which have none."""
    if target["kind"] == "distance":
        return []
    entropy = entropy_bits(soft_label, is_signed=target["kind"] == "signed", is_overlapping=target["is_overlapping"])
    return [Panel(f"{word}: entropy", "entropy", entropy, "entropy over all classes (bits)")]


def _described(target) -> str:
    """Return method, variant and load-time parameter of a target in a few words."""
    method = _NAMES.get(target["method"], _spoken(target["method"]))
    variant = "" if target["variant"] == "standard" else f" {target['variant']}"
    shares = "".join(f", {_SYMBOLS[k]} = {v:g}" for k, v in target["blend"].items() if k != "rule")
    return f"{method}{variant}{shares}"


def _class_id(page, classes, class_name, common) -> int:
    """Return the class of that name, or the one with most voxels in the slice of those that all targets have."""
    if class_name is None:
        shown = common or _foreground(classes) or classes
        class_name = shown[int(page.masks(shown).sum(axis=(1, 2)).argmax())]["name"]
    return [c["name"] for c in classes].index(class_name)


def _label_classes(prepare) -> list[dict]:
    """Return a class for each label value that occurs, 0 first."""
    return [{"name": str(value), "values": [value]} for value in np.unique(prepare.read("labels")).tolist()]


def _foreground(classes) -> list[dict]:
    """Return the classes but for the background."""
    return [c for c in classes if list(c["values"]) != [0]]


def _legend(shown, classes) -> dict:
    """Return names and colours of classes; a class keeps its colour whichever others are shown."""
    foreground = _foreground(classes)
    colours = [PALETTE[foreground.index(c) % len(PALETTE)] if c in foreground else BACKGROUND_COLOUR for c in shown]
    return {"names": tuple(_spoken(c["name"]) for c in shown), "colours": tuple(colours)}


def _spoken(name: str) -> str:
    """Return a config name with spaces."""
    return name.replace("_", " ")


def _padded(panels, n: int) -> list[Panel | None]:
    """Return n panels, None for those that are missing."""
    return [*panels, *[None] * (n - len(panels))]
