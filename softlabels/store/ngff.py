"""OME-NGFF 0.5 metadata, written by hand: what a viewer needs to draw an entry at the right place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from softlabels.grid import Grid
from softlabels.store.format import NGFF_VERSION

_AXES = (
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "millimeter"},
    {"name": "y", "type": "space", "unit": "millimeter"},
    {"name": "x", "type": "space", "unit": "millimeter"},
)
_COLOURS = ("E69F00", "56B4E9", "009E73", "F0E442", "0072B2", "D55E00", "CC79A7", "FFFFFF")


def multiscale(name: str, path: str, n_axes: int, grid: Grid) -> dict[str, Any]:
    """Return the one-level multiscale of an array on `grid`."""
    lead = n_axes - 3
    steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0] * lead + list(grid.spacing)}]
    origin = _origin(grid)
    if origin is not None:
        steps.append({"type": "translation", "translation": [0.0] * lead + origin})
    return {
        "name": name,
        "axes": list(_AXES[-n_axes:]),
        "datasets": [{"path": path, "coordinateTransformations": steps}],
    }


def _origin(grid: Grid) -> list[float] | None:
    """Return the (z, y, x) position of voxel 0, or None where scale and translation cannot express the affine."""
    affine = grid.affine_ras[[2, 1, 0]]  # rows in the order z, y, x, as the columns are
    if np.array_equal(affine[:, :3], np.diag(np.diag(affine[:, :3]))) and (np.diag(affine[:, :3]) > 0).all():
        return affine[:, 3].tolist()
    return None


def image_attributes(
    multiscales: list[dict[str, Any]], channels: Sequence[str] | None, window: tuple[float, float], made_by: str = ""
) -> dict[str, Any]:
    """Return the `ome` attribute of an image group; `channels` and `window` (as stored) describe the first image.

    Viewers name layers after the channels, so `made_by`, such as the method, tells those of several entries apart.
    """
    low, high = window
    omero = [
        {
            "label": f"{made_by}: {label}" if made_by else label,
            "color": _COLOURS[i % len(_COLOURS)],
            "active": i < 3,
            "window": {"min": low, "max": high, "start": low, "end": high},
        }
        for i, label in enumerate(channels or [multiscales[0]["name"]])
    ]
    return {"version": NGFF_VERSION, "multiscales": multiscales, "omero": {"channels": omero}}


def labels_attributes(names: list[str]) -> dict[str, Any]:
    """Return the `ome` attribute of the `labels` group."""
    return {"version": NGFF_VERSION, "labels": names}


def label_attributes(scale: dict[str, Any], has_image: bool) -> dict[str, Any]:
    """Return the `ome` attribute of one label image."""
    source = {"source": {"image": "../../"}} if has_image else {}
    return {"version": NGFF_VERSION, "multiscales": [scale], "image-label": source}
