"""The boundary of a mask on the voxel grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import bounding_box


def inner_boundary(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask that share a face with the rest; the border of the volume is no boundary.

    Parameters
    ----------
    mask : (D, H, W) bool array
        The boundary on the other side is `inner_boundary(~mask)`.

    Returns
    -------
    (D, H, W) bool array
        None where the mask is empty or fills the volume.

    Notes
    -----
    Cost: one erosion of the mask's bounding box.

    Examples
    --------
    >>> inner_boundary(np.array([[[1, 1, 1, 0, 1, 1]]], bool)).astype(int).ravel().tolist()
    [0, 0, 1, 0, 1, 0]
    """
    from scipy import ndimage

    boundary = np.zeros(mask.shape, bool)
    box = bounding_box(mask, (1, 1, 1))
    if box is not None:
        inside = mask[box]
        boundary[box] = inside & ~ndimage.binary_erosion(inside, border_value=1)
    return boundary
