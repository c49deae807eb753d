"""The command that says what a run would cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softlabels._shared.cpus import usable_cpus
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, Project, app


@app.command(rich_help_panel="Begin")
def plan(
    config: ConfigPath = DEFAULT_CONFIG,
    find_hits: Annotated[
        bool, typer.Option("--hash", help="read every file and look in the store for what it holds already")
    ] = False,
    logs: Annotated[Path, typer.Option(help="the workflow's folder of logs: earlier runs make it surer")] = Path(
        "logs"
    ),
) -> None:
    """Say what a run would take before it runs: jobs, hours, memory, disk."""
    from rich.console import Console
    from rich.table import Table

    from softlabels.monitor.status import read_receipts
    from softlabels.pipeline.cost import duration, measured_rates, plan_rows, suggested_cases_per_job
    from softlabels.pipeline.units import make_steps, make_units

    project = Project.load(config)
    case_of = {case.id: case for case in project.cases}
    receipts = read_receipts(project.plan, project.cases, project.results)
    hits = _hits(project) if find_hits else set()
    rates = measured_rates(project.plan, case_of, receipts, logs)
    rows = plan_rows(project.plan, project.cases, done=set(receipts), hits=hits, rates=rates)
    table = Table("node", "done", "in store" if find_hits else "in store?", "to do", "work", "GB memory", "GB disk")
    for row in rows:
        found = str(row["hits"]) if find_hits else "--hash"
        numbers = (duration(row["seconds"]), f"{row['memory_mb'] / 1e3:.1f}", f"{row['disk_mb'] / 1e3:.2f}")
        table.add_row(row["node"], str(row["done"]), found, str(row["to_do"]), *numbers)
    Console().print(table)
    stages_per_job = project.config.stages_per_job
    n_units = len(make_units(list(case_of), project.config.batch_size))
    for line in _summary(project, rows, n_units * len(make_steps(project.plan.nodes, stages_per_job)), set(rates)):
        print(line)
    suggested = suggested_cases_per_job(project.plan, project.cases, rates, stages_per_job)
    if suggested >= 2 * project.config.batch_size:
        print(
            f"most of these jobs take little longer than their start: set cases_per_job: {suggested} in {config}, "
            "and as many cases share one"
        )


def _hits(project: Project) -> set[tuple[str, str]]:
    """Return (case id, node id) of everything that is in the store; cases with faults have nothing."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.progress import track

    from softlabels.errors import InputError
    from softlabels.pipeline.reuse import stored_nodes
    from softlabels.store import Store

    store = Store(project.config.store)

    def of_case(case):
        try:
            return {(case.id, node) for node in stored_nodes(project.plan, case, store)}
        except InputError:
            return set()

    with ThreadPoolExecutor(usable_cpus()) as pool:
        found = track(pool.map(of_case, project.cases), "Reading", len(project.cases), transient=True)
        return set().union(*found)


def _summary(project: Project, rows: list[dict], n_jobs: int, measured: set[str]) -> list[str]:
    """Return the lines under the table: totals, their uncertainty and where the rates are from."""
    from softlabels.pipeline.cost import MEASURED_ON, THREADS, between

    on_gpu = project.config.device == "cuda"
    gpu = [row for row in rows if on_gpu and row["stage"] == "distance"]
    cpu = between((THREADS * row["seconds"], row["spread"]) for row in rows if row not in gpu)
    largest = max(rows, key=lambda row: row["memory_mb"])
    n_unknown = sum(row["to_do"] > 0 and row["node"] not in measured for row in rows)
    size = project.config.batch_size
    of_up_to = "one case" if size == 1 else f"up to {size} cases"
    through = " through all stages" if project.config.stages_per_job == "all" else ""
    lines = [
        f"{len(project.cases)} cases x {len(rows)} nodes in {n_jobs} jobs of {of_up_to}{through}; "
        f"{sum(row['done'] for row in rows)} results are there",
        f"CPU time {cpu}" + (f", GPU time at most {between((r['seconds'], r['spread']) for r in gpu)}" if gpu else ""),
        f"largest job {largest['memory_mb'] / 1e3:.1f} GB ({largest['node']}), "
        f"store grows by about {sum(row['disk_mb'] for row in rows) / 1e3:.2f} GB",
    ]
    if n_unknown:
        lines.append(f"{n_unknown} nodes were not measured here yet; theirs are rates of {MEASURED_ON}")
    return lines
