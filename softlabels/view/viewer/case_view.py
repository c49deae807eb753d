"""A case to look at: any channel of its layers on any part of the grid, in bounded memory."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import bounding_box
from softlabels._shared.cpus import usable_cpus
from softlabels.classes import LabelClass
from softlabels.cohort.case import PreparedCase
from softlabels.cohort.index import TargetDescription
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.store.read import Entry
from softlabels.view.colours import BACKGROUND_COLOUR, class_colours
from softlabels.view.entries import TargetEntries
from softlabels.view.planes import PLANES, Plane
from softlabels.view.viewer.fields import Field, Triple, Window, nearest_voxel
from softlabels.view.viewer.layers import (
    ViewLayer,
    colour_scale,
    prepared_layers,
    stored_layers,
    target_layers,
)
from softlabels.view.viewer.nifti import Coded, coded

#: Blocks that are read and computed at once.
_THREADS = 4
#: Size of a block where no labels say what a chunk of the store is, (z, y, x).
_BLOCK = (64, 64, 64)
#: Shown for a label value of no class, such as the ignore label.
_NO_CLASS = "#888888"


class CaseView:
    """The layers of one case.

    Parameters
    ----------
    case : PreparedCase, optional
        Image and labels. Without it only `others` can be shown.
    targets : mapping of str to TargetEntries
        By name; need `case`.
    others : sequence of Entry
        Entries all of whose layers are shown as they are stored.
    title : str
        What the page calls it; by default the case's id.

    Raises
    ------
    InputError
        If there is nothing to show.

    Notes
    -----
    The labels are read once, to learn which values occur and where; nothing else before it is asked for.
    """

    def __init__(
        self,
        case: PreparedCase | None,
        targets: Mapping[str, TargetEntries] | None = None,
        others: Sequence[Entry] = (),
        title: str = "",
    ) -> None:
        entries = ([case.entry] if case is not None else []) + list(others)
        if not entries:
            raise InputError(f"view {title}: no entry to show")
        self.case, self.targets = case, dict(targets or {})
        self.id = title or (case.id if case is not None else others[0].key[:12])
        self.grid: Grid = entries[0].grid
        self.layers = {layer.id: layer for layer in self._all_layers(others)}
        self.label_values: list[int] = []
        self.foreground: Window | None = None
        z, y, x = (n // 2 for n in self.grid.shape)
        self.start, self.start_label = (z, y, x), 0
        if case is not None:
            labels = case.labels()
            self.label_values, self.foreground, self.start = _scanned(labels)
            self.start_label = int(labels[self.start])

    def layer(self, layer_id: str, channel: int = 0) -> ViewLayer:
        """Return a layer that has a channel of that number, or raise InputError naming what there is."""
        if layer_id not in self.layers:
            raise InputError(f"case {self.id}: got layer {layer_id!r}, expected one of {', '.join(self.layers)}")
        layer = self.layers[layer_id]
        if not 0 <= channel < len(layer.channels):
            raise InputError(f"layer {layer_id}: got channel {channel}, expected 0 to {len(layer.channels) - 1}")
        return layer

    def values(self, layer_id: str, channel: int, field: Field) -> NDArray[Any]:
        """Return a channel on a field of the grid.

        Parameters
        ----------
        layer_id : str
        channel : int
        field : Field

        Returns
        -------
        (D', H', W') ndarray
            Exact values, `field.shape`; float32, or the labels' own dtype.

        Raises
        ------
        InputError
            If there is no such layer or channel.
        FormatError
            If a byte that was read is not what was published.

        Notes
        -----
        Memory: the result and some blocks of at most 64 voxels a side, with all channels for an entropy.
        """
        layer = self.layer(layer_id, channel)
        size = _BLOCK if self.case is None else self.case.entry.chunks("labels")
        blocks = field.blocks(size)
        window, wanted, target = next(blocks)
        first = layer.read(channel, window, wanted)
        out = np.empty(field.shape, first.dtype)
        out[target] = first

        def fill(block: tuple[Window, Window, Window]) -> None:
            window, wanted, target = block
            out[target] = layer.read(channel, window, wanted)

        with ThreadPoolExecutor(min(_THREADS, usable_cpus())) as pool:
            # A few blocks at a time, so that a failure ends the reading soon.
            while some := list(itertools.islice(blocks, 4 * _THREADS)):
                list(pool.map(fill, some))
        return out

    def value(self, layer_id: str, channel: int, voxel: Triple) -> float:
        """Return the exact value of one voxel (z, y, x); see `values`."""
        stop = tuple(a + 1 for a in voxel)
        return float(self.values(layer_id, channel, Field(voxel, (stop[0], stop[1], stop[2])))[0, 0, 0])

    def drawn(self, layer_id: str, channel: int, field: Field, bits: int) -> tuple[Coded, tuple[float, float]]:
        """Return a channel as integers to draw, and the ends of its colour scale; see `values`.

        Labels are not drawn by their value but by their place in `label_table`, so that any integer can be.
        """
        layer, values = self.layer(layer_id, channel), self.values(layer_id, channel, field)
        if layer.role == "labels":
            table = self.label_table()
            codes = np.array([row["code"] for row in table])
            codes = codes.astype(np.uint8 if codes.max() < 256 else np.uint16)
            positions = np.searchsorted([row["value"] for row in table], values)
            return Coded(codes[positions], 1.0, 0.0, 0.0, False), (0.0, float(codes.max()))
        if layer.role == "image" and "domain" in self.layers:
            # As in every picture: what is not of the domain is left out.
            values = np.where(self.values("domain", 0, field), values, np.nan)
        return coded(values, bits), colour_scale(layer.role, values)

    def label_table(self) -> list[dict[str, Any]]:
        """Return value, name, colour and drawing code of every label that occurs, in order of the values.

        A value of several classes is named and coloured as the smallest of them, the first of equals. The codes of
        labels other than 0 do not begin at 1, because NiiVue blurs neighbours near the start of its colour table.
        """
        classes = self._every_class() or [LabelClass(str(v), (v,)) for v in self.label_values]
        colours = class_colours(classes)
        look: dict[int, tuple[str, str]] = {}
        for one in sorted(classes, key=lambda one: len(one.values)):
            for value in one.values:
                look.setdefault(value, (one.name, colours[one.values]))
        look.setdefault(0, ("background", BACKGROUND_COLOUR))
        table, code = [], len(self.label_values) // 64
        for value in sorted({0, *self.label_values}):
            name, colour = look.get(value, (f"label {value}, of no class", _NO_CLASS))
            code += value != 0
            table.append({"value": value, "name": name, "colour": colour, "code": code if value else 0})
        return table

    def describe(self) -> dict[str, Any]:
        """Return what a page must know of the case, as plain JSON."""
        colours = class_colours(self._every_class())
        targets = [
            {
                "name": name,
                "title": target_words(name, entries.target.description),
                "kind": entries.target.description.kind,
                "classes": [one.to_json() | {"colour": colours[one.values]} for one in entries.target.classes],
            }
            for name, entries in self.targets.items()
        ]
        layers = [
            {
                "id": layer.id,
                "role": layer.role,
                "title": layer.title,
                "unit": layer.unit,
                "infinite": layer.infinite,
                "target": layer.target,
                "channels": [
                    {"name": one.name, "class": one.class_name, "modality": one.modality} for one in layer.channels
                ],
            }
            for layer in self.layers.values()
        ]
        plane, axes = _planes(self.grid)
        return {
            "id": self.id,
            "shape": list(self.grid.shape),
            "spacing": list(self.grid.spacing),
            "affine": self.grid.affine_ras.tolist(),
            "start": list(self.start),
            "startLabel": self.start_label,
            "plane": plane,
            "axes": axes,
            "labels": self.label_table(),
            "targets": targets,
            "layers": layers,
        }

    def _every_class(self) -> list[LabelClass]:
        return [one for entries in self.targets.values() for one in entries.target.classes]

    def _all_layers(self, others: Sequence[Entry]) -> list[ViewLayer]:
        found = prepared_layers(self.case) if self.case is not None else []
        for entries in self.targets.values():
            found += target_layers(entries)
        for entry in others:
            found += stored_layers(entry, {layer.id for layer in found})
        return found


def target_words(name: str, description: TargetDescription) -> str:
    """Return method, variant and load-time parameter of a target in a few words, without repeating its name."""
    words = [description.method if description.method != name else "", description.variant]
    blend = description.blend
    words += [f"{blend.parameter} {blend.value:g}"] if blend.parameter else []
    words += [f"calibrated for {blend.calibration.fitted_for}"] if blend.calibration else []
    return ", ".join(word for word in words if word not in ("", "standard"))


def _planes(grid: Grid) -> tuple[str, dict[str, int]]:
    """Return the plane that shows the finest pixels, and the array axis across each plane."""
    # A 2D image has one plane only; how its axes are oriented is taken from a grid of two slices.
    shape = (max(2, grid.shape[0]), *grid.shape[1:])
    solid = Grid(shape, grid.spacing, grid.affine)
    axes = {plane: Plane.of(solid, plane).axis for plane in PLANES}
    across_slices = next(plane for plane, axis in axes.items() if axis == 0)
    return (Plane.of(grid).name if grid.shape[0] > 1 else across_slices), axes


def _scanned(labels: NDArray[Any]) -> tuple[list[int], Window | None, Triple]:
    """Return the values that occur, the box around what is not 0, and a voxel in the middle of its fullest slice."""
    found: set[int] = set()
    for slab in labels:
        # Counting is far faster than sorting, where the values are small.
        small = labels.dtype.itemsize <= 2 and labels.dtype.kind == "u"
        found |= set((np.flatnonzero(np.bincount(slab.ravel())) if small else np.unique(slab)).tolist())
    inside = labels != 0
    z, y, x = (n // 2 for n in labels.shape)
    return sorted(found), bounding_box(inside), nearest_voxel(inside) or (z, y, x)
