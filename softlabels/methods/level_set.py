"""Signed distance to the boundary of each class: level sets for boundary loss and distance regression.

Negative inside, positive outside, as in boundary loss (Kervadec et al.) and SDM regression (Xue et al., AAAI 2020).
Distances are exact and Euclidean, between voxel centres, in mm, never rounded to integers unless asked for.

============== =================================== =================================== ===============================
property       mm                                  official (boundary loss)            normalised (SegWithDistMap)
============== =================================== =================================== ===============================
outside        D_out                               D_out                               D_out / max D_out
inside         -D_in                               -(D_in - 1)                         -D_in / max D_in, and 0 in the
                                                                                       innermost layer of the boundary
range          all mm                              all mm                              [-1, 1]
absent class   0, flagged: no share in the loss    0, flagged                          +1, flagged: outside of it
whole volume   0, flagged: there is no boundary    0, flagged                          -1, flagged: inside of it
padding        100 mm, background -100 mm          100, background -100                1, background -1
============== =================================== =================================== ===============================

In `official` the 1 is a number, not a voxel: it puts the zero on the innermost voxels at 1 mm only. With 0.5 mm these
get +0.5, the sign of the outside; with 5 mm they get -4. `truncate` repeats what happens when the authors' function is
called as in their data loader, which stores distances in the integer type of the labels.

No distribution; classes may overlap, for each is treated by itself. Flips and quarter turns keep it valid; rescaling
and elastic deformation change distances: compute again. No load-time parameters.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy import ndimage

from softlabels._shared.box import bounding_box
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.base import TargetInputs


def compute(inputs: TargetInputs, *, variant: str = "mm", truncate: bool = False) -> tuple[np.ndarray, list[str], dict]:
    """Return the level sets of a case with flags and notes."""
    if truncate and variant != "official":
        raise InputError(f"level_set {variant}: got truncate, which only the official variant knows; remove it")

    def one(mask: np.ndarray) -> np.ndarray:
        """Return the level set of one class."""
        phi = level_set(mask, inputs.spacing, variant=variant)
        return np.trunc(phi) if truncate else phi

    with ThreadPoolExecutor(inputs.threads) as pool:
        values = np.stack(list(pool.map(one, inputs.masks)))
    flags = []
    for name, mask in zip(inputs.class_names, inputs.masks, strict=True):
        if not mask.any():
            flags.append(f"class '{name}' absent")
        elif mask.all():
            flags.append(f"class '{name}' fills the volume: it has no boundary")
    return values, flags, {}


def level_set(mask: np.ndarray, spacing, *, variant: str = "mm") -> np.ndarray:
    """Return the signed distance to the boundary of one class.

    Parameters
    ----------
    mask : (D, H, W) bool array
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    variant : {"mm", "official", "normalised"}
        See the table of the module.

    Returns
    -------
    (D, H, W) float32 array

    Notes
    -----
    Cost: two Euclidean distance transforms, that of the inside in the bounding box of the mask.

    Examples
    --------
    >>> row = np.array([[[0, 0, 1, 1, 1, 0]]], bool)
    >>> for variant in ("mm", "official", "normalised"):
    ...     print(level_set(row, (5, 1, 0.5), variant=variant).ravel().tolist())
    [1.0, 0.5, -0.5, -1.0, -0.5, 0.5]
    [1.0, 0.5, 0.5, 0.0, 0.5, 0.5]
    [1.0, 0.5, 0.0, -1.0, 0.0, 0.5]
    """
    if variant not in ("mm", "official", "normalised"):
        raise InputError(f"level_set: got variant {variant!r}, expected 'mm', 'official' or 'normalised'")
    spacing = checked_spacing(spacing)
    is_normalised = variant == "normalised"
    if not mask.any() or mask.all():
        empty = (-1.0 if mask.any() else 1.0) if is_normalised else 0.0
        return np.full(mask.shape, empty, np.float32)
    phi = _inside_distance(~mask, spacing)
    box = bounding_box(mask, (1, 1, 1))
    inside, depth = mask[box], _inside_distance(mask[box], spacing)
    if variant == "official":
        depth -= np.float32(1)
    elif is_normalised:
        phi /= phi.max()
        depth /= depth.max()
        depth[inside & ~ndimage.binary_erosion(inside, border_value=1)] = 0
    np.copyto(phi[box], 0 - depth, where=inside)
    return phi


def _inside_distance(mask: np.ndarray, spacing) -> np.ndarray:
    """Return for each voxel of a mask the distance in mm to the nearest voxel that is not in it, float32."""
    return ndimage.distance_transform_edt(mask, sampling=spacing).astype(np.float32)
