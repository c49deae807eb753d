"""The layers that a case, a target or a bare entry has, and how the values of a window of one are made.

Every value comes from a verified read of a store entry; soft labels, their difference from the hard label and their
entropy are computed from what was read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.blend import entropy_bits
from softlabels.classes import class_masks
from softlabels.cohort.case import CaseTarget, PreparedCase
from softlabels.sparse import SparseLabel, to_dense
from softlabels.store.read import Entry
from softlabels.view.entries import DistanceChannel, TargetEntries
from softlabels.view.viewer.fields import Window

#: Takes a channel, a window, and which of the window's voxels are wanted (slices with steps).
Read = Callable[[int, Window, Window], "Values"]
#: (d, h, w) values of a window, or (C, h, w) of a slice: float32, or the dtype of labels and masks.
Values = NDArray[Any]

#: Ends of the colour scale where they do not depend on the values, by role; None: from the values.
SCALES: dict[str, tuple[float, float] | None] = {
    "image": None,
    "labels": None,
    "mask": (0.0, 1.0),
    "raters": None,
    "seeds": (0.0, 1.0),
    "distance": None,
    "probability": (0.0, 1.0),
    "signed": (-1.0, 1.0),
    "level": None,
    "difference": None,
    "entropy": None,
    "values": None,
}


@dataclass(frozen=True)
class Channel:
    """One volume of a layer.

    Parameters
    ----------
    name : str
        As in the entry.
    class_name, modality : str, optional
        What it belongs to; None if it belongs to all.
    """

    name: str
    class_name: str | None = None
    modality: str | None = None


@dataclass(frozen=True)
class ViewLayer:
    """One kind of map.

    Parameters
    ----------
    id : str
        Unique in a case: ``image``, ``labels``, ``geols/distance``.
    role : str
        One of `SCALES`: decides colours and scale.
    title, unit : str
        For people.
    channels : tuple of Channel
    read : callable
        Takes a channel's number, a window of three slices, and three slices with steps that say which of the window's
        voxels are wanted; returns their values.
    target : str, optional
        The target that it belongs to.
    infinite : str
        What an infinite value says, for people; in a page of one file, any value that is not finite.
    """

    id: str
    role: str
    title: str
    unit: str
    channels: tuple[Channel, ...]
    read: Read
    target: str | None = None
    infinite: str = "infinite"


def colour_scale(role: str, values: Values) -> tuple[float, float]:
    """Return the ends of the colour scale of a map, low < high.

    Images end at the 0.5th and 99.5th percentile, distances begin at 0 and end at the 99.5th percentile, differences
    and signed distances are symmetric around 0, entropies and all others go from 0 or the smallest to the largest.

    Examples
    --------
    >>> colour_scale("difference", np.array([-0.1, 0.3]))
    (-0.3, 0.3)
    >>> colour_scale("probability", np.array([0.2, 0.3]))
    (0.0, 1.0)
    """
    fixed = SCALES[role]
    if fixed is not None:
        return fixed
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return 0.0, 1.0
    if role in ("difference", "level"):
        high = float(np.abs(finite).max() if role == "difference" else np.percentile(np.abs(finite), 99.5))
        low = -high
    elif role == "image":
        low, high = (float(v) for v in np.percentile(finite, [0.5, 99.5]))
    elif role == "distance":
        low, high = 0.0, float(np.percentile(finite, 99.5))
    else:
        low, high = min(0.0, float(finite.min())), float(finite.max())
    return (low, high) if high > low else (low, low + 1.0)


def prepared_layers(case: PreparedCase) -> list[ViewLayer]:
    """Return image, labels, domain and raters of a case."""
    roles = {"image": "image", "labels": "labels", "domain": "mask", "raters": "raters"}
    found = []
    for name in case.entry.layers:
        is_image = name == "image"
        names = case.entry.channels(name) or (name,)
        channels = tuple(Channel(one, modality=one if is_image else None) for one in names)
        unit = "intensity, as prepared" if is_image else ""
        read = _stored_reader(case.entry, name)
        # What a page draws of the image ends at the domain.
        infinite = "outside of the domain" if is_image else "infinite"
        found.append(ViewLayer(name, roles.get(name, "values"), name, unit, channels, read, infinite=infinite))
    return found


def target_layers(entries: TargetEntries) -> list[ViewLayer]:
    """Return seeds, distance, soft label, difference from the hard label, entropy and stored map of a target.

    What has not been computed is left out.
    """
    target, found = entries.target, list[ViewLayer]()
    description = target.description
    classes = tuple(Channel(one, class_name=one) for one in description.class_names)

    def add(
        name: str,
        role: str,
        title: str,
        unit: str,
        channels: tuple[Channel, ...],
        read: Read,
        **more: str,
    ) -> None:
        found.append(ViewLayer(f"{target.name}/{name}", role, title, unit, channels, read, target.name, **more))

    if entries.seeds is not None:
        channels = tuple(Channel(one, class_name=one) for one in entries.seeds.channels("seeds") or ())
        add("seeds", "seeds", "seeds", "", channels, _stored_reader(entries.seeds, "seeds"))
    if entries.distance is not None:
        channels = tuple(_distance_channel(one) for one in entries.distance.channels("distance") or ())
        metric = str(entries.distance.attributes.get("params", {}).get("metric", ""))
        read = _stored_reader(entries.distance, "distance")
        add("distance", "distance", "distance", metric, channels, read, infinite=_infinite(entries.distance))
    if target.entry is None and description.blend.needs_stored:
        return found
    level = "share of the largest" if description.variant == "normalised" else "mm"
    role, unit = {"signed": ("signed", "signed"), "distance": ("level", level)}.get(
        description.kind, ("probability", "probability")
    )
    add("soft", role, "soft label", unit, classes, partial(_soft_channel, target))
    if description.kind != "distance":
        add("difference", "difference", "soft minus hard", unit, classes, partial(_difference, target))
        add("entropy", "entropy", "entropy", "bits", (Channel("all classes"),), partial(_entropy, target))
    if target.entry is not None and (description.blend.rule != "none" or description.blend.calibration):
        add("stored", role, "stored map", unit, classes, partial(_stored_channel_of, target))
    return found


def stored_layers(entry: Entry, taken: Collection[str] = ()) -> list[ViewLayer]:
    """Return every layer of an entry as it is stored; a name that is taken gets the entry's key behind it."""
    found = []
    for name in entry.layers:
        names = entry.channels(name)
        channels = (Channel(name),) if names is None else tuple(_stored_channel(name, one) for one in names)
        role = name if name in ("seeds", "distance", "image") else "values"
        title = f"{name} of {entry.key[:8]}"
        read, infinite = _stored_reader(entry, name), _infinite(entry) if name == "distance" else "infinite"
        found.append(ViewLayer(title if name in taken else name, role, title, "", channels, read, infinite=infinite))
    return found


def _infinite(distance: Entry) -> str:
    """Return what an infinite distance says, for people."""
    return "beyond the gap, or not reached" if "gap" in distance.attributes.get("params", {}) else "not reached"


def _stored_channel(layer: str, name: str) -> Channel:
    """Return a channel of an entry by its layer's name: of an image channel, a class, both, or a rank among classes."""
    if layer == "distance":
        return _distance_channel(name)
    if layer in ("classes", "shares"):
        return Channel(name)
    return Channel(name, modality=name) if layer == "image" else Channel(name, class_name=name)


def _distance_channel(name: str) -> Channel:
    """Return a channel of a distance; that of the vector image belongs to no channel of the image."""
    one = DistanceChannel.named(name)
    return Channel(name, one.of_class, None if one.of_image in ("", "all") else one.of_image)


def _stored_reader(entry: Entry, name: str) -> Read:
    """Return the reader of a layer as it is stored."""
    if entry.channels(name) is None:
        return lambda channel, window, wanted: entry.read(name, window)[wanted]
    return lambda channel, window, wanted: entry.read(name, window, channels=(channel, channel + 1))[0][wanted]


def _soft_channel(target: CaseTarget, channel: int, window: Window, wanted: Window) -> Values:
    """Return one channel of the soft label that the loader gives, from that channel of the stored map if it may be."""
    blend = target.description.blend
    if blend.mixes_channels or not blend.needs_stored:
        return np.stack([slab[channel] for slab in _soft_slabs(target, window, wanted)])
    stored = _stored_channel_of(target, channel, window, wanted)[None]
    masks = class_masks(target.case.entry.read("labels", window)[wanted], target.classes[channel : channel + 1])
    soft = blend.soft_label(masks, stored, is_overlapping=target.description.is_overlapping)
    return np.asarray(soft[0])


def _stored_channel_of(target: CaseTarget, channel: int, window: Window, wanted: Window) -> Values:
    """Return one channel of the stored map."""
    return target.stored_map.dense(window, channels=(channel, channel + 1))[0][wanted]


def _soft_slabs(target: CaseTarget, window: Window, wanted: Window) -> Iterator[Values]:
    """Yield the (C, h, w) soft label of each slice: all classes of a window at once would take much memory."""
    all_labels = target.case.entry.read("labels", window)[wanted]
    if target.entry is not None and target.stored_map.is_sparse:
        classes, shares, floor = target.stored_map.sparse(window)
        for z, labels in enumerate(all_labels):
            part = SparseLabel(classes[(slice(None), *wanted)][:, z], shares[(slice(None), *wanted)][:, z], floor)
            yield to_dense(target.description.sparse_label(labels, part), len(target.classes))
        return
    needs_stored = target.description.blend.needs_stored
    stored = target.stored_map.dense(window)[(..., *wanted)] if needs_stored else None
    for z, labels in enumerate(all_labels):
        yield target.description.soft_label(labels, None if stored is None else stored[:, z])


def _difference(target: CaseTarget, channel: int, window: Window, wanted: Window) -> Values:
    """Return the soft label of a class minus its hard label: 0 and 1, or -1 and +1 for a signed map."""
    one = target.classes[channel : channel + 1]
    hard = class_masks(target.case.entry.read("labels", window)[wanted], one)[0].astype(np.float32)
    if target.description.kind == "signed":
        hard = 2 * hard - 1
    return np.asarray(_soft_channel(target, channel, window, wanted) - hard)


def _entropy(target: CaseTarget, channel: int, window: Window, wanted: Window) -> Values:
    """Return the entropy of the soft label over all classes, in bits."""
    is_signed, is_overlapping = target.description.kind == "signed", target.description.is_overlapping
    slabs = _soft_slabs(target, window, wanted)
    return np.stack([entropy_bits(slab, is_signed=is_signed, is_overlapping=is_overlapping) for slab in slabs])
