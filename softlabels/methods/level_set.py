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

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from softlabels._shared.boundary import inner_boundary
from softlabels._shared.box import bounding_box
from softlabels._shared.rate import Rate
from softlabels._shared.section import faults_error
from softlabels.augmentation import RIGID
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.by_class import ClassInputs, ClassMap, MethodByClass


class LevelSet(MethodByClass):
    """Signed distance to the boundary, for boundary loss and distance regression."""

    name: ClassVar[str] = "level_set"
    title: ClassVar[str] = "level set"
    source: ClassVar[str] = "Kervadec et al., MIDL 2019; Xue et al., AAAI 2020"
    version: ClassVar[str] = "1"
    kind: ClassVar[Literal["distance"]] = "distance"
    absent: ClassVar[Mapping[str, float]] = {"normalised": 1.0}
    filling: ClassVar[Mapping[str, float]] = {"normalised": -1.0}
    augmentation: ClassVar[Mapping[str, bool]] = RIGID
    in_threads: ClassVar[bool] = True
    by_class_cost: ClassVar[Rate] = Rate(us=0.11, memory_bytes=0.1, disk_bytes=1.7, volume_bytes=160)
    cost: ClassVar[Rate] = Rate(us=0.24, memory_bytes=40, disk_bytes=2.0, volume_bytes=10)

    variant: Literal["mm", "official", "normalised"] = Field("mm", description="mm, the authors' form, or [-1, 1]")
    truncate: bool = Field(False, description="official only: cut distances to integers, as the authors' code does")

    @property
    def value_range(self) -> tuple[float, float] | None:
        """[-1, 1] if normalised, else all mm."""
        return (-1.0, 1.0) if self.variant == "normalised" else None

    @field_validator("truncate")
    @classmethod
    def _check_truncate(cls, truncate: bool, info: ValidationInfo) -> bool:
        """Refuse it where no code does so."""
        if truncate and info.data.get("variant") in ("mm", "normalised"):
            raise faults_error([": only variant official cuts distances to integers. Remove it, or set the variant"])
        return truncate

    def node_parameters(self) -> dict[str, Any]:
        """Return what the map depends on; that distances are cut in float64 is said, for once they were not."""
        cut = {"cut_in": "float64"} if self.truncate else {}
        return {**super().node_parameters(), **cut}

    @classmethod
    def from_node_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the method that `node_parameters` described."""
        return super().from_node_parameters({k: v for k, v in parameters.items() if k != "cut_in"})

    def class_map(self, inputs: ClassInputs) -> ClassMap:
        """Return the level set of one class."""
        values, flags = level_set(inputs.mask, inputs.spacing, variant=self.variant, truncate=self.truncate), []
        if not inputs.mask.any():
            flags.append(f"class '{inputs.name}' absent")
        elif inputs.mask.all():
            flags.append(f"class '{inputs.name}' fills the volume: it has no boundary")
        return ClassMap(values, flags)


def level_set(
    mask: NDArray[np.bool_], spacing: Sequence[float], *, variant: str, truncate: bool = False
) -> NDArray[np.float32]:
    """Return the signed distance to the boundary of one class.

    Parameters
    ----------
    mask : (D, H, W) bool array
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    variant : {"mm", "official", "normalised"}
        See the table of the module.
    truncate : bool
        Cut to integers towards 0, before anything is rounded to float32: 2.99999999 mm is 2, as for the authors.

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
    phi = _inside_distance(~mask, spacing, truncate=truncate)
    box = bounding_box(mask, (1, 1, 1))
    inside, less = mask[box], 1.0 if variant == "official" else 0.0
    depth = _inside_distance(mask[box], spacing, less=less, truncate=truncate)
    if is_normalised:
        phi /= phi.max()
        depth /= depth.max()
        depth[inner_boundary(inside)] = 0
    np.copyto(phi[box], 0 - depth, where=inside)
    return phi


def _inside_distance(
    mask: NDArray[np.bool_], spacing: Sequence[float], *, less: float = 0.0, truncate: bool = False
) -> NDArray[np.float32]:
    """Return for each voxel of a mask the distance in mm to the nearest voxel that is not in it, minus a number."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(mask, sampling=spacing)
    if truncate:
        return np.trunc(distance - less).astype(np.float32)
    return distance.astype(np.float32) - np.float32(less)
