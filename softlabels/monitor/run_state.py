"""How far a run of Snakemake is: from the events of its jobs, and from the receipts that the jobs leave meanwhile.

A job of a batch works on many cases. Each leaves its receipts as it goes, so progress is counted in results
(case x node), not in jobs. What was there before the run and is to be made again counts once it has been made again.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from softlabels.monitor.failures import recorded_failure
from softlabels.monitor.status import PACE_SECONDS, Work, in_threads
from softlabels.pipeline.failure import Failure, failure_path
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import receipt_path

#: Weight of a job that makes no results, such as a picture, in seconds of work.
_OTHER_SECONDS = 2.0

#: What tells two states of a file apart: its inode and the time of its last change; None if there is none.
FileId = tuple[int, int] | None


@dataclass(frozen=True)
class ScheduledJob:
    """A job that a run has to do.

    Parameters
    ----------
    number : int
        Snakemake's number of the job.
    rule : str
    unit, step : str or None
        Which unit and step it is; None for jobs that make no results, such as pictures and index.
    """

    number: int
    rule: str
    unit: str | None = None
    step: str | None = None


@dataclass
class RunState:
    """What is known of a run.

    Parameters
    ----------
    plan : Plan
    units, steps : mapping of str to sequence of str
        Unit to its cases, and step to its nodes (`softlabels.pipeline.units`).
    results : Path
    weights : mapping of str to float
        Node to the expected seconds of work for one case.
    """

    plan: Plan
    units: Mapping[str, Sequence[str]]
    steps: Mapping[str, Sequence[str]]
    results: Path
    weights: Mapping[str, float]
    jobs: dict[int, ScheduledJob] = field(default_factory=dict)
    #: Results that are to be made, with what their receipts and failures were before the run.
    pending: dict[Work, tuple[FileId, FileId]] = field(default_factory=dict)
    #: Results that are not there, and that this run was not asked for.
    absent: set[Work] = field(default_factory=set)
    failures: dict[Work, Failure] = field(default_factory=dict)
    active: dict[int, float] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    failed: dict[int, Sequence[str]] = field(default_factory=dict)
    _made: deque[tuple[float, float]] = field(default_factory=deque)

    def schedule(self, jobs: Iterable[ScheduledJob], now: float) -> None:
        """Take the jobs that the run has to do, before any of them starts."""
        self.jobs = {job.number: job for job in jobs}
        works = [work for job in self.jobs.values() for work in self._work_of(job)]
        self.pending = dict(zip(works, in_threads(self._files, works), strict=True))
        self.absent = self._without_receipt(self._all_work() - set(works))
        self._made.append((now, 0.0))

    def start(self, number: int, now: float) -> None:
        """Note that a job starts (on Slurm: is submitted), again if it failed before."""
        self.active[number] = now
        self.failed.pop(number, None)

    def end(self, number: int, now: float, failed_logs: Sequence[str] | None = None) -> None:
        """Note that a job ended, and how; its results are looked for once more."""
        self.look([number], now)
        self.active.pop(number, None)
        if failed_logs is not None:
            self.failed[number] = failed_logs
        elif number not in self.finished:
            self.finished.add(number)
            if number in self.jobs and not self._work_of(self.jobs[number]):
                self._note_made(_OTHER_SECONDS, now)

    def look(self, numbers: Iterable[int], now: float) -> None:
        """Look which results of some jobs have been made, and which have failed."""
        works = [work for number in numbers if number in self.jobs for work in self._work_of(self.jobs[number])]
        works = [work for work in works if work in self.pending]
        found = dict(zip(works, in_threads(self._files, works), strict=True))
        for work, (receipt, failure) in found.items():
            before = self.pending[work]
            if receipt is not None and receipt != before[0]:
                del self.pending[work]
                self.failures.pop(work, None)
                self._note_made(self.weights[work[1]], now)
            elif failure is None:
                self.failures.pop(work, None)
            elif failure != before[1] and work not in self.failures:
                self.failures[work] = recorded_failure(self.results, work)

    def stages(self) -> dict[str, tuple[int, int]]:
        """Return how many results of each stage are made, and how many are asked for, in the order of the plan."""
        stage_of = {node.id: node.stage for node in self.plan.nodes.values()}
        n_left = Counter(stage_of[node] for _, node in self.pending)
        n_absent = Counter(stage_of[node] for _, node in self.absent)
        n_all = Counter[str]()
        for stage in stage_of.values():
            n_all[stage] += self.n_cases
        return {
            stage: (number - n_absent[stage] - n_left[stage], number - n_absent[stage])
            for stage, number in n_all.items()
        }

    def others(self) -> tuple[int, int]:
        """Return how many of the jobs that make no results are done, and how many there are in all."""
        numbers = [number for number, job in self.jobs.items() if job.unit is None]
        return sum(number in self.finished for number in numbers), len(numbers)

    def failed_cases(self) -> set[str]:
        """Return the cases that have failed so far: with a recorded failure, or in a job that was killed."""
        of_jobs = (work for number in self.failed if number in self.jobs for work in self._work_of(self.jobs[number]))
        return {case for case, _ in self.failures} | {case for case, node in of_jobs if (case, node) in self.pending}

    def units_with_failures(self) -> dict[str, Sequence[str]]:
        """Return the units that a failed case is in, with their cases."""
        failed = self.failed_cases()
        return {unit: cases for unit, cases in self.units.items() if not failed.isdisjoint(cases)}

    def done(self) -> set[Work]:
        """Return all results that are there."""
        return self._all_work() - set(self.pending) - self.absent

    def is_complete(self) -> bool:
        """Return whether every result is there, also those that the run was not asked for; one `stat` for each."""
        return not self.pending and not self._without_receipt(self._all_work())

    def seconds_left(self, now: float) -> float | None:
        """Return how long the rest will take at the pace of the last half hour, or None if that cannot be known."""
        while len(self._made) > 2 and self._made[0][0] < now - PACE_SECONDS:
            self._made.popleft()
        if len(self._made) < 3:
            return None
        (first, before), (_, after) = self._made[0], self._made[-1]
        if after == before:
            return None
        blocked = self.failed_cases()
        left = sum(self.weights[node] for case, node in self.pending if case not in blocked)
        n_done, n_others = self.others()
        return (left + _OTHER_SECONDS * (n_others - n_done)) * (now - first) / (after - before)

    @property
    def n_cases(self) -> int:
        """The number of cases."""
        return sum(map(len, self.units.values()))

    def _all_work(self) -> set[Work]:
        return set(product((case for cases in self.units.values() for case in cases), self.plan.nodes))

    def _without_receipt(self, works: set[Work]) -> set[Work]:
        """Return the work that has no receipt."""
        is_there = in_threads(lambda work: receipt_path(self.results, *work).exists(), works)
        return {work for work, there in zip(works, is_there, strict=True) if not there}

    def _note_made(self, weight: float, now: float) -> None:
        self._made.append((now, self._made[-1][1] + weight if self._made else weight))

    def _work_of(self, job: ScheduledJob) -> list[Work]:
        """Return the results that a job makes."""
        if job.unit is None or job.step is None:
            return []
        return list(product(self.units[job.unit], self.steps[job.step]))

    def _files(self, work: Work) -> tuple[FileId, FileId]:
        """Return what identifies the receipt and the recorded failure of some work now."""
        return _file_id(receipt_path(self.results, *work)), _file_id(failure_path(self.results, *work))


def scheduled_jobs(content: Iterable[Mapping[str, Any]]) -> list[ScheduledJob]:
    """Return the jobs of an event (`softlabels.monitor.events`)."""
    return [ScheduledJob(one["job"], one["rule"], one["unit"], one["step"]) for one in content]


def _file_id(path: Path) -> FileId:
    """Return what tells this state of a file apart from others; every write of a receipt makes a new inode."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
