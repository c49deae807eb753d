"""The command that estimates the cost of a run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels._shared.counts import counted
from softlabels._shared.cpus import usable_cpus
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, Project, app, progress

if TYPE_CHECKING:
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.cost import NodeForecast


@app.command(rich_help_panel="Start a project")
def plan(
    config: ConfigPath = DEFAULT_CONFIG,
    find_hits: Annotated[
        bool, typer.Option("--hash", help="read every file, and count the results that are already in the store")
    ] = False,
    logs: Annotated[Path, typer.Option(help="log folder of the workflow; earlier runs improve the estimate")] = Path(
        "logs"
    ),
) -> None:
    """Estimate jobs, CPU time, memory and disk of a run.

    Examples
    --------
        softlabels plan

        softlabels plan --hash
    """
    from rich.console import Console
    from rich.table import Table

    from softlabels.monitor.benchmarks import peak_memory
    from softlabels.monitor.status import changed_inputs, read_receipts
    from softlabels.pipeline.cost import duration, forecast, measured_rates, suggested_cases_per_job
    from softlabels.pipeline.units import make_steps, make_units

    project = Project.load(config)
    case_of = {case.id: case for case in project.cases}
    receipts = read_receipts(project.plan, project.cases, project.results)
    stored = _stored(project) if find_hits else set()
    units = make_units(list(case_of), project.config.batch_size)
    rates = measured_rates(project.plan, case_of, receipts, peak_memory(project.plan, case_of, units, logs))
    # A case whose files changed is read and, where its entries are not in the store, computed again.
    changed = changed_inputs(project.cases, receipts)
    done = {work for work in receipts if work[0] not in changed}
    rows = forecast(project.plan, project.cases, done=done, stored=stored, rates=rates)
    in_store = ["in store"] if find_hits else []
    table = Table("node", "for", "done", *in_store, "to do", "work", "GB memory", "GB disk")
    users = project.plan.users()
    for row in rows:
        counts = [row.n_done, *([row.n_stored] if find_hits else []), row.n_to_do]
        cost = row.cost
        numbers = (duration(cost.seconds), f"{cost.memory_mb / 1e3:.1f}", f"{cost.disk_mb / 1e3:.2f}")
        table.add_row(row.node, ", ".join(users[row.node]), *map(str, counts), *numbers)
    Console().print(table)
    stages_per_job = project.config.job_stages
    for line in _summary(project, rows, len(units) * len(make_steps(project.plan.nodes, stages_per_job))):
        print(line)
    if not find_hits and any(row.n_to_do for row in rows):
        print("results that the store already has are found by reading every file: softlabels plan --hash")
    if changed:
        print(f"files of {counted(len(changed), 'case')} changed since they were read; they count as not done")
    suggested = suggested_cases_per_job(project.plan, project.cases, rates, stages_per_job, usable_cpus())
    if suggested >= 2 * project.config.batch_size:
        print(
            f"most of these jobs take little longer than their start-up. Set cases_per_job: {suggested} in {config}, "
            "so that several cases share a job"
        )


def _stored(project: Project) -> set[tuple[str, str]]:
    """Return (case id, node id) of everything that is in the store; cases with errors have nothing."""
    from concurrent.futures import ThreadPoolExecutor

    from softlabels.errors import InputError
    from softlabels.pipeline.reuse import stored_nodes
    from softlabels.store import Store

    store = Store(project.config.store)

    def of_case(case: Case) -> set[tuple[str, str]]:
        try:
            return {(case.id, node) for node in stored_nodes(project.plan, case, store)}
        except InputError:
            return set()

    with ThreadPoolExecutor(usable_cpus()) as pool:
        found = progress(pool.map(of_case, project.cases), "Reading", len(project.cases))
        return set().union(*found)


def _summary(project: Project, rows: list[NodeForecast], n_jobs: int) -> list[str]:
    """Return the lines under the table: totals, their uncertainty and where the rates are from."""
    from softlabels.pipeline.cost import JOB_START_SECONDS, MEASURED_ON, MEASURED_SPREAD, between
    from softlabels.pipeline.stages import DISTANCE

    on_gpu = project.config.device == "cuda"
    gpu = [row for row in rows if on_gpu and row.stage == DISTANCE.name]
    size = project.config.batch_size
    takes_all = project.config.job_stages == "all"
    left = [math.ceil(row.n_to_do / size) for row in rows]
    starts = JOB_START_SECONDS * (max(left) if takes_all else sum(left))
    cpu = between([(starts, MEASURED_SPREAD), *((row.cost.seconds, row.spread) for row in rows if row not in gpu)])
    largest = max(rows, key=lambda row: row.cost.memory_mb)
    n_unknown = sum(row.n_to_do > 0 and not row.is_measured for row in rows)
    of_up_to = "one case" if size == 1 else f"up to {size} cases"
    through = " through all stages" if takes_all else ""
    cases, nodes = counted(len(project.cases), "case"), counted(len(rows), "node")
    n_done = counted(sum(row.n_done for row in rows), "result")
    head = f"{cases} x {nodes} in {counted(n_jobs, 'job')} of {of_up_to}{through}; {n_done} done"
    if not any(left):
        return [head, "nothing is left to compute"]
    lines = [
        head,
        f"CPU time {cpu}" + (f", GPU time at most {between((r.cost.seconds, r.spread) for r in gpu)}" if gpu else ""),
        f"largest job {largest.cost.memory_mb / 1e3:.1f} GB ({largest.node}), "
        f"store grows by about {sum(row.cost.disk_mb for row in rows) / 1e3:.2f} GB",
    ]
    if n_unknown:
        lines.append(f"{n_unknown} nodes have not been measured here yet; their rates are from {MEASURED_ON}")
    return lines


@app.command(name="warm-up", rich_help_panel="Compute")
def warm_up(config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Compile the kernels that a configuration needs, once per machine, before jobs wait for it.

    On a cluster whose nodes share your home folder, once is enough for all nodes with the same processors. For device
    cuda, run it on a node with a GPU.

    Examples
    --------
        softlabels warm-up

        srun --gpus=1 softlabels warm-up
    """
    import tempfile

    from softlabels.config import load_config
    from softlabels.pipeline.warm_up import warm_up as compile_all

    with tempfile.TemporaryDirectory(prefix="softlabels-") as folder:
        n_kernels, seconds = compile_all(load_config(config), Path(folder))
    print(f"{n_kernels} kernels compiled in {seconds:.0f} s" if n_kernels else "all kernels were compiled already")
