"""The way back: from the grid of a prepared case to that of its files; the inverse of cropping and resampling. Pure.

Values are interpolated linearly, class by class, and label values are chosen from the result: borders have no
stair steps, and no voxel is left without a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.classes import LabelClass
from softlabels.errors import InputError
from softlabels.grid import Grid

#: How far a face of a resampled box may have moved, in voxels of the prepared grid; half where one voxel is left.
_MOVED = 0.25
#: Coordinates are rounded to this many digits of a voxel, so that noise in an affine cannot decide.
_DIGITS = 6
#: A region is predicted where its probability exceeds this, or a signed map exceeds 0.
_HALF = 0.5

#: Brings a channel onto the voxels of the files' grid that are in the prepared box.
_Boxed = Callable[[NDArray[Any]], NDArray[np.float32]]


@dataclass(frozen=True)
class _Axis:
    """Linear interpolation along one axis.

    Parameters
    ----------
    inside : slice
        Which voxels of the files' grid are in the prepared box.
    low, high : (n,) arrays of int
        The two prepared voxels around each of those.
    share : (n,) float32 array
        The weight of `high`.
    """

    inside: slice
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    share: NDArray[np.float32]


def restored(values: NDArray[Any], prepared: Grid, files: Grid, fill: float = 0.0) -> NDArray[np.float32]:
    """Return a volume on the grid of a case's files.

    Parameters
    ----------
    values : (D, H, W) array
        On the prepared grid. Not modified.
    prepared, files : Grid
        Their axes run in the same directions; `prepared` is `files` cropped and resampled.
    fill : float
        Outside of the prepared box.

    Returns
    -------
    (D', H', W') float32 array

    Raises
    ------
    InputError
        If the shape is another, or one grid was not made from the other.

    Notes
    -----
    Within half a prepared voxel of the box's faces the outermost value is repeated, as resampling does. Where the grids
    have the same voxels, the values are copied exactly. Cost: a few passes over the result.

    Examples
    --------
    >>> files = Grid((1, 1, 6), (1.0, 1.0, 1.0))
    >>> restored(np.array([[[4.0, 8.0]]]), files.cropped((0, 0, 3), (1, 1, 2)), files).tolist()
    [[[0.0, 0.0, 0.0, 4.0, 8.0, 0.0]]]
    """
    if values.shape != prepared.shape:
        raise InputError(f"restore: got values of shape {values.shape}, expected {prepared.shape}, the prepared grid")
    axes = _axes(prepared, files)
    part = np.asarray(values, np.float32)
    for number, axis in enumerate(axes):
        part = _interpolated(part, axis, number)
    out = np.full(files.shape, fill, np.float32)
    out[tuple(axis.inside for axis in axes)] = part
    return out


def restored_labels(
    channels: Sequence[NDArray[Any]],
    prepared: Grid,
    files: Grid,
    classes: Sequence[LabelClass],
    *,
    is_overlapping: bool = False,
    threshold: float = _HALF,
) -> NDArray[Any]:
    """Return the label values that a network predicts, on the grid of a case's files.

    Parameters
    ----------
    channels : C arrays (D, H, W)
        Probabilities (or logits, or a signed map) of each class on the prepared grid. One is interpolated at a time.
    prepared, files : Grid
        As for `restored`.
    classes : C LabelClass
    is_overlapping : bool
        Exclusive classes: the largest channel wins, on a tie the first, and its first value is written. Overlapping
        regions: each contains the voxels above `threshold`, and the value is written whose own regions are these, or
        differ in the fewest; on a tie the first of 0 and the classes' values.
    threshold : float
        For overlapping regions.

    Returns
    -------
    (D', H', W') array of uint8, uint16 or int32
        0 outside of the prepared box.

    Raises
    ------
    InputError
        As for `restored`; or if the number of channels is another.

    Examples
    --------
    >>> classes = [LabelClass("background", (0,)), LabelClass("tumour", (4,))]
    >>> grid = Grid((1, 1, 3), (1.0, 1.0, 1.0))
    >>> tumour = np.array([[[0.2, 0.7, 0.9]]])
    >>> restored_labels([1 - tumour, tumour], grid, grid, classes).tolist()
    [[[0, 4, 4]]]
    """
    if len(channels) != len(classes):
        raise InputError(f"restore: got {len(channels)} channels, expected one for each of {len(classes)} classes")
    values = [0, *dict.fromkeys(v for c in classes for v in c.values if v)]
    dtype = np.result_type(*(np.min_scalar_type(value) for value in values))
    dtype = dtype if dtype.itemsize <= 2 else np.dtype(np.int32)
    box = tuple(axis.inside for axis in _axes(prepared, files))

    def boxed(channel: NDArray[Any]) -> NDArray[np.float32]:
        return restored(channel, prepared, files)[box]

    found = (
        _of_regions(channels, boxed, classes, values, threshold)
        if is_overlapping
        else _largest(channels, boxed, classes)
    )
    labels = np.zeros(files.shape, dtype)
    labels[box] = found
    return labels


def _largest(
    channels: Sequence[NDArray[Any]],
    boxed: _Boxed,
    classes: Sequence[LabelClass],
) -> NDArray[np.int64]:
    """Return the first value of the class with the largest channel, within the box."""
    best = boxed(channels[0])
    labels = np.full(best.shape, classes[0].values[0])
    for channel, one in zip(channels[1:], classes[1:], strict=True):
        candidate = boxed(channel)
        is_larger = candidate > best
        labels[is_larger] = one.values[0]
        np.maximum(best, candidate, out=best)
    return labels


def _of_regions(
    channels: Sequence[NDArray[Any]],
    boxed: _Boxed,
    classes: Sequence[LabelClass],
    values: Sequence[int],
    threshold: float,
) -> NDArray[np.int64]:
    """Return the value whose regions are those predicted, or the most similar, within the box."""
    pattern = (boxed(channels[0]) > threshold).astype(np.int64)
    for number, channel in enumerate(channels[1:], 1):
        pattern |= (boxed(channel) > threshold).astype(np.int64) << number
    own = [sum((value in one.values) << number for number, one in enumerate(classes)) for value in values]
    found, where = np.unique(pattern, return_inverse=True)
    nearest = [min(range(len(own)), key=lambda n: (int(bits) ^ own[n]).bit_count()) for bits in found]
    labels: NDArray[np.int64] = np.asarray(values)[np.asarray(nearest)][where]
    return labels.reshape(where.shape)


def _axes(prepared: Grid, files: Grid) -> list[_Axis]:
    """Return how to interpolate along each axis, or raise InputError if the axes run in different directions."""
    to_prepared = np.linalg.solve(prepared.affine_ras, files.affine_ras)
    linear = to_prepared[:3, :3]
    off_axis = np.abs(linear - np.diag(np.diag(linear))) * (np.array(files.shape) - 1)
    if off_axis.max() > 0.05 or (np.diag(linear) <= 0).any():
        raise InputError(
            f"restore: the axes of the prepared case ({prepared.orientation}) and of its files ({files.orientation}) "
            "run in different directions. Give the image that the case was made from"
        )
    numbers = zip(np.diag(linear), to_prepared[:3, 3], prepared.shape, files.shape, strict=True)
    return [_axis(float(scale), float(offset), n, n_files) for scale, offset, n, n_files in numbers]


def _axis(scale: float, offset: float, n_prepared: int, n_files: int) -> _Axis:
    """Return how to interpolate along an axis on which voxel i of the files is at ``scale * i + offset``."""
    at = np.round(scale * np.arange(n_files) + offset, _DIGITS)
    is_same = abs(scale - 1) < 1e-3
    reach = 0.5 + (0.0 if is_same else _MOVED if n_prepared > 1 else 0.5)
    within = np.flatnonzero((at >= -reach) & (at <= n_prepared - 1 + reach))
    if not len(within):
        raise InputError("restore: the prepared case is not inside of its files. Give the image that it was made from")
    inside = slice(int(within[0]), int(within[-1]) + 1)
    at = at[inside].clip(0, n_prepared - 1)
    low = np.floor(at).astype(np.int64)
    return _Axis(inside, low, np.minimum(low + 1, n_prepared - 1), (at - low).astype(np.float32))


def _interpolated(values: NDArray[np.float32], axis: _Axis, number: int) -> NDArray[np.float32]:
    """Return values between neighbours along axis `number`; exactly those of `low` where the share is 0."""
    low = values.take(axis.low, number)
    if not axis.share.any():
        return low
    share = axis.share.reshape([-1 if n == number else 1 for n in range(3)])
    step = values.take(axis.high, number)
    step -= low
    step *= share
    low += step
    return low
