"""A small picture of a case for the report: the slice with most foreground, its classes in colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.files import atomic_writer
from softlabels.classes import foreground
from softlabels.view.colours import class_colours
from softlabels.view.entries import CaseEntries
from softlabels.view.slices import CaseSlice, case_slices

#: Pixels of its longer side.
SIZE = 160
_OPACITY = 0.45


def case_thumbnail(entries: CaseEntries) -> NDArray[np.uint8]:
    """Return the (h, w, 3) colours of one slice, in the proportions of the tissue; its longer side is `SIZE`.

    Parameters
    ----------
    entries : CaseEntries
        A case with at least one target.
    """
    first, *others = [target.target.classes for target in entries.targets.values()]
    (page,) = case_slices(entries.case, first, None, 1, others)
    colours = _blended(page)
    height, width = (n * side for n, side in zip(colours.shape[:2], page.plane.spacing, strict=True))
    scale = SIZE / max(height, width)
    rows = _nearest(colours.shape[0], max(1, round(scale * height)))
    columns = _nearest(colours.shape[1], max(1, round(scale * width)))
    picture: NDArray[np.uint8] = colours[rows][:, columns]
    return picture


def _nearest(n_voxels: int, n_pixels: int) -> NDArray[np.intp]:
    """Return which of the voxels of a line is at each of its pixels."""
    return ((np.arange(n_pixels) + 0.5) * (n_voxels / n_pixels)).astype(np.intp)


def save_thumbnail(entries: CaseEntries, path: Path) -> None:
    """Write the thumbnail of a case as PNG, in one step."""
    from PIL import Image

    picture = Image.fromarray(case_thumbnail(entries))
    with atomic_writer(path) as file:
        picture.save(file, format="png", optimize=True)


def _blended(page: CaseSlice) -> NDArray[np.uint8]:
    """Return the (h, w, 3) image of a slice with the classes of the page over it."""
    image = page.image()
    inside = image[np.isfinite(image)]
    low, high = np.percentile(inside, (1, 99)) if inside.size else (0.0, 1.0)
    grey = np.nan_to_num((image - low) / max(high - low, 1e-6)).clip(0, 1)
    colours = np.repeat(grey[..., None], 3, axis=-1)
    palette, shown = class_colours(page.classes), foreground(page.classes)
    for one, mask in zip(shown, page.masks(shown), strict=True):
        text = palette[one.values].lstrip("#")
        rgb = np.array([int(text[i : i + 2], 16) for i in (0, 2, 4)]) / 255
        colours[mask] = (1 - _OPACITY) * colours[mask] + _OPACITY * rgb
    return np.rint(255 * colours).astype(np.uint8)
