"""One job: open what is upstream, make one pure call, publish one entry, leave one receipt. No maths here."""

from __future__ import annotations

import getpass
import logging
import os
import platform
import time
from datetime import UTC, datetime
from typing import Any

import numpy as np

import softlabels
from softlabels.errors import SoftLabelsError, StoreError
from softlabels.pipeline.failure import Failure, failure_path
from softlabels.pipeline.receipts import Receipt, link_entry
from softlabels.pipeline.stages import DISTANCE, PREPARE, STAGES, Job
from softlabels.pipeline.stages.base import Sources

log = logging.getLogger(__name__)


def run_job(job: Job) -> Receipt:
    """Find or compute the entry of one job, publish it and write its receipt.

    Whatever ends it without a result is recorded as a `Failure` until it is tried again.

    Raises
    ------
    SoftLabelsError
        Whatever is wrong, with case and stage named; nothing has been published then.
    """
    started = time.perf_counter()
    forget_failure(job)
    try:
        receipt = _find_or_compute(job, started)
        receipt.write(job.receipt_path)
    except BaseException as error:
        _record_failure(job, error)
        if isinstance(error, SoftLabelsError):
            error.add_note(f"case {job.case.id}, stage {job.node.stage}, node {job.node.id}")
        raise
    job.store.register_results(job.results)
    log.info("%s %s: %s in %.2f s", job.case.id, job.node.id, receipt.outcome, receipt.seconds)
    return receipt


def forget_failure(job: Job) -> None:
    """Delete the record of an earlier failure of a job."""
    failure_path(job.results, job.case.id, job.node.id).unlink(missing_ok=True)


def _record_failure(job: Job, error: BaseException) -> None:
    """Record why a job ends without a result; the error itself matters more than that it cannot be recorded."""
    failure = Failure.of(job.case.id, job.node.id, error)
    log.error("%s", failure.line)
    try:
        failure.write(job.results)
    except StoreError as of_record:
        log.warning("%s %s: its failure is not recorded: %s", job.case.id, job.node.id, of_record)


def _find_or_compute(job: Job, started: float) -> Receipt:
    """Return the receipt of a job whose entry is in the store afterwards."""
    node, stage = job.node, STAGES[job.node.stage]
    sources = stage.open(job)
    key = stage.key(node, job.case.id, sources.keys)
    entry, outcome = job.store.find(key), "reused"
    if entry is None:
        result = stage.compute(job, sources)
        attributes = {
            "stage": node.stage,
            "algorithm": node.algorithm,
            "params": stage.key_params(node, job.case.id),
        }
        seconds = time.perf_counter() - started
        provenance = _provenance(job, sources) | attributes | {"seconds": round(seconds, 4), "effort": result.effort}
        entry, outcome = job.store.publish(
            key,
            result.layers,
            grid=result.grid,
            attributes=attributes,
            quality=result.quality,
            provenance=provenance,
        )
    link_entry(job.receipt_path, entry.zarr_path)
    return Receipt(
        case=job.case.id,
        node=node.id,
        stage=node.stage,
        key=key,
        manifest=entry.manifest_digest,
        store=str(job.store.path),
        outcome=outcome,
        seconds=round(time.perf_counter() - started, 4),
        quality=entry.quality,
        flags=sorted({*sources.flags, *entry.quality.get("flags", [])}),
        upstream={} if stage is PREPARE else dict(sources.keys),
        files=dict(sources.files),
    )


def _provenance(job: Job, sources: Sources) -> dict[str, Any]:
    """Return who computed an entry, where, when and from what; none of it changes the result."""
    return {
        "softlabels": softlabels.__version__,
        "plugins": {plugin.name: plugin.version for plugin in STAGES[job.node.stage].plugins(job.node)},
        "inputs": dict(sources.keys),
        "case": job.case.id,
        "files": {"images": list(job.case.images), "label": job.case.label, "raters": list(job.case.raters)},
        "device": job.device if job.node.stage == DISTANCE.name else "cpu",
        "threads": job.threads,
        "user": _user(),
        "host": platform.node(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _user() -> str:
    """Return the user's name, or the number of one without a name, as containers have."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"
