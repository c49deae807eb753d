"""The stage that solves geodesic distances."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.on_demand import VolumesOnDemand
from softlabels._shared.rate import Rate
from softlabels.methods import METHODS
from softlabels.methods.base import MANY_CLASSES
from softlabels.methods.seeded import reads_by_channel
from softlabels.pipeline.node import Node
from softlabels.pipeline.stages.base import Job, Result, Upstream, UpstreamStage
from softlabels.pipeline.stages.near import DISTANCE_BITS, compute_near

if TYPE_CHECKING:
    from softlabels.config import Config
    from softlabels.methods import GeodesicMethod
    from softlabels.store.shard import Writable

log = logging.getLogger(__name__)

#: Of an engine's report, what depends on threads and schedule and not on the result.
_EFFORT = ("iterations", "tile_visits")
#: Classes that are solved together where there are many: more save little time, and each takes 5 bytes a voxel.
_CLASSES_TOGETHER = 4


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

    def cost(self, node: Node, nodes: Mapping[str, Node]) -> Rate:
        """Return the cost per voxel, channel and class; with a gap per voxel and channel, whatever the classes."""
        if "gap" in node.params:
            return Rate(us=0.4, memory_bytes=12, disk_bytes=7, volume_bytes=30)
        n_classes = len(nodes[node.inputs["seeds"]].params["classes"])
        if n_classes >= MANY_CLASSES:
            return Rate(us=0.045, memory_bytes=0.1, disk_bytes=1.6, volume_bytes=110)
        # The image and the maps of one channel, with what solving them takes.
        volume_bytes = 4 + 4 * len(nodes[node.inputs["prepare"]].checks["channels"]) + 9 * n_classes
        if node.is_kept:
            return Rate(us=0.04, memory_bytes=0, disk_bytes=1.4, volume_bytes=volume_bytes)
        is_streamed = _is_streamed([other for other in nodes.values() if node.id in other.inputs.values()])
        # What reads it has maps of its own meanwhile.
        volume_bytes += 6 * n_classes
        return Rate(us=0.028, memory_bytes=0 if is_streamed else 4, disk_bytes=0, volume_bytes=volume_bytes)

    def n_maps(self, node: Node, nodes: Mapping[str, Node]) -> int:
        """Return the number of classes, times that of the channels if each has a map of its own.

        With a gap, the maps of all classes together hardly take more than one.
        """
        n_classes = 1 if "gap" in node.params else len(nodes[node.inputs["seeds"]].params["classes"])
        is_vector = node.params["modalities"] == "vector"
        return n_classes * (1 if is_vector else len(nodes[node.inputs["prepare"]].checks["channels"]))

    def compute(self, job: Job, sources: Upstream) -> Result:
        """Return one map per channel and class, with what the certificate found for each."""
        if "gap" in job.node.params:
            return compute_near(job, sources)
        maps = _Maps(job, sources)
        if maps.n_classes >= MANY_CLASSES:
            return maps.on_demand(_CLASSES_TOGETHER)
        if job.node.is_kept or _is_streamed(job.memory.readers(job.node.id)):
            return maps.on_demand(maps.n_classes)
        return maps.at_once()


def _is_streamed(readers: Sequence[Node]) -> bool:
    """Return whether nothing but one target that goes through the channels once reads distances that are not kept."""
    return len(readers) <= 1 and all(reads_by_channel(METHODS[one.params["method"]]) for one in readers)


class _Maps:
    """All distances of a case: whole maps, held or made when they are read."""

    def __init__(self, job: Job, sources: Upstream) -> None:
        self.job, self.sources = job, sources
        image, self.domain = sources.read("prepare", "image"), sources.domain()
        is_vector = job.node.params["modalities"] == "vector"
        self.parts = [image] if is_vector else list(image[:, None])
        self.channels = ("all",) if is_vector else sources.channels("prepare", "image")
        self.classes = sources.channels("seeds", "seeds")
        self.names = tuple(f"{name}:{c}" for name in self.channels for c in self.classes)
        self.effort: dict[str, dict[str, int]] = {name: {} for name in self.channels}
        #: Index of a map to what the certificate found.
        self.reports: dict[int, dict[str, Any]] = {}

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return len(self.classes)

    def at_once(self) -> Result:
        """Return the maps, which several will read, or one that needs all; what they are made of is not held."""
        seeds = self.sources.read("seeds", "seeds")
        # One array for all: the memory that one channel is solved in serves the next.
        maps = np.empty((len(self.parts), *seeds.shape), np.float32)
        with ThreadPoolExecutor(self.job.threads) as pool:
            for number, out in enumerate(maps):
                list(pool.map(np.copyto, out, self._solved(number, seeds, 0)))
        return self._result(maps.reshape(-1, *seeds.shape[1:]), self._quality())

    def on_demand(self, n_together: int) -> Result:
        """Return maps that are solved when they are read, some classes of a channel together."""
        seeds, n_classes = self.sources.read_boxed("seeds", "seeds", fill=False), self.n_classes
        shape = seeds.shape[1:]

        def make(first: int, stop: int) -> NDArray[np.float32]:
            """Solve some maps, which may be of two channels."""
            found = []
            for number in range(len(self.parts)):
                start, end = (min(max(n - number * n_classes, 0), n_classes) for n in (first, stop))
                if start < end:
                    some = seeds[start:end, 0 : shape[0], 0 : shape[1], 0 : shape[2]]
                    found.append(self._solved(number, some, start))
            return found[0] if len(found) == 1 else np.concatenate(found)

        def quality() -> dict[str, Any]:
            """Return the figures of all maps; those that nobody has read are solved for them."""
            for index in range(len(self.names)):
                if index not in self.reports:
                    make(index, index + 1)
            return self._quality()

        maps = VolumesOnDemand((len(self.names), *shape), make, dtype=np.float32, n_together=n_together)
        return self._result(maps, quality)

    def _solved(self, number: int, seeds: NDArray[np.bool_], start: int) -> NDArray[np.float32]:
        """Return the (n, D, H, W) maps of the classes from `start` in one channel, and note what is known of each."""
        part, name = self.parts[number], self.channels[number]
        distance, findings = _solve(self.job, part, seeds, self.sources.grid.spacing, self.domain)
        first = number * self.n_classes + start
        for index, report in enumerate(findings, start=first):
            self.reports[index] = {k: v for k, v in report.items() if k not in _EFFORT}
        effort = self.effort[name]
        effort |= {k: max(effort.get(k, 0), int(findings[0][k])) for k in _EFFORT if k in findings[0]}
        log.info("%s: %d of %d distance maps done", self.job.case.id, len(self.reports), len(self.names))
        return distance

    def _result(self, maps: Writable, quality: dict[str, Any] | Callable[[], dict[str, Any]]) -> Result:
        """Return the result with its one layer."""
        from softlabels.store import BitRound, Layer

        layer = Layer("distance", maps, channels=self.names, encoding=BitRound(DISTANCE_BITS))
        return Result([layer], self.sources.grid, quality, self.effort)

    def _quality(self) -> dict[str, Any]:
        """Return the figures of all maps."""
        maps = [{"map": name, **self.reports[index]} for index, name in enumerate(self.names)]
        flags = [f"map {m['map']}: not certified exact" for m in maps if not m["certified"]]
        return {"maps": maps, "certified": not flags, "flags": flags}


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
