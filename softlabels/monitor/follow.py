"""Following a run of Snakemake: its events become a state, and at its end a summary."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softlabels._shared.counts import counted
from softlabels.config import Config, parse_config
from softlabels.monitor.events import FAILED, FINISHED, MESSAGE, PROJECT, SCHEDULED, STARTED, TEXT
from softlabels.monitor.failures import failed_jobs, last_line
from softlabels.monitor.run_state import RunState, scheduled_jobs
from softlabels.monitor.slurm import START_SECONDS

#: Share of the time that may be spent on looking for results.
_LOOKING_SHARE = 0.05
#: What Snakemake says of failed jobs besides the event, with the whole command: the failure itself is shown.
_KNOWN_ALREADY = re.compile(
    r"RuleException|Exiting because a job|(WorkflowError:\s+)?At least one job did not complete"
)


@dataclass
class Follower:
    """Takes the events of a run, and knows how far it is.

    Parameters
    ----------
    say : callable
        Prints a line that is neither progress nor failure, such as a warning of Snakemake.
    is_remote : bool
        Whether jobs run elsewhere, such as on Slurm.
    """

    say: Callable[[str], None]
    is_remote: bool = False
    state: RunState | None = None
    config: Config | None = None
    logs: Path = Path("logs")
    #: What Snakemake said before any job was scheduled: that nothing is to be done, or an error.
    early: list[str] = field(default_factory=list)
    _look_at: float = 0.0

    @property
    def is_scheduled(self) -> bool:
        """Whether the jobs of the run are known."""
        return self.state is not None and bool(self.state.jobs)

    def take(self, event: Mapping[str, Any], now: float) -> None:
        """Take one event (`softlabels.monitor.events`)."""
        state = self.state
        match event["kind"]:
            case kind if kind == TEXT:
                self.say(event["text"])
            case kind if kind == MESSAGE:
                self._take_message(event["level"], event["text"])
            case kind if kind == PROJECT:
                # Of a workflow with several modules of softlabels, the first is followed.
                if state is None:
                    self._take_project(event)
            case kind if kind == SCHEDULED and state:
                state.schedule(scheduled_jobs(event["jobs"]), now)
            case kind if kind == STARTED and state:
                state.start(event["job"], now)
            case kind if kind == FINISHED and state:
                state.end(event["job"], now)
            case kind if kind == FAILED and state:
                state.end(event["job"], now, event["logs"])

    def look(self, clock: Callable[[], float]) -> None:
        """Look for results of running jobs; the slower the file system, the more rarely."""
        began = clock()
        if self.state is None or began < self._look_at:
            return
        self.state.look(list(self.state.active), began)
        took = clock() - began
        self._look_at = clock() + max(1.0, took / _LOOKING_SHARE)

    def failures(self) -> list[str]:
        """Return a line for each failure: what failed, why, and the path of its log."""
        if self.state is None:
            return []
        state = self.state
        active = {(state.jobs[one].unit, state.jobs[one].step) for one in state.active if one in state.jobs}
        units = state.units_with_failures()
        found = failed_jobs(
            state.plan, units, state.steps, state.done(), state.results, self.logs, lambda *one: one in active
        )
        others = [(state.jobs[number].rule, logs) for number, logs in state.failed.items() if self._is_other(number)]
        return [job.line for job in found] + [_other_failure(rule, logs) for rule, logs in others]

    def _is_other(self, number: int) -> bool:
        return self.state is not None and number in self.state.jobs and self.state.jobs[number].unit is None

    def _take_message(self, level: int, text: str) -> None:
        if not self.is_scheduled:
            self.early.append(text)
        elif level >= logging.WARNING and not _KNOWN_ALREADY.match(text):
            self.say(text)

    def _take_project(self, event: Mapping[str, Any]) -> None:
        from softlabels.inputs.sheet import read_sheet
        from softlabels.pipeline.cost import estimate_job
        from softlabels.pipeline.plan import make_plan

        self.config = config = parse_config(json.loads(event["config"]))
        self.logs, plan = Path(event["logs"]), make_plan(config)
        case = read_sheet(config.cases, config.channels)[0]
        # A job starts for each step of each unit; the start is shared by its results.
        units, steps = event["units"], event["steps"]
        share = len(steps) / len(plan.nodes) / max(map(len, units.values()))
        start = (START_SECONDS if self.is_remote else 1) * share
        weights = {node: estimate_job(plan, node, case).seconds + start for node in plan.nodes}
        self.state = RunState(plan, units, steps, Path(event["results"]), weights)


def _other_failure(rule: str, logs: Sequence[str]) -> str:
    """Return the line on a failed job that makes no results, such as the index."""
    for log in logs:
        if line := _line_of(log):
            return f"failed: {rule}: {line} (log: {log})"
    where = f" (log: {', '.join(logs)})" if logs else ""
    return f"failed: {rule}: its output is above or in Snakemake's log{where}"


def _line_of(log: str) -> str | None:
    """Return the last line of a log, or None if there is no such file."""
    try:
        return last_line(Path(log)).removeprefix("softlabels: ")
    except OSError:
        return None


def failed_summary(n_failed: int, n_cases: int, lines: Iterable[str], limit: int = 20) -> list[str]:
    """Return the lines on what failed, at most `limit` of them in detail.

    Examples
    --------
    >>> failed_summary(1, 3, ["failed: a prepare-0a1b2c3d: truncated. Copy it again (log: logs/a/prepare.log)"])
    ['1 of 3 cases failed', 'failed: a prepare-0a1b2c3d: truncated. Copy it again (log: logs/a/prepare.log)']
    """
    lines = list(lines)
    head = [f"{n_failed} of {counted(n_cases, 'case')} failed"] if n_failed else []
    more = [f"... and {len(lines) - limit} more failures; softlabels status lists them"] if len(lines) > limit else []
    return head + lines[:limit] + more
