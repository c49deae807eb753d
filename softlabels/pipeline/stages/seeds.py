"""The stage that finds where the distances of each class start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softlabels._shared.rate import Rate
from softlabels.pipeline.node import Node
from softlabels.pipeline.stages.base import Job, Result, Upstream, UpstreamStage


class Seeds(UpstreamStage):
    """Start voxels of every class."""

    name = "seeds"
    version = "1"
    picture = "seeds"

    def node(self, prepare: Node, classes: list[dict[str, Any]], strategy: Mapping[str, Any]) -> Node:
        """Return the node of a seed strategy with its parameters."""
        return Node(self.name, self.version, {"classes": classes, **strategy}, {"prepare": prepare.id})

    def key_params(self, node: Node, case_id: str) -> dict[str, Any]:
        """Return the node's parameters; a random draw depends on the case's name too."""
        return {**node.params, "case": case_id} if node.params["strategy"] == "random" else node.params

    def cost(self, node: Node) -> Rate:
        """Return the cost per voxel and class."""
        us = 0.12 if node.params["strategy"] == "skeleton" else 0.10
        return Rate(us, memory_bytes=12, disk_bytes=0.02)

    def n_maps(self, node: Node, nodes: Mapping[str, Node]) -> int:
        """Return the number of classes."""
        return len(node.params["classes"])

    def compute(self, job: Job, sources: Upstream) -> Result:
        """Return the seeds with a report of the fallback used for each class."""
        from softlabels.seeds import make_seeds
        from softlabels.store import Exact, Layer

        options = dict(job.node.params)
        classes = options.pop("classes")
        names = tuple(c["name"] for c in classes)
        seeds, reports = make_seeds(
            sources.masks(classes),
            sources.grid.spacing,
            class_names=names,
            case_id=job.case.id,
            threads=job.threads or 1,
            **options,
        )
        flags = [f"class {r['class']}: {r['used']}, where {r['strategy']} left none" for r in reports if r["fallback"]]
        layer = Layer("seeds", seeds, channels=names, encoding=Exact())
        return Result([layer], sources.grid, {"classes": reports, "flags": flags})
