"""Dilation softening: a shell of a fixed probability around each class, after Kats et al. (2019).

The original is binary: expert voxels are 1, voxels that a 3D dilation adds have one pseudo-probability. Neither its
value nor the structuring element is in the text at hand, so both are parameters: a ball of `radius_mm`, exact for any
voxel size, and `shell_value`.

The original does not discuss several classes. Here, if the background is a class, shells cover background voxels only,
so that no expert voxel is weakened; where n shells meet each has ``shell_value / n``, and the background has the rest.
Without a background class, regions may overlap and each has its own shell, wherever it is.

In [0, 1]; sums to one wherever the masks do. An absent class is 0 everywhere and has no shell. Padding is 1 for the
background and 0 elsewhere. All augmentations keep it valid. No load-time parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.box import bounding_box
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.arrays import TargetInputs, TargetMap
from softlabels.methods.base import Method


class Dilation(Method):
    """Dilation softening (Kats): a shell around each class at a fixed probability."""

    name: ClassVar[str] = "dilation"
    title: ClassVar[str] = "dilation"
    source: ClassVar[str] = "after Kats, Goldberger and Greenspan, ISBI 2019"
    version: ClassVar[str] = "2"

    radius_mm: float = Field(2.0, gt=0, le=100, description="thickness of the shell in mm (the paper leaves it open)")
    shell_value: float = Field(0.5, gt=0, lt=1, description="probability in the shell (the paper leaves it open)")

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the softened labels of a case."""
        masks, background = inputs.masks, inputs.background
        values, flags = masks.astype(np.float32), inputs.absent_flags()
        foreground = [c for c in range(len(masks)) if c != background]
        shells = np.stack([shell(masks[c], inputs.spacing, radius_mm=self.radius_mm) for c in foreground])
        if background is None:
            values[shells] = self.shell_value
            return TargetMap(values, flags, {"shell_voxels": [int(s.sum()) for s in shells]})
        shells &= masks[background]
        n_shells = shells.sum(axis=0, dtype=np.int32)
        for index, own in zip(foreground, shells, strict=True):
            values[index][own] = np.float32(self.shell_value) / n_shells[own]
        values[background][n_shells > 0] = 1 - np.float32(self.shell_value)
        return TargetMap(values, flags, {"shell_voxels": [int(s.sum()) for s in shells]})


def shell(mask: NDArray[np.bool_], spacing: Sequence[float], *, radius_mm: float) -> NDArray[np.bool_]:
    """Return the voxels outside of a mask whose centre is at most `radius_mm` from a voxel of it.

    Parameters
    ----------
    mask : (D, H, W) bool array
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    radius_mm : float
        > 0.

    Returns
    -------
    (D, H, W) bool array

    Examples
    --------
    >>> shell(np.array([[[0, 0, 0, 1, 0]]], bool), (5, 1, 1), radius_mm=2).astype(int).ravel().tolist()
    [0, 1, 1, 0, 1]
    """
    from scipy import ndimage

    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise InputError(f"radius_mm: got {radius_mm}, expected a finite number of mm > 0")
    spacing = checked_spacing(spacing)
    around = np.zeros(mask.shape, bool)
    box = bounding_box(mask, tuple(int(radius_mm / side) + 1 for side in spacing))
    if box is not None:
        inside = mask[box]
        around[box] = ~inside & (ndimage.distance_transform_edt(~inside, sampling=spacing) <= radius_mm)
    return around
