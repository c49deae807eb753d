"""Commands that compute or write, for the rules and for users."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, ConfigJson, ConfigPath, Project, app

_ENDED = "ended by SIGTERM (time limit, scancel or a lost node); nothing was published. Run snakemake again"


@app.command(hidden=True)
def stage(
    nodes: Annotated[str, typer.Option(help="the nodes as JSON, upstream first")],
    cases: Annotated[str, typer.Option(help="the cases as JSON")],
    receipt: Annotated[Path, typer.Option(help="the receipt to write: that of the case, or of the batch")],
    store: Annotated[Path, typer.Option()],
    results: Annotated[Path, typer.Option()],
    device: Annotated[str, typer.Option()] = "cpu",
    threads: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Run one job: one node, or all in turn, for a case or a batch of cases. The rules call this."""
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.batch import run_batch
    from softlabels.pipeline.job import run_job
    from softlabels.pipeline.node import nodes_from_json
    from softlabels.pipeline.stages import Job
    from softlabels.store import Store

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    # Ends like an exception does, so that what was being written is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(f"softlabels: {_ENDED}"))
    if threads:
        # ITK would use every core of the machine, including those of other jobs.
        os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", str(threads))
    what, where = nodes_from_json(nodes), Store(store, threads)
    of_cases = [Case.from_json(content) for content in json.loads(cases)]
    jobs = [Job(case, node, where, results, device, threads) for case in of_cases for node in what]
    if [job.receipt_path for job in jobs] == [receipt]:
        run_job(jobs[0])
    else:
        run_batch(jobs, receipt)


@app.command(hidden=True)
def pictures(
    cases: Annotated[list[str], typer.Argument(help="case ids")],
    config: ConfigPath = DEFAULT_CONFIG,
    config_json: ConfigJson = None,
) -> None:
    """Write the pictures of several cases. A picture that fails is reported and left out. The rules call this."""
    from softlabels.view.case_page import write_pictures

    project = Project.load(config, config_json)
    for case_id, why in write_pictures(project.config, project.plan, cases, project.results).items():
        print(f"no picture of case {case_id}: {why}")


@app.command(rich_help_panel="Train")
def index(
    config: ConfigPath = DEFAULT_CONFIG,
    config_json: ConfigJson = None,
    output: Annotated[Path | None, typer.Option(help="default: index.json in the results folder")] = None,
    allow_missing: Annotated[bool, typer.Option(help="omit cases that failed")] = False,
) -> None:
    """Write index.json, the only file that a trainer opens, from the finished cases."""
    from softlabels.cohort.index import INDEX_FILE
    from softlabels.pipeline.index import build_index

    project = Project.load(config, config_json)
    path = output or project.results / INDEX_FILE
    content = build_index(project.config, project.plan, project.cases, path.parent, allow_missing=allow_missing)
    content.write(path)
    print(f"{path}: {len(content.cases)} cases, {len(content.missing)} omitted")
