"""The stage that solves geodesic distances."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.rate import Rate
from softlabels.pipeline.node import Node
from softlabels.pipeline.stages.base import Job, Result, Upstream, UpstreamStage
from softlabels.pipeline.stages.near import DISTANCE_BITS, compute_near

if TYPE_CHECKING:
    from softlabels.config import Config
    from softlabels.methods import GeodesicMethod

log = logging.getLogger(__name__)

#: Of an engine's report, what depends on threads and schedule and not on the result.
_EFFORT = ("iterations", "tile_visits")


class Distance(UpstreamStage):
    """Certified geodesic distances of every channel and class; with a gap, of each class where it is near."""

    name = "distance"
    version = "1"
    picture = "distance"

    def node(self, prepare: Node, seeds: Node, config: Config, method: GeodesicMethod) -> Node:
        """Return the node of the distance that a method needs.

        The result of a third-party engine depends on its iterations and its device too; that of the built-in engine
        does not.
        """
        params: dict[str, Any] = {**method.metric_parameters(), "modalities": method.distance.modalities}
        engine = config.engine_of(method)
        gap = method.gap_of(len(seeds.params["classes"]), engine)
        if gap is not None:
            params["gap"] = gap
        if engine != "softlabels":
            params |= {"engine": engine, "iterations": method.distance.iterations, "device": config.device}
        return Node(self.name, self.version, params, {"prepare": prepare.id, "seeds": seeds.id})

    def cost(self, node: Node) -> Rate:
        """Return the cost per voxel, channel and class; with a gap per voxel and channel, whatever the classes."""
        if "gap" in node.params:
            return Rate(us=0.4, memory_bytes=12, disk_bytes=7, volume_bytes=30)
        return Rate(us=0.045, memory_bytes=4.5, disk_bytes=1.4, volume_bytes=15)

    def n_maps(self, node: Node, nodes: Mapping[str, Node]) -> int:
        """Return the number of classes, times that of the channels if each has a map of its own.

        With a gap, the maps of all classes together hardly take more than one.
        """
        n_classes = 1 if "gap" in node.params else len(nodes[node.inputs["seeds"]].params["classes"])
        is_vector = node.params["modalities"] == "vector"
        return n_classes * (1 if is_vector else len(nodes[node.inputs["prepare"]].checks["channels"]))

    def compute(self, job: Job, sources: Upstream) -> Result:
        """Return one map per channel and class, with what the certificate found for each."""
        from softlabels.store import BitRound, ChannelStack, Layer

        if "gap" in job.node.params:
            return compute_near(job, sources)
        image, seeds, domain = sources.read("prepare", "image"), sources.read("seeds", "seeds"), sources.domain()
        is_vector = job.node.params["modalities"] == "vector"
        parts = [image] if is_vector else list(image[:, None])
        names = ["all"] if is_vector else sources.channels("prepare", "image")
        classes = sources.channels("seeds", "seeds")
        distances, maps, effort = [], [], {}
        for part, name in zip(parts, names, strict=True):
            distance, findings = _solve(job, part, seeds, sources.grid.spacing, domain)
            distances.append(distance)
            effort[name] = {k: int(findings[0][k]) for k in _EFFORT if k in findings[0]}
            found = [{k: v for k, v in report.items() if k not in _EFFORT} for report in findings]
            maps += [{"map": f"{name}:{c}", **report} for c, report in zip(classes, found, strict=True)]
            log.info("%s: %d of %d distance maps done", job.case.id, len(maps), len(parts) * len(seeds))
        layer = Layer(
            "distance",
            ChannelStack(distances),
            channels=tuple(m["map"] for m in maps),
            encoding=BitRound(DISTANCE_BITS),
        )
        flags = [f"map {m['map']}: not certified exact" for m in maps if not m["certified"]]
        return Result([layer], sources.grid, {"maps": maps, "certified": not flags, "flags": flags}, effort)


def _solve(
    job: Job,
    image: NDArray[np.float32],
    seeds: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    domain: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Return the (C, D, H, W) maps of one image and what is known of the exactness of each."""
    from softlabels.geodesic.engines import solve_with_engine

    options = {name: value for name, value in job.node.params.items() if name != "modalities"}
    options.setdefault("device", job.device)
    return solve_with_engine(image, seeds, spacing, domain=domain, n_threads=job.threads, **options)
