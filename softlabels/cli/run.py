"""Commands that compute or write: the rules call them, and so can a person."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.project import DEFAULT_CONFIG, ConfigJson, ConfigPath, Project, app


@app.command(hidden=True)
def stage(
    node: Annotated[str, typer.Option(help="the node as JSON")],
    case: Annotated[str, typer.Option(help="the case as JSON")],
    store: Annotated[Path, typer.Option()],
    results: Annotated[Path, typer.Option()],
    device: Annotated[str, typer.Option()] = "cpu",
    threads: Annotated[int | None, typer.Option()] = None,
) -> None:
    """Run one job: one case x one node. The rules call this."""
    from softlabels.cases import Case
    from softlabels.node import Node
    from softlabels.stages import Job, run_job
    from softlabels.store import Store

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    job = Job(
        Case(**{k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(case).items()}),
        Node.from_json(node),
        Store(store),
        results,
        device,
        threads,
    )
    run_job(job)


@app.command(rich_help_panel="Run")
def index(
    config: ConfigPath = DEFAULT_CONFIG,
    config_json: ConfigJson = None,
    output: Annotated[Path | None, typer.Option(help="default: index.json in the results folder")] = None,
    allow_missing: Annotated[bool, typer.Option(help="leave out cases that failed")] = False,
) -> None:
    """Write index.json, the one file a trainer opens, from what is done."""
    from softlabels.index import build_index

    project = Project.load(config, config_json)
    path = output or project.results / "index.json"
    content = build_index(project.config, project.plan, project.cases, path.parent, allow_missing=allow_missing)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"{path}: {len(content['cases'])} cases, {len(content['missing'])} left out")
