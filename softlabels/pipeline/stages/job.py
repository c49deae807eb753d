"""One job: read what is upstream, make one pure call, publish one entry, leave one receipt. No maths here."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import time
from datetime import UTC, datetime

import numpy as np

import softlabels
from softlabels.errors import SoftLabelsError
from softlabels.pipeline.receipts import Receipt, link_entry
from softlabels.pipeline.stages.base import Job, Stage
from softlabels.pipeline.stages.distance import Distance
from softlabels.pipeline.stages.prepare import Prepare
from softlabels.pipeline.stages.seeds import Seeds
from softlabels.pipeline.stages.target import Target
from softlabels.store import entry_key

log = logging.getLogger(__name__)

_STAGES = {"prepare": Prepare, "seeds": Seeds, "distance": Distance, "target": Target}


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


def _provenance(job: Job, stage: Stage, seconds: float) -> dict:
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
