"""Gaussian softening: each class blurred by a Gaussian, after Engelen et al. (PLoS ONE 2014).

The original weights the blur by the accuracy of a registration, which does not exist here; the superpixel paper, which
compares with it, chose sigma "empirically" and prints neither value nor unit. Here sigma is in mm, so that anisotropic
voxels are blurred alike in space.

In [0, 1]; sums to one wherever the masks do (normalised kernel, the volume's border repeated). An absent class is 0
everywhere. Padding is 1 for the background and 0 elsewhere. All augmentations keep it valid. No load-time parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.box import smooth_near_boundary
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.arrays import BoxedInputs, BoxedMap, TargetInputs, TargetMap
from softlabels.methods.boxed import BoxedMethod, Smooth, smoothed
from softlabels.methods.keys import TuningGrid

#: Where the kernel ends, in standard deviations.
_TRUNCATE = 4.0


class Gaussian(BoxedMethod):
    """Gaussian softening of each class (Engelen)."""

    name: ClassVar[str] = "gaussian"
    title: ClassVar[str] = "Gaussian"
    source: ClassVar[str] = "after van Engelen et al., PLoS ONE 2014"
    version: ClassVar[str] = "3"
    grid: ClassVar[TuningGrid] = {
        "sigma_mm": (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.85, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 8.0)
    }

    sigma_mm: float = Field(1.0, gt=0, le=100, description="of the Gaussian in mm (the paper leaves it open)")

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the blurred labels of a case."""
        values = gaussian_map(inputs.masks, inputs.spacing, sigma_mm=self.sigma_mm)
        return TargetMap(values, inputs.absent_flags())

    def boxed_map(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the blurred labels of many classes, each in its box."""
        smooth, margin = _smoothing(inputs.spacing, self.sigma_mm)
        return BoxedMap(smoothed(inputs.masks, smooth, margin, inputs.threads), inputs.absent_flags())


def gaussian_map(masks: NDArray[np.bool_], spacing: Sequence[float], *, sigma_mm: float) -> NDArray[np.float32]:
    """Return each mask blurred by a Gaussian.

    Parameters
    ----------
    masks : (C, D, H, W) bool array
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    sigma_mm : float
        Standard deviation in mm, > 0.

    Returns
    -------
    (C, D, H, W) float32 array

    Examples
    --------
    >>> half = np.array([[[[0, 0, 0, 1, 1, 1]]]], bool)
    >>> gaussian_map(half, (5, 1, 1), sigma_mm=1.0).ravel().round(3).astype(str).tolist()
    ['0.005', '0.059', '0.301', '0.699', '0.941', '0.995']
    """
    smooth, margin = _smoothing(spacing, sigma_mm)
    return np.stack([smooth_near_boundary(mask, smooth, margin) for mask in masks])


def _smoothing(spacing: Sequence[float], sigma_mm: float) -> tuple[Smooth, tuple[int, ...]]:
    """Return the blur of a box, and how far it reaches."""
    from scipy import ndimage

    if not (np.isfinite(sigma_mm) and sigma_mm > 0):
        raise InputError(f"sigma_mm: got {sigma_mm}, expected a finite number of mm > 0")
    sigmas = [sigma_mm / side for side in checked_spacing(spacing)]

    def smooth(box: NDArray[np.float32]) -> NDArray[np.float32]:
        """Blur one float32 box."""
        blurred = ndimage.gaussian_filter(box, sigmas, mode="nearest", truncate=_TRUNCATE)
        return np.clip(blurred, 0, 1, out=blurred)

    return smooth, tuple(int(_TRUNCATE * sigma + 0.5) for sigma in sigmas)
