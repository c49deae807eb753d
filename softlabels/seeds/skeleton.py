"""Seeds on the medial skeleton of each class: the main seeds of GeoLS."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.box import bounding_box
from softlabels._shared.rate import Rate
from softlabels.seeds.base import SeedStrategy


class SkeletonSeeds(SeedStrategy):
    """The medial skeleton of each class (GeoLS)."""

    name: ClassVar[str] = "skeleton"
    title: ClassVar[str] = "skeleton"
    source: ClassVar[str] = "Adiga Vasudeva, Dolz and Lombaert, MIDL 2023, Sec. 2.2"
    version: ClassVar[str] = "1"
    margin_vox: ClassVar[int | None] = 0
    cost: ClassVar[Rate] = Rate(us=0.003, memory_bytes=0.2, disk_bytes=0.02, volume_us=0.12, volume_bytes=24)

    lone_slice: Literal["2d", "3d"] = Field(
        "2d", description="how a single slice is thinned: in its plane, or as a volume, as the authors' call does"
    )

    def to_json(self) -> dict[str, Any]:
        """Return name and parameters; `lone_slice` only where it is not the default, which older keys do not hold."""
        content = super().to_json()
        if self.lone_slice == "2d":
            del content["lone_slice"]
        return content

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return the skeleton of one class."""
        return skeleton_seeds(mask, lone_slice=self.lone_slice)


def skeleton_seeds(mask: NDArray[np.bool_], *, lone_slice: Literal["2d", "3d"] = "2d") -> NDArray[np.bool_]:
    """Return the voxels of the medial skeleton of a class, the main seeds of GeoLS (Sec. 2.2).

    Thinning of Lee, Kashyap and Chu (1994) in 3D and of Zhang and Suen (1984) for a single slice, both with the
    result of scikit-image, which is what the authors run. It works on the voxel grid (no spacing) and treats what is
    beyond the volume as background. It may return nothing for a class that is present: cubes with sides of 2, 4, 8 or
    16 voxels vanish.

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.
    lone_slice : {"2d", "3d"}
        Thinning of a single slice. GeoLS' script hands scikit-image a volume of one slice, which is thinned in 3D.

    Returns
    -------
    (D, H, W) bool array
        A subset of `mask`.

    Notes
    -----
    Cost: about 0.2 us for each voxel of the mask (`softlabels.seeds.thinning`).

    Examples
    --------
    >>> bar = np.zeros((5, 5, 9), bool)
    >>> bar[1:4, 1:4, 1:8] = True
    >>> [tuple(map(int, voxel)) for voxel in np.argwhere(skeleton_seeds(bar))]
    [(2, 2, 2), (2, 2, 3), (2, 2, 4), (2, 2, 5), (2, 2, 6)]
    """
    seeds = np.zeros(mask.shape, bool)
    box = bounding_box(mask)
    if box is not None:
        seeds[box] = _thin_slice(mask[box], lone_slice) if len(mask) == 1 else _thin_volume(mask[box])
    return seeds


def _thin_slice(mask: NDArray[np.bool_], lone_slice: Literal["2d", "3d"]) -> NDArray[np.bool_]:
    """Return the skeleton of a single slice."""
    # Slow to import, and volumes do without it.
    from skimage.morphology import skeletonize

    # scikit-image leaves out two of the six passes of 3D thinning where there is one slice, which `thin` does not.
    found = skeletonize(mask[0])[None] if lone_slice == "2d" else skeletonize(mask)
    return np.asarray(found, bool)


def _thin_volume(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the skeleton of a volume."""
    # Compiled.
    from softlabels.seeds.thinning import thin

    return thin(mask)
