"""The keys of config.yaml that steer prepare, seeds and distance."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A block of config.yaml: unknown keys and NaN are refused, nothing changes after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=False)


Positive = Annotated[float, Field(gt=0)]
Percentile = Annotated[float, Field(ge=0, le=100)]


class Prepare(Section):
    """What is done to image and labels before anything is computed on them."""

    spacing: Literal["native"] | tuple[Positive, Positive, Positive] = Field(
        "native", description="voxel size in mm (z, y, x) to resample to, or `native` to keep each case's own"
    )
    interpolation: Literal["linear", "bspline"] = Field(
        "linear", description="of the image when it is resampled; labels always take the nearest voxel"
    )
    antialias: bool = Field(False, description="smooth the image before it is resampled to a coarser grid")
    clip_percentiles: tuple[Percentile, Percentile] | None = Field(
        None, description="clip intensities of each channel to these percentiles, e.g. [0.5, 99.5]"
    )
    normalise: Literal["none", "zscore", "minmax"] = Field(
        "none", description="of each channel, after clipping: mean 0 and deviation 1, or range [0, 1]"
    )
    domain: Literal["none", "nonzero"] = Field(
        "none",
        description="where statistics are taken and distances may run: everywhere, or where any channel is not 0",
    )
    crop: Literal["none", "nonzero", "labels"] = Field(
        "none", description="keep the bounding box of the whole volume, of non-zero voxels, or of labelled voxels"
    )
    crop_margin_mm: float = Field(0.0, ge=0, description="added to the crop box on every side, in mm")


class SeedStrategy(Section):
    """What every strategy does where it leaves a part of a present class without seeds."""

    fallback: bool = Field(True, description="let the chain fill in: deepest voxels or inner boundary, then centre")
    per_component: bool = Field(True, description="every connected component gets a seed, not only every class")


class SkeletonSeeds(SeedStrategy):
    """The medial skeleton of each class (GeoLS)."""

    strategy: Literal["skeleton"]


class ErosionSeeds(SeedStrategy):
    """Each class eroded by a ball."""

    strategy: Literal["erosion"]
    radius_vox: int = Field(1, ge=1, le=64, description="radius of the ball in voxels")
    iterations: int = Field(1, ge=1, le=64, description="how often to erode")


class RandomSeeds(SeedStrategy):
    """n voxels of each class, drawn without replacement."""

    strategy: Literal["random"]
    n: int = Field(3, ge=1, le=100_000, description="voxels per class")
    per_component: bool = Field(False, description="also seed each component that the draw missed: more than n voxels")
    seed: int = Field(0, ge=0, description="another number, another draw; the case id and class name enter too")


class CannySeeds(SeedStrategy):
    """The Canny edges of each class's mask (SiNG)."""

    strategy: Literal["canny"]
    mode: Literal["volume", "slices"] = Field("volume", description="3D, or each slice alone as SiNGR's code does")
    sigma: float = Field(1.0, gt=0, le=32, description="Gaussian smoothing before the gradient, in voxels")


class BoundarySeeds(SeedStrategy):
    """The voxels of each class that touch another class, or those they touch."""

    strategy: Literal["boundary"]
    side: Literal["inner", "outer", "both"] = Field("both", description="which side of the boundary")


Seeds = Annotated[
    SkeletonSeeds | ErosionSeeds | RandomSeeds | CannySeeds | BoundarySeeds, Field(discriminator="strategy")
]

Engine = Literal["softlabels", "fastgeodis", "geodistk"]


class Distance(Section):
    """Which geodesic distance; keys left out take the default of the method's variant."""

    metric: Literal["sum", "pythagorean", "harmonic", "l1"] | None = Field(
        None, description="the cost of one step, by name (softlabels/geodesic/README.md)"
    )
    lamb: float | None = Field(None, ge=0, le=1, description="weight of the image term in sum, harmonic and l1")
    gamma: float | None = Field(None, ge=0, description="weight of the image term in pythagorean")
    modalities: Literal["each", "vector"] = Field(
        "each", description="one map per channel, averaged by the method, or one map of the vector image"
    )
    engine: Engine | None = Field(None, description="overrides the top-level engine for this target")
    iterations: int = Field(4, ge=1, description="of a foreign engine; ours runs until certified")
