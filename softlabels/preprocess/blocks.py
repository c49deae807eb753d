"""Block means: a fine image and its fine label, averaged to coarse voxels whose shares of each class are then known.

What partial volume does to a scan, done to arrays: the image and the mask of each class are averaged over blocks of
voxels. The averaged masks are the true soft label of the coarse image, and their largest is its hard label.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from softlabels.classes import LabelClass, class_masks
from softlabels.errors import InputError
from softlabels.grid import Grid, as_rows


class BlockMeans(NamedTuple):
    """A case on coarse voxels, with its true soft label.

    Attributes
    ----------
    image : (M, d, h, w) float32 array
    labels : (d, h, w) array of the type of the fine labels
        The first value of the class with the largest share; of equal shares the first class. The ignore label wherever
        a block has it.
    shares : (C, d, h, w) float32 array
        The true soft label: of each class its share of the block. Sums to one where the labels are not ignored.
    grid : Grid
    """

    image: NDArray[np.float32]
    labels: NDArray[np.integer]
    shares: NDArray[np.float32]
    grid: Grid


def block_means(
    image: NDArray[np.floating],
    labels: NDArray[np.integer],
    grid: Grid,
    classes: Sequence[LabelClass],
    block: Sequence[int],
    *,
    ignore_label: int | None = None,
) -> BlockMeans:
    """Return a case averaged over blocks of voxels.

    Parameters
    ----------
    image : (M, D, H, W) float array
        Not modified.
    labels : (D, H, W) integer array
        On the same grid. Not modified.
    grid : Grid
    classes : sequence of C LabelClass
        That exclude each other, the background among them.
    block : 3 ints
        Voxels of a block along (z, y, x), each >= 1. An incomplete block at the end of an axis is left out.
    ignore_label : int, optional

    Returns
    -------
    BlockMeans

    Raises
    ------
    InputError
        If a block is larger than the volume, or a size is no integer >= 1.

    Examples
    --------
    >>> classes = [LabelClass("background", (0,)), LabelClass("tumour", (1,))]
    >>> coarse = block_means(
    ...     np.float32([[[[0, 0, 0, 8, 8, 8]]]]), np.array([[[0, 0, 0, 1, 1, 1]]]), Grid((1, 1, 6), (1, 1, 1)), classes,
    ...     (1, 1, 2),
    ... )
    >>> coarse.image.ravel().tolist(), coarse.shares[1].ravel().tolist(), coarse.labels.ravel().tolist()
    ([0.0, 4.0, 8.0], [0.0, 0.5, 1.0], [0, 0, 1])
    >>> coarse.grid.spacing, coarse.grid.position((0, 0, 0))
    ((1.0, 1.0, 2.0), (0.5, 0.0, 0.0))
    """
    coarse = block_grid(grid, block)
    means = np.stack([averaged(one, block) for one in image])
    shares = np.stack([averaged(mask, block) for mask in class_masks(labels, classes)])
    first = np.array([one.values[0] for one in classes], labels.dtype)
    coarse_labels = first[shares.argmax(axis=0)]
    if ignore_label is not None:
        coarse_labels[averaged(labels == ignore_label, block) > 0] = ignore_label
    return BlockMeans(means, coarse_labels, shares, coarse)


def block_grid(grid: Grid, block: Sequence[int]) -> Grid:
    """Return the grid whose voxels are blocks of another one's.

    Raises
    ------
    InputError
        If a block is larger than the volume, or a size is no integer >= 1.
    """
    if len(block) != 3 or any(int(n) != n or n < 1 for n in block):
        raise InputError(f"block: got {tuple(block)}, expected 3 integers >= 1 (z, y, x)")
    if any(n > size for n, size in zip(block, grid.shape, strict=True)):
        raise InputError(f"block: got {tuple(block)}, expected at most the shape of the volume, {grid.shape} (z, y, x)")
    depth, height, width = (size // n for size, n in zip(grid.shape, block, strict=True))
    z, y, x = (side * n for side, n in zip(grid.spacing, block, strict=True))
    affine = grid.affine_ras
    affine[:, 3] = affine @ [*((n - 1) / 2 for n in block), 1.0]
    affine[:3, :3] *= np.asarray(block)
    return Grid((depth, height, width), (z, y, x), as_rows(affine))


def averaged(volume: NDArray[Any], block: Sequence[int]) -> NDArray[np.float32]:
    """Return one volume (D, H, W) averaged over blocks, on the grid of `block_grid`.

    Means are taken in float64. Incomplete blocks at the end of an axis are left out.

    Examples
    --------
    >>> averaged(np.array([[[0, 1, 1, 1, 1]]]), (1, 1, 2)).tolist()
    [[[0.5, 1.0]]]
    """
    shape = [size // n for n, size in zip(block, volume.shape, strict=True)]
    part = volume[tuple(slice(0, n * size) for n, size in zip(shape, block, strict=True))]
    pairs = [size for pair in zip(shape, block, strict=True) for size in pair]
    return part.reshape(pairs).mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32)
