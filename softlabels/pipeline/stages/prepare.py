"""The stage that verifies a case's files and brings them onto one grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from softlabels._shared.rate import Rate
from softlabels.classes import LabelSet
from softlabels.errors import FormatError
from softlabels.inputs.case import CaseVolumes, read_case
from softlabels.pipeline.node import Node
from softlabels.pipeline.receipts import FileRecord
from softlabels.pipeline.stages.base import Job, Result, Stage
from softlabels.store.key import entry_key

if TYPE_CHECKING:
    from softlabels.config import Config
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.memory import HeldResult
    from softlabels.store.read import Entry


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case, read in full and verified."""

    volumes: CaseVolumes

    @property
    def keys(self) -> dict[str, str]:
        """Role to the digest of each file."""
        return self.volumes.digests

    @property
    def files(self) -> Mapping[str, FileRecord]:
        """Role to digest, size and time of last change of each file."""
        return {role: FileRecord(digest, *self.volumes.states[role]) for role, digest in self.volumes.digests.items()}

    @property
    def flags(self) -> tuple[str, ...]:
        """What is valid but remarkable in the files."""
        return self.volumes.flags

    def held(self) -> list[HeldResult]:
        """Return nothing: files are read."""
        return []

    def history(self) -> dict[str, dict[str, Any]]:
        """Return nothing: a case is prepared first."""
        return {}


class Prepare(Stage[CaseFiles]):
    """Read and verify the files of a case, resample, scale and crop them."""

    name = "prepare"
    version = "1"
    #: Of nodes that resample by spline: before "2", an axis of two voxels was read beyond its ends.
    spline_version: ClassVar[str] = "2"
    picture = "image"

    def node(self, config: Config) -> Node:
        """Return the one prepare node of a configuration."""
        labels = LabelSet.parse(config.labels)
        checks = {"channels": config.channels, "label_values": list(labels.values), "ignore_label": labels.ignore}
        options = config.prepare
        resamples_by_spline = options.interpolation == "bspline" and options.spacing != "native"
        version = self.spline_version if resamples_by_spline else self.version
        return Node(self.name, version, options.model_dump(mode="json"), checks=checks)

    def key_params(self, node: Node, case_id: str) -> dict[str, Any]:
        """Return the node's parameters and the names of the channels, which are written into the entry."""
        return {**node.params, "channels": node.checks["channels"]}

    def files(self, node: Node, case: Case) -> list[tuple[str, str]]:
        """Return all files of the case."""
        return list(case.files())

    def cost(self, node: Node, nodes: Mapping[str, Node]) -> Rate:
        """Return the cost per voxel and channel."""
        return Rate(us=0.04, memory_bytes=10, disk_bytes=1.2, volume_bytes=17)

    def n_maps(self, node: Node, nodes: Mapping[str, Node]) -> int:
        """Return the number of channels."""
        return len(node.checks["channels"])

    def open(self, job: Job) -> CaseFiles:
        """Read every file of the case to its end: the key is made of their digests."""
        return CaseFiles(read_case(job.case, **job.node.checks, threads=job.threads))

    def compute(self, job: Job, sources: CaseFiles) -> Result:
        """Return image, labels and, where configured, domain and raters on one grid."""
        from softlabels.preprocess.prepare import prepare
        from softlabels.store import Layer, Lossless

        volumes = sources.volumes
        prepared = prepare(
            volumes.image,
            volumes.labels,
            volumes.grid,
            raters=volumes.raters,
            threads=job.threads or 1,
            use_up=True,
            **job.node.params,
        )
        layers = [
            Layer("image", prepared.image, channels=tuple(job.node.checks["channels"]), encoding=Lossless()),
            Layer("labels", prepared.labels, role="labels", encoding=Lossless()),
        ]
        if prepared.domain is not None:
            layers.append(Layer("domain", prepared.domain, role="labels", encoding=Lossless()))
        if prepared.raters is not None:
            raters = tuple(f"rater{i}" for i in range(len(prepared.raters)))
            layers.append(Layer("raters", prepared.raters, channels=raters, encoding=Lossless()))
        return Result(layers, prepared.grid, {"flags": list(prepared.flags), "notes": list(prepared.notes)})

    def facts(self, sources: CaseFiles, entry: Entry) -> dict[str, Any]:
        """Return where the labels are, for the loader's draws, and the grid of the files, for the way back."""
        from softlabels.cohort.label_blocks import LabelBlocks
        from softlabels.store.format import block_shape

        read = partial(entry.read, "labels")
        labels = LabelBlocks.count(entry.shape("labels"), read, block_shape(entry.shape("labels")))
        return {"labels": labels.to_json(), "grid": sources.volumes.grid.to_json()}


def prepared_digests(entry: Entry) -> dict[str, str]:
    """Return the digests of the files that a prepare entry was made from, by role.

    They are in the entry's provenance; that they are true follows from its key, which is the hash of them.

    Raises
    ------
    FormatError
        If the provenance is missing or damaged, or is not that of this entry.
    """
    made = entry.attributes
    digests: dict[str, str] = entry.provenance["inputs"]
    key = entry_key(stage=made["stage"], algorithm=made["algorithm"], params=made["params"], inputs=digests)
    if key != entry.key:
        raise FormatError(
            f"{entry.path}: its provenance is not that of this entry. Run 'softlabels verify --discard', then snakemake"
        )
    return digests
