"""The stage that finds where the distances of each class start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softlabels._shared.rate import Rate
from softlabels._shared.registry import Distribution
from softlabels.classes import LabelSet
from softlabels.pipeline.node import Node
from softlabels.pipeline.stages.base import Job, Result, Upstream, UpstreamStage
from softlabels.seeds import STRATEGIES, SeedStrategy, make_boxed_seeds


class Seeds(UpstreamStage):
    """Start voxels of every class; the version of the strategy is in the key beside the stage's, that of the chain."""

    name = "seeds"
    version = "1"
    picture = "seeds"

    def node(self, prepare: Node, classes: LabelSet, strategy: SeedStrategy, *, seeds_background: bool) -> Node:
        """Return the node of a seed strategy with its parameters."""
        params = {"classes": classes.to_json(), **strategy.to_json()}
        if not seeds_background and classes.background is not None:
            params["background"] = classes.background
        algorithm = STRATEGIES.algorithm(strategy.name, self.version)
        return Node(self.name, algorithm, params, {"prepare": prepare.id})

    def key_params(self, node: Node, case_id: str) -> dict[str, Any]:
        """Return the node's parameters; a random draw depends on the case's name too."""
        depends_on_names = STRATEGIES[node.params["strategy"]].depends_on_names
        return {**node.params, "case": case_id} if depends_on_names else node.params

    def plugins(self, node: Node) -> list[Distribution]:
        """Return the package that provides the strategy, if it is not softlabels."""
        return STRATEGIES.distributions(node.params["strategy"])

    def cost(self, node: Node, nodes: Mapping[str, Node]) -> Rate:
        """Return the cost per voxel and class."""
        return STRATEGIES[node.params["strategy"]].cost

    def n_maps(self, node: Node, nodes: Mapping[str, Node]) -> int:
        """Return the number of classes."""
        return len(node.params["classes"])

    def compute(self, job: Job, sources: Upstream) -> Result:
        """Return the seeds with a report of the fallback used for each class."""
        from softlabels.store import Layer, Lossless

        params = dict(job.node.params)
        labels, background = LabelSet.from_json(params.pop("classes")), params.pop("background", None)
        seeds, reports = make_boxed_seeds(
            sources.boxed_masks(labels.classes),
            sources.grid.spacing,
            STRATEGIES.from_json(params),
            class_names=labels.names,
            case_id=job.case.id,
            background=background,
            threads=job.threads or 1,
        )
        flags = [f"class {r['class']}: {r['used']}, where {r['strategy']} left none" for r in reports if r["fallback"]]
        layer = Layer("seeds", seeds, channels=labels.names, encoding=Lossless())
        return Result([layer], sources.grid, {"classes": reports, "flags": flags})
