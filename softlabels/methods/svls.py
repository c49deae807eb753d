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

import numpy as np
from scipy import ndimage

from softlabels._shared.box import smooth_near_boundary
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.base import TargetInputs


def compute(
    inputs: TargetInputs,
    *,
    variant: str = "paper",
    kernel_size: int = 3,
    sigma: float = 1.0,
    spacing_aware: bool = False,
) -> tuple[np.ndarray, list[str], dict]:
    """Return the smoothed labels of a case with flags and notes."""
    if variant == "official" and (kernel_size != 3 or spacing_aware):
        raise InputError(
            f"svls official: got kernel_size {kernel_size}, spacing_aware {spacing_aware}, expected 3 in voxels, "
            "which is all that the authors' code knows; use variant 'paper'"
        )
    spacing = inputs.spacing if spacing_aware else (1.0, 1.0, 1.0)
    values = svls_map(inputs.masks, kernel_size=kernel_size, sigma=sigma, spacing=spacing)
    return values, inputs.absent_flags(), {}


def svls_map(masks: np.ndarray, *, kernel_size: int = 3, sigma: float = 1.0, spacing=(1.0, 1.0, 1.0)) -> np.ndarray:
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
    >>> svls_map(mask)[0, 0].round(4).astype(str).tolist()
    [['0.0472', '0.0778', '0.0472'], ['0.0778', '0.5', '0.0778'], ['0.0472', '0.0778', '0.0472']]
    """
    if kernel_size < 3 or kernel_size % 2 == 0:
        raise InputError(f"kernel_size: got {kernel_size}, expected an odd number >= 3")
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"sigma: got {sigma}, expected a finite number > 0")
    half = kernel_size // 2
    kernels = [_line_kernel(half, sigma / side) for side in checked_spacing(spacing)]
    axes = [axis for axis in range(3) if masks.shape[axis + 1] > 1]
    centre = float(np.prod([kernels[axis][half] for axis in axes])) if axes else 1.0
    if centre >= 1.0:
        return masks.astype(np.float32)
    keep = np.float32(0.5 - 0.5 * centre / (1 - centre))
    spread = np.float32(0.5 / (1 - centre))

    def smooth(box: np.ndarray) -> np.ndarray:
        """Smooth one float32 box."""
        blurred = box
        for axis in axes:
            blurred = ndimage.correlate1d(blurred, kernels[axis], axis=axis, mode="nearest")
        blurred = blurred * spread
        blurred += keep * box
        return np.clip(blurred, 0, 1, out=blurred)

    margin = tuple(half if axis in axes else 0 for axis in range(3))
    return np.stack([smooth_near_boundary(mask, smooth, margin) for mask in masks])


def _line_kernel(half: int, sigma: float) -> np.ndarray:
    """Return a normalised 1D Gaussian of 2 half + 1 samples."""
    weights = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    return weights / weights.sum()
