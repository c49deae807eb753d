"""A distribution over many classes as the K largest classes of each voxel and their shares, which sum to one.

K is the least number with which no voxel loses more than a bound. Shares are integers that sum to 255 or 65535 at each
voxel, by the method of largest remainders (Hamilton's), so that decoded shares sum to one whatever K is. Equal shares
are ordered by the number of the class. The two layers are plain arrays: `classes` and `shares`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import Box
from softlabels._shared.boxed import BoxedVolumes
from softlabels._shared.on_demand import VolumesByBlock
from softlabels.errors import CertificateError
from softlabels.sparse import class_dtype
from softlabels.store.encoding import ScaleOffset
from softlabels.store.publish import Layer

#: The names of the two layers.
CLASSES, SHARES = "classes", "shares"
#: How far from one the shares of a voxel may sum up before they are stored.
SUM_TOLERANCE = 1e-4
#: Voxels handled at a time, so that their numbers fit into uint16.
_BLOCK = 1 << 16


#: The shares of all classes in one of these forms.
Shares = NDArray[np.float32] | BoxedVolumes | VolumesByBlock


@dataclass(frozen=True)
class _Ranked:
    """The classes of a block of voxels in the order of their shares.

    Parameters
    ----------
    voxels, classes, shares : tuples of (n,) arrays, one for each rank
        Which voxels have a class of that rank, which class it is, and its share.
    left_out : (R + 1,) array
        The most mass that a voxel loses where the first 0, 1, ..., R ranks are kept.
    left_out_sum : (R + 1,) array
        The sum of what all voxels lose.
    """

    voxels: tuple[NDArray[np.uint16], ...]
    classes: tuple[NDArray[Any], ...]
    shares: tuple[NDArray[np.float32], ...]
    left_out: NDArray[np.float64]
    left_out_sum: NDArray[np.float64]


class DecodedLevels:
    """Shares (K, D, H, W) that are held as the integers which are stored, and decoded where they are sliced.

    Parameters
    ----------
    levels : (K, D, H, W) array of integers
    code : ScaleOffset
        Which gives back the same integers.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, levels: NDArray[Any], code: ScaleOffset) -> None:
        self.levels, self.code = levels, code
        self.shape: tuple[int, ...] = levels.shape

    def __getitem__(self, region: Any, /) -> NDArray[np.float32]:
        return self.code.decode(self.levels[region])


def largest_classes(
    values: Shares,
    class_names: Sequence[str],
    *,
    dtype: str,
    max_dropped: float,
    threads: int = 1,
) -> tuple[list[Layer], dict[str, Any]]:
    """Return the layers `shares` and `classes` of a distribution, and what the reduction cost.

    Parameters
    ----------
    values : (C, D, H, W) float32 array, BoxedVolumes of float32 with fill 0, or VolumesByBlock
        At each voxel at least 0 with a sum of one, or 0 in all classes. Not modified.
    class_names : sequence of C str
    dtype : {"uint8", "uint16"}
        Of the stored shares.
    max_dropped : float
        In (0, 1): the most mass of a voxel that the classes that are left out may have.
    threads : int
        Blocks handled at once; no effect on the result.

    Returns
    -------
    layers : list of 2 Layer
        `shares` (K, D, H, W), falling along the first axis, and `classes` (K, D, H, W), positions in `class_names`; a
        slot that is not in use is 0 in both.
    figures : dict
        Plain JSON values: ``n_kept``, K; ``max_dropped``, the bound; ``dropped_max`` and ``dropped_mean``, the mass of
        the classes beyond the K largest at the worst voxel and over all voxels; ``error_max``, the largest difference
        of any share from its value, and ``error_bound``.

    Raises
    ------
    CertificateError
        If the values are no distribution, or a share is off by more than its bound: ``max_dropped``, one level of the
        integers and the tolerance of the sum.

    Notes
    -----
    Dividing by what is kept moves a share by at most the dropped mass, largest remainders by less than one level, so
    the bound does not depend on K. A pass over 4 M voxels of 105 classes takes about a second of a core.

    Examples
    --------
    >>> values = np.float32([[[[0.75, 1.0]]], [[[0.0, 0.0]]], [[[0.25, 0.0]]]])
    >>> (shares, classes), figures = largest_classes(values, "abc", dtype="uint8", max_dropped=0.01)
    >>> classes.values.reshape(2, 2).tolist(), shares.values.levels.reshape(2, 2).tolist()
    ([[0, 0], [2, 0]], [[191, 255], [64, 0]])
    >>> figures["n_kept"], figures["error_max"] <= figures["error_bound"]
    (2, True)
    """
    n_classes, *shape = values.shape
    code = ScaleOffset(dtype, 0.0, 1.0)
    negligible = negligible_share(n_classes, code.scale, max_dropped)
    regions = values.blocks if isinstance(values, VolumesByBlock) else _regions(shape)
    with ThreadPoolExecutor(threads) as pool:
        blocks = list(pool.map(lambda region: _ranked(values, region, negligible), regions))
        n_ranks = max(1, *(len(block.voxels) for block in blocks))
        left_out = np.max([_to_length(block.left_out, n_ranks + 1) for block in blocks], axis=0)
        n_kept = max(1, int(np.count_nonzero(left_out > max_dropped)))
        dropped_sum = sum(float(_to_length(block.left_out_sum, n_ranks + 1)[n_kept]) for block in blocks)
        levels = np.zeros((n_kept, *shape), dtype)
        classes = np.zeros((n_kept, *shape), class_dtype(n_classes))

        def fill(region: Box, block: _Ranked) -> float:
            return _fill(block, levels[:, *region], classes[:, *region], code)

        errors = list(pool.map(fill, regions, blocks))
    bound = max_dropped + code.scale + SUM_TOLERANCE
    error = max(float(negligible), *errors)
    if not error <= bound:
        raise CertificateError(
            f"sparse target: a share is off by {error:.6g}, expected at most {bound:.6g}; nothing is stored. "
            "Please report this case"
        )
    names = [str(rank) for rank in range(1, n_kept + 1)]
    layers = [
        Layer(SHARES, DecodedLevels(levels, code), names, code),
        Layer(CLASSES, classes, names, flag_meanings=tuple(class_names)),
    ]
    figures = {
        "n_kept": n_kept,
        "max_dropped": max_dropped,
        "dropped_max": _six_digits(left_out[n_kept]),
        "dropped_mean": _six_digits(dropped_sum / classes[0].size),
        "error_max": _six_digits(error),
        "error_bound": _six_digits(bound),
    }
    return layers, figures


def negligible_share(n_classes: int, level: float, max_dropped: float) -> np.float32:
    """Return the share up to which a class is left out even where a slot is free.

    It rounds to 0, and all such classes of a voxel together take up no more than half of what may be dropped.
    """
    return np.float32(min(level, max_dropped / n_classes) / 2)


def _regions(shape: Sequence[int]) -> list[Box]:
    """Return the blocks of a volume, whole rows and planes where they are not too large."""
    sizes, room = [0, 0, 0], _BLOCK
    for axis in (2, 1, 0):
        sizes[axis] = max(1, min(shape[axis], room))
        room //= sizes[axis]
    starts = itertools.product(*(range(0, n, size) for n, size in zip(shape, sizes, strict=True)))
    return [(slice(z, z + sizes[0]), slice(y, y + sizes[1]), slice(x, x + sizes[2])) for z, y, x in starts]


def _rows(values: Shares, region: Box) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the number and the (n,) shares of each class in a block; a class that is surely 0 there is left out."""
    if isinstance(values, VolumesByBlock):
        yield from enumerate(values.read(region).reshape(values.shape[0], -1))
        return
    for number in range(values.shape[0]):
        if not isinstance(values, BoxedVolumes):
            yield number, values[number][region].reshape(-1)
        elif not values.is_filled(number, region):
            yield number, values.region(number, region).reshape(-1)


def _ranked(values: Shares, region: Box, negligible: np.float32) -> _Ranked:
    """Return the classes of a block above a share, ranked; CertificateError if it is no distribution."""
    n_voxels = math.prod(len(range(*part.indices(n))) for part, n in zip(region, values.shape[1:], strict=True))
    total, lowest, dtype = np.zeros(n_voxels), 0.0, class_dtype(values.shape[0])
    where, numbers, shares = [np.zeros(0, np.uint16)], [np.zeros(0, dtype)], [np.zeros(0, np.float32)]
    for number, row in _rows(values, region):
        total += row
        lowest = min(lowest, float(row.min()))
        above = np.flatnonzero(row > negligible)
        where.append(above.astype(np.uint16))
        shares.append(row[above])
        numbers.append(np.full(len(above), number, dtype))
    if not ((np.abs(total - 1) <= SUM_TOLERANCE) | (total == 0)).all() or lowest < 0:
        worst = float(total[np.argmax(np.where(total == 0, 0, np.abs(total - 1)))])
        raise CertificateError(
            f"sparse target: got shares from {lowest:.6g} that sum to {worst:.6g} at a voxel, expected shares from 0 "
            "that sum to 1 or are all 0; nothing is stored. Set storage: dense, and please report this case"
        )
    return _ranks(np.concatenate(where), np.concatenate(numbers), np.concatenate(shares), total)


def _ranks(
    voxel: NDArray[np.uint16], number: NDArray[Any], share: NDArray[np.float32], total: NDArray[np.float64]
) -> _Ranked:
    """Return shares of the voxels of a block by rank; they come class after class."""
    count = np.bincount(voxel, minlength=len(total))
    # By voxel, then by falling share; both sorts are stable, so that equal shares keep the order of the classes.
    order = np.argsort(voxel, kind="stable")
    several = np.flatnonzero(count[voxel[order]] > 1)
    among = order[several]
    order[several] = among[np.lexsort((-share[among], voxel[among]))]
    voxel, number, share = voxel[order], number[order], share[order]
    rank = np.arange(len(voxel)) - np.repeat(np.cumsum(count) - count, count)
    ranks = [np.flatnonzero(rank == r) for r in range(count.max(initial=0))]
    left = total.copy()
    left_out, left_out_sum = [float(left.max())], [float(left.sum())]
    for at in ranks:
        left[voxel[at]] -= share[at]
        left_out.append(max(float(left.max()), 0.0))
        left_out_sum.append(max(float(left.sum()), 0.0))
    return _Ranked(
        tuple(voxel[at] for at in ranks),
        tuple(number[at] for at in ranks),
        tuple(share[at] for at in ranks),
        np.array(left_out),
        np.array(left_out_sum),
    )


def _fill(block: _Ranked, levels: NDArray[Any], classes: NDArray[Any], code: ScaleOffset) -> float:
    """Write the levels and classes (K, d, h, w) of a block; return the largest difference from a true share."""
    n_kept, n_voxels = len(levels), levels[0].size
    shares, numbers = np.zeros((n_kept, n_voxels), np.float32), np.zeros((n_kept, n_voxels), classes.dtype)
    for rank, (voxels, own, values) in enumerate(zip(block.voxels, block.classes, block.shares, strict=True)):
        if rank < n_kept:
            shares[rank, voxels], numbers[rank, voxels] = values, own
    error = max((float(values.max(initial=0)) for values in block.shares[n_kept:]), default=0.0)
    found = _levels(shares, np.iinfo(code.dtype).max).astype(code.dtype)
    numbers[found == 0] = 0
    levels[...], classes[...] = found.reshape(levels.shape), numbers.reshape(levels.shape)
    shares -= code.decode(found)
    return max(error, float(np.abs(shares).max()))


def _levels(shares: NDArray[np.float32], total: int) -> NDArray[np.int64]:
    """Return (K, n) integers that sum to `total` in each column, in proportion to the shares, by largest remainders.

    A column of zeros stays 0. Of equal remainders the first ones are rounded up.

    Examples
    --------
    >>> _levels(np.float32([[0.5, 0], [0.25, 0], [0.25, 0]]), 255).T.tolist()  # 127.5, 63.75, 63.75
    [[127, 64, 64], [0, 0, 0]]
    """
    levels = np.zeros(shares.shape, np.int64)
    levels[0, shares[0] > 0] = total
    several = np.flatnonzero(shares[1:].any(axis=0))
    exact = shares[:, several].astype(np.float64)
    exact *= total / exact.sum(axis=0)
    down = np.floor(exact)
    short = total - down.sum(axis=0)
    for place, rows in enumerate(np.argsort(down - exact, axis=0, kind="stable")):
        down[rows, np.arange(len(several))] += place < short
    levels[:, several] = down
    return levels


def _to_length(figures: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """Return figures by the number of ranks kept; further ranks change nothing."""
    return np.pad(figures, (0, length - len(figures)), mode="edge")


def _six_digits(value: float) -> float:
    """Return a figure with 6 digits: those that do not depend on how a processor adds up."""
    return float(f"{value:.6g}")
