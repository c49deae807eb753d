"""What the stages share: the job that they work on, what they read of it and what they return."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.sheet import Case
from softlabels.pipeline.node import Node
from softlabels.pipeline.receipts import Receipt
from softlabels.store import Layer, Store


@dataclass(frozen=True)
class Job:
    """One case x one node, with where to read, where to publish and what to run on."""

    case: Case
    node: Node
    store: Store
    results: Path
    device: str = "cpu"
    threads: int | None = None

    @property
    def receipt_path(self) -> Path:
        """Where the receipt of this job goes."""
        return self.results / self.case.id / f"{self.node.id}.json"

    def upstream_receipts(self) -> dict[str, Path]:
        """Return where the receipts of what is read lie, by role."""
        return {role: self.results / self.case.id / f"{node}.json" for role, node in self.node.inputs.items()}

    def upstream(self, role: str):
        """Return the store entry that plays a role, found through its receipt."""
        receipt = Receipt.read(self.upstream_receipts()[role])
        entry = self.store.find(receipt.key)
        if entry is None:
            raise InputError(
                f"{role} of case {self.case.id}: entry {receipt.key[:12]} is not in store {self.store.path}. "
                f"Run 'softlabels verify --discard', then snakemake"
            )
        return entry


@dataclass(frozen=True)
class Result:
    """What a stage computed, ready to be published."""

    layers: list[Layer]
    grid: Grid
    #: Figures of the result: the same on every machine, part of what is published.
    quality: dict
    #: What the making took, such as iterations: it may differ between machines, so only the provenance tells it.
    effort: dict = field(default_factory=dict)


class Stage:
    """What the four stages share: the parameters and inputs of the key, and how to compute the entry."""

    flags: tuple[str, ...] = ()

    def __init__(self, job: Job):
        self.job = job
        self.params = job.node.key_params(job.case.id)
        self.entries = {role: job.upstream(role) for role in job.node.inputs}
        self.inputs = {role: entry.key for role, entry in self.entries.items()}

    def read(self, role: str, layer: str) -> np.ndarray:
        """Return a whole layer of the entry that plays a role."""
        return self.entries[role].read(layer, n_threads=self.job.threads or 1)

    def masks(self, classes: list[dict]) -> np.ndarray:
        """Return the (C, D, H, W) bool masks of the classes in the prepared labels."""
        labels = self.read("prepare", "labels")
        return np.stack([np.isin(labels, c["values"]) for c in classes])

    def domain(self) -> np.ndarray | None:
        """Return the (D, H, W) bool domain of the prepared case, or None if it has none."""
        return self.read("prepare", "domain") if "domain" in self.entries["prepare"].layers else None
