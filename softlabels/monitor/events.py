"""What a run of Snakemake reports to `softlabels run`: jobs that start, end or fail, as lines of JSON in a pipe.

This side works in Snakemake's own process, as a handler of its logger, so that it is right for every executor. The
other side is `softlabels.monitor.run`, which reads the lines, and `softlabels.monitor.follow`, which understands them.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Environment variable with the number of the open file that events are written to.
VARIABLE = "SOFTLABELS_EVENTS"

#: Kinds of events.
PROJECT, SCHEDULED = "project", "scheduled"
STARTED, FINISHED, FAILED = "started", "finished", "failed"
MESSAGE = "message"
#: A line that Snakemake or a job printed.
TEXT = "text"


def report_events(
    workflow: Any,
    config: str,
    results: Path,
    logs: Path,
    units: Mapping[str, Sequence[str]],
    steps: Mapping[str, Sequence[str]],
) -> None:
    """Write the events of a workflow to the process that asked for them, in place of Snakemake's own output.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
    config : str
        The configuration, as JSON.
    results, logs : Path
        The folders of results and of logs, as jobs see them.
    units, steps : mapping of str to sequence of str
        Unit to its cases, and step to its nodes (`softlabels.pipeline.units`).
    """
    if VARIABLE not in os.environ:
        return
    # Neither jobs nor their Snakemakes have that file open.
    descriptor = int(os.environ.pop(VARIABLE))
    os.set_inheritable(descriptor, False)
    handler = _EventHandler(descriptor, workflow, results, units, steps)
    logger = workflow.logger_manager.logger
    for other in [one for one in logger.handlers if one.name == "DefaultStreamHandler"]:
        handler.setFormatter(other.formatter)
        for one in other.filters:
            handler.addFilter(one)
        logger.removeHandler(other)
    logger.addHandler(handler)
    handler.send(PROJECT, config=config, results=results, logs=logs, units=dict(units), steps=dict(steps))


class _EventHandler(logging.Handler):
    """Turns the records of Snakemake's logger into events."""

    def __init__(
        self,
        descriptor: int,
        workflow: Any,
        results: Path,
        units: Mapping[str, Sequence[str]],
        steps: Mapping[str, Sequence[str]],
    ) -> None:
        super().__init__()
        self._descriptor, self._workflow = descriptor, workflow
        self._work = {str(results / unit / f"{step}.json"): (unit, step) for unit in units for step in steps}

    def send(self, kind: str, **content: Any) -> None:
        """Write an event; when its reader is gone, stop reporting."""
        line = memoryview(json.dumps({"kind": kind, **content}, default=str).encode() + b"\n")
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:
            self._workflow.logger_manager.logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Send the event that a record reports, if it is one."""
        match getattr(record, "event", None):
            case "run_info":
                self.send(SCHEDULED, jobs=[self._job(job) for job in self._workflow.dag.needrun_jobs()])
            case "job_info":
                self.send(STARTED, job=record.__dict__["jobid"])
            case "job_finished":
                self.send(FINISHED, job=record.__dict__["job_id"])
            case "job_error":
                self.send(FAILED, job=record.__dict__["jobid"], logs=list(map(str, record.__dict__["log"] or [])))
            case None | "error" if text := self.format(record).strip():
                self.send(MESSAGE, level=record.levelno, text=text)

    def _job(self, job: Any) -> dict[str, Any]:
        """Return a job that is to run: its number, rule, and which unit and step it is, if it is one."""
        unit, step = next((self._work[path] for path in map(str, job.output) if path in self._work), (None, None))
        return {"job": job.jobid, "rule": job.rule.name, "unit": unit, "step": step}
