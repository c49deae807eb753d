"""Jobs that ended without a result: by the failures they recorded, and where a job was killed, by what remains of it.

A job records why it failed. One that was killed (memory, a lost node) or never began to work (a broken environment)
could not: it left a log without a result, which is shown as it is, with what Slurm says of the job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from softlabels._shared.compile_clock import COMPILING
from softlabels._shared.files import read_tail
from softlabels.errors import FormatError
from softlabels.monitor.lock import is_running_here
from softlabels.monitor.slurm import last_words, queued_jobs
from softlabels.monitor.status import Work, file_names, in_threads
from softlabels.pipeline.failure import SUFFIX, Failure, failure_path
from softlabels.pipeline.plan import Plan

#: Bytes at the end of a log in which its last line is looked for.
_TAIL_BYTES = 1 << 14


@dataclass(frozen=True)
class FailedJob:
    """A job that ended without a result.

    Parameters
    ----------
    name : str
        The case, or the unit (such as a batch) if the whole job was ended or killed for another reason.
    step : str
        The node, or `stages` if a job of all stages was killed.
    why : str
        The recorded failure, or what is known of a job that was killed.
    log : str
        Path of its log.
    is_of_case : bool
        Whether the case is the cause, so that it fails again until its files or the configuration are mended.
    """

    name: str
    step: str
    why: str
    log: str
    is_of_case: bool = False

    @property
    def line(self) -> str:
        """What failed, why, and where its log is, in one line."""
        return f"failed: {self.name} {self.step}: {self.why} (log: {self.log})"


def failed_jobs(
    plan: Plan,
    units: Mapping[str, Sequence[str]],
    steps: Mapping[str, Sequence[str]],
    done: set[Work],
    results: Path,
    logs: Path,
    is_active: Callable[[str, str], bool] = lambda unit, step: False,
) -> list[FailedJob]:
    """Return the jobs that ended without a result and are not active now.

    Parameters
    ----------
    plan : Plan
        Failures of other nodes are ignored.
    units, steps : mapping of str to sequence of str
        Unit to its cases, and step to its nodes (`softlabels.pipeline.units`). What belongs to others, such as batches
        of another size, is ignored.
    done : set of (case id, node id)
        The work that has a receipt.
    results, logs : Path
        The results folder, and the workflow's folder of logs.
    is_active : callable
        Whether a (unit, step) waits or runs now.
    """

    def of_unit(unit: str) -> list[FailedJob]:
        if all(work in done for nodes in steps.values() for work in product(units[unit], nodes)):
            return []
        failed = {work for case in units[unit] for work in _failed_work(results, case)} - done
        began = set(file_names(logs / unit))
        found = []
        for step, nodes in steps.items():
            log = logs / unit / f"{step}.log"
            left = [work for work in product(units[unit], nodes) if work not in done]
            if not left or is_active(unit, step):
                continue
            recorded = [recorded_failure(results, work) for work in left if work in failed]
            found += [_failed(failure, logs, unit, step) for failure in recorded]
            # Then the rest was not tried.
            is_explained = any(failure.cause != "case" for failure in recorded)
            # What is not kept is not tried by itself: it is computed when it is read.
            untried = (work for work in left if work not in failed and plan.nodes[work[1]].is_kept)
            could_begin = (_could_begin(plan, work, done, failed) for work in untried)
            if not is_explained and log.name in began and any(could_begin):
                found.append(FailedJob(unit, step, _why_killed(logs, unit, step), str(log)))
        return found

    return [job for jobs in in_threads(of_unit, units) for job in jobs]


def active_jobs(
    project: Path,
    units: Mapping[str, Sequence[str]],
    steps: Mapping[str, Sequence[str]],
    done: set[Work],
    results: Path,
    logs: Path,
) -> dict[tuple[str, str], str]:
    """Return (unit, step) to the state of each job that waits or runs now, on Slurm or on this machine.

    For a person who looks from outside. While Snakemake itself is at work on a failure, `local_jobs` takes a job that
    was killed for one that runs.

    Parameters
    ----------
    project : Path
        The folder that Snakemake works in.
    units, steps, done, results, logs
        As in `failed_jobs`.
    """
    queued = queued_jobs(project)
    if not queued and is_running_here(project):
        return local_jobs(units, steps, done, results, logs)
    return queued


def local_jobs(
    units: Mapping[str, Sequence[str]], steps: Mapping[str, Sequence[str]], done: set[Work], results: Path, logs: Path
) -> dict[tuple[str, str], str]:
    """Return (unit, step) to "RUNNING", or "COMPILING", of jobs that have begun and neither ended nor failed.

    Only meaningful while the Snakemake that started them is alive: what a killed job leaves behind looks the same.
    """
    found = {}
    for unit, cases in units.items():
        began = set(file_names(logs / unit))
        failed = {work for case in cases for work in _failed_work(results, case)}
        for step, nodes in steps.items():
            left = [work for work in product(cases, nodes) if work not in done]
            if left and f"{step}.log" in began and not any(work in failed for work in left):
                last = last_line(logs / unit / f"{step}.log")
                found[unit, step] = "COMPILING" if COMPILING in last else "RUNNING"
    return found


def _could_begin(plan: Plan, work: Work, done: set[Work], failed: set[Work]) -> bool:
    """Return whether everything upstream of some work is done, or is not kept and could begin itself."""
    case, node = work

    def is_there(upstream: str) -> bool:
        if (case, upstream) in done:
            return True
        is_held = not plan.nodes[upstream].is_kept and (case, upstream) not in failed
        return is_held and _could_begin(plan, (case, upstream), done, failed)

    return all(map(is_there, plan.nodes[node].inputs.values()))


def _failed_work(results: Path, case: str) -> list[Work]:
    """Return the work of a case with a recorded failure."""
    return [(case, name.removesuffix(SUFFIX)) for name in file_names(results / case) if name.endswith(SUFFIX)]


def recorded_failure(results: Path, work: Work) -> Failure:
    """Return a recorded failure; one that cannot be read says so itself."""
    try:
        return Failure.read(failure_path(results, *work))
    except FormatError as error:
        return Failure(*work, "case", str(error))


def _failed(failure: Failure, logs: Path, unit: str, step: str) -> FailedJob:
    """Return the job of a recorded failure; Slurm knows more of one that was ended from outside."""
    reason = last_words(logs, unit, step) if failure.cause == "ended" else None
    why = f"ended by Slurm: {reason}" if reason else failure.why
    # What is no fault of the case ended the whole job. Whether a device failed because of the case is not known.
    name = failure.case if failure.cause in ("case", "device") else unit
    return FailedJob(name, failure.node, why, str(logs / unit / f"{step}.log"), failure.cause == "case")


def _why_killed(logs: Path, unit: str, step: str) -> str:
    """Return what is known of a job that left a log and nothing else."""
    if reason := last_words(logs, unit, step):
        return f"ended by Slurm: {reason}"
    last = last_line(logs / unit / f"{step}.log")
    return f"still running here, or killed (memory, time limit, node); its log ends: {last}"


def last_line(log: Path) -> str:
    """Return the last line of a log that is not empty."""
    lines = [line for line in read_tail(log, _TAIL_BYTES).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "(empty)"
