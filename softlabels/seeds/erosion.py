"""Seeds that are left of each class after erosion by a ball."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.box import bounding_box
from softlabels._shared.rate import Rate
from softlabels.errors import InputError
from softlabels.seeds.base import SeedStrategy


class ErosionSeeds(SeedStrategy):
    """Each class eroded by a ball."""

    name: ClassVar[str] = "erosion"
    title: ClassVar[str] = "erosion"
    source: ClassVar[str] = "Adiga Vasudeva, Dolz and Lombaert, MIDL 2023, Table 3"
    version: ClassVar[str] = "1"
    margin_vox: ClassVar[int | None] = 1
    cost: ClassVar[Rate] = Rate(us=0.17, memory_bytes=2, disk_bytes=0.02, volume_bytes=20)

    radius_vox: int = Field(1, ge=1, le=64, description="radius of the ball in voxels")
    iterations: int = Field(1, ge=1, le=64, description="how often to erode")

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return what is left of one class."""
        return erosion_seeds(mask, self.radius_vox, self.iterations)


def erosion_seeds(mask: NDArray[np.bool_], radius_vox: int, iterations: int) -> NDArray[np.bool_]:
    """Return what is left of a class after erosion by a ball (GeoLS, Table 3; radius and repeats are not in the paper).

    The border of the volume does not erode: a class that runs out of the field of view goes on beyond it. On a single
    slice the ball acts as a disk. Anything up to `2 * radius_vox` voxels thick vanishes.

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.
    radius_vox : int
        Radius of the ball in voxels, >= 1: offsets with dz^2 + dy^2 + dx^2 <= radius^2.
    iterations : int
        How often to erode, >= 1.

    Returns
    -------
    (D, H, W) bool array
        A subset of `mask`.

    Notes
    -----
    A voxel survives a ball exactly if no voxel outside the mask is within the radius, so one exact distance transform
    of the bounding box per iteration does it at any radius.

    Examples
    --------
    >>> erosion_seeds(np.array([[[0, 1, 1, 1, 1, 0, 1, 1]]], bool), 1, 1).astype(int).tolist()
    [[[0, 0, 1, 1, 0, 0, 0, 1]]]
    """
    from scipy import ndimage

    if radius_vox < 1 or iterations < 1:
        raise InputError(f"seeds: got radius_vox {radius_vox}, iterations {iterations}, expected both >= 1")
    seeds = mask.copy()
    for _ in range(iterations):
        if seeds.all() or not seeds.any():
            break
        box = bounding_box(seeds, (1, 1, 1))
        seeds[box] = ndimage.distance_transform_edt(seeds[box]) > radius_vox
    return seeds
