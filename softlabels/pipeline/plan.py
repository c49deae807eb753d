"""From a configuration to the nodes that must be computed for every case; pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace

from softlabels.config import Config
from softlabels.errors import InputError
from softlabels.methods import GeodesicMethod, Method, SeededMethod
from softlabels.pipeline.node import Node
from softlabels.pipeline.stages import DISTANCE, PREPARE, SEEDS, STAGES, TARGET


@dataclass(frozen=True)
class Plan:
    """All nodes of a configuration, upstream first, and the node of each named target.

    A target that the loader derives from the labels (one-hot, label smoothing) has no node: None.
    """

    nodes: dict[str, Node]
    targets: dict[str, str | None]

    @property
    def prepare(self) -> str:
        """The id of the one prepare node."""
        return next(iter(self.nodes))

    def find_node(self, name: str) -> str:
        """Return the id of the node that a person means.

        Parameters
        ----------
        name : str
            A node's id; ``prepare``; a target's name; a target's name with the stage on its way, such as
            ``geols/distance``; or the beginning of any of these, if it is the beginning of one node's names only.

        Raises
        ------
        InputError
            If nothing or several nodes are named so, or the target is derived from the labels and has no node; the
            message lists what is near.

        Examples
        --------
        >>> plan = Plan({"prepare-1": Node("prepare", "1", {}, {})}, {"onehot": None})
        >>> plan.find_node("prep") == plan.prepare
        True
        """
        names = self.names() | {node: node for node in self.nodes}
        if self.targets.get(name, "") is None:
            raise InputError(f"node {name!r}: this target is derived from the labels, nothing is stored for it")
        if name in names:
            return names[name]
        found = {node for known, node in names.items() if known.startswith(name)}
        if len(found) == 1:
            return found.pop()
        spoken = [known for known in names if known not in self.nodes]
        if found:
            near = [known for known in spoken if known.startswith(name)] or sorted(found)
            raise InputError(f"node {name!r}: the beginning of {', '.join(near)}. Give more of the name")
        near = difflib.get_close_matches(name, names, 3) or spoken
        raise InputError(f"node {name!r}: not in the plan. Did you mean {', '.join(near)}?")

    def names(self) -> dict[str, str]:
        """Return the names that people give nodes: ``prepare``, a target, and a target with a stage on its way."""
        names = {"prepare": self.prepare}
        for target, node_id in self.targets.items():
            if node_id is None:
                continue
            stages = {self.nodes[node].stage: node for node in self.upstream(node_id)}
            names[target] = node_id
            names |= {f"{target}/{stage}": node for stage, node in stages.items()}
        return names

    def users(self) -> dict[str, list[str]]:
        """Return node to the targets that it is for, in the order of the configuration."""
        needed = {name: set(self.upstream(node)) for name, node in self.targets.items() if node is not None}
        return {node: [name for name, nodes in needed.items() if node in nodes] for node in self.nodes}

    def upstream(self, node_id: str) -> list[str]:
        """Return the ids of all nodes that a node needs, itself last, upstream first."""
        needed = {node_id}
        for known in reversed(self.nodes):
            if known in needed:
                needed.update(self.nodes[known].inputs.values())
        return [known for known in self.nodes if known in needed]


def make_plan(config: Config) -> Plan:
    """Return the nodes of a configuration; targets that agree on a node share it.

    Examples
    --------
    >>> from softlabels.config import parse_config
    >>> geols = {"method": "geols"}
    >>> targets = {"a": geols, "b": geols | {"alpha": 0.2}}
    >>> plan = make_plan(parse_config({"channels": ["T1"], "labels": {"background": 0, "gm": 1}, "targets": targets}))
    >>> [node.stage for node in plan.nodes.values()], plan.targets["a"] == plan.targets["b"]
    (['prepare', 'seeds', 'distance', 'target'], True)
    """
    prepare = PREPARE.node(config)
    nodes = {prepare.id: prepare}
    targets = {}
    for name, target in config.targets.items():
        chain = _target_chain(config, target, prepare)
        nodes.update({node.id: node for node in chain})
        targets[name] = chain[-1].id if chain else None
    order = list(STAGES)
    ordered = sorted(nodes.values(), key=lambda node: order.index(node.stage))
    kept = config.kept_stages
    return Plan({node.id: replace(node, is_kept=node.stage in kept) for node in ordered}, targets)


def _target_chain(config: Config, target: Method, prepare: Node) -> list[Node]:
    """Return the nodes of one target after prepare: what its method needs, then itself; none if it is not stored."""
    if not target.is_stored():
        return []
    classes = config.label_set(target)
    upstream = {"prepare": prepare}
    if target.needs & {"seeds", "distance"} and isinstance(target, SeededMethod):
        strategy, seeds_background = target.seed_strategy, target.seeds_background
        upstream["seeds"] = SEEDS.node(prepare, classes, strategy, seeds_background=seeds_background)
    if "distance" in target.needs and isinstance(target, GeodesicMethod):
        upstream["distance"] = DISTANCE.node(prepare, upstream["seeds"], config, target)
        # The method may depend on which engine it is, where the configuration's top level says so.
        target = target.with_engine(config.engine_of(target))
    read = {role: node for role, node in upstream.items() if role == "prepare" or role in target.needs}
    return [*list(upstream.values())[1:], TARGET.node(read, classes, target)]
