"""Resampling between grids whose axes run the same way: pure, separable, and the same on every machine.

A target voxel's value along one axis is a weighted sum of a few source voxels ("taps"), so a volume is resampled axis
by axis with the same three lines for every kernel. There are no threads and no order of summation to choose, hence no
difference between runs. Beyond the first and last source voxel the outermost value is repeated.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from softlabels.errors import InputError
from softlabels.grid import Grid

Kernel = Literal["nearest", "linear", "bspline"]
#: Coordinates are rounded to this many digits of a voxel, so that noise in an affine cannot decide a tie.
_DIGITS = 6
#: FWHM of a Gaussian in standard deviations.
_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))


def resampled_grid(grid: Grid, spacing) -> Grid:
    """Return the grid of `spacing` that covers the same box of space.

    Along each axis the new grid has ``max(1, round(n * old / new))`` voxels and the same centre, so that each face of
    the box moves by at most a quarter of a new voxel (half, where one voxel is left). An axis whose spacing changes by
    less than a thousandth is kept as it is.

    Parameters
    ----------
    grid : Grid
    spacing : tuple of 3 floats
        Wanted voxel size in mm, ordered (z, y, x) like the array, whatever its orientation in the body.

    Returns
    -------
    Grid

    Examples
    --------
    >>> new = resampled_grid(Grid((10, 4, 4), (5.0, 1.0, 1.0)), (2.5, 1.0, 2.0))
    >>> new.shape, new.position((0, 0, 0))
    ((20, 4, 2), (0.5, 0.0, -1.25))
    """
    old = np.array(grid.spacing)
    new = np.where(np.abs(old - spacing) <= 1e-3 * old, old, np.asarray(spacing, float))
    shape = np.maximum(1, np.floor(np.array(grid.shape) * old / new + 0.5)).astype(int)
    affine = grid.affine_ras
    centre = affine @ [*((np.array(grid.shape) - 1) / 2), 1.0]
    affine[:3, :3] *= new / old
    affine[:3, 3] = (centre - affine @ [*((shape - 1) / 2), 0.0])[:3]
    return Grid(tuple(shape), tuple(new), affine)


def resample(values: np.ndarray, source: Grid, target: Grid, kernel: Kernel, *, antialias: bool = False) -> np.ndarray:
    """Return `values` on the target grid.

    Parameters
    ----------
    values : (D, H, W) array on `source`
    source, target : Grid
        Their axes must run in the same directions; spacing, size and position may differ.
    kernel : {"nearest", "linear", "bspline"}
        `nearest` takes the closest voxel (a tie takes the higher index) and keeps the type. The others give float64:
        `linear` between the two neighbours, `bspline` the interpolating cubic B-spline (mirrored at the border).
    antialias : bool
        Before `linear` or `bspline`, smooth by the Gaussian that widens the source voxel's FWHM to the target
        voxel's, along each axis on which the target is coarser (Cardoso et al., MICCAI 2015).

    Returns
    -------
    (D', H', W') array

    Raises
    ------
    InputError
        The shape does not fit, or the axes of the grids run in different directions.

    Examples
    --------
    >>> coarse = resampled_grid(Grid((1, 1, 4), (1, 1, 1)), (1, 1, 2))
    >>> resample(np.array([[[0.0, 1.0, 1.0, 3.0]]]), Grid((1, 1, 4), (1, 1, 1)), coarse, "linear")
    array([[[0.5, 2. ]]])
    """
    if values.shape != source.shape:
        raise InputError(f"resample: got values of shape {values.shape}, expected {source.shape} as in the source grid")
    scales, offsets = _axis_maps(source, target)
    if kernel == "nearest":
        for axis, (scale, offset) in enumerate(zip(scales, offsets, strict=True)):
            index = np.floor(_positions(target.shape[axis], scale, offset) + 0.5).astype(int)
            values = values.take(index.clip(0, source.shape[axis] - 1), axis=axis)
        return values
    out = values.astype(np.float64)
    if antialias:
        from scipy.ndimage import gaussian_filter

        sigma = np.sqrt(np.maximum(scales**2 - 1.0, 0.0)) / _FWHM
        out = gaussian_filter(out, sigma, mode="nearest", truncate=6.0)
    for axis, (scale, offset) in enumerate(zip(scales, offsets, strict=True)):
        if scale == 1.0 and offset == 0.0 and target.shape[axis] == source.shape[axis]:
            continue
        if kernel == "bspline" and source.shape[axis] > 1:
            from scipy.ndimage import spline_filter1d

            out = spline_filter1d(out, order=3, axis=axis, mode="mirror")
        positions = _positions(target.shape[axis], scale, offset)
        out = _weighted_taps(out, axis, *_taps(kernel, positions, source.shape[axis]))
    return out


def _axis_maps(source: Grid, target: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Return (scale, offset), each (3,): source index = scale * target index + offset, along each axis."""
    to_source = np.linalg.solve(source.affine_ras, target.affine_ras)
    linear = to_source[:3, :3]
    off_axis = np.abs(linear - np.diag(np.diag(linear))) * (np.array(target.shape) - 1)
    if off_axis.max() > 0.05 or (np.diag(linear) <= 0).any():
        raise InputError(
            f"resample: axes of source ({source.orientation}) and target ({target.orientation}) run in different "
            "directions; expected grids that differ in spacing, size and position only"
        )
    return np.round(np.diag(linear), 9), np.round(to_source[:3, 3], _DIGITS)


def _positions(n: int, scale: float, offset: float) -> np.ndarray:
    """Return the source coordinates of n target voxels."""
    return np.round(np.arange(n) * scale + offset, _DIGITS)


def _taps(kernel: Kernel, positions: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return source indices and weights, each (taps, len(positions))."""
    positions = positions.clip(0, n - 1)
    first = np.floor(positions).astype(int)
    far = positions - first
    if kernel == "linear":
        return np.stack([first, np.minimum(first + 1, n - 1)]), np.stack([1.0 - far, far])
    weights = [(1 - far) ** 3, 3 * far**3 - 6 * far**2 + 4, -3 * far**3 + 3 * far**2 + 3 * far + 1, far**3]
    period = max(2 * n - 2, 1)
    index = np.abs(np.stack([first - 1, first, first + 1, first + 2])) % period
    return np.minimum(index, period - index), np.stack(weights) / 6.0


def _weighted_taps(values: np.ndarray, axis: int, index: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the sum over taps of weight * value along one axis."""
    shape = [1, 1, 1]
    shape[axis] = -1
    return sum(values.take(i, axis=axis) * w.reshape(shape) for i, w in zip(index, weights, strict=True))
