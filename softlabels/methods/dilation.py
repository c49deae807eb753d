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
from softlabels._shared.boxed import BoxedVolumes, widened
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.arrays import BoxedInputs, BoxedMap
from softlabels.methods.boxed import BoxedMethod


class Dilation(BoxedMethod):
    """Dilation softening (Kats): a shell around each class at a fixed probability."""

    name: ClassVar[str] = "dilation"
    title: ClassVar[str] = "dilation"
    source: ClassVar[str] = "after Kats, Goldberger and Greenspan, ISBI 2019"
    version: ClassVar[str] = "2"

    radius_mm: float = Field(2.0, gt=0, le=100, description="thickness of the shell in mm (the paper leaves it open)")
    shell_value: float = Field(0.5, gt=0, lt=1, description="probability in the shell (the paper leaves it open)")

    def boxed_map(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the softened labels of a case, each class in the box of its mask and shell."""
        masks, background, shape = inputs.masks, inputs.background, inputs.masks.shape[1:]
        margin = tuple(int(self.radius_mm / side) + 1 for side in checked_spacing(inputs.spacing))
        n_shells = np.zeros(shape, np.int32)
        shells = {}
        for index, (own, _) in enumerate(masks):
            if index != background:
                box = widened(own, margin, shape)
                around = _shell_within(masks.region(index, box), inputs.spacing, self.radius_mm)
                if background is not None:
                    around &= masks.region(background, box)
                n_shells[box] += around
                shells[index] = box, around
        value, parts = np.float32(self.shell_value), []
        for index, (own, _) in enumerate(masks):
            box = shells[index][0] if index in shells else own
            soft = masks.region(index, box).astype(np.float32)
            if index == background:
                soft[n_shells[box] > 0] = 1 - value
            else:
                around = shells[index][1]
                soft[around] = value if background is None else value / n_shells[box][around]
            parts.append((box, soft))
        notes = {"shell_voxels": [int(around.sum()) for _, around in shells.values()]}
        return BoxedMap(BoxedVolumes(shape, parts, fill=0, dtype=np.float32), inputs.absent_flags(), notes)


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
    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise InputError(f"radius_mm: got {radius_mm}, expected a finite number of mm > 0")
    spacing = checked_spacing(spacing)
    around = np.zeros(mask.shape, bool)
    box = bounding_box(mask, tuple(int(radius_mm / side) + 1 for side in spacing))
    if box is not None:
        around[box] = _shell_within(mask[box], spacing, radius_mm)
    return around


def _shell_within(inside: NDArray[np.bool_], spacing: Sequence[float], radius_mm: float) -> NDArray[np.bool_]:
    """Return the shell of a mask within the box that holds mask and shell, which may be empty."""
    from scipy import ndimage

    if not inside.size:
        return inside.copy()
    return ~inside & (ndimage.distance_transform_edt(~inside, sampling=spacing) <= radius_mm)
