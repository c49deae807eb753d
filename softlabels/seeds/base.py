"""The base of every seed strategy: what a strategy declares, and the function that each implements."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.rate import Rate
from softlabels._shared.registry import Component


class SeedStrategy(Component):
    """A rule for where the distances of a class start, with its parameters.

    Subclasses set the class attributes, add fields for their parameters, and implement `seeds`.

    Attributes
    ----------
    is_on_boundary : bool
        Whether seeds may be beside a component instead of in it. A seed then counts for a component that it touches,
        and the inner boundary fills in where there is none; else the deepest voxels do.
    depends_on_names : bool
        Whether the names of case and class change the seeds, as a random draw does. The case's name is then in the key.
    margin_vox : int or None
        From the bounding box of the class, with this many voxels more on every side where the volume has them, the
        strategy gives the same seeds as from the whole volume. None: it gets the whole volume.
    cost : Rate
        Measured per voxel and class.
    """

    key: ClassVar[str] = "strategy"
    is_on_boundary: ClassVar[bool] = False
    depends_on_names: ClassVar[bool] = False
    margin_vox: ClassVar[int | None] = None
    cost: ClassVar[Rate] = Rate(us=0.10, memory_bytes=2, disk_bytes=0.02, volume_bytes=20)

    fallback: bool = Field(True, description="let the chain fill in: deepest voxels or inner boundary, then centre")
    per_component: bool = Field(True, description="every connected component gets a seed, not only every class")

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return the seeds of one class.

        Parameters
        ----------
        mask : (D, H, W) bool array
            The class, not empty, in the whole volume or as `margin_vox` declares. Not modified.
        case_id, class_name : str
            For strategies that depend on them.

        Returns
        -------
        (D, H, W) bool array
        """
        raise NotImplementedError
