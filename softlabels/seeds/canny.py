"""Seeds on the Canny edges of the mask of each class: those of SiNG."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.box import bounding_box
from softlabels._shared.rate import Rate
from softlabels.errors import InputError
from softlabels.seeds.base import SeedStrategy
from softlabels.seeds.boundary import boundary_seeds

#: Thresholds of the hysteresis: scikit-image's defaults for the range [0, 1], in the unit of a 2D Sobel filter.
_LOW, _HIGH = 0.1, 0.2
#: The two voxels beside a flat face have one gradient magnitude up to rounding; neither may win by its last bits.
_RELATIVE_TIE = 1e-9
#: Where scipy's Gaussian ends, in standard deviations.
_TRUNCATE = 4.0
#: Slices filtered at a time: the seven float64 arrays of a large volume do not fit everywhere.
_SLAB = 48
_ALL_26 = np.ones((3, 3, 3), bool)


class CannySeeds(SeedStrategy):
    """The Canny edges of each class's mask (SiNG)."""

    name: ClassVar[str] = "canny"
    title: ClassVar[str] = "Canny edges"
    source: ClassVar[str] = "Dang, Nguyen and Tiulpin, MICCAI 2024, Sec. 2.2"
    version: ClassVar[str] = "1"
    is_on_boundary: ClassVar[bool] = True
    cost: ClassVar[Rate] = Rate(us=0.06, memory_bytes=1, disk_bytes=0.01, volume_bytes=20)

    mode: Literal["volume", "slices"] = Field("volume", description="3D, or each slice alone as SiNGR's code does")
    sigma: float = Field(1.0, gt=0, le=32, description="Gaussian smoothing before the gradient, in voxels")

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return the edges of one class."""
        return canny_seeds(mask, self.mode, self.sigma)


def canny_seeds(mask: NDArray[np.bool_], mode: str, sigma: float) -> NDArray[np.bool_]:
    """Return the Canny edges of a class's mask, the seeds R_B of SiNG (Sec. 2.2).

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.
    mode : {"volume", "slices"}
        ``slices`` is what the authors' code does: scikit-image's 2D Canny on the complement of each slice. It finds
        nothing on faces that are within a slice, nor in the first and last row and column of a slice, and its edges lie
        on either side as rounding has it. ``volume`` is the 3D form of the same steps: Gaussian, Sobel gradient,
        suppression of non-maxima along the gradient, hysteresis. It covers every face, treats both sides of a flat face
        alike, and treats the mask as continued beyond the volume. The papers do not specify which.
    sigma : float
        Standard deviation of the Gaussian in voxels, > 0.

    Returns
    -------
    (D, H, W) bool array
        Voxels inside and outside `mask`; none where the mask is empty or fills the volume.

    Notes
    -----
    Cost of ``volume``: 12 separable filter passes in float64 over the bounding box of the boundary plus
    4 sigma. With a gradient in the slice (no z component) both modes follow the same formulas.

    Examples
    --------
    >>> half = np.zeros((3, 3, 8), bool)
    >>> half[..., :4] = True
    >>> canny_seeds(half, "volume", 1.0)[1, 1].astype(int).tolist()
    [0, 0, 0, 1, 1, 0, 0, 0]
    """
    if not sigma > 0:
        raise InputError(f"Canny seeds: sigma got {sigma!r}, expected > 0 voxels; change the target's seeds")
    if mode == "slices":
        return np.stack([_slice_edges(section, sigma) for section in mask])
    if mode != "volume":
        raise InputError(f"Canny seeds: mode got {mode!r}, expected 'volume' or 'slices'; change the target's seeds")
    seeds = np.zeros(mask.shape, bool)
    reach = int(_TRUNCATE * sigma + 0.5) + 2
    box = bounding_box(boundary_seeds(mask, "both"), (reach, reach, reach))
    if box is not None:
        # Outside the volume, and outside the box too, the mask is what it is at the nearest voxel inside.
        continued = np.pad(mask[box], reach, mode="edge")
        inner = (slice(None), *(slice(reach, -reach),) * 3)
        starts = range(0, len(mask[box]), _SLAB)
        slabs = [_volume_edges(continued[i : i + _SLAB + 2 * reach], sigma)[inner] for i in starts]
        seeds[box] = _linked(*np.concatenate(slabs, axis=1))
    return seeds


def _slice_edges(section: np.ndarray, sigma: float) -> NDArray[np.bool_]:
    """Return scikit-image's edges of the complement of one slice; a constant slice has none."""
    from skimage.feature import canny

    if section.all() or not section.any():
        return np.zeros(section.shape, bool)
    return canny(~section, sigma=sigma)


def _volume_edges(mask: NDArray[np.bool_], sigma: float) -> NDArray[np.bool_]:
    """Return which voxels are maxima of the gradient above the low, and above the high threshold: (2, D, H, W)."""
    from scipy import ndimage

    smooth = ndimage.gaussian_filter(mask.astype(np.float64), sigma, mode="nearest", truncate=_TRUNCATE)
    # A quarter: scipy's 3D Sobel smooths with [1, 2, 1] along one axis more than the 2D one of the thresholds.
    gradient = [ndimage.sobel(smooth, axis, mode="nearest") / 4 for axis in range(3)]
    magnitude = np.sqrt(sum(part * part for part in gradient))
    candidates = np.nonzero(magnitude >= _LOW)
    step = np.stack([part[candidates] for part in gradient])
    step /= np.abs(step).max(axis=0)
    height = magnitude[candidates] * (1 + _RELATIVE_TIE)
    is_edge = np.ones(height.shape, bool)
    for sign in (1, -1):
        neighbour = np.stack(candidates) + sign * step
        is_edge &= ndimage.map_coordinates(magnitude, neighbour, order=1, mode="nearest") <= height
    weak = np.zeros(mask.shape, bool)
    weak[candidates] = is_edge
    return np.stack([weak, weak & (magnitude >= _HIGH)])


def _linked(weak: np.ndarray, strong: np.ndarray) -> NDArray[np.bool_]:
    """Return the 26-connected pieces of `weak` that hold a strong voxel."""
    from scipy import ndimage

    pieces, n_pieces = ndimage.label(weak, _ALL_26)
    is_kept = np.zeros(n_pieces + 1, bool)
    is_kept[pieces[strong]] = True
    return is_kept[pieces]
