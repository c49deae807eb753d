"""The stage that computes the soft label of one method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boxed import BoxedVolumes
from softlabels._shared.on_demand import ChannelsOnDemand
from softlabels._shared.rate import Rate
from softlabels._shared.registry import Distribution
from softlabels.classes import LabelClass, LabelSet, class_masks
from softlabels.errors import InputError
from softlabels.methods import METHODS, Method, TargetInputs
from softlabels.methods.arrays import BoxedInputs
from softlabels.methods.base import MANY_CLASSES, SPARSE_FROM
from softlabels.methods.boxed import BoxedMethod
from softlabels.methods.by_class import MethodByClass
from softlabels.methods.seeded import GeodesicMethod, reads_by_channel
from softlabels.pipeline.memory import HeldResult
from softlabels.pipeline.node import Node
from softlabels.pipeline.stages.base import Job, Result, Upstream, UpstreamStage
from softlabels.pipeline.stages.by_block import BY_BLOCK, target_by_block
from softlabels.pipeline.stages.by_class import target_by_class
from softlabels.pipeline.stages.near import DISTANCE_BITS, ends_at_gap, farthest_of, near_inputs
from softlabels.pipeline.stages.prepare import prepared_digests
from softlabels.preprocess.masks import boxed_class_masks

if TYPE_CHECKING:
    from softlabels.inputs.sheet import Case
    from softlabels.store import BitRound, Layer, ScaleOffset
    from softlabels.store.largest_classes import Shares
    from softlabels.store.read import Entry


class Target(UpstreamStage):
    """The soft label of one method, whose version is in the key beside the stage's."""

    name = "target"
    version = "1"
    picture = "soft label"

    def node(self, inputs: Mapping[str, Node], classes: LabelSet, method: Method) -> Node:
        """Return the node of a method with its parameters; `inputs` are the nodes that it reads, by role."""
        params = {"classes": classes.to_json(), **method.node_parameters(), **method.storage_parameters(classes)}
        algorithm = METHODS.algorithm(method.name, self.version)
        return Node(self.name, algorithm, params, {role: node.id for role, node in inputs.items()})

    def plugins(self, node: Node) -> list[Distribution]:
        """Return the package that provides the method, if it is not softlabels."""
        return METHODS.distributions(node.params["method"])

    def files(self, node: Node, case: Case) -> list[tuple[str, str]]:
        """Return the label file for methods that need the labels before resampling, else nothing."""
        return [("label", case.label)] if "source_labels" in METHODS[node.params["method"]].needs else []

    def cost(self, node: Node, nodes: Mapping[str, Node]) -> Rate:
        """Return the cost per voxel and class; the declared memory is for one channel, where distances are read."""
        method, distance = METHODS[node.params["method"]], nodes.get(node.inputs.get("distance", ""))
        has_gap = distance is not None and "gap" in distance.params
        way = _way_of(node, has_gap=has_gap, is_stored=distance is not None and distance.is_kept)
        if way == "by block":
            return BY_BLOCK
        if way == "by class" and issubclass(method, MethodByClass):
            return method.by_class_cost
        if way == "in boxes" and issubclass(method, BoxedMethod):
            return method.boxed_cost
        if distance is None or distance.params["modalities"] == "vector" or reads_by_channel(method):
            return method.cost
        n_more = len(nodes[node.inputs["prepare"]].checks["channels"]) - 1
        return replace(method.cost, memory_bytes=method.cost.memory_bytes + 4 * n_more)

    def n_maps(self, node: Node, nodes: Mapping[str, Node]) -> int:
        """Return the number of classes."""
        return len(node.params["classes"])

    def compute(self, job: Job, sources: Upstream) -> Result:
        """Return the map that training will read, with its quality figures."""
        params = dict(job.node.params)
        labels = LabelSet.from_json(params.pop("classes"))
        method = METHODS[params["method"]].from_node_parameters(params)
        distance = sources.results.get("distance")
        is_stored = not isinstance(distance, HeldResult | None)
        way = _way_of(job.node, has_gap=ends_at_gap(sources), is_stored=is_stored)
        if way == "in boxes":
            return _in_boxes(job, sources, labels, cast("BoxedMethod", method))
        if way == "by class":
            return _by_class(job, sources, labels, cast("MethodByClass", method))
        if way == "by block":
            return _by_block(job, sources, labels, cast("GeodesicMethod", method))
        return _at_once(job, sources, labels, method)


#: How a map is computed: all classes at once; each class in the box where its map is not 0; one class after another,
#: where none depends on the others; or all classes of one block of voxels after another.
Way = Literal["at once", "in boxes", "by class", "by block"]


def _way_of(node: Node, *, has_gap: bool, is_stored: bool) -> Way:
    """Return how the map of a node is computed.

    Parameters
    ----------
    node : Node
    has_gap, is_stored : bool
        Whether the distances that it reads end at a gap, and whether they are in the store; False if it reads none.
    """
    method, is_sparse = METHODS[node.params["method"]], node.params.get("storage") == "sparse"
    is_many = len(node.params["classes"]) >= MANY_CLASSES
    has_boxes = has_gap if "distance" in method.needs else is_many or is_sparse
    if has_boxes and issubclass(method, BoxedMethod) and method.has_boxed_map():
        return "in boxes"
    if is_many and issubclass(method, MethodByClass):
        return "by class"
    if is_many and is_sparse and is_stored and issubclass(method, GeodesicMethod) and method.has_voxel_map():
        # Only these variants depend, voxel by voxel, on the distances there alone.
        return "by block" if node.params["variant"] in method.gap_variants else "at once"
    return "at once"


def _at_once(job: Job, sources: Upstream, labels: LabelSet, method: Method) -> Result:
    """Return the map that training will read, all classes at once."""
    from softlabels.methods.quality import quality_figures

    inputs = method_inputs(job, sources, labels, method.needs, by_channel=reads_by_channel(type(method)))
    target = method.compute(inputs)
    quality = quality_figures(target.values, inputs.masks, kind=method.kind, are_exclusive=not labels.is_overlapping)
    layers, figures, flags = _stored(method, target.values, labels.names, inputs.threads)
    quality |= {"flags": [*target.flags, *flags], "notes": target.notes, **figures}
    return Result(layers, sources.grid, quality)


def _by_class(job: Job, sources: Upstream, labels: LabelSet, method: MethodByClass) -> Result:
    """Return the map that training will read, class by class while it is written."""
    from softlabels.store import Layer

    values, quality = target_by_class(job, sources, labels, method)
    encoding = _encoding(method.value_range, method.precision)
    return Result([Layer("target", values, labels.names, encoding)], sources.grid, quality)


def _by_block(job: Job, sources: Upstream, labels: LabelSet, method: GeodesicMethod) -> Result:
    """Return the map that training will read, the largest classes of each block of voxels."""
    distance = cast("Entry", sources.results["distance"])
    shares, by_block = target_by_block(sources, distance, labels, method)
    layers, figures, flags = _sparse(method, shares, labels.names, job.threads or 1)
    quality = by_block()
    quality["flags"] = [*quality["flags"], *flags]
    return Result(layers, sources.grid, quality | figures)


def _in_boxes(job: Job, sources: Upstream, labels: LabelSet, method: BoxedMethod) -> Result:
    """Return the map that training will read, each class in its box."""
    from softlabels.methods.quality import boxed_quality_figures

    inputs = BoxedInputs(
        masks=sources.boxed_masks(labels.classes),
        spacing=sources.grid.spacing,
        class_names=labels.names,
        background=labels.background,
        image=sources.read("prepare", "image") if "image" in method.needs else None,
        domain=sources.domain(),
        threads=job.threads or 1,
        **(near_inputs(sources, len(labels.classes)) if "distance" in method.needs else {}),
        **(_source(job, sources, labels.classes, boxed_class_masks) if "source_labels" in method.needs else {}),
    )
    target = method.compute_boxed(inputs)
    quality = boxed_quality_figures(target.values, inputs.masks, are_exclusive=not labels.is_overlapping)
    layers, figures, flags = _stored(method, target.values, labels.names, inputs.threads)
    notes = target.notes | ({"gap": sources.results["distance"].quality["gap"]} if "distance" in method.needs else {})
    quality |= {"flags": [*target.flags, *flags], "notes": notes, **figures}
    return Result(layers, sources.grid, quality)


def method_inputs(
    job: Job, sources: Upstream, labels: LabelSet, needs: frozenset[str], *, by_channel: bool = False
) -> TargetInputs:
    """Return what a method needs of a case, and nothing else.

    Parameters
    ----------
    job : Job
        Of the case; its node is not looked at.
    sources : Upstream
        The entries of the nodes that the method reads, by role.
    labels : LabelSet
        The classes of the target.
    needs : frozenset of str
        `Method.needs`.
    by_channel : bool
        Whether distances may be read a channel at a time (`GeodesicMethod.reads_by_channel`).
    """
    found: dict[str, Any] = {}
    if "image" in needs:
        found["image"] = sources.read("prepare", "image")
    if "seeds" in needs:
        found["seeds"] = sources.read("seeds", "seeds")
    if "distance" in needs and by_channel:
        found["distance"] = ChannelsOnDemand(sources.volumes("distance", "distance"), len(labels.classes))
    elif "distance" in needs:
        distance = sources.read("distance", "distance")
        found["distance"] = distance.reshape(-1, len(labels.classes), *distance.shape[1:])
    if "distance" in needs:
        found["farthest"] = farthest_of(sources, len(labels.classes))
    if "raters" in needs:
        found["raters"] = _rater_masks(job, sources, labels.classes)
    if "source_labels" in needs:
        found |= _source(job, sources, labels.classes, class_masks)
    return TargetInputs(
        masks=sources.masks(labels.classes),
        spacing=sources.grid.spacing,
        class_names=labels.names,
        background=labels.background,
        domain=sources.domain(),
        threads=job.threads or 1,
        **found,
    )


def _rater_masks(job: Job, sources: Upstream, classes: Sequence[LabelClass]) -> NDArray[np.bool_]:
    """Return the (R, C, D, H, W) masks of all raters."""
    if not sources.has("prepare", "raters"):
        raise InputError(
            f"case {job.case.id}: got one label file, expected several raters. "
            "Add columns 'label:<rater>' to the case sheet"
        )
    raters = sources.read("prepare", "raters")
    return np.stack([class_masks(labels, classes) for labels in raters])


def _source(job: Job, sources: Upstream, classes: Sequence[LabelClass], masks_of: Callable[..., Any]) -> dict[str, Any]:
    """Return the masks on the label file's own grid, as a function makes them, and the way there from the target grid.

    Raises
    ------
    InputError
        If the file is not the one that was prepared: the entry would be of another label than its key says.
    """
    from softlabels.inputs.volume import read_volume

    source = read_volume(job.case.label, role="label", spacing=job.case.spacing)
    expected = prepared_digests(sources.prepared)["label"]
    if source.digest != expected:
        raise InputError(
            f"case {job.case.id}, label: {job.case.label} is not the file that was prepared: got sha256 "
            f"{source.digest[:12]}, expected {expected[:12]}. Restore the former file, or run snakemake "
            "again to prepare the case with this one"
        )
    mapping = np.linalg.inv(source.grid.affine_ras) @ sources.grid.affine_ras
    return {"source_masks": masks_of(source.values, classes), "source_from_target": mapping}


def _stored(
    method: Method, values: NDArray[np.float32] | BoxedVolumes, names: Sequence[str], threads: int
) -> tuple[list[Layer], dict[str, Any], list[str]]:
    """Return the layers that hold a map, and the figures and flags of a sparse one."""
    from softlabels.store import Layer

    if method.storage == "sparse":
        return _sparse(method, values, names, threads)
    return [Layer("target", values, names, _encoding(method.value_range, method.precision))], {}, []


def _sparse(
    method: Method, shares: Shares, names: Sequence[str], threads: int
) -> tuple[list[Layer], dict[str, Any], list[str]]:
    """Return the layers of the largest classes of each voxel, their figures and what a person should know."""
    from softlabels.store.largest_classes import largest_classes

    layers, figures = largest_classes(
        shares, names, dtype=method.precision, max_dropped=method.max_dropped, threads=threads
    )
    n_kept = figures["n_kept"]
    if len(names) < SPARSE_FROM or 2 * n_kept < len(names):
        return layers, {"sparse": figures}, []
    flag = f"sparse map keeps {n_kept} of {len(names)} classes a voxel: raise max_dropped, or set storage: dense"
    return layers, {"sparse": figures}, [flag]


def _encoding(bounds: tuple[float, float] | None, precision: str) -> ScaleOffset | BitRound:
    """Return how a target map is stored: integers between its bounds, else rounded floats."""
    from softlabels.store import BitRound, ScaleOffset

    if bounds is None:
        return BitRound(DISTANCE_BITS)
    return ScaleOffset.signed(precision) if bounds == (-1.0, 1.0) else ScaleOffset(precision, *bounds)
