"""Several cases or stages in one job: one process and one CUDA context for all of them; a bad case fails alone.

Snakemake knows units and steps: a unit is one case, or a batch of cases; a step is one node of the plan, or all of them
in turn. The receipt of a batch is the file that Snakemake waits for; beside it every case leaves its own receipts, as
it does when it runs alone.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path

from softlabels.errors import DeviceError, FormatError, InputError, SoftLabelsError, StoreError

log = logging.getLogger(__name__)

#: Folder of the batches in the results folder.
FOLDER = "batches"

#: The step that takes its cases through all stages.
ALL_STAGES = "stages"

#: The last line of a batch's log, unless the batch was killed.
SUMMARY = "batch is through: %d cases done, %d failed, %d failed at an earlier stage"

#: The last line of a job's log that was told to end.
ENDED = "ended by SIGTERM (time limit, scancel or a lost node); nothing was published. Run snakemake again"

#: Unless the configuration says otherwise: starting CUDA takes longer than a case's distances.
DEFAULT_SIZES = {"cpu": 1, "cuda": 16}


def make_units(case_ids: Sequence[str], cases_per_job: int) -> dict[str, list[str]]:
    """Return the units of a cohort: unit name to its case ids, in the sheet's order.

    Examples
    --------
    >>> make_units(["a", "b", "c"], 1)
    {'a': ['a'], 'b': ['b'], 'c': ['c']}
    >>> make_units(["a", "b", "c"], 2)
    {'batches/00000': ['a', 'b'], 'batches/00001': ['c']}
    """
    if cases_per_job == 1:
        return {case_id: [case_id] for case_id in case_ids}
    starts = range(0, len(case_ids), cases_per_job)
    return {f"{FOLDER}/{n:05d}": list(case_ids[start : start + cases_per_job]) for n, start in enumerate(starts)}


def make_steps(node_ids: Iterable[str], stages_per_job: str) -> dict[str, list[str]]:
    """Return what the jobs of a unit do: step name to its nodes, upstream first.

    Examples
    --------
    >>> make_steps(["prepare-1", "target-2"], "one")
    {'prepare-1': ['prepare-1'], 'target-2': ['target-2']}
    >>> make_steps(["prepare-1", "target-2"], "all")
    {'stages': ['prepare-1', 'target-2']}
    """
    return {ALL_STAGES: list(node_ids)} if stages_per_job == "all" else {node: [node] for node in node_ids}


@dataclass(frozen=True)
class BatchReceipt:
    """What became of one batch x one step.

    Parameters
    ----------
    nodes : list of str
        The nodes of the step.
    cases : list of str
        All cases of the batch.
    failed : dict
        Case id to the one line that says why; of several, the first.
    waiting : list of str
        Cases that could not begin, because an earlier stage failed.
    """

    nodes: list[str]
    cases: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every case has its result."""
        return not self.failed and not self.waiting

    def write(self, path: Path) -> None:
        """Write the receipt in one step: a reader sees the whole file or none."""
        from softlabels.store.format import sealed_json

        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(sealed_json(asdict(self)))
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> BatchReceipt:
        """Return the receipt in a file, or raise FormatError with the remedy."""
        from softlabels.store.format import unsealed_json

        try:
            return cls(**unsealed_json(path.read_bytes(), path))
        except (FormatError, TypeError):
            raise FormatError(f"receipt {path}: damaged. Run 'softlabels verify --discard', then snakemake") from None


def run_batch(jobs: Sequence, receipt_path: Path, run: Callable) -> BatchReceipt:
    """Run the jobs of one step one after another, and write the batch's receipt.

    Parameters
    ----------
    jobs : sequence of softlabels.pipeline.stages.Job
        Every case x every node of the step, upstream first.
    receipt_path : Path
        The file that Snakemake waits for.
    run : callable
        Runs one job: `softlabels.pipeline.stages.run_job`.

    Raises
    ------
    InputError
        If no case of the batch has a result: then Snakemake sees a failed job, as with a single case.
    MemoryError, DeviceError, StoreError
        At once, as these are no fault of the case: another attempt of the whole job, perhaps with more memory or on
        another node, finds finished cases in the store.
    """
    cases, failed, waiting = list(dict.fromkeys(job.case.id for job in jobs)), {}, []
    for job in jobs:
        if not all(path.exists() for path in job.upstream_receipts().values()):
            if job.case.id not in (*failed, *waiting):
                waiting.append(job.case.id)
            job.receipt_path.unlink(missing_ok=True)
            continue
        try:
            run(job)
        except Exception as error:
            # A receipt of an earlier run must not stand for a result that this run could not make. It goes only now:
            # the job of a controller that was killed may be at work on the same cases, and needs what is upstream.
            job.receipt_path.unlink(missing_ok=True)
            if not _is_of_the_case(error):
                raise
            why = " ".join(f"{type(error).__name__}: {error}".split())
            failed.setdefault(job.case.id, why)
            is_known = isinstance(error, SoftLabelsError)
            log.error("%s %s failed: %s", job.case.id, job.node.id, why, exc_info=not is_known)
    n_done = len(cases) - len(failed) - len(waiting)
    log.info(SUMMARY, n_done, len(failed), len(waiting))
    receipt = BatchReceipt(list(dict.fromkeys(job.node.id for job in jobs)), cases, failed, waiting)
    if n_done == 0:
        raise InputError(f"all {len(cases)} cases failed, {len(waiting)} of them at an earlier stage. {_first(failed)}")
    receipt.write(receipt_path)
    return receipt


def _is_of_the_case(error: Exception) -> bool:
    """Return False for faults of the machine or the file system: the next case would meet them too."""
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        return False
    return isinstance(error, FormatError) or not isinstance(error, (DeviceError, StoreError))


def _first(failed: dict[str, str]) -> str:
    """Return the first failure in words."""
    return "".join(f"The first, {case_id}: {why}" for case_id, why in list(failed.items())[:1])


def batch_receipt_paths(results: Path) -> list[Path]:
    """Return where the receipts of batches lie, of a single case that went through all stages too."""
    return sorted([*results.glob(f"{FOLDER}/*/*.json"), *results.glob(f"*/{ALL_STAGES}.json")])


def forget_incomplete(results: Path, *, are_all_there: bool = True) -> int:
    """Delete the receipts of batches in which a case failed, so that the next run tries those again; return how many.

    The workflow calls this when it ends: until then the good cases of the batch go on. With ``are_all_there=False``
    each receipt of a case is looked for too, and a batch that lacks one, because somebody deleted it, is incomplete.
    """

    def is_complete(receipt: BatchReceipt) -> bool:
        own = product(receipt.cases, receipt.nodes)
        return receipt.is_complete and (are_all_there or all((results / c / f"{n}.json").exists() for c, n in own))

    incomplete = [path for path in batch_receipt_paths(results) if not is_complete(BatchReceipt.read(path))]
    for path in incomplete:
        path.unlink()
    return len(incomplete)


def forget_cases(results: Path, jobs: set[tuple[str, str]]) -> None:
    """Delete the receipts of batches that hold any of these (case id, node id)."""
    for path in batch_receipt_paths(results):
        receipt = BatchReceipt.read(path)
        if jobs & set(product(receipt.cases, receipt.nodes)):
            path.unlink()
