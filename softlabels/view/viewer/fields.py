"""Which part of a grid is drawn, and at which step, so that a page never holds more voxels than it may."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import Grid

#: Context that is kept around labels, mm.
MARGIN_MM = 15.0

Triple = tuple[int, int, int]
Window = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Field:
    """A box of a grid, of which every `step`-th voxel is drawn.

    Parameters
    ----------
    start, stop : tuple of 3 ints
        First voxel and the one after the last, (z, y, x).
    step : tuple of 3 ints
        1 draws every voxel. The voxels drawn are `start`, `start + step`, ...

    Examples
    --------
    >>> field = Field((0, 2, 0), (4, 9, 5), (1, 2, 2))
    >>> field.shape
    (4, 4, 3)
    >>> field.grid(Grid((4, 10, 5), (3.0, 1.0, 1.0))).spacing
    (3.0, 2.0, 2.0)
    """

    start: Triple
    stop: Triple
    step: Triple = (1, 1, 1)

    @property
    def shape(self) -> Triple:
        """Number of voxels drawn along each axis."""
        z, y, x = (math.ceil((b - a) / s) for a, b, s in zip(self.start, self.stop, self.step, strict=True))
        return z, y, x

    @property
    def n_voxels(self) -> int:
        """Number of voxels drawn."""
        return math.prod(self.shape)

    def grid(self, grid: Grid) -> Grid:
        """Return the grid of the drawn voxels: their centres are centres of voxels of `grid`."""
        affine = grid.affine_ras
        affine[:, 3] = affine @ [*self.start, 1.0]
        affine[:3, :3] *= self.step
        z, y, x = (size * s for size, s in zip(grid.spacing, self.step, strict=True))
        return Grid(self.shape, (z, y, x), tuple(tuple(row) for row in affine.tolist()))

    def blocks(self, size: Sequence[int]) -> Iterator[tuple[Window, Window, Window]]:
        """Yield windows of the grid on multiples of `size`, with what of each is drawn and where it goes.

        Yields
        ------
        window : tuple of 3 slices
            A part of the grid; together they cover the field.
        inside : tuple of 3 slices
            The voxels of that part that are drawn, with the step.
        target : tuple of 3 slices
            Their place in an array of `shape`.
        """
        axes = [list(_axis_blocks(*line)) for line in zip(self.start, self.stop, self.step, size, strict=True)]
        for z in axes[0]:
            for y in axes[1]:
                for x in axes[2]:
                    yield (z[0], y[0], x[0]), (z[1], y[1], x[1]), (z[2], y[2], x[2])


def _axis_blocks(start: int, stop: int, step: int, size: int) -> Iterator[tuple[slice, slice, slice]]:
    """Yield window, drawn voxels and target along one axis; parts of which no voxel is drawn are left out."""
    for block in range(start // size, math.ceil(stop / size)):
        low, high = max(start, block * size), min(stop, (block + 1) * size)
        first = -(-(low - start) // step)
        last = -(-(high - start) // step)
        if first < last:
            offset = start + first * step
            yield slice(offset, high), slice(0, high - offset, step), slice(first, last)


def whole_field(shape: Sequence[int], spacing: Sequence[float], max_voxels: int) -> Field:
    """Return the whole grid, at the finest steps that draw at most `max_voxels`; see `fitted_field`."""
    return fitted_field((0, 0, 0), tuple(shape), spacing, max_voxels)


def fitted_field(start: Sequence[int], stop: Sequence[int], spacing: Sequence[float], max_voxels: int) -> Field:
    """Return a box at the finest steps that draw at most `max_voxels`.

    The axis whose drawn voxels are closest together (in mm) is thinned first, so that they tend to cubes.

    Parameters
    ----------
    start, stop : sequences of 3 ints
        The box, (z, y, x).
    spacing : sequence of 3 floats
        mm, (z, y, x).
    max_voxels : int
        At least 1.

    Examples
    --------
    >>> fitted_field((0, 0, 0), (300, 512, 512), (1.0, 0.7, 0.7), 10_000_000).step
    (2, 2, 2)
    """
    if max_voxels < 1:
        raise InputError(f"voxels: got {max_voxels}, expected at least 1")
    step = [1, 1, 1]
    field = Field(_triple(start), _triple(stop))
    while field.n_voxels > max_voxels:
        length = [b - a for a, b in zip(start, stop, strict=True)]
        axis = min((a for a in range(3) if step[a] < length[a]), key=lambda a: (spacing[a] * step[a], -length[a]))
        step[axis] += 1
        field = Field(_triple(start), _triple(stop), _triple(step))
    return field


def detail_field(centre: Sequence[int], shape: Sequence[int], spacing: Sequence[float], max_voxels: int) -> Field:
    """Return the largest box around a voxel that has at most `max_voxels`, all of which are drawn.

    It is as near to a cube in mm as the grid allows, and is moved inwards where it would pass the grid's border.

    Parameters
    ----------
    centre : sequence of 3 ints
        A voxel of the grid, (z, y, x).
    shape, spacing : sequences of 3
        Of the grid; mm.
    max_voxels : int
        At least 1.

    Raises
    ------
    InputError
        If the voxel is outside the grid.

    Examples
    --------
    >>> detail_field((0, 50, 99), (10, 100, 100), (1.0, 1.0, 1.0), 4000)
    Field(start=(0, 40, 80), stop=(10, 60, 100), step=(1, 1, 1))
    """
    if any(not 0 <= c < n for c, n in zip(centre, shape, strict=True)):
        raise InputError(f"voxel: got {tuple(centre)}, expected one inside the grid {tuple(shape)} (z, y, x)")
    size = _side(shape, spacing, max_voxels)
    start = [min(max(c - n // 2, 0), of - n) for c, n, of in zip(centre, size, shape, strict=True)]
    return Field(_triple(start), _triple([a + n for a, n in zip(start, size, strict=True)]))


def _side(shape: Sequence[int], spacing: Sequence[float], max_voxels: int) -> list[int]:
    """Return the sizes of the box nearest to a cube in mm with at most `max_voxels`, by halving intervals."""
    low, high = 0.0, max(n * mm for n, mm in zip(shape, spacing, strict=True)) + max(spacing)
    size = [1, 1, 1]
    for _ in range(60):
        side = (low + high) / 2
        tried = [min(n, max(1, int(side / mm))) for n, mm in zip(shape, spacing, strict=True)]
        if math.prod(tried) <= max_voxels:
            low, size = side, tried
        else:
            high = side
    return size


def label_field(box: Window | None, shape: Sequence[int], spacing: Sequence[float], max_voxels: int) -> Field:
    """Return a box with a margin of `MARGIN_MM`, cut at the grid's border; the whole grid if there is no box.

    Parameters
    ----------
    box : 3 slices, optional
        Around what is to be seen.
    shape, spacing : sequences of 3
        Of the grid; mm.
    max_voxels : int
        See `fitted_field`.

    Examples
    --------
    >>> label_field((slice(0, 1), slice(50, 60), slice(99, 100)), (9, 100, 100), (30.0, 1.0, 5.0), 10**6)
    Field(start=(0, 35, 96), stop=(2, 75, 100), step=(1, 1, 1))
    """
    if box is None:
        return whole_field(shape, spacing, max_voxels)
    margins = [math.ceil(MARGIN_MM / mm) for mm in spacing]
    start = [max(0, part.start - margin) for part, margin in zip(box, margins, strict=True)]
    stop = [min(n, part.stop + margin) for part, margin, n in zip(box, margins, shape, strict=True)]
    return fitted_field(start, stop, spacing, max_voxels)


def nearest_voxel(mask: NDArray[np.bool_]) -> Triple | None:
    """Return the voxel of a (D, H, W) mask that is nearest to the centroid of its fullest slice; None if empty.

    Examples
    --------
    >>> mask = np.zeros((3, 4, 5), bool)
    >>> mask[1, 1:3, 1:4] = True
    >>> nearest_voxel(mask)
    (1, 1, 2)
    """
    area = mask.sum(axis=(1, 2))
    if not area.any():
        return None
    z = int(area.argmax())
    found = np.argwhere(mask[z])
    y, x = found[((found - found.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    return z, int(y), int(x)


def _triple(values: Sequence[int]) -> Triple:
    z, y, x = (int(v) for v in values)
    return z, y, x
