"""One job: open what is upstream, make one pure call, publish one entry, leave one receipt. No maths here."""

from __future__ import annotations

import getpass
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import softlabels
from softlabels.errors import FormatError
from softlabels.pipeline.failure import failure_path, record_failure
from softlabels.pipeline.memory import HeldResult, Work
from softlabels.pipeline.receipts import Receipt, link_entry
from softlabels.pipeline.stages import DISTANCE, PREPARE, STAGES, Job, Result
from softlabels.pipeline.stages.base import Sources

if TYPE_CHECKING:
    from softlabels.store.read import Entry

log = logging.getLogger(__name__)


def run_job(job: Job) -> Receipt | None:
    """Find or compute the entry of one job, publish it and write its receipt.

    A result that is not kept is computed by the first job that reads it; its receipt is written with that of this job,
    and here None is returned. Whatever ends a job without a result is recorded as a `Failure` until it is tried again.

    Raises
    ------
    SoftLabelsError
        Whatever is wrong, with case and stage named; nothing has been published then.
    """
    forget_failure(job)
    if not job.node.is_kept:
        with _failures_recorded(job):
            _hold(job)
        return None
    try:
        with _failures_recorded(job):
            receipt = _find_or_compute(job)
    finally:
        job.memory.finish(job.node.id)
    job.store.register_results(job.results)
    log.info("%s %s: %s in %.2f s", job.case.id, job.node.id, receipt.outcome, receipt.seconds)
    return receipt


def forget_failure(job: Job) -> None:
    """Delete the record of an earlier failure of a job."""
    failure_path(job.results, job.case.id, job.node.id).unlink(missing_ok=True)


def publish_again(job: Job) -> str:
    """Publish a result that was not kept, for a person to look at; "computed", or "reused" if the store has it.

    No receipt is written or changed, so `gc` removes the entry when it has not been used for a while.

    Parameters
    ----------
    job : Job
        What it reads must be in the store.

    Raises
    ------
    SoftLabelsError
        As `run_job`; no failure is recorded.
    """
    with job.memory.measured() as work:
        return _entry_of(job, STAGES[job.node.stage].open(job), work)[1]


@contextmanager
def _failures_recorded(job: Job) -> Iterator[None]:
    """Record what ends the work on a job, unless it is the failure of an earlier result, which has been recorded."""
    try:
        yield
    except BaseException as error:
        where = f"case {job.case.id}, stage "
        if not any(note.startswith(where) for note in getattr(error, "__notes__", [])):
            record_failure(job.results, job.case.id, job.node.id, error)
            error.add_note(f"{where}{job.node.stage}, node {job.node.id}")
        raise


def _hold(job: Job) -> None:
    """Hand the result of a job on in memory; it is computed when it is read."""
    stage = STAGES[job.node.stage]
    sources = stage.open(job)
    key = stage.key(job.node, job.case.id, sources.keys)
    _forget_receipt_of_another(job, key)

    def compute() -> Result:
        return stage.compute(job, sources)

    held = HeldResult(job, sources, key, compute, partial(_failures_recorded, job))
    job.memory.hold(job.node.id, held)


def _forget_receipt_of_another(job: Job, key: str) -> None:
    """Delete the receipt of a result with another key: until the new one is written, there is no result."""
    try:
        is_other = Receipt.read(job.receipt_path).key != key
    except FormatError:
        is_other = True
    if is_other:
        job.receipt_path.unlink(missing_ok=True)


def _find_or_compute(job: Job) -> Receipt:
    """Return the receipt, written, of a job whose entry is in the store afterwards."""
    stage = STAGES[job.node.stage]
    with job.memory.measured() as work:
        sources = stage.open(job)
        entry, outcome = _entry_of(job, sources, work)
    if held := sources.held():
        known = entry.provenance.get("history", {})
        for result in held:
            result.write_receipts(known)
    link_entry(job.receipt_path, entry.zarr_path)
    receipt = Receipt(
        case=job.case.id,
        node=job.node.id,
        stage=job.node.stage,
        key=entry.key,
        manifest=entry.manifest_digest,
        store=str(job.store.path),
        outcome=outcome,
        seconds=round(work.seconds, 4),
        cpu_seconds=round(work.cpu_seconds, 4),
        quality=entry.quality,
        flags=sorted({*sources.flags, *entry.quality.get("flags", [])}),
        upstream={} if stage is PREPARE else dict(sources.keys),
        files=dict(sources.files),
        checks=job.node.checks_digest,
        **stage.facts(sources, entry),
    )
    receipt.write(job.receipt_path)
    return receipt


def _entry_of(job: Job, sources: Sources, work: Work) -> tuple[Entry, str]:
    """Return the entry of a job, found or computed and published, and which of these; `work` measures it."""
    node, stage = job.node, STAGES[job.node.stage]
    key = stage.key(node, job.case.id, sources.keys)
    entry = job.store.find(key)
    if entry is not None:
        return entry, "reused"
    result = stage.compute(job, sources)
    attributes = {"stage": node.stage, "algorithm": node.algorithm, "params": stage.key_params(node, job.case.id)}

    def provenance() -> dict[str, Any]:
        """Return what is known when all has been made."""
        made = {"seconds": round(work.seconds, 4), "effort": result.effort, "history": sources.history()}
        return _provenance(job, sources) | attributes | made

    return job.store.publish(
        key,
        result.layers,
        grid=result.grid,
        attributes=attributes,
        quality=result.quality,
        provenance=provenance,
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
