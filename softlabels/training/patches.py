"""Where to cut patches out of a volume: origins, windows, foreground draws and stitching; pure numpy, no files.

A patch is given by its origin (z, y, x), which is negative where the volume is smaller than the patch: such an axis has
one patch, with the volume in its middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.classes import value_mask
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.errors import InputError
from softlabels.grid import Window

#: Default size of the blocks that a `ForegroundTable` counts, in voxels.
BLOCK = (64, 64, 64)


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """Return the random generator of one sample, which depends on nothing but its three numbers.

    Philox is a counter-based generator: `seed` and `epoch` are its key and `index` its counter, so the streams of two
    samples never overlap and neither workers nor the order of the samples matter.

    Parameters
    ----------
    seed, epoch, index : int
        Each in 0..2**63-1.

    Returns
    -------
    numpy.random.Generator

    Raises
    ------
    InputError
        If a number is out of range.

    Examples
    --------
    >>> bool(sample_rng(0, 1, 2).integers(1000) == sample_rng(0, 1, 2).integers(1000))
    True
    """
    for name, number in (("seed", seed), ("epoch", epoch), ("index", index)):
        if not 0 <= int(number) < 2**63:
            raise InputError(f"{name}: got {number}, expected an integer in 0..2**63-1")
    return np.random.Generator(np.random.Philox(key=[int(seed), int(epoch)], counter=[0, 0, int(index), 0]))


def grid_origins(
    shape: Sequence[int], patch_size: Sequence[int], overlap: Sequence[int] = (0, 0, 0)
) -> NDArray[np.int64]:
    """Return the origins of patches that cover every voxel of a volume.

    Patches advance by `patch_size - overlap`. The last one of an axis is shifted back to end flush with the volume, so
    it overlaps its neighbour by more; no voxel is dropped and none outside is read. For shape 10 and patch 4::

        0123456789
        aaaabbbb        origins 0 and 4
              cccc      origin 6, not 8

    Parameters
    ----------
    shape, patch_size : tuple of 3 ints
        Ordered (z, y, x), each >= 1.
    overlap : tuple of 3 ints
        Voxels that neighbours share at least, each in 0..patch-1.

    Returns
    -------
    (N, 3) ndarray of int64
        In C order (x fastest); negative on an axis where the volume is smaller than the patch.

    Raises
    ------
    InputError
        If a size is < 1, or the overlap is not smaller than the patch.

    Examples
    --------
    >>> grid_origins((1, 1, 10), (1, 1, 4))[:, 2].tolist()
    [0, 4, 6]
    >>> grid_origins((1, 1, 2), (1, 1, 6))[:, 2].tolist()
    [-2]
    """
    lengths, patches = checked_sizes("shape", shape), checked_sizes("patch_size", patch_size)
    axes = []
    for length, patch, shared in zip(lengths, patches, overlap, strict=True):
        if not 0 <= shared < patch:
            raise InputError(f"overlap: got {tuple(overlap)}, expected 0..patch-1 per axis for patch {patches}")
        last = length - patch
        axes.append([*range(0, last, patch - shared), last] if last >= 0 else [-((patch - length) // 2)])
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3).astype(np.int64)


def random_origin(
    shape: Sequence[int],
    patch_size: Sequence[int],
    rng: np.random.Generator,
    centre: Sequence[int] | None = None,
) -> tuple[int, int, int]:
    """Return the origin of a random patch, or of the patch around a given voxel.

    Parameters
    ----------
    shape, patch_size : tuple of 3 ints
        Ordered (z, y, x), each >= 1.
    rng : numpy.random.Generator
        Draws uniformly among all origins whose patch is inside; unused if `centre` is given.
    centre : tuple of 3 ints, optional
        The voxel at `patch_size // 2` of the patch, which is then moved inside the volume by the least shift.

    Returns
    -------
    tuple of 3 ints
        Negative on an axis where the volume is smaller than the patch.

    Examples
    --------
    >>> random_origin((9, 9, 9), (4, 4, 4), np.random.default_rng(0), centre=(0, 4, 8))
    (0, 2, 5)
    """
    origin = []
    for axis, (length, patch) in enumerate(zip(shape, patch_size, strict=True)):
        last = length - patch
        if last < 0:
            origin.append(-((patch - length) // 2))
        elif centre is None:
            origin.append(int(rng.integers(last + 1)))
        else:
            origin.append(min(max(int(centre[axis]) - patch // 2, 0), last))
    z, y, x = origin
    return z, y, x


def patch_windows(
    origin: Sequence[int], patch_size: Sequence[int], shape: Sequence[int]
) -> tuple[Window, tuple[slice, ...]]:
    """Return which part of the volume a patch shows, and where that part is in the patch.

    Parameters
    ----------
    origin : tuple of 3 ints
        May be negative.
    patch_size, shape : tuple of 3 ints
        Ordered (z, y, x).

    Returns
    -------
    window : tuple of 3 pairs of ints
        (start, stop) per axis in the volume.
    place : tuple of 3 slices
        The same part within the patch.

    Examples
    --------
    >>> patch_windows((-2, 0, 3), (6, 2, 2), (2, 5, 5))
    (((0, 2), (0, 2), (3, 5)), (slice(2, 4, None), slice(0, 2, None), slice(0, 2, None)))
    """
    window = tuple((max(int(o), 0), min(int(o) + p, n)) for o, p, n in zip(origin, patch_size, shape, strict=True))
    place = tuple(slice(start - int(o), stop - int(o)) for (start, stop), o in zip(window, origin, strict=True))
    return window, place


def padded(
    part: NDArray[Any], place: Sequence[slice], patch_size: Sequence[int], fill: float | Sequence[float]
) -> NDArray[Any]:
    """Return `part` at `place` of a patch whose other voxels hold `fill`; `part` itself if it is the whole patch.

    Parameters
    ----------
    part : (..., d, h, w) ndarray
        What was read; not modified.
    place : tuple of 3 slices
        From `patch_windows`.
    patch_size : tuple of 3 ints
        Ordered (z, y, x).
    fill : scalar, or sequence with one value per channel (the first axis of `part`)

    Returns
    -------
    (..., d, h, w) ndarray of the dtype of `part`

    Examples
    --------
    >>> padded(np.ones((1, 1, 2), int), (slice(0, 1), slice(0, 1), slice(1, 3)), (1, 1, 4), 7).tolist()
    [[[7, 1, 1, 7]]]
    """
    if part.shape[-3:] == tuple(patch_size):
        return part
    patch = np.empty((*part.shape[:-3], *patch_size), part.dtype)
    patch[...] = np.reshape(fill, (-1, 1, 1, 1)) if np.ndim(fill) else fill
    region: tuple[Any, ...] = (..., *place)
    patch[region] = part
    return patch


@dataclass(frozen=True)
class ForegroundTable:
    """How many voxels of each class each block of a volume holds: a light index for exact uniform draws.

    A table of a 155x240x240 volume has 48 counts per class, where the list of its voxels may have millions of entries.

    Parameters
    ----------
    shape, block : tuple of 3 ints
        Of the volume and of a block, (z, y, x).
    class_values : tuple of tuples of ints
        The label values of each class.
    counts : (C, bz, by, bx) ndarray of int64
        Voxels of each class in each block.
    weights : (C,) ndarray of float64, optional
        How often each class is drawn, relative to the others that are present; by default equally often.
    """

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    class_values: tuple[tuple[int, ...], ...]
    counts: NDArray[np.int64]
    weights: NDArray[np.float64] | None = None

    @classmethod
    def build(
        cls,
        shape: Sequence[int],
        class_values: Sequence[Sequence[int]],
        read: Callable[[Window], NDArray[np.integer]],
        block: Sequence[int] = BLOCK,
    ) -> ForegroundTable:
        """Return the table of a volume, reading it once in slabs as thick as a block.

        Parameters
        ----------
        shape : tuple of 3 ints
            Of the volume, (z, y, x).
        class_values : sequence of sequences of ints
            The label values of each class to count.
        read : callable
            `read(window)` returns the labels in a window of 3 (start, stop) pairs.
        block : tuple of 3 ints
            Best the chunk of the stored volume: a draw then decompresses one chunk.

        Examples
        --------
        >>> labels = np.array([[[0, 2, 2, 1]]])
        >>> table = ForegroundTable.build(labels.shape, [[1], [1, 2]], lambda window: labels)
        >>> table.counts.ravel().tolist()
        [1, 3]
        """
        return cls.of_blocks(LabelBlocks.count(shape, read, block), class_values)

    @classmethod
    def of_blocks(
        cls, blocks: LabelBlocks, class_values: Sequence[Sequence[int]], weights: NDArray[np.float64] | None = None
    ) -> ForegroundTable:
        """Return the table of a volume whose labels have been counted."""
        values = tuple(tuple(int(v) for v in group) for group in class_values)
        counts = [blocks.of_class(group) for group in values]
        return cls(blocks.shape, blocks.block, values, np.stack(counts), weights)

    def draw(
        self, rng: np.random.Generator, read: Callable[[Window], NDArray[np.integer]]
    ) -> tuple[int, int, int] | None:
        """Return a random foreground voxel, or None if the volume holds none.

        First a class among those present, by the weights, then one of its voxels, uniformly. Reads one block.

        Parameters
        ----------
        rng : numpy.random.Generator
            Its state advances.
        read : callable
            As for `build`.

        Returns
        -------
        tuple of 3 ints, or None
        """
        totals = self.counts.sum(axis=(1, 2, 3))
        present = np.flatnonzero(totals if self.weights is None else (totals > 0) & (self.weights > 0))
        if present.size == 0:
            return None
        shares = None if self.weights is None else self.weights[present] / self.weights[present].sum()
        class_id = int(rng.choice(present, p=shares))
        until = np.cumsum(self.counts[class_id])
        rank = int(rng.integers(totals[class_id]))
        number = int(np.searchsorted(until, rank, side="right"))
        rank -= int(until[number - 1]) if number else 0
        corner = [b * int(i) for b, i in zip(self.block, np.unravel_index(number, self.counts.shape[1:]), strict=True)]
        labels = read(tuple((c, min(c + b, n)) for c, b, n in zip(corner, self.block, self.shape, strict=True)))
        place = np.flatnonzero(value_mask(labels, self.class_values[class_id]))[rank]
        z, y, x = (c + int(v) for c, v in zip(corner, np.unravel_index(place, labels.shape), strict=True))
        return z, y, x


def stitch(
    patches: Iterable[ArrayLike],
    origins: Iterable[Sequence[int]],
    shape: Sequence[int],
    weight: ArrayLike | None = None,
) -> NDArray[np.float32]:
    """Return one volume from patches: the weighted mean wherever they overlap.

    Parameters
    ----------
    patches : iterable of (C, d, h, w) ndarrays
        All of one shape, such as the network's output for each patch of a grid.
    origins : iterable of 3 ints
        One per patch, (z, y, x); what is outside the volume is cut off.
    shape : tuple of 3 ints
        Of the volume.
    weight : (d, h, w) ndarray, optional
        Weight of each voxel of a patch, > 0 (for instance a Gaussian that trusts the middle); by default 1.

    Returns
    -------
    (C, D, H, W) ndarray of float32
        Summed in float64 in the order given.

    Raises
    ------
    InputError
        If some voxel of the volume is in no patch.

    Examples
    --------
    >>> ones = np.ones((1, 1, 1, 2))
    >>> stitch([ones, 3 * ones], [(0, 0, 0), (0, 0, 1)], (1, 1, 3)).ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    total: NDArray[np.float64] | None = None
    weights = np.zeros(tuple(shape))
    for given, origin in zip(patches, origins, strict=True):
        patch = np.asarray(given)
        window, place = patch_windows(origin, patch.shape[-3:], shape)
        region = tuple(slice(*pair) for pair in window)
        share = (np.ones(patch.shape[-3:]) if weight is None else np.asarray(weight, float))[place]
        total = np.zeros((len(patch), *shape)) if total is None else total
        total[(slice(None), *region)] += patch[(slice(None), *place)] * share
        weights[region] += share
    missing = int((weights <= 0).sum())
    if missing or total is None:
        raise InputError(f"stitch: {missing} of {weights.size} voxels are in no patch; pass every patch of the grid")
    return (total / weights).astype(np.float32)


def gaussian_weight(patch_size: Sequence[int], sigma: float = 1 / 8) -> NDArray[np.float64]:
    """Return weights of a patch that trust its middle, for `stitch`: at its edge a network sees little around a voxel.

    Parameters
    ----------
    patch_size : tuple of 3 ints
        Ordered (z, y, x).
    sigma : float
        Of the Gaussian, as a share of each side, > 0; 1/8 in nnU-Net and MONAI.

    Returns
    -------
    (d, h, w) ndarray of float64
        In (0, 1], largest in the middle.

    Examples
    --------
    >>> gaussian_weight((1, 1, 3), sigma=1.0).round(3).ravel().tolist()
    [0.946, 1.0, 0.946]
    """
    if not sigma > 0:
        raise InputError(f"sigma: got {sigma}, expected a number > 0")
    sides = [np.arange(n) - (n - 1) / 2 for n in checked_sizes("patch_size", patch_size)]
    z, y, x = (np.exp(-0.5 * (offsets / (sigma * len(offsets))) ** 2) for offsets in sides)
    return np.asarray(z[:, None, None] * y[:, None] * x)


def checked_sizes(name: str, sizes: Sequence[int] | None) -> tuple[int, int, int]:
    """Return three sizes >= 1 as ints, or raise InputError."""
    values: NDArray[Any] = np.ravel(np.asarray(sizes))
    if values.size != 3 or values.dtype.kind not in "iu" or values.min() < 1:
        raise InputError(f"{name}: got {sizes!r}, expected 3 sizes >= 1 ordered (z, y, x)")
    depth, height, width = values.tolist()
    return depth, height, width
