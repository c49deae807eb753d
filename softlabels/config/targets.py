"""The keys of one target in config.yaml: a model per method, each with the paper's defaults."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from softlabels.config.stages import CannySeeds, Distance, Section, Seeds, SkeletonSeeds

#: Keys that choose what is computed upstream or how the target is named, not how its formula runs.
_NOT_PARAMETERS = {"method", "variant", "labels", "seeds", "distance"}


class Target(Section):
    """What every target may say: its method and, if it differs from the top level, its own classes."""

    #: Parameters that the loader applies; they are in no key and changing them computes nothing.
    load_time: ClassVar[tuple[str, ...]] = ()
    #: Metric parameters that a variant uses where the config is silent.
    distance_defaults: ClassVar[dict[str, dict]] = {}
    #: Seeds that a variant uses where the config is silent.
    seed_defaults: ClassVar[dict[str, Section]] = {}

    labels: dict[str, int | list[int]] | None = Field(
        None, description="this target's own classes of the same integers, in the grammar of the top-level labels"
    )
    precision: Literal["uint8", "uint16"] = Field(
        "uint8", description="of a stored map with bounds: error at most 1/510 or 1/131070 of its range"
    )

    @property
    def variant_name(self) -> str:
        """The variant, `standard` for a method that has one form only."""
        return getattr(self, "variant", "standard")

    def parameters(self) -> dict:
        """Return the parameters that the stored map depends on."""
        return {k: v for k, v in self.model_dump(mode="json").items() if k not in _NOT_PARAMETERS | set(self.load_time)}

    def blend_parameters(self) -> dict:
        """Return the parameters that the loader applies."""
        return {k: getattr(self, k) for k in self.load_time}


class OneHot(Target):
    """The hard mask itself; nothing is stored."""

    method: Literal["onehot"]


class LabelSmoothing(Target):
    """Uniform label smoothing (Szegedy); nothing is stored."""

    load_time = ("epsilon",)

    method: Literal["label_smoothing"]
    epsilon: float = Field(0.1, ge=0, le=1, description="mass spread over all classes; applied by the loader")


class GeodesicTarget(Target):
    """What GeoLS and SiNG share: seeds and a geodesic distance."""

    seeds: Seeds | None = Field(None, description="seed strategy; the variant's own if left out")
    distance: Distance = Field(default_factory=Distance, description="metric; the variant's own if left out")

    @property
    def seeds_or_default(self) -> Section:
        """The seeds of the config, else the variant's."""
        return self.seeds or self.seed_defaults[self.variant]

    def metric_parameters(self) -> dict:
        """Return metric and its one weight, the variant's defaults filled in."""
        chosen = self.distance.model_dump(include={"metric", "lamb", "gamma"}, exclude_none=True)
        defaults = self.distance_defaults[self.variant]
        metric = chosen.get("metric", defaults["metric"])
        weight = "gamma" if metric == "pythagorean" else "lamb"
        fallback = defaults.get(weight, 1.0 if weight == "gamma" else 0.5)
        return {"metric": metric, weight: chosen.get(weight, fallback)}


class GeoLS(GeodesicTarget):
    """Geodesic label smoothing (Adiga Vasudeva, Dolz, Lombaert, MIDL 2023)."""

    load_time = ("alpha",)
    distance_defaults = {
        "paper": {"metric": "pythagorean", "gamma": 1.0},
        "official": {"metric": "harmonic", "lamb": 1.0},
    }
    seed_defaults = {
        "paper": SkeletonSeeds(strategy="skeleton"),
        "official": SkeletonSeeds(strategy="skeleton", fallback=False, per_component=False),
    }

    method: Literal["geols"]
    variant: Literal["paper", "official"] = Field("paper", description="Eqs. 3-6, or what the authors' script does")
    alpha: float = Field(0.1, ge=0, le=1, description="share of the geodesic map in the target; applied by the loader")


class SiNG(GeodesicTarget):
    """Signed normalised geodesic transform (Dang, Nguyen, Tiulpin, MICCAI 2024)."""

    load_time = ("delta",)
    distance_defaults = {"paper": {"metric": "l1", "lamb": 0.5}, "official": {"metric": "sum", "lamb": 0.5}}
    seed_defaults = {
        "paper": CannySeeds(strategy="canny"),
        "official": CannySeeds(strategy="canny", mode="slices", fallback=False, per_component=False),
    }

    method: Literal["sing"]
    variant: Literal["paper", "official"] = Field("paper", description="Eqs. 1-5, or what the authors' code does")
    delta: float = Field(0.5, ge=0, lt=1, description="margin between the two signs; applied by the loader")


class Superpixel(Target):
    """Superpixel-guided label softening (Li et al., MICCAI 2020)."""

    method: Literal["superpixel"]
    variant: Literal["paper"] = Field("paper", description="the authors published no code")
    n_superpixels: int = Field(1500, ge=2, description="how many superpixels SLIC aims at")
    compactness: float = Field(0.1, gt=0, description="SLIC's weight of space against intensity (not in the paper)")
    unit: Literal["voxel", "mm"] = Field("voxel", description="unit of the signed distance (not in the paper)")
    renormalise: bool = Field(False, description="divide by the sum over classes, which the paper does not")


class SVLS(Target):
    """Spatially varying label smoothing (Islam, Glocker, IPMI 2021)."""

    method: Literal["svls"]
    variant: Literal["paper", "official"] = Field("paper", description="any odd kernel, or the authors' 3x3x3 code")
    kernel_size: int = Field(3, ge=3, le=31, description="odd width of the Gaussian kernel in voxels")
    sigma: float = Field(1.0, gt=0, description="of the Gaussian, in voxels, or in mm with spacing_aware")
    spacing_aware: bool = Field(False, description="measure the kernel in mm")


class Gaussian(Target):
    """Gaussian softening of each class (Engelen)."""

    method: Literal["gaussian"]
    sigma_mm: float = Field(1.0, gt=0, description="of the Gaussian in mm (the paper leaves it open)")


class Dilation(Target):
    """Dilation softening (Kats): a shell around each class at a fixed probability."""

    method: Literal["dilation"]
    radius_mm: float = Field(2.0, gt=0, description="thickness of the shell in mm (the paper leaves it open)")
    shell_value: float = Field(0.5, gt=0, lt=1, description="probability in the shell (the paper leaves it open)")


class LevelSet(Target):
    """Signed distance to the boundary, for boundary loss and distance regression."""

    method: Literal["level_set"]
    variant: Literal["mm", "official", "normalised"] = Field("mm", description="mm, the authors' form, or [-1, 1]")
    truncate: bool = Field(False, description="official only: cut distances to integers, as the authors' code does")


class PartialVolume(Target):
    """The one-hot label resampled linearly to the target grid."""

    method: Literal["partial_volume"]
    antialias: bool = Field(True, description="smooth the fine label before it is sampled on a coarser grid")


class MultiRater(Target):
    """The raters of a case fused to one probability per class."""

    method: Literal["multi_rater"]
    fusion: Literal["mean", "staple"] = Field("mean", description="plain average, or STAPLE")


AnyTarget = Annotated[
    OneHot
    | LabelSmoothing
    | GeoLS
    | SiNG
    | Superpixel
    | SVLS
    | Gaussian
    | Dilation
    | LevelSet
    | PartialVolume
    | MultiRater,
    Field(discriminator="method"),
]
