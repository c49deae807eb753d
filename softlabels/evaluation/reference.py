"""True soft labels from files: probability maps or the mean of raters, brought to the grid of a case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.volume import read_volume
from softlabels.preprocess.resample import resample


def read_reference(paths: Sequence[str | Path], grid: Grid) -> NDArray[np.float32]:
    """Return a true soft label on a grid, from one map per class or one file with a channel per class.

    Maps are resampled linearly. If they do not sum to one everywhere, what is missing is the background, put first.

    Parameters
    ----------
    paths : sequence of paths
        In the order of the classes; the background may be left out.
    grid : Grid
        Of the prepared case; its axes must run as those of the maps.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1], summing to one.

    Raises
    ------
    InputError
        If a map has values outside [0, 1], or their sum exceeds one.
    """
    maps = []
    for path in paths:
        volume = read_volume(path)
        channels = volume.values if volume.values.ndim == 4 else volume.values[None]
        maps += [resample(channel, volume.grid, grid, "linear").astype(np.float32) for channel in channels]
    reference = np.stack(maps)
    total = reference.sum(axis=0)
    if reference.min() < 0 or total.max() > 1.01:
        raise InputError(
            f"reference {', '.join(map(str, paths))}: got values from {reference.min():.3g} and sums up to "
            f"{total.max():.3g}, expected probabilities of one distribution"
        )
    if np.abs(total - 1).max() > 0.01:
        reference = np.concatenate([np.maximum(1 - total, 0)[None], reference])
    return reference
