"""Bounding boxes: work is done where a mask has its boundary, not on the whole volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]


def bounding_box(mask: NDArray[np.bool_], margin: Sequence[int] = (0, 0, 0)) -> Box | None:
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
    rows = np.any(mask, axis=2)
    if not rows.any():
        return None
    lines = (np.any(rows, axis=1), np.any(rows, axis=0), np.any(mask, axis=(0, 1)))
    z, y, x = (_widened(line, extra) for line, extra in zip(lines, margin, strict=True))
    return z, y, x


def _widened(line: NDArray[np.bool_], extra: int) -> slice:
    """Return the slice from the first to the last True, `extra` wider on either side, inside the line."""
    inside = np.flatnonzero(line)
    return slice(max(0, int(inside[0]) - extra), min(len(line), int(inside[-1]) + 1 + extra))


def smooth_near_boundary(
    mask: NDArray[np.bool_],
    smooth: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    margin: Sequence[int],
) -> NDArray[np.float32]:
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
    box, outside = bounding_box(mask, margin), np.float32(0)
    if box is not None and mask[box].size == mask.size:
        # The box of the mask is the whole volume: everything further from the complement than it reaches is 1.
        box, outside = bounding_box(~mask, margin), np.float32(1)
    soft = np.full(mask.shape, outside)
    if box is not None:
        # Box edges inside the volume are constant, so that border values are the right continuation there, too.
        soft[box] = smooth(mask[box].astype(np.float32))
    return soft
