"""Partial volume: the one-hot label of the label file, resampled to the target grid and kept fractional.

A voxel of the target grid has for each class the share of it in the label file, by linear interpolation. Going to
larger voxels, the one-hot label is first blurred by the Gaussian that makes up for the growth of the voxel (Cardoso et
al., MICCAI 2015): with voxels as Gaussians of full width at half maximum h, ``sigma^2 = (h_target^2 - h_source^2) / (8
ln 2)`` along each axis of the source. Without it, linear interpolation reads at most 8 voxels and misses the others.

In [0, 1]; sums to one wherever the masks do. An absent class is 0 everywhere. Beyond the label file its border is
repeated. On one and the same grid the result is the one-hot label. Padding is 1 for the background and 0 elsewhere. All
augmentations keep it valid. No load-time parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from softlabels._shared.boxed import NO_BOX, BoxedVolumes, boxed
from softlabels._shared.rate import Rate
from softlabels.errors import InputError
from softlabels.methods.arrays import BoxedInputs, BoxedMap, Need
from softlabels.methods.boxed import BoxedMethod


class PartialVolume(BoxedMethod):
    """The one-hot label resampled linearly to the target grid."""

    name: ClassVar[str] = "partial_volume"
    title: ClassVar[str] = "partial volume"
    source: ClassVar[str] = "blur before resampling: Cardoso et al., MICCAI 2015"
    version: ClassVar[str] = "3"
    needs: ClassVar[frozenset[Need]] = frozenset({"source_labels"})
    boxed_cost: ClassVar[Rate] = Rate(us=0.05, memory_bytes=0.05, disk_bytes=0.04, volume_bytes=25)

    antialias: bool = Field(True, description="smooth the fine label before it is sampled on a coarser grid")

    def boxed_map(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the fractional labels of a case, each class in the box where it has a share."""
        source: BoxedVolumes = inputs.required("source_masks")
        matrix = np.asarray(inputs.required("source_from_target"), np.float64)
        shape, whole = inputs.masks.shape[1:], tuple(slice(0, n) for n in source.shape[1:])
        resample, sigma = _resampling(matrix, shape, antialias=self.antialias)
        nothing = NO_BOX, np.empty((0, 0, 0), np.float32)
        parts = [
            boxed(resample(source.region(index, whole)), fill=0) if mask.any() else nothing
            for index, (_, mask) in enumerate(source)
        ]
        names = zip(inputs.class_names, source, strict=True)
        flags = [f"class '{name}' absent" for name, (_, mask) in names if not mask.any()]
        if np.allclose(matrix, np.eye(4)) and source.shape == inputs.masks.shape:
            flags.append("label file and target grid agree: nothing to soften")
        values = BoxedVolumes(shape, parts, fill=0, dtype=np.float32)
        return BoxedMap(values, flags, {"sigma_source_voxels": list(sigma)})


def partial_volume_map(
    source_masks: NDArray[np.bool_], shape: Sequence[int], source_from_target: ArrayLike, *, antialias: bool
) -> NDArray[np.float32]:
    """Return the share of each class in each voxel of another grid.

    Parameters
    ----------
    source_masks : (C, d, h, w) bool array
        Masks on the grid of the label file.
    shape : 3 ints
        (D, H, W) of the target grid.
    source_from_target : (4, 4) array
        Maps homogeneous voxel indices (z, y, x, 1) of the target grid to those of the source grid.
    antialias : bool
        Whether to blur first where voxels grow.

    Returns
    -------
    (C, D, H, W) float32 array

    Examples
    --------
    Half a voxel off, an edge is half and half.

    >>> row = np.array([[[[0, 0, 1, 1]]]], bool)
    >>> half_off = np.eye(4)
    >>> half_off[2, 3] = 0.5
    >>> partial_volume_map(row, (1, 1, 3), half_off, antialias=True).ravel().tolist()
    [0.0, 0.5, 1.0]
    """
    resample, _ = _resampling(np.asarray(source_from_target, np.float64), shape, antialias=antialias)
    return np.stack([resample(mask) for mask in source_masks])


def _resampling(
    matrix: NDArray[np.float64], shape: Sequence[int], *, antialias: bool
) -> tuple[Callable[[NDArray[np.bool_]], NDArray[np.float32]], tuple[float, ...]]:
    """Return what resamples one mask, and its blur in source voxels."""
    from scipy import ndimage

    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise InputError(f"source_from_target: got {matrix.tolist()}, expected a finite invertible 4x4 matrix")
    sigma = _antialias_sigma(matrix) if antialias else (0.0, 0.0, 0.0)

    def resample(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return the share (D, H, W) of one class."""
        soft, out = mask.astype(np.float32), np.empty(shape, np.float32)
        if any(sigma):
            soft = ndimage.gaussian_filter(soft, sigma, mode="nearest")
        ndimage.affine_transform(soft, matrix, output_shape=tuple(shape), output=out, order=1, mode="nearest")
        return np.clip(out, 0, 1, out=out)

    return resample, sigma


def _antialias_sigma(matrix: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the blur in source voxels along each axis of the source, 0 where voxels do not grow."""
    growth = (matrix[:3, :3] ** 2).sum(axis=1) - 1
    # Grids that differ by rounding noise only are the same grid.
    growth[growth < 1e-6] = 0
    return tuple(float(s) for s in np.sqrt(growth / (8 * np.log(2))))
