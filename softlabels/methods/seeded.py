"""What methods share that read seeds or geodesic distances: the keys `seeds` and `distance` of config.yaml."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.registry import Chosen
from softlabels._shared.section import Section
from softlabels.classes import LabelSet
from softlabels.errors import SeedError
from softlabels.geodesic.metric import METRIC_OF_ENGINE, METRICS, Engine, MetricName
from softlabels.methods.arrays import Need
from softlabels.methods.base import Method, share_out
from softlabels.methods.boxed import BoxedMethod
from softlabels.methods.keys import RunContext
from softlabels.seeds import STRATEGIES, SeedStrategy

#: Classes from which on `gap: auto` is a number.
GAP_FROM = 8
#: What a gap may change in a share: chosen, this part of the error of the encoding; given as a number, at most this.
_PART_OF_PRECISION, _LARGEST_BOUND = 1 / 16, 0.01
#: Half a level of each precision.
_HALF_LEVEL = {"uint8": 1 / 510, "uint16": 1 / 131070}


class Distance(Section):
    """Which geodesic distance; keys left out take the default of the method's variant."""

    metric: MetricName | None = Field(None, description="the cost of one step, by name (softlabels/geodesic/README.md)")
    lamb: float | None = Field(None, ge=0, le=1, description="weight of the image term in sum, harmonic and l1")
    gamma: float | None = Field(None, ge=0, le=1e6, description="weight of the image term in pythagorean")
    modalities: Literal["each", "vector"] = Field(
        "each", description="one map per channel, averaged by the method, or one map of the vector image"
    )
    gap: Literal["auto", "none"] | Annotated[float, Field(ge=1, le=1e6)] = Field(
        "auto",
        description="distances of a class that are so much above the least of all classes are left out (inf): a number "
        "in the unit of the distance; none; auto: as large as `precision` needs, for maps that are shares of exp(-D) "
        f"(geols paper) of {GAP_FROM} classes or more",
    )
    engine: Engine | None = Field(None, description="overrides the top-level engine for this target")
    iterations: int = Field(
        4, ge=1, le=1000, description="of a third-party engine; the built-in one runs until certified"
    )


class SeededMethod(Method):
    """A method that reads seeds.

    Attributes
    ----------
    default_seeds : mapping of str to SeedStrategy
        The seeds of each variant where the configuration names none.
    """

    provides: ClassVar[frozenset[Need]] = frozenset({"seeds"})
    default_seeds: ClassVar[Mapping[str, SeedStrategy]]

    seeds: Annotated[SeedStrategy, Chosen(STRATEGIES)] | None = Field(
        None, description="seed strategy; the variant's own if left out"
    )

    @classmethod
    def check_declaration(cls) -> None:
        """Raise TypeError if a variant has no seeds."""
        super().check_declaration()
        _check_variants(cls, "default_seeds")

    @property
    def seed_strategy(self) -> SeedStrategy:
        """The seeds of the configuration, else the variant's."""
        return self.seeds or self.default_seeds[self.variant_name]

    @property
    def seeds_background(self) -> bool:
        """Whether the background class gets seeds."""
        return True


class GeodesicMethod(SeededMethod, BoxedMethod):
    """A method that reads geodesic distances.

    Attributes
    ----------
    default_distance : mapping of str to Distance
        Metric and weight of each variant where the configuration names none.
    gap_variants : frozenset of str
        Variants whose map is the distribution over classes of `softlabels.geodesic.distances_for_distribution`, so that
        distances beyond a gap hardly matter. They implement `boxed_map`; with `voxel_map` too, a sparse target of whole
        distances is made block by block, in less memory.
    reads_by_channel : bool
        Whether `soft_map` goes through the distances of the channels once, as ``for channel in inputs.distance``. Then
        they are read, or solved, one channel at a time, and `inputs.distance` need not be an array. Not inherited by a
        class that has a `soft_map` of its own.
    """

    provides: ClassVar[frozenset[Need]] = frozenset({"seeds", "distance"})
    default_distance: ClassVar[Mapping[str, Distance]]
    gap_variants: ClassVar[frozenset[str]] = frozenset()
    reads_by_channel: ClassVar[bool] = False

    distance: Distance = Field(default_factory=Distance, description="metric; the variant's own if left out")

    @classmethod
    def check_declaration(cls) -> None:
        """Raise TypeError if a variant has no metric."""
        super().check_declaration()
        _check_variants(cls, "default_distance")
        if cls.gap_variants and not cls.has_boxed_map():
            raise TypeError(f"{cls.__name__} (method {cls.name!r}): has gap_variants, but no boxed_map")

    @classmethod
    def has_voxel_map(cls) -> bool:
        """Return whether the class implements `voxel_map`, so that maps are made block by block where it helps."""
        return cls.voxel_map is not GeodesicMethod.voxel_map

    def voxel_map(
        self, distance: NDArray[np.float32], masks: NDArray[np.bool_], farthest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the map of some voxels, in a variant of `gap_variants`.

        Parameters
        ----------
        distance : (M, C, d, h, w) float32 array
            All distances of these voxels.
        masks : (C, d, h, w) bool array
        farthest : (M, C) float32 array
            The largest finite distance of each map in the whole volume.
        """
        raise NotImplementedError

    def compute_voxels(
        self, distance: NDArray[np.float32], masks: NDArray[np.bool_], farthest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return `voxel_map`, shared out and checked as `compute` does it of a whole map."""
        found = self.voxel_map(distance, masks, farthest)
        share_out(found)
        self._check_range(float(found.min()), float(found.max()))
        return found

    @staticmethod
    def out_of_reach(class_name: str) -> SeedError:
        """Return the error about a class that has voxels and no distance."""
        return SeedError(
            f"class '{class_name}': present, but none of its seeds can be reached; "
            "set seeds.fallback to true, or widen prepare.domain"
        )

    def with_engine(self, engine: Engine) -> Self:
        """Return the method with the engine that its distances are solved by."""
        return self.model_copy(update={"distance": self.distance.model_copy(update={"engine": engine})})

    def metric_parameters(self) -> dict[str, Any]:
        """Return metric and its one weight, the variant's defaults filled in."""
        own, default = self.distance, self.default_distance[self.variant_name]
        metric = METRICS[own.metric or default.metric or "sum"]
        weights = (getattr(own, metric.weight), getattr(default, metric.weight), metric.default_weight)
        return {"metric": metric.name, metric.weight: next(w for w in weights if w is not None)}

    def gap_of(self, n_classes: int, engine: Engine | None) -> float | None:
        """Return the gap above the least distance up to which distances are solved; None for all of them.

        Examples
        --------
        >>> from softlabels.methods import METHODS
        >>> METHODS["geols"]().gap_of(105, "softlabels"), METHODS["geols"]().gap_of(4, "softlabels")
        (14.36, None)
        """
        gap, is_apt = self.distance.gap, self.variant_name in self.gap_variants and engine == "softlabels"
        if gap == "none" or not is_apt:
            return None
        if gap != "auto":
            return float(gap)
        if n_classes < GAP_FROM:
            return None
        return least_gap(n_classes, _HALF_LEVEL[self.precision] * _PART_OF_PRECISION)

    def check(self, labels: LabelSet, context: RunContext) -> list[str]:
        """Return every fault, those of metric, engine and gap among them."""
        return super().check(labels, context) + self._distance_faults(context) + self._gap_faults(labels, context)

    def _gap_faults(self, labels: LabelSet, context: RunContext) -> list[str]:
        """Return what is wrong with a gap that is given as a number."""
        gap, engine = self.distance.gap, self.distance.engine or context.engine or "softlabels"
        if gap in ("auto", "none"):
            return []
        if self.variant_name not in self.gap_variants:
            return [f"distance.gap: {self.name} {self.variant_name} depends on distances however large. Remove it"]
        if engine != "softlabels":
            return [f"distance.gap: engine {engine} solves whole maps. Remove it, or use engine softlabels"]
        n_classes = len(labels.classes)
        bound, least = share_bound(n_classes, float(gap)), least_gap(n_classes, _LARGEST_BOUND)
        if bound <= _LARGEST_BOUND:
            return []
        return [
            f"distance.gap: got {gap:g}, with which shares of {n_classes} classes may be wrong by {bound:.2g}, "
            f"expected at least {least:g}; auto chooses what the precision needs"
        ]

    def _distance_faults(self, context: RunContext) -> list[str]:
        """Return what keeps the engine from its metric, domain or device."""
        engine = self.distance.engine or context.engine or "softlabels"
        parameters = self.metric_parameters()
        faults = []
        for weight in ("lamb", "gamma"):
            if getattr(self.distance, weight) is not None and weight not in parameters:
                faults.append(f"distance.{weight}: has no effect for metric {parameters['metric']}. Remove it")
        only_metric = METRIC_OF_ENGINE.get(engine)
        if only_metric is None:
            return faults
        if parameters["metric"] != only_metric:
            faults.append(
                f"engine {engine} has metric '{only_metric}' only, got '{parameters['metric']}'. Change one of them"
            )
        if context.domain not in (None, "none"):
            faults.append(
                f"engine {engine} knows no domain, got prepare.domain '{context.domain}'. Use engine softlabels"
            )
        if engine == "geodistk" and context.device == "cuda":
            faults.append("engine geodistk runs on cpu only, got device 'cuda'. Set device: cpu")
        return faults


def reads_by_channel(method: type[Method]) -> bool:
    """Return whether a method takes the distances of one channel after another.

    A class with a `soft_map` of its own has to say so itself: what it derives from may read them in another way.
    """
    if not issubclass(method, GeodesicMethod) or not method.reads_by_channel:
        return False
    declared, written = (
        next(one for one in method.__mro__ if name in vars(one)) for name in ("reads_by_channel", "soft_map")
    )
    return issubclass(declared, written)


def share_bound(n_classes: int, gap: float) -> float:
    """Return by how much a gap can change a share; `softlabels.geodesic.distances_for_distribution` has the proof."""
    return 2 * n_classes * math.exp(-gap)


def least_gap(n_classes: int, bound: float) -> float:
    """Return the least gap, in hundredths, that changes no share by more than a bound.

    Examples
    --------
    >>> least_gap(105, 1e-4), share_bound(105, 14.56) <= 1e-4
    (14.56, True)
    """
    return math.ceil(100 * math.log(2 * n_classes / bound)) / 100


def _check_variants(method: type[Method], attribute: str) -> None:
    """Raise TypeError if a class attribute does not have one value for each variant."""
    declared = getattr(method, attribute, {})
    if set(declared) != set(method.variants()):
        raise TypeError(
            f"{method.__name__} (method {method.name!r}): {attribute} has {', '.join(declared) or 'nothing'}, expected "
            f"a value for each of {', '.join(method.variants())}"
        )
