"""Commands that compute or write, for the rules and for users."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from softlabels._shared.counts import counted
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, JobConfig, Project, app
from softlabels.errors import SoftLabelsError
from softlabels.monitor.run import FAILURES_ARE_SHOWN

_ENDED = "ended by SIGTERM (time limit, scancel or a lost node); nothing was published. Run snakemake again"


@app.command(hidden=True)
def stage(
    nodes: Annotated[Path, typer.Option(help="job file of the nodes, upstream first")],
    cases: Annotated[Path, typer.Option(help="job file of the cases")],
    receipt: Annotated[Path, typer.Option(help="the receipt to write: that of the case, or of the batch")],
    store: Annotated[Path, typer.Option()],
    results: Annotated[Path, typer.Option()],
    device: Annotated[str, typer.Option()] = "cpu",
    threads: Annotated[int | None, typer.Option()] = None,
    log: Annotated[str, typer.Option(help="where stderr goes, for messages")] = "",
) -> None:
    """Run one job: one node, or all in turn, for a case or a batch of cases. The rules call this."""
    # Before NumPy is imported. Snakemake sets it to the threads of the job, but no stage multiplies large matrices: the
    # threads would spin for a tenth of a second at the start, and the bits of a product would depend on their number.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from softlabels.inputs.sheet import cases_from_json
    from softlabels.pipeline.batch import make_jobs, run_batch
    from softlabels.pipeline.job import run_job
    from softlabels.pipeline.job_files import read_job_file
    from softlabels.pipeline.node import nodes_from_json
    from softlabels.store import Store

    # Ends like an exception does, so that what was being written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"softlabels: {_ENDED}"))
    # A switch for debugging kernels of one's own, without which the engine would refuse to compute.
    os.environ.pop("NUMBA_DISABLE_JIT", None)
    if threads:
        # ITK would use every core of the machine, including those of other jobs.
        os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(threads))
    with _failures_on_stdout(log):
        what, where = nodes_from_json(read_job_file(nodes)), Store(store, threads)
        of_cases = cases_from_json(read_job_file(cases))
        jobs = make_jobs(of_cases, what, where, results, device, threads)
        if [job.receipt_path for job in jobs] == [receipt]:
            run_job(jobs[0])
        else:
            run_batch(jobs, receipt)


class _StdoutHandler(logging.Handler):
    """Prints messages in one line each, without the traceback that the log has."""

    n_printed = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message and the path of the log."""
        self.n_printed += 1
        print(self.format(record), flush=True)


@contextmanager
def _failures_on_stdout(log: str) -> Iterator[None]:
    """Log to stderr, and print each failure on stdout too: Snakemake shows that first, then the command and the log.

    `softlabels run` shows the failures itself, from their records.
    """
    to_log, to_stdout = logging.StreamHandler(), _StdoutHandler(logging.ERROR)
    to_log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    is_shown = FAILURES_ARE_SHOWN in os.environ
    logging.basicConfig(level=logging.INFO, handlers=[to_log] if is_shown else [to_log, to_stdout])
    where = f" (log: {log})" if log else ""
    to_stdout.setFormatter(logging.Formatter(f"%(message)s{where.replace('%', '%%')}"))
    try:
        yield
    except SoftLabelsError as error:
        if not (to_stdout.n_printed or is_shown):
            print(f"failed: {error}{where}", flush=True)
        raise


@app.command(hidden=True)
def pictures(
    cases: Annotated[Path, typer.Option(help="job file of the cases")],
    links: Annotated[Path, typer.Option(help="folder of links to the pictures, which is made")],
    config: ConfigPath = DEFAULT_CONFIG,
    job_config: JobConfig = None,
) -> None:
    """Write the pictures of several cases. A picture that fails is reported and left out. The rules call this."""
    from softlabels.inputs.sheet import cases_from_json
    from softlabels.pipeline.job_files import read_job_file
    from softlabels.view.case_page import link_pictures, write_pictures

    project = Project.load(config, job_config)
    ids = [case.id for case in cases_from_json(read_job_file(cases))]
    failed = write_pictures(project.config, project.plan, ids, project.results)
    link_pictures([case_id for case_id in ids if case_id not in failed], project.results, links)
    for case_id, why in failed.items():
        print(f"no picture of case {case_id}: {why}")


@app.command(rich_help_panel="Train")
def index(
    config: ConfigPath = DEFAULT_CONFIG,
    job_config: JobConfig = None,
    output: Annotated[Path | None, typer.Option(help="default: index.json in the results folder")] = None,
    allow_missing: Annotated[bool, typer.Option(help="omit cases that failed")] = False,
) -> None:
    """Write index.json, the only file that a trainer opens, from the finished cases.

    Examples
    --------
        softlabels index --allow-missing
    """
    from softlabels.cohort.index import INDEX_FILE
    from softlabels.pipeline.index import build_index

    project = Project.load(config, job_config)
    path = output or project.results / INDEX_FILE
    content = build_index(project.config, project.plan, project.cases, path.parent, allow_missing=allow_missing)
    content.write(path)
    print(f"{path}: {counted(len(content.cases), 'case')}, {len(content.missing)} omitted")
