"""Several cases or stages in one job: one process and one CUDA context for all of them; a bad case fails alone.

The receipt of a batch is the file that Snakemake waits for. Each case leaves its own receipts too, as it does when it
runs alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from softlabels.errors import DeviceError, InputError, SoftLabelsError, StoreError
from softlabels.pipeline.failure import Failure, device_failure
from softlabels.pipeline.job import forget_failure, run_job
from softlabels.pipeline.memory import CaseMemory
from softlabels.pipeline.receipts import BatchReceipt
from softlabels.pipeline.stages import Job

if TYPE_CHECKING:
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.node import Node
    from softlabels.store.store import Store

log = logging.getLogger(__name__)


def make_jobs(
    cases: Iterable[Case],
    nodes: Sequence[Node],
    store: Store,
    results: Path,
    device: str = "cpu",
    threads: int | None = None,
) -> list[Job]:
    """Return every case x every node, as `run_batch` takes them; the jobs of a case share a memory.

    Parameters
    ----------
    cases : iterable of Case
    nodes : sequence of Node
        Upstream first.
    store, results, device, threads
        As of `Job`.
    """
    jobs = []
    for case in cases:
        memory = CaseMemory(nodes)
        jobs += [Job(case, node, store, results, device, threads, memory) for node in nodes]
    return jobs


def run_batch(jobs: Sequence[Job], receipt_path: Path) -> BatchReceipt:
    """Run the jobs of one step one after another, and write the batch's receipt.

    Parameters
    ----------
    jobs : sequence of Job
        Every case x every node of the step, upstream first.
    receipt_path : Path
        The file that Snakemake waits for.

    Raises
    ------
    InputError
        If no case of the batch has a result: then Snakemake sees a failed job, as with a single case.
    Exception
        At once if it is the fault of the machine (`softlabels.pipeline.failure.Cause`): another attempt of the whole
        job, perhaps with more memory or on another node, finds finished cases in the store.

    Notes
    -----
    When a device fails in the middle of a case, CUDA does not work in this process any more, so the job ends; the next
    attempt, a new process, takes that case last. If the device fails there again, this is the fault of the case, which
    then fails alone, as do others of its kind that cannot be tried after it.
    """
    cases = list(dict.fromkeys(job.case.id for job in jobs))
    failed: dict[str, str] = {}
    waiting: list[str] = []
    found = (device_failure(job.results, job.case.id, job.node.id) for job in jobs)
    suspects = {failure.case: failure for failure in found if failure is not None}
    untried, is_device_lost = dict(suspects), False
    for job in jobs:
        forget_failure(job)
    for job in sorted(jobs, key=lambda job: job.case.id in suspects):
        if not job.is_ready():
            if job.case.id not in (*failed, *waiting):
                waiting.append(job.case.id)
            job.receipt_path.unlink(missing_ok=True)
            job.memory.finish(job.node.id)
            continue
        untried.pop(job.case.id, None)
        try:
            run_job(job)
        except Exception as error:
            # A receipt of an earlier run must not pass for a result that this run did not produce. It goes only now:
            # a job of a Snakemake that was killed may be at work on the same cases, and needs what is upstream.
            job.receipt_path.unlink(missing_ok=True)
            failure = Failure.of(job.case.id, job.node.id, error)
            is_device_lost |= failure.cause == "device"
            is_suspect = job.case.id in suspects and is_device_lost and isinstance(error, DeviceError)
            if failure.cause != "case" and not is_suspect:
                for earlier in untried.values():
                    with suppress(StoreError):
                        earlier.write(job.results)
                raise
            failed.setdefault(job.case.id, failure.why)
            if not isinstance(error, SoftLabelsError):
                log.warning("this error is not one that softlabels raises on purpose:", exc_info=True)
    n_done = len(cases) - len(failed) - len(waiting)
    log.info("all tried: %d cases done, %d failed, %d failed at an earlier stage", n_done, len(failed), len(waiting))
    receipt = BatchReceipt(list(dict.fromkeys(job.node.id for job in jobs)), cases, failed, waiting)
    if n_done == 0:
        raise InputError(f"all {len(cases)} cases failed, {len(waiting)} of them at an earlier stage. {_first(failed)}")
    receipt.write(receipt_path)
    return receipt


def _first(failed: dict[str, str]) -> str:
    """Return the first failure in words."""
    return "".join(f"The first, {case_id}: {why}" for case_id, why in list(failed.items())[:1])
