"""Resampling between grids whose axes run the same way, by SimpleITK; pure, and the same for any number of threads.

SimpleITK is given voxel indices, not millimetres: source voxels are at 0, 1, 2, ..., so that the noise of an affine
cannot decide which of two voxels is nearest. Within half a voxel of the border, nearest and linear repeat the outermost
value and the spline mirrors the volume.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import MAX_VOXELS, Grid, as_rows

Kernel = Literal["nearest", "linear", "bspline"]
#: Coordinates are rounded to this many digits of a voxel, so that noise in an affine cannot decide a tie.
_DIGITS = 6
_INTERPOLATORS = {"nearest": "sitkNearestNeighbor", "linear": "sitkLinear", "bspline": "sitkBSpline"}
#: FWHM of a Gaussian in standard deviations.
_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))


def resampled_grid(grid: Grid, spacing: Sequence[float]) -> Grid:
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

    Raises
    ------
    InputError
        If it would have more voxels than a volume may have (`softlabels.grid.MAX_VOXELS`).

    Examples
    --------
    >>> new = resampled_grid(Grid((10, 4, 4), (5.0, 1.0, 1.0)), (2.5, 1.0, 2.0))
    >>> new.shape, new.position((0, 0, 0))
    ((20, 4, 2), (0.5, 0.0, -1.25))
    """
    old = np.array(grid.spacing)
    new = np.where(np.abs(old - spacing) <= 1e-3 * old, old, np.asarray(spacing, float))
    sizes = np.maximum(1, np.floor(np.array(grid.shape) * old / new + 0.5))
    if sizes.prod() > MAX_VOXELS:
        raise InputError(
            f"resample: spacing {[float(side) for side in new]} mm makes {sizes.prod():.3g} voxels of a volume of "
            f"{grid.shape}, expected at most {MAX_VOXELS}. Set a coarser prepare.spacing (in mm)"
        )
    shape = sizes.astype(int)
    affine = grid.affine_ras
    centre = affine @ [*((np.array(grid.shape) - 1) / 2), 1.0]
    affine[:3, :3] *= new / old
    affine[:3, 3] = (centre - affine @ [*((shape - 1) / 2), 0.0])[:3]
    (depth, height, width), (z, y, x) = shape.tolist(), new.tolist()
    return Grid((depth, height, width), (z, y, x), as_rows(affine))


def resample(
    values: NDArray[Any], source: Grid, target: Grid, kernel: Kernel, *, antialias: bool = False
) -> NDArray[Any]:
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
        return _resampled(values, scales, offsets, target.shape, kernel)
    out = values.astype(np.float64)
    if antialias:
        from scipy.ndimage import gaussian_filter

        sigma = np.sqrt(np.maximum(scales**2 - 1.0, 0.0)) / _FWHM
        out = gaussian_filter(out, sigma, mode="nearest", truncate=6.0)
    return _resampled(out, scales, offsets, target.shape, kernel)


def _axis_maps(source: Grid, target: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return (scale, offset), each (3,): source index = scale * target index + offset, along each axis."""
    to_source = np.linalg.solve(source.affine_ras, target.affine_ras)
    linear = to_source[:3, :3]
    off_axis = np.abs(linear - np.diag(np.diag(linear))) * (np.array(target.shape) - 1)
    if off_axis.max() > 0.05 or (np.diag(linear) <= 0).any():
        raise InputError(
            f"resample: axes of source ({source.orientation}) and target ({target.orientation}) run in different "
            "directions; expected grids that differ in spacing, size and position only"
        )
    scales = np.diag(linear).astype(np.float64)
    return np.round(scales, 9), np.round(to_source[:3, 3], _DIGITS)


def _resampled(
    values: NDArray[Any],
    scales: NDArray[np.float64],
    offsets: NDArray[np.float64],
    shape: tuple[int, int, int],
    kernel: Kernel,
) -> NDArray[Any]:
    """Return the voxels at ``scale * index + offset`` of an array, by SimpleITK; the type is kept."""
    # Its import takes a fifth of a second, and jobs that resample nothing need not wait for it.
    import SimpleITK as sitk

    if kernel == "bspline":
        # ITK reads beyond the ends of an axis of two voxels. Four, a b a b, continue as a mirrored a b does.
        values = np.pad(values, [(0, 2 if n == 2 else 0) for n in values.shape], mode="reflect")
    is_bool = values.dtype == bool
    image = sitk.GetImageFromArray(values.astype(np.uint8) if is_bool else values)
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(getattr(sitk, _INTERPOLATORS[kernel]))
    resampler.SetUseNearestNeighborExtrapolator(True)
    resampler.SetSize([int(n) for n in shape[::-1]])
    resampler.SetOutputSpacing([float(s) for s in scales[::-1]])
    resampler.SetOutputOrigin([float(o) for o in offsets[::-1]])
    out = sitk.GetArrayFromImage(resampler.Execute(image))
    return out.astype(bool) if is_bool else out
