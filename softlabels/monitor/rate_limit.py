"""Snakemake's limit of jobs a second, where there is no queue to protect."""

from __future__ import annotations

from typing import Any


def lift_limit_of_local_jobs(workflow: Any) -> None:
    """Start local jobs without Snakemake's limit of 100 a second, which keeps a finished run waiting.

    For that limit, Snakemake looks again for jobs to start one second after it has started some, and it does not end
    before: up to a second of each run with nothing to do. A limit that the user has set stays, as does that of a queue.

    Parameters
    ----------
    workflow : snakemake.workflow.Workflow
        About to start its jobs, as in `onstart`.
    """
    # A Snakemake without it waits, or has nothing to wait for; its runs must not fail of this.
    limiter = getattr(workflow.scheduler, "job_rate_limiter", None)
    if workflow.local_exec and limiter is not None and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None
