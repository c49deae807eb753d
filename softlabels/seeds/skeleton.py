"""Seeds on the medial skeleton of each class: the main seeds of GeoLS."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import bounding_box
from softlabels._shared.rate import Rate
from softlabels.seeds.base import SeedStrategy


class SkeletonSeeds(SeedStrategy):
    """The medial skeleton of each class (GeoLS)."""

    name: ClassVar[str] = "skeleton"
    title: ClassVar[str] = "skeleton"
    source: ClassVar[str] = "Adiga Vasudeva, Dolz and Lombaert, MIDL 2023, Sec. 2.2"
    version: ClassVar[str] = "1"
    cost: ClassVar[Rate] = Rate(us=0.12, memory_bytes=12, disk_bytes=0.02)

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return the skeleton of one class."""
        return skeleton_seeds(mask)


def skeleton_seeds(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of the medial skeleton of a class, the main seeds of GeoLS (Sec. 2.2).

    Thinning of Lee, Kashyap and Chu (1994) in 3D and of Zhang and Suen (1984) for a single slice, both with the
    result of scikit-image, which is what the authors run. It works on the voxel grid (no spacing) and takes what lies
    beyond the volume as background. It may return nothing for a class that is present: cubes with sides of 2, 4, 8 or
    16 voxels vanish.

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.

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
        seeds[box] = _thin_slice(mask[box]) if len(mask) == 1 else _thin_volume(mask[box])
    return seeds


def _thin_slice(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the skeleton of a single slice."""
    # Slow to import, and volumes do without it.
    from skimage.morphology import skeletonize

    return skeletonize(mask[0])[None]


def _thin_volume(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the skeleton of a volume."""
    # Compiled.
    from softlabels.seeds.thinning import thin

    return thin(mask)
