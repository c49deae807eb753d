"""Bounding boxes: work is done where a mask has its boundary, not on the whole volume."""

from __future__ import annotations

import numpy as np


def bounding_box(mask: np.ndarray, margin=(0, 0, 0)) -> tuple[slice, slice, slice] | None:
    """Return the smallest box that holds a mask, widened by a margin and cut at the volume's border.

    Parameters
    ----------
    mask : (D, H, W) bool array
    margin : 3 ints
        Voxels to add on either side, (z, y, x).

    Returns
    -------
    3 slices, or None if the mask is empty.

    Examples
    --------
    >>> mask = np.zeros((1, 5, 9), bool)
    >>> mask[0, 2, 3:5] = True
    >>> bounding_box(mask, margin=(0, 1, 4))
    (slice(0, 1, None), slice(1, 4, None), slice(0, 9, None))
    """
    rows = mask.any(axis=2)
    found = [rows.any(axis=1), rows.any(axis=0), mask.any(axis=(0, 1)) if rows.any() else rows]
    if not rows.any():
        return None
    box = []
    for line, extra, size in zip(found, margin, mask.shape, strict=True):
        inside = np.flatnonzero(line)
        box.append(slice(max(0, int(inside[0]) - extra), min(size, int(inside[-1]) + 1 + extra)))
    return tuple(box)


def smooth_near_boundary(mask: np.ndarray, smooth, margin) -> np.ndarray:
    """Return a normalised smoothing of a mask, evaluated only where it can differ from the mask.

    Parameters
    ----------
    mask : (D, H, W) bool array
    smooth : callable
        Takes a float32 box and returns it smoothed: linear, maps a constant to itself, reaches `margin` voxels far,
        and continues the volume by its border values.
    margin : 3 ints
        How far it reaches, (z, y, x).

    Returns
    -------
    (D, H, W) float32 array

    Notes
    -----
    A mask or its complement, whichever has the smaller box, is smoothed; the smoothing of the complement is 1 minus
    that of the mask.
    """
    inner, outer = bounding_box(mask, margin), None
    is_inverted = inner is not None and _size(inner) == mask.size
    if is_inverted:
        outer = bounding_box(~mask, margin)
        if outer is None:
            return np.ones(mask.shape, np.float32)
    box = outer if is_inverted else inner
    soft = np.full(mask.shape, np.float32(is_inverted))
    if box is not None:
        # Box edges inside the volume are constant, so that border values are the right continuation there, too.
        soft[box] = smooth(mask[box].astype(np.float32))
    return soft


def _size(box) -> int:
    """Return the number of voxels of a box."""
    return int(np.prod([part.stop - part.start for part in box]))
