"""SVLS, spatially varying label smoothing (Islam, Glocker, IPMI 2021), and the authors' code.

The one-hot label is convolved with a Gaussian whose centre weighs as much as all neighbours together:
``q = 0.5 y + 0.5 sum_j w_j y_j`` with sum_j w_j = 1 over the neighbours. Voxels beyond the volume repeat its border.

In [0, 1]; sums to one wherever the masks do. An absent class is 0 everywhere. Padding is 1 for the background and 0
elsewhere. All augmentations keep it valid; what rescaling changes is the width of the soft rim. No load-time
parameters.

The official form is the 3x3x3 kernel in voxels: the authors write the centre's index and the padding as 1, so that
other kernels come out wrong there and are refused here. With the same kernel both variants agree. An axis with one
voxel has no neighbours, so a 2D image gets the 2D kernel, as from the authors' 2D filter; their 3D filter would count
copies of the voxel itself as neighbours. With `spacing_aware`, sigma is in mm and far neighbours along a long voxel
axis weigh less.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from softlabels._shared.box import smooth_near_boundary
from softlabels._shared.section import faults_error
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.arrays import BoxedInputs, BoxedMap, TargetInputs, TargetMap
from softlabels.methods.boxed import BoxedMethod, Smooth, smoothed
from softlabels.methods.keys import TuningGrid


class SVLS(BoxedMethod):
    """Spatially varying label smoothing (Islam, Glocker, IPMI 2021)."""

    name: ClassVar[str] = "svls"
    title: ClassVar[str] = "SVLS"
    source: ClassVar[str] = "Islam and Glocker, IPMI 2021"
    version: ClassVar[str] = "3"
    grid: ClassVar[TuningGrid] = {"kernel_size": (3, 5, 7), "sigma": (0.5, 1.0, 2.0)}

    variant: Literal["paper", "official"] = Field("paper", description="any odd kernel, or the authors' 3x3x3 code")
    kernel_size: int = Field(3, ge=3, le=31, description="odd width of the Gaussian kernel in voxels")
    sigma: float = Field(1.0, gt=0, le=100, description="of the Gaussian, in voxels, or in mm with spacing_aware")
    spacing_aware: bool = Field(False, description="measure the kernel in mm")

    @field_validator("kernel_size")
    @classmethod
    def _check_kernel_size(cls, size: int, info: ValidationInfo) -> int:
        """Refuse kernels without a centre, and those that the authors' code gets wrong."""
        if size % 2 == 0:
            raise faults_error([f": got {size}, expected an odd number"])
        if info.data.get("variant") == "official" and size != 3:
            raise faults_error([f": got {size}, but the authors' code knows 3 only. Use variant paper"])
        return size

    @field_validator("spacing_aware")
    @classmethod
    def _check_spacing_aware(cls, is_aware: bool, info: ValidationInfo) -> bool:
        """Refuse mm where the authors' code has voxels."""
        if is_aware and info.data.get("variant") == "official":
            raise faults_error([": the authors' code measures in voxels. Remove it, or use variant paper"])
        return is_aware

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the smoothed labels of a case."""
        spacing = inputs.spacing if self.spacing_aware else (1.0, 1.0, 1.0)
        values = svls_map(inputs.masks, kernel_size=self.kernel_size, sigma=self.sigma, spacing=spacing)
        return TargetMap(values, inputs.absent_flags())

    def boxed_map(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the smoothed labels of many classes, each in its box."""
        spacing = inputs.spacing if self.spacing_aware else (1.0, 1.0, 1.0)
        smooth, margin = _smoothing(inputs.masks.shape[1:], self.kernel_size, self.sigma, spacing)
        return BoxedMap(smoothed(inputs.masks, smooth, margin, inputs.threads), inputs.absent_flags())


def svls_map(
    masks: NDArray[np.bool_], *, kernel_size: int, sigma: float, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> NDArray[np.float32]:
    """Return the spatially varying soft label.

    Parameters
    ----------
    masks : (C, D, H, W) bool array
    kernel_size : int
        Voxels along each axis, odd, >= 3.
    sigma : float
        Of the Gaussian, > 0, in the unit of `spacing`.
    spacing : 3 floats
        Voxel size (z, y, x); leave at 1 for sigma in voxels.

    Returns
    -------
    (C, D, H, W) float32 array

    Notes
    -----
    With the normalised separable Gaussian K and its centre weight K_0, the kernel is
    ``0.5 delta + 0.5 (K - K_0 delta) / (1 - K_0)``, so the cost is three 1D convolutions in the box of each class.

    Examples
    --------
    A lone voxel keeps a half; in the plane each edge neighbour gets half of exp(-1/2) / (4 exp(-1/2) + 4 exp(-1)).

    >>> mask = np.zeros((1, 1, 3, 3), bool)
    >>> mask[0, 0, 1, 1] = True
    >>> svls_map(mask, kernel_size=3, sigma=1.0)[0, 0].round(4).astype(str).tolist()
    [['0.0472', '0.0778', '0.0472'], ['0.0778', '0.5', '0.0778'], ['0.0472', '0.0778', '0.0472']]
    """
    smooth, margin = _smoothing(masks.shape[1:], kernel_size, sigma, spacing)
    return np.stack([smooth_near_boundary(mask, smooth, margin) for mask in masks])


def _smoothing(
    shape: Sequence[int], kernel_size: int, sigma: float, spacing: Sequence[float]
) -> tuple[Smooth, tuple[int, ...]]:
    """Return the smoothing of a box, and how far it reaches; a mask stays what it is where nothing spreads."""
    from scipy import ndimage

    if kernel_size < 3 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size: got {kernel_size}, expected an odd number >= 3")
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma: got {sigma}, expected a finite number > 0")
    half = kernel_size // 2
    kernels = [_line_kernel(half, sigma / side) for side in checked_spacing(spacing)]
    axes = [axis for axis in range(3) if shape[axis] > 1]
    centre = float(np.prod([kernels[axis][half] for axis in axes])) if axes else 1.0
    if centre >= 1.0:
        return np.copy, (0, 0, 0)
    keep = np.float32(0.5 - 0.5 * centre / (1 - centre))
    spread = np.float32(0.5 / (1 - centre))

    def smooth(box: NDArray[np.float32]) -> NDArray[np.float32]:
        """Smooth one float32 box."""
        blurred = box
        for axis in axes:
            blurred = ndimage.correlate1d(blurred, kernels[axis], axis=axis, mode="nearest")
        blurred = blurred * spread
        blurred += keep * box
        return np.clip(blurred, 0, 1, out=blurred)

    return smooth, tuple(half if axis in axes else 0 for axis in range(3))


def _line_kernel(half: int, sigma: float) -> NDArray[np.float64]:
    """Return a normalised 1D Gaussian of 2 half + 1 samples."""
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return weights / weights.sum()
