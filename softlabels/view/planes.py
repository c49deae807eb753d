"""Anatomical planes: which slice of a volume is shown, which way round, and how wide its voxels are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.errors import InputError
from softlabels.grid import Grid

#: Planes by the world axis (x, y, z of RAS) that they are perpendicular to.
PLANES = ("sagittal", "coronal", "axial")
_ENDS = (("R", "L"), ("A", "P"), ("S", "I"))
#: Spacings within this ratio count as equal when a plane is chosen.
_SAME_SPACING = 1.01


@dataclass(frozen=True)
class Plane:
    """The slices of a volume across one of its axes, oriented as radiologists view them.

    The patient's right is on the left of the page; front is up in axial slices, head is up in the others, and the face
    looks left in sagittal ones. A volume of one slice (a 2D image) is shown as its array, row 0 on top.

    Parameters
    ----------
    name : str
        "axial", "coronal", "sagittal" or, for a 2D image, "image".
    axis, rows, columns : int
        Array axes: across the page, down the page, along the page.
    flips : tuple of 2 bools
        Whether rows and columns are shown in reverse.
    spacing : tuple of 2 floats
        Size of a voxel on the page in mm: down, along.
    letters : tuple of 4 str
        Patient directions at the left, right, top and bottom edge; empty for a 2D image.
    """

    name: str
    axis: int
    rows: int
    columns: int
    flips: tuple[bool, bool]
    spacing: tuple[float, float]
    letters: tuple[str, str, str, str]

    @classmethod
    def of(cls, grid: Grid, name: str | None = None) -> Plane:
        """Return a plane of a grid.

        Parameters
        ----------
        grid : Grid
        name : {"axial", "coronal", "sagittal"}, optional
            By default the plane across the coarsest spacing, which shows the finest pixels; axial if all are alike.

        Raises
        ------
        InputError
            If the plane is unknown.

        Examples
        --------
        >>> from softlabels.grid import Grid
        >>> Plane.of(Grid((9, 8, 7), (1.0, 1.0, 1.0))).letters
        ('R', 'L', 'A', 'P')
        >>> Plane.of(Grid((9, 8, 7), (1.0, 1.0, 6.0))).name
        'sagittal'
        """
        if name not in (None, *PLANES):
            raise InputError(f"plane: got {name!r}, expected one of {', '.join(PLANES)}")
        if grid.shape[0] == 1:
            return cls("image", 0, 1, 2, (False, False), grid.spacing[1:], ("", "", "", ""))
        world, ascends = _world_axes(grid.affine_ras)
        if name is None:
            coarsest = max(grid.spacing)
            axis = max((a for a in range(3) if grid.spacing[a] * _SAME_SPACING >= coarsest), key=lambda a: world[a])
        else:
            axis = world.index(PLANES.index(name))
        columns, rows = sorted((a for a in range(3) if a != axis), key=lambda a: world[a])
        (left, right), (top, bottom) = _ENDS[world[columns]], _ENDS[world[rows]]
        return cls(
            PLANES[world[axis]],
            axis,
            rows,
            columns,
            (ascends[rows], ascends[columns]),
            (grid.spacing[rows], grid.spacing[columns]),
            (left, right, top, bottom),
        )

    def window(self, index: int, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the window of slice `index` of a volume: 3 (start, stop) pairs."""
        return tuple((index, index + 1) if a == self.axis else (0, n) for a, n in enumerate(shape))

    def page(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return a slice as it is shown on the page.

        Parameters
        ----------
        part : (..., d, h, w) ndarray
            What a window of `window` holds.

        Returns
        -------
        (..., rows, columns) ndarray
            A view of `part`.

        Examples
        --------
        >>> from softlabels.grid import Grid
        >>> Plane.of(Grid((2, 2, 2), (1.0, 1.0, 1.0))).page(np.array([[[0, 1], [2, 3]]])).tolist()
        [[3, 2], [1, 0]]
        """
        shift = part.ndim - 3
        flat = np.moveaxis(part, [shift + self.rows, shift + self.columns], [-2, -1])[..., 0, :, :]
        return flat[..., :: -1 if self.flips[0] else 1, :: -1 if self.flips[1] else 1]

    def sums(self, volume: NDArray[Any]) -> NDArray[np.float64]:
        """Return the sum of a (D, H, W) volume in each slice."""
        return np.asarray(np.sum(volume, axis=tuple(a for a in range(3) if a != self.axis), dtype=np.float64))


def chosen_slices(scores: ArrayLike, n_slices: int) -> list[int]:
    """Return the slices to show: the fullest one, or several that split the content evenly.

    Parameters
    ----------
    scores : (K,) ndarray
        How much of interest each slice holds, >= 0: foreground voxels, or entropy.
    n_slices : int
        The largest number to choose, >= 1. One: the slice of the highest score (the first of equals). More: those where
        the running sum passes (i + 1/2) / n of its total.

    Returns
    -------
    list of ints
        Ascending, without repeats; the middle slice if nothing scores.

    Examples
    --------
    >>> chosen_slices(np.array([0, 1, 3, 1, 1]), 1)
    [2]
    >>> chosen_slices(np.array([0, 1, 3, 1, 1]), 3)
    [1, 2, 3]
    """
    scores = np.asarray(scores, float)
    if scores.sum() == 0:
        return [len(scores) // 2]
    if n_slices == 1:
        return [int(scores.argmax())]
    share = np.cumsum(scores) / scores.sum()
    return sorted({int(np.searchsorted(share, (i + 0.5) / n_slices)) for i in range(n_slices)})


def content_box(
    content: NDArray[np.bool_], spacing: tuple[float, float], *, margin_mm: float = 10.0, least: float = 0.4
) -> tuple[slice, slice]:
    """Return the rows and columns around what a page is about.

    Parameters
    ----------
    content : (h, w) ndarray of bool
        What must be seen; the whole page if nothing is.
    spacing : tuple of 2 floats
        Of the page, mm.
    margin_mm : float
        Context kept on each side, as far as the page reaches.
    least : float
        Smallest share of each side of the page that is shown.

    Examples
    --------
    >>> content_box(np.eye(100, dtype=bool)[:60], (1.0, 1.0))
    (slice(0, 60, None), slice(0, 80, None))
    """
    box = []
    for axis in range(2):
        length = content.shape[axis]
        hit = np.flatnonzero(content.any(axis=1 - axis))
        if hit.size == 0:
            return slice(0, content.shape[0]), slice(0, content.shape[1])
        margin = round(margin_mm / spacing[axis])
        size = min(max(hit[-1] + 1 - hit[0] + 2 * margin, round(least * length)), length)
        start = (hit[0] + hit[-1] + 1 - size) // 2
        start = int(min(max(start, 0), length - size))
        box.append(slice(start, start + int(size)))
    return box[0], box[1]


def _world_axes(affine: NDArray[np.float64]) -> tuple[list[int], list[bool]]:
    """Return for each array axis the world axis it runs along most, and whether it ascends there."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    world, left = [-1, -1, -1], np.abs(directions)
    for _ in range(3):
        axis_world, axis = np.unravel_index(left.argmax(), left.shape)
        world[axis] = int(axis_world)
        left[axis_world, :] = left[:, axis] = -1.0
    return world, [bool(directions[world[a], a] > 0) for a in range(3)]
