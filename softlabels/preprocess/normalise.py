"""Clipping and normalising one channel, in blocks that stay in a core's cache.

Statistics are those of float64 numbers. Sums are taken in the order in which numpy adds up a whole array, pair by pair,
so that neither the size of the blocks nor the memory they save changes a bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError

#: Voxels of a block.
_BLOCK = 2**15

Floats = NDArray[np.float64]


def normalise_channel(
    channel: NDArray[Any],
    out: NDArray[np.float32],
    *,
    inside: NDArray[np.bool_] | None = None,
    clip_percentiles: tuple[float, float] | None = None,
    normalise: Literal["none", "zscore", "minmax"] = "none",
) -> bool:
    """Write a channel, clipped and normalised, and return whether it is constant, which makes it 0.

    Parameters
    ----------
    channel : (D, H, W) array, finite
        Not modified, unless `out` is the same array.
    out : (D, H, W) float32 array, contiguous
        Each value is rounded once.
    inside : (D, H, W) bool array, optional
        Where statistics are taken; with `normalise`, 0 is written elsewhere.
    clip_percentiles, normalise
        As of `softlabels.preprocess.prepare.prepare`.

    Raises
    ------
    InputError
        If `out` is not contiguous: what is written by blocks would go to a copy of it.

    Notes
    -----
    Cost: 10 ns a voxel. Memory: a copy of the voxels inside, for the percentiles.

    Examples
    --------
    >>> out = np.empty((1, 1, 4), np.float32)
    >>> normalise_channel(np.array([[[0, 1, 3, 4]]]), out, normalise="minmax"), out.tolist()
    (False, [[[0.0, 0.25, 0.75, 1.0]]])
    """
    if not out.flags.c_contiguous:
        raise InputError("normalise_channel: got an `out` that is not contiguous, expected an array in C order")
    if clip_percentiles is None and normalise == "none":
        if out is not channel:
            out[...] = channel
        return False
    flat = np.ascontiguousarray(channel).reshape(-1)
    mask = None if inside is None else np.ascontiguousarray(inside).reshape(-1)
    sample = flat if mask is None else flat[mask]
    low, high = -np.inf, np.inf
    if clip_percentiles is not None:
        low, high = _percentiles(sample, clip_percentiles).tolist()
    scratch = np.empty(min(_BLOCK, max(flat.size, sample.size)))

    def clipped(values: NDArray[Any], start: int, stop: int) -> Floats:
        part = scratch[: stop - start]
        np.copyto(part, values[start:stop])
        return np.clip(part, low, high, out=part)

    def deviations(start: int, stop: int) -> Floats:
        part = clipped(sample, start, stop)
        part -= centre
        return np.square(part, out=part)

    # Clipping keeps the order, so these are the extremes of the clipped values.
    smallest, largest = np.clip(np.array([sample.min(), sample.max()], np.float64), low, high).tolist()
    centre, width = 0.0, 1.0
    if normalise != "none" and smallest == largest:
        out[...] = 0
        return True
    if normalise == "zscore":
        centre = _sum(lambda start, stop: clipped(sample, start, stop), 0, sample.size) / sample.size
        width = math.sqrt(_sum(deviations, 0, sample.size) / sample.size)
    elif normalise == "minmax":
        centre, width = smallest, largest - smallest
    written = out.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        stop = min(start + _BLOCK, flat.size)
        part = clipped(flat, start, stop)
        if normalise != "none":
            part -= centre
            part /= width
            if mask is not None:
                part[~mask[start:stop]] = 0
        written[start:stop] = part
    return False


def _percentiles(sample: NDArray[Any], percentiles: tuple[float, float]) -> Floats:
    """Return percentiles as `numpy.percentile` interpolates them in float64, from a copy in the sample's own type."""
    places = (sample.size - 1) * (np.array(percentiles, np.float64) / 100)
    below = np.floor(places).astype(np.int64)
    above = np.minimum(below + 1, sample.size - 1)
    ordered = sample.copy()
    ordered.partition(np.unique([below, above]))
    first, second, share = ordered[below].astype(np.float64), ordered[above].astype(np.float64), places - below
    step = second - first
    return np.where(share < 0.5, first + step * share, second - step * (1 - share))


def _sum(values: Callable[[int, int], Floats], start: int, stop: int) -> float:
    """Return the sum of values(start, stop), a block at a time, with the bits of numpy's sum of the whole array."""
    n_values = stop - start
    if n_values <= _BLOCK:
        return float(values(start, stop).sum())
    # numpy halves an array likewise, at multiples of the eight sums that it runs side by side.
    middle = start + n_values // 2 // 8 * 8
    return _sum(values, start, middle) + _sum(values, middle, stop)
