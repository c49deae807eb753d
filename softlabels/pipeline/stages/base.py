"""What a stage declares, what its jobs read, and what they return."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boxed import BoxedVolumes, boxed
from softlabels._shared.on_demand import VolumesOnDemand
from softlabels._shared.rate import Rate
from softlabels._shared.registry import Distribution
from softlabels.classes import LabelClass, class_masks
from softlabels.errors import InputError
from softlabels.pipeline.memory import CaseMemory, HeldResult, volumes_of
from softlabels.pipeline.receipts import FileRecord, find_result, receipt_path
from softlabels.preprocess.masks import boxed_class_masks
from softlabels.store.key import entry_key

if TYPE_CHECKING:
    from softlabels.grid import Grid
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.node import Node
    from softlabels.store.publish import Layer
    from softlabels.store.read import Entry
    from softlabels.store.store import Store


@dataclass(frozen=True)
class Job:
    """One case x one node, with where to read, where to publish and what to run on.

    Parameters
    ----------
    case : Case
    node : Node
    store : Store
        Where entries are read from and published.
    results : Path
        The results folder, which holds the receipts.
    device : {"cpu", "cuda"}
        Where distances run; no effect on the result.
    threads : int, optional
        By default every CPU that this process may use; no effect on the result.
    memory : CaseMemory
        What the jobs of this case in this process hand on without writing it.
    """

    case: Case
    node: Node
    store: Store
    results: Path
    device: str = "cpu"
    threads: int | None = None
    memory: CaseMemory = field(default_factory=CaseMemory, compare=False)

    @property
    def receipt_path(self) -> Path:
        """Where the receipt of this job goes."""
        return receipt_path(self.results, self.case.id, self.node.id)

    def is_ready(self) -> bool:
        """Return whether everything that this job reads is held in memory or has a receipt."""
        return all(
            self.memory.get(node) is not None or receipt_path(self.results, self.case.id, node).exists()
            for node in self.node.inputs.values()
        )


@dataclass(frozen=True)
class Result:
    """What a stage computed, ready to be published.

    Parameters
    ----------
    layers : list of Layer
    grid : Grid
        The grid of all layers.
    quality : dict, or callable that returns it
        Figures of the result: the same on every machine, part of what is published. A function is called once the
        layers have been read, where these are made on demand.
    effort : dict
        What the computation took, such as iterations: it may differ between machines, so it goes to the provenance. Of
        layers that are made on demand it is complete when `quality` has been called.
    """

    layers: list[Layer]
    grid: Grid
    quality: dict[str, Any] | Callable[[], dict[str, Any]]
    effort: dict[str, Any] = field(default_factory=dict)


class Sources(Protocol):
    """What a job reads, opened and verified."""

    @property
    def keys(self) -> Mapping[str, str]:
        """Role to the digest of a file, or to the key of an entry: the inputs in the key of the job's own entry."""

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """Role to what was found of each file of the case that was read."""

    @property
    def flags(self) -> tuple[str, ...]:
        """What a person should know about what was read."""

    def held(self) -> list[HeldResult]:
        """Return what was not read from a file, but is held in memory."""

    def history(self) -> dict[str, dict[str, Any]]:
        """Return stage to key and figures, of every result that leads to this job's but the prepared case.

        It goes into the provenance: figures such as certificates outlive the entries that they are of.
        """


AnySources = TypeVar("AnySources", bound=Sources)


class Stage(ABC, Generic[AnySources]):
    """One step from image files to soft labels: all declarations about it.

    A stage holds no state. Heavy libraries are imported where a stage computes, because the Snakefile imports all
    stages in every job.

    Attributes
    ----------
    name : str
        As in node ids and keys.
    version : str
        Raise it when the results of this stage change, and say so in the changelog. It is in every key and in the
        parameters of every rule, so that a change computes new entries beside the old ones.
    picture : str
        What a picture of an entry of this stage shows; `softlabels.view` draws it.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    picture: ClassVar[str]

    def key_params(self, node: Node, case_id: str) -> dict[str, Any]:
        """Return the parameters in the key of an entry: those of the node, and what else the result depends on."""
        return node.params

    def key(self, node: Node, case_id: str, inputs: Mapping[str, str]) -> str:
        """Return the key of the entry of one case x one node.

        Parameters
        ----------
        node : Node
            A node of this stage.
        case_id : str
        inputs : mapping of str to str
            Role to the digest of each file, or the key of each entry, that is read.
        """
        return entry_key(
            stage=node.stage, algorithm=node.algorithm, params=self.key_params(node, case_id), inputs=dict(inputs)
        )

    def files(self, node: Node, case: Case) -> list[tuple[str, str]]:
        """Return (role, path) of the case's own files that a job of this stage reads."""
        return []

    def plugins(self, node: Node) -> list[Distribution]:
        """Return the installed packages besides softlabels that compute a node: they go into the provenance."""
        return []

    @abstractmethod
    def cost(self, node: Node, nodes: Mapping[str, Node]) -> Rate:
        """Return what a job takes for each voxel of one of its maps; `nodes` are all nodes of the plan, by id."""

    @abstractmethod
    def n_maps(self, node: Node, nodes: Mapping[str, Node]) -> int:
        """Return how many maps of the image's size a job makes; `nodes` are all nodes of the plan, by id."""

    @abstractmethod
    def open(self, job: Job) -> AnySources:
        """Open and verify what a job reads, so that its key is known; nothing is computed.

        Raises
        ------
        SoftLabelsError
            If something is missing, damaged, or not what it was.
        """

    @abstractmethod
    def compute(self, job: Job, sources: AnySources) -> Result:
        """Return the result of a job from what `open` gave."""

    def facts(self, sources: AnySources, entry: Entry) -> dict[str, Any]:
        """Return the fields of the receipt that only this stage knows, for the index; none by default."""
        return {}


@dataclass(frozen=True)
class Upstream:
    """The results that a job reads, by role: entries of the store, and what this process holds in memory.

    "prepare", an entry, is always among them.
    """

    results: Mapping[str, Entry | HeldResult]
    threads: int

    @property
    def keys(self) -> dict[str, str]:
        """Role to the key of each result."""
        return {role: result.key for role, result in self.results.items()}

    @property
    def prepared(self) -> Entry:
        """The prepared case."""
        entry = self.results["prepare"]
        assert not isinstance(entry, HeldResult)
        return entry

    def held(self) -> list[HeldResult]:
        """Return the results that are held in memory."""
        return [result for result in self.results.values() if isinstance(result, HeldResult)]

    def history(self) -> dict[str, dict[str, Any]]:
        """Return the figures of what is read, and of what that was computed from."""
        found: dict[str, dict[str, Any]] = {}
        for role, result in self.results.items():
            if isinstance(result, HeldResult):
                found |= result.history()
            elif role != "prepare":
                found |= result.provenance.get("history", {})
                found[role] = {"key": result.key, "quality": result.quality}
        return found

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """No file of the case is needed to know the key."""
        return {}

    @property
    def flags(self) -> tuple[str, ...]:
        """Nothing: each upstream job reported its own."""
        return ()

    @property
    def grid(self) -> Grid:
        """The grid of all entries of a case."""
        return self.prepared.grid

    def params(self, role: str) -> Mapping[str, Any]:
        """Return the parameters of the node that plays a role."""
        result = self.results[role]
        return result.params if isinstance(result, HeldResult) else result.attributes["params"]

    def channels(self, role: str, layer: str) -> tuple[str, ...]:
        """Return the names of a layer's channels; none if it has one channel without a name."""
        return self.results[role].channels(layer) or ()

    def read(self, role: str, layer: str) -> NDArray[Any]:
        """Return a whole layer of the entry that plays a role."""
        return self.results[role].read(layer, n_threads=self.threads)

    def read_boxed(self, role: str, layer: str, *, fill: float) -> BoxedVolumes:
        """Return a layer of channels of an entry, each cut to the box of what is not `fill`.

        A few channels are in memory at a time: those that share chunks.
        """
        result = self.results[role]
        if isinstance(result, HeldResult) and (held := result.boxed(layer, fill=fill)) is not None:
            return held
        volumes = self.volumes(role, layer)
        parts = [boxed(volumes.volume(index), fill=fill) for index in range(len(volumes))]
        return BoxedVolumes(volumes.shape[1:], parts, fill=fill, dtype=volumes.dtype)

    def volumes(self, role: str, layer: str) -> VolumesOnDemand:
        """Return a layer of channels that are read when they are needed, those that share chunks at a time."""
        result = self.results[role]
        if isinstance(result, HeldResult):
            return result.volumes(layer)
        return volumes_of(result, layer, self.threads)

    def has(self, role: str, layer: str) -> bool:
        """Return whether the entry that plays a role has a layer."""
        return layer in self.results[role].layers

    def masks(self, classes: Sequence[LabelClass]) -> NDArray[np.bool_]:
        """Return the (C, D, H, W) masks of the classes in the prepared labels."""
        labels = self.read("prepare", "labels")
        return class_masks(labels, classes)

    def boxed_masks(self, classes: Sequence[LabelClass]) -> BoxedVolumes:
        """Return the masks of the classes in the prepared labels, each in its box."""
        return boxed_class_masks(self.read("prepare", "labels"), classes)

    def domain(self) -> NDArray[np.bool_] | None:
        """Return the (D, H, W) domain of the prepared case, or None if it has none."""
        return self.read("prepare", "domain") if self.has("prepare", "domain") else None


class UpstreamStage(Stage[Upstream]):
    """A stage that reads the entries of earlier stages and, to know its key, no file of the case."""

    def open(self, job: Job) -> Upstream:
        """Find what is upstream, in memory or through its receipt, and make sure that it belongs together.

        Raises
        ------
        FormatError
            If a receipt is missing, damaged or of another job, or an entry is damaged or not the one of its receipt.
        InputError
            If an entry is gone, or was computed from another prepared case than the one that is there now.
        """
        held = {role: result for role, node in job.node.inputs.items() if (result := job.memory.get(node))}
        stored = {
            role: find_result(job.results, job.case.id, node, job.store)
            for role, node in job.node.inputs.items()
            if role not in held
        }
        results: dict[str, Entry | HeldResult] = {role: found.entry for role, found in stored.items()} | held
        present = {role: result.key for role, result in results.items()}
        for role, found in stored.items():
            for earlier, key in found.receipt.upstream.items():
                if present.get(earlier, key) != key:
                    raise InputError(
                        f"case {job.case.id}: its {role} was computed from the {earlier} entry {key[:12]}, but the "
                        f"present one is {present[earlier][:12]}. Run snakemake again to recompute {role}"
                    )
        return Upstream(results, job.threads or 1)
