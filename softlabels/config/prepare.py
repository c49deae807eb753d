"""The section `prepare` of config.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AliasChoices, Field, ValidationInfo, field_validator

from softlabels._shared.section import Section, faults_error

#: A voxel side in mm, from a nanometre to ten metres.
Side = Annotated[float, Field(ge=1e-6, le=1e4)]
#: YAML has lists only, so a list is taken for a tuple; the numbers in it are as strict as all others.
Spacing = Annotated[tuple[Side, Side, Side], Field(strict=False)]
Percentile = Annotated[float, Field(ge=0, le=100)]


class Prepare(Section):
    """What is done to image and labels before anything is computed on them."""

    spacing: Literal["native"] | Spacing = Field(
        "native", description="voxel size in mm (z, y, x) to resample to, or `native` to keep each case's own"
    )
    interpolation: Literal["linear", "bspline"] = Field(
        "linear", description="of the image when it is resampled; labels always take the nearest voxel"
    )
    antialias: bool = Field(False, description="smooth the image before it is resampled to a coarser grid")
    clip_percentiles: Annotated[tuple[Percentile, Percentile], Field(strict=False)] | None = Field(
        None, description="clip intensities of each channel to these percentiles, e.g. [0.5, 99.5]"
    )
    normalise: Literal["none", "zscore", "minmax"] = Field(
        "none",
        validation_alias=AliasChoices("normalise", "normalize"),
        description="of each channel, after clipping: mean 0 and deviation 1, or range [0, 1]; also `normalize`",
    )
    domain: Literal["none", "nonzero"] = Field(
        "none",
        description="where statistics are taken and distances may run: everywhere, or where any channel is not 0",
    )
    crop: Literal["none", "nonzero", "labels"] = Field(
        "none", description="keep the bounding box of the whole volume, of non-zero voxels, or of labelled voxels"
    )
    crop_margin_mm: float = Field(0.0, ge=0, le=1000, description="added to the crop box on every side, in mm")

    @field_validator("clip_percentiles")
    @classmethod
    def _check_order(cls, percentiles: tuple[float, float] | None) -> tuple[float, float] | None:
        """Refuse an empty range."""
        if percentiles and percentiles[0] >= percentiles[1]:
            raise faults_error([f": got {list(percentiles)}, expected low < high"])
        return percentiles

    @field_validator("crop_margin_mm")
    @classmethod
    def _check_effect(cls, margin: float, info: ValidationInfo) -> float:
        """Refuse a margin without a crop."""
        if margin and info.data.get("crop") == "none":
            raise faults_error([": has no effect without a crop. Set prepare.crop or remove it"])
        return margin
