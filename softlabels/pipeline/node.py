"""A node of the plan: one stage with everything its result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from softlabels._shared.plain_json import canonical_json


@dataclass(frozen=True)
class Node:
    """One stage with everything its result depends on, besides the case's files.

    Parameters
    ----------
    stage : str
        A name of `softlabels.pipeline.stages.STAGES`.
    algorithm : str
        The stage's algorithm version.
    params : dict
        Resolved parameters, plain JSON values.
    inputs : dict
        Role to id of the node that is read, e.g. ``{"prepare": "prepare-0a1b2c3d"}``.
    checks : dict
        What the job verifies about its input files. Not part of the id, nor, but for the names of the channels, of
        any key, because it changes no result; part of the rule's params, so that a change is verified again.
    is_kept : bool
        Whether its results are written to the store (`keep` in config.yaml). One that is not stays in the memory of
        the job that computes it, for the nodes that read it. In no id and no key: the results are the same.
    """

    stage: str
    algorithm: str
    params: dict[str, Any]
    inputs: dict[str, str] = field(default_factory=dict)
    checks: dict[str, Any] = field(default_factory=dict)
    is_kept: bool = True

    @property
    def id(self) -> str:
        """``<stage>-<8 hex of parameters, version and inputs>``."""
        content = [self.stage, self.algorithm, self.params, self.inputs]
        return f"{self.stage}-{hashlib.sha256(canonical_json(content)).hexdigest()[:8]}"

    @property
    def checks_digest(self) -> str | None:
        """The digest of `checks`; None if there are none."""
        return hashlib.sha256(canonical_json(self.checks)).hexdigest() if self.checks else None


def nodes_to_json(nodes: Iterable[Node]) -> str:
    """Return nodes as canonical JSON, for the file that a job reads.

    What is kept is not mentioned, because a kept node is what there was before there was a choice: projects from then
    have the same parameters, and Snakemake runs nothing again.
    """
    described = [asdict(node) for node in nodes]
    for content in described:
        if content["is_kept"]:
            del content["is_kept"]
    return canonical_json(described).decode()


def nodes_from_json(text: str) -> list[Node]:
    """Return the nodes that `nodes_to_json` wrote."""
    return [Node(**content) for content in json.loads(text)]
