"""Seeds on either side of the boundary of each class."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.boundary import inner_boundary
from softlabels.errors import InputError
from softlabels.seeds.base import SeedStrategy


class BoundarySeeds(SeedStrategy):
    """The voxels of each class that touch another class, or those they touch."""

    name: ClassVar[str] = "boundary"
    title: ClassVar[str] = "boundary"
    source: ClassVar[str] = "morphological gradient"
    version: ClassVar[str] = "1"
    margin_vox: ClassVar[int | None] = 1
    is_on_boundary: ClassVar[bool] = True

    side: Literal["inner", "outer", "both"] = Field("both", description="which side of the boundary")

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return the boundary of one class."""
        return boundary_seeds(mask, self.side)


def boundary_seeds(mask: NDArray[np.bool_], side: str) -> NDArray[np.bool_]:
    """Return the voxels on the boundary of a class.

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.
    side : {"inner", "outer", "both"}
        Voxels of the class that share a face with the rest, voxels of the rest that share one with the class, or both.

    Returns
    -------
    (D, H, W) bool array
        None where the mask is empty or fills the volume: the border of the volume is no boundary.

    Examples
    --------
    >>> row = np.array([[[0, 0, 1, 1, 1, 0, 1]]], bool)
    >>> {side: boundary_seeds(row, side).astype(int).ravel().tolist() for side in ("inner", "outer")}
    {'inner': [0, 0, 1, 0, 1, 0, 1], 'outer': [0, 1, 0, 0, 0, 1, 0]}
    """
    if side not in ("inner", "outer", "both"):
        raise InputError(f"boundary seeds: side got {side!r}, expected 'inner', 'outer' or 'both'")
    seeds = np.zeros(mask.shape, bool)
    if side != "outer":
        seeds |= inner_boundary(mask)
    if side != "inner":
        seeds |= inner_boundary(~mask)
    return seeds
