"""Watershed agreement: the hard label mixed with the basins that grow from its cores over the image's gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels.classes import LabelSet
from softlabels.methods import (
    NOT_ELASTIC,
    Need,
    Rate,
    RunContext,
    SeededMethod,
    TargetInputs,
    TargetMap,
    TuningGrid,
)
from softlabels.seeds import SeedStrategy


class CoreSeeds(SeedStrategy):
    """The voxels of a class at least so far from its outside."""

    name: ClassVar[str] = "core"
    title: ClassVar[str] = "core"
    source: ClassVar[str] = "softlabels' own tests"
    version: ClassVar[str] = "2"

    depth_vox: float = Field(2.0, gt=0, description="distance to the nearest voxel of another class, in voxels")

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return the core of one class."""
        from scipy import ndimage

        return ndimage.distance_transform_edt(mask) >= self.depth_vox


class Watershed(SeededMethod):
    """The hard label mixed with watershed basins that grow from seeds over the image's gradient."""

    name: ClassVar[str] = "watershed"
    title: ClassVar[str] = "watershed agreement"
    source: ClassVar[str] = "softlabels' own tests"
    version: ClassVar[str] = "7"
    needs: ClassVar[frozenset[Need]] = frozenset({"image", "seeds"})
    blend: ClassVar[str] = "mix_onehot"
    allows_overlap: ClassVar[bool] = False
    needs_background: ClassVar[bool] = True
    augmentation: ClassVar[Mapping[str, bool]] = NOT_ELASTIC
    cost: ClassVar[Rate] = Rate(us=0.3, memory_bytes=30, disk_bytes=0.1)
    default_seeds: ClassVar[Mapping[str, SeedStrategy]] = {"standard": CoreSeeds()}
    grid: ClassVar[TuningGrid] = {"alpha": (0.1, 0.3)}

    alpha: float = Field(0.5, ge=0, le=1, description="share of the basins in the target; applied by the loader")
    channel: int = Field(0, ge=0, description="which channel of the image")

    def faults(self, labels: LabelSet, context: RunContext) -> list[str]:
        """Return what this method cannot do."""
        if context.domain == "nonzero":
            return ["watershed knows no domain, got prepare.domain 'nonzero'. Set it to none"]
        return []

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return one-hot basins."""
        from scipy import ndimage

        image: NDArray[Any] = inputs.required("image")[self.channel]
        steepness = ndimage.gaussian_gradient_magnitude(image.astype(np.float64), 1.0)
        steepness = np.uint8(255 * steepness / (steepness.max() or 1))
        markers = (inputs.required("seeds") * np.arange(1, len(inputs.masks) + 1)[:, None, None, None]).max(axis=0)
        basins = ndimage.watershed_ift(steepness, markers.astype(np.int16))
        values = np.stack([basins == c + 1 for c in range(len(inputs.masks))]).astype(np.float32)
        return TargetMap(values, inputs.absent_flags(), {"n_basins": int(len(np.unique(basins)))})
