"""One job: read what is upstream, make one pure call, publish one entry, leave one receipt. No maths here."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import softlabels
from softlabels.errors import InputError, SoftLabelsError
from softlabels.grid import Grid
from softlabels.inputs.sheet import Case
from softlabels.pipeline.node import Node
from softlabels.pipeline.receipts import Receipt, link_entry
from softlabels.store import Channels, Exact, Integer, Layer, Rounded, Store, entry_key

log = logging.getLogger(__name__)

#: Mantissa bits kept of a stored distance: a relative error of 2**-16, as fine as a 16 bit target can show.
DISTANCE_BITS = 15

#: Of an engine's report, what depends on threads and schedule and not on the result.
_EFFORT = ("iterations", "tile_visits")


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


def run_job(job: Job) -> Receipt:
    """Find or compute the entry of one job, publish it and write its receipt.

    Raises
    ------
    SoftLabelsError
        Whatever is wrong, with case and stage named; nothing has been published then.
    """
    started = time.perf_counter()
    try:
        receipt = _find_or_compute(job, started)
    except SoftLabelsError as error:
        error.add_note(f"case {job.case.id}, stage {job.node.stage}, node {job.node.id}")
        raise
    receipt.write(job.receipt_path)
    job.store.register_results(job.results)
    log.info("%s %s: %s in %.2f s", job.case.id, job.node.id, receipt.outcome, receipt.seconds)
    return receipt


def _find_or_compute(job: Job, started: float) -> Receipt:
    """Return the receipt of a job whose entry is in the store afterwards."""
    stage = _STAGES[job.node.stage](job)
    key = entry_key(stage=job.node.stage, algorithm=job.node.algorithm, params=stage.params, inputs=stage.inputs)
    entry, outcome = job.store.find(key), "reused"
    if entry is None:
        result = stage.compute()
        attributes = {"stage": job.node.stage, "algorithm": job.node.algorithm, "params": stage.params}
        entry, outcome = job.store.publish(
            key,
            result.layers,
            grid=result.grid,
            attributes=attributes,
            quality=result.quality,
            provenance=_provenance(job, stage, time.perf_counter() - started) | {"effort": result.effort},
        )
    link_entry(job.receipt_path, entry.zarr_path)
    return Receipt(
        case=job.case.id,
        node=job.node.id,
        stage=job.node.stage,
        key=key,
        manifest=entry.manifest_digest,
        store=str(job.store.path),
        outcome=outcome,
        seconds=round(time.perf_counter() - started, 4),
        quality=entry.quality,
        flags=sorted({*stage.flags, *entry.quality.get("flags", [])}),
        upstream=[value for value in stage.inputs.values() if job.node.stage != "prepare"],
    )


def _provenance(job: Job, stage: _Stage, seconds: float) -> dict:
    """Return who computed this entry, where, when and from what; none of it changes the result."""
    return {
        "softlabels": softlabels.__version__,
        "stage": job.node.stage,
        "algorithm": job.node.algorithm,
        "params": stage.params,
        "inputs": stage.inputs,
        "case": job.case.id,
        "files": {"images": list(job.case.images), "label": job.case.label, "raters": list(job.case.raters)},
        "device": job.device if job.node.stage == "distance" else "cpu",
        "threads": job.threads,
        "seconds": round(seconds, 4),
        "user": getpass.getuser(),
        "host": platform.node(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


class _Stage:
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


class _Prepare(_Stage):
    """Read and verify the files of a case, resample, scale and crop them."""

    def __init__(self, job: Job):
        from softlabels.inputs.case import read_case

        super().__init__(job)
        self.volumes = read_case(job.case, **job.node.checks, threads=job.threads)
        self.inputs = self.volumes.digests
        self.flags = tuple(self.volumes.flags)

    def compute(self) -> Result:
        """Return image, labels and, where asked for, domain and raters on one grid."""
        from softlabels.preprocess.prepare import prepare

        volumes = self.volumes
        prepared = prepare(
            volumes.image,
            volumes.labels,
            volumes.grid,
            raters=volumes.raters,
            threads=self.job.threads or 1,
            **self.job.node.params,
        )
        channels = tuple(self.job.node.checks["channels"])
        layers = [
            Layer("image", prepared.image, channels=channels, encoding=Exact()),
            Layer("labels", prepared.labels, role="labels", encoding=Exact()),
        ]
        if prepared.domain is not None:
            layers.append(Layer("domain", prepared.domain, role="labels", encoding=Exact()))
        if prepared.raters is not None:
            raters = tuple(f"rater{i}" for i in range(len(prepared.raters)))
            layers.append(Layer("raters", prepared.raters, channels=raters, encoding=Exact()))
        return Result(layers, prepared.grid, {"flags": list(prepared.flags), "notes": list(prepared.notes)})


class _Seeds(_Stage):
    """Start voxels of every class."""

    def compute(self) -> Result:
        """Return the seeds with a report of the fallback used for each class."""
        from softlabels.seeds import make_seeds

        options = dict(self.job.node.params)
        classes = options.pop("classes")
        names = tuple(c["name"] for c in classes)
        prepared = self.entries["prepare"]
        seeds, reports = make_seeds(
            self.masks(classes),
            prepared.grid.spacing,
            class_names=names,
            case_id=self.job.case.id,
            threads=self.job.threads or 1,
            **options,
        )
        flags = [f"class {r['class']}: {r['used']}, where {r['strategy']} left none" for r in reports if r["fallback"]]
        layer = Layer("seeds", seeds, channels=names, encoding=Exact())
        return Result([layer], prepared.grid, {"classes": reports, "flags": flags})


class _Distance(_Stage):
    """Certified geodesic distances of every modality and class."""

    def compute(self) -> Result:
        """Return one map per modality and class, with what the certificate found for each."""
        prepared, seeds_entry = self.entries["prepare"], self.entries["seeds"]
        image, seeds, domain = self.read("prepare", "image"), self.read("seeds", "seeds"), self.domain()
        is_vector = self.params["modalities"] == "vector"
        parts = [image] if is_vector else list(image[:, None])
        names = ["all"] if is_vector else prepared.channels("image")
        distances, maps, effort = [], [], {}
        for part, name in zip(parts, names, strict=True):
            distance, findings = self._solve(part, seeds, prepared.grid.spacing, domain)
            distances.append(distance)
            effort[name] = {k: int(findings[0][k]) for k in _EFFORT if k in findings[0]}
            found = [{k: v for k, v in report.items() if k not in _EFFORT} for report in findings]
            classes = seeds_entry.channels("seeds")
            maps += [{"map": f"{name}:{c}", **report} for c, report in zip(classes, found, strict=True)]
            log.info("%s: %d of %d distance maps done", self.job.case.id, len(maps), len(parts) * len(seeds))
        layer = Layer(
            "distance",
            Channels(distances),
            channels=tuple(m["map"] for m in maps),
            encoding=Rounded(DISTANCE_BITS),
        )
        flags = [f"map {m['map']}: not certified exact" for m in maps if not m["certified"]]
        quality = {"maps": maps, "certified": not flags, "flags": flags}
        return Result([layer], prepared.grid, quality, effort)

    def _solve(self, image: np.ndarray, seeds: np.ndarray, spacing, domain) -> tuple[np.ndarray, list[dict]]:
        """Return the (C, D, H, W) maps of one image and what is known of the exactness of each."""
        from softlabels.geodesic.engines import solve

        options = {name: value for name, value in self.params.items() if name != "modalities"}
        options.setdefault("device", self.job.device)
        return solve(image, seeds, spacing, domain=domain, n_threads=self.job.threads, **options)


class _Target(_Stage):
    """The soft label of one method."""

    def compute(self) -> Result:
        """Return the map that training will read, with its quality figures."""
        from softlabels.methods import METHODS
        from softlabels.methods.quality import quality_figures

        options = dict(self.params)
        method, variant = METHODS[options.pop("method")], options.pop("variant")
        classes, precision = options.pop("classes"), options.pop("precision")
        inputs = self._inputs(classes, method.needs)
        target = method.compute(inputs, variant=variant, **options)
        encoding = _encoding(method.value_range(variant), precision)
        layer = Layer("target", target.values, channels=inputs.class_names, encoding=encoding)
        of_classes = [value for c in classes for value in c["values"]]
        are_exclusive = len(set(of_classes)) == len(of_classes)
        quality = quality_figures(target.values, inputs.masks, kind=method.kind, are_exclusive=are_exclusive)
        quality |= {"flags": target.flags, "notes": target.notes}
        return Result([layer], self.entries["prepare"].grid, quality)

    def _inputs(self, classes: list[dict], needs: frozenset[str]):
        """Return what the method needs of this case, and nothing else."""
        from softlabels.methods import TargetInputs

        found = {}
        if "image" in needs:
            found["image"] = self.read("prepare", "image")
        if "seeds" in needs:
            found["seeds"] = self.read("seeds", "seeds")
        if "distance" in needs:
            distance = self.read("distance", "distance")
            found["distance"] = distance.reshape(-1, len(classes), *distance.shape[1:])
        if "raters" in needs:
            found["raters"] = self._rater_masks(classes)
        if "source_labels" in needs:
            found |= self._source(classes)
        return TargetInputs(
            masks=self.masks(classes),
            spacing=self.entries["prepare"].grid.spacing,
            class_names=tuple(c["name"] for c in classes),
            background=next((i for i, c in enumerate(classes) if c["values"] == [0]), None),
            domain=self.domain(),
            threads=self.job.threads or 1,
            **found,
        )

    def _rater_masks(self, classes: list[dict]) -> np.ndarray:
        """Return the (R, C, D, H, W) masks of all raters."""
        if "raters" not in self.entries["prepare"].layers:
            raise InputError(
                f"case {self.job.case.id}: got one label file, expected several raters. "
                "Add columns 'label:<rater>' to the case sheet"
            )
        raters = self.read("prepare", "raters")
        return np.stack([[np.isin(labels, c["values"]) for c in classes] for labels in raters])

    def _source(self, classes: list[dict]) -> dict:
        """Return the masks on the label file's own grid, and the way there from the target grid."""
        from softlabels.inputs.case import read_volume

        source = read_volume(self.job.case.label, role="label")
        mapping = np.linalg.inv(source.grid.affine_ras) @ self.entries["prepare"].grid.affine_ras
        masks = np.stack([np.isin(source.values, c["values"]) for c in classes])
        return {"source_masks": masks, "source_from_target": mapping}


def _encoding(bounds: tuple[float, float] | None, precision: str) -> Integer | Rounded:
    """Return how a target map is stored: integers between its bounds, else rounded floats."""
    if bounds is None:
        return Rounded(DISTANCE_BITS)
    return Integer.signed(precision) if bounds == (-1.0, 1.0) else Integer(precision, *bounds)


_STAGES = {"prepare": _Prepare, "seeds": _Seeds, "distance": _Distance, "target": _Target}
