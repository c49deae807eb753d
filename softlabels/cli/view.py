"""Commands that show what is there: they change nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, CaseId, ConfigJson, ConfigPath, Project, app

#: What a job on Slurm takes besides its work: two Snakemakes start one after another.
SLURM_START_SECONDS = 5


@app.command(rich_help_panel="Look")
def status(
    config: ConfigPath = DEFAULT_CONFIG,
    logs: Annotated[Path, typer.Option(help="the workflow's folder of logs")] = Path("logs"),
    limit: Annotated[int, typer.Option(min=0, help="failures to list")] = 20,
) -> None:
    """Show what is done, computed or reused, what runs and what failed, and when it will end; works while jobs run."""
    from rich.console import Console

    from softlabels.monitor.lock import is_controlled
    from softlabels.monitor.slurm import PATIENT, is_running, queued_jobs
    from softlabels.monitor.status import failures, read_receipts
    from softlabels.pipeline.units import make_units

    project = Project.load(config)
    receipts = read_receipts(project.plan, project.cases, project.results)
    queued = queued_jobs(Path.cwd())
    units = make_units([case.id for case in project.cases], project.config.batch_size)
    failed = failures(project.plan, set(receipts), logs, lambda unit, step: (unit, step) in queued, units)
    Console().print(_status_table(project, receipts, queued, failed, units))
    for reason, n_jobs in Counter(queued.values()).items():
        if not is_running(reason) and reason not in PATIENT:
            print(f"{n_jobs} jobs wait for {reason}: they may never start. docs/cluster.md says what to change")
    for one in failed[:limit]:
        print(f"failed: {one.case} {one.node}: {one.why} (log: {one.log})")
    if len(failed) > limit:
        print(f"... and {len(failed) - limit} more failures; --limit {len(failed)} lists them all")
    if line := _work_done(project, receipts):
        print(line)
    n_left = len(project.cases) * len(project.plan.nodes) - len(receipts)
    is_idle = not queued and is_controlled(Path(".snakemake")) is False
    if not is_idle and (line := _pace(project, receipts, start_seconds=SLURM_START_SECONDS if queued else 1)):
        print(line)
    if n_left and is_idle:
        print(f"{n_left} results are left and nothing runs: the same snakemake command goes on where it stopped")
    if not n_left and (index := project.results / "index.json").exists():
        print(f"all results are there; train on {index}")


def _status_table(project: Project, receipts: dict, queued: dict, failed: list, units: dict):
    """Return the table of nodes with their counts of cases."""
    from rich.table import Column, Table

    from softlabels.monitor.slurm import is_running
    from softlabels.monitor.status import summarise
    from softlabels.pipeline.cost import duration
    from softlabels.pipeline.units import ALL_STAGES

    def n_open(node: str, names) -> int:
        """Return how many cases of these units, or of these cases, have no result of a node."""
        return sum((case, node) not in receipts for name in names for case in units.get(name, [name]))

    columns = ["node", "for", "done", "running", "waiting", "failed", "reused", "flagged", "work"]
    hidden = {"running": not queued, "waiting": not queued, "failed": not failed}
    shown = [name for name in columns if not hidden.get(name)]
    table = Table(Column("node", no_wrap=True), *shown[1:], title=f"{len(project.cases)} cases")
    for row in summarise(project.plan, project.cases, receipts):
        node = row["node"]
        states = {unit: is_running(state) for (unit, step), state in queued.items() if step in (node, ALL_STAGES)}
        cells = row | {
            "for": ", ".join(row["targets"]),
            "done": f"{row['done']}/{row['of']}",
            "running": n_open(node, [unit for unit, runs in states.items() if runs]),
            "waiting": n_open(node, [unit for unit, runs in states.items() if not runs]),
            "failed": n_open(node, {one.case for one in failed if one.node in (node, ALL_STAGES)}),
            "work": duration(row["seconds"]),
        }
        table.add_row(*(str(cells[name]) for name in shown))
    return table


def _work_done(project: Project, receipts: dict) -> str | None:
    """Return a line on the time that computed results took, beside the plan's, or None if there is none."""
    from softlabels.pipeline.cost import SPREAD, between, duration, estimate_job, total

    case_of = {case.id: case for case in project.cases}
    computed = [(job, receipt.seconds) for job, receipt in receipts.items() if receipt.outcome == "computed"]
    if not computed:
        return None
    planned = total(estimate_job(project.plan, node, case_of[case]) for (case, node), _ in computed).seconds
    took = sum(seconds for _, seconds in computed)
    return f"{len(computed)} computed results took {duration(took)} of work; planned: {between([(planned, SPREAD)])}"


def _pace(project: Project, receipts: dict, start_seconds: float) -> str | None:
    """Return a line on when the rest will be done, or None if nothing tells."""
    from softlabels.monitor.status import finished_at, receipt_times, seconds_left
    from softlabels.pipeline.cost import estimate_job, measured_rates
    from softlabels.pipeline.units import make_steps

    plan = project.plan
    rates = measured_rates(plan, {case.id: case for case in project.cases}, receipts)
    n_steps = len(make_steps(plan.nodes, project.config.stages_per_job))
    start_seconds *= n_steps / len(plan.nodes) / project.config.batch_size
    weights = {node: estimate_job(plan, node, project.cases[0], rates).seconds + start_seconds for node in plan.nodes}
    left = seconds_left(plan, project.cases, receipt_times(set(receipts), project.results), weights)
    return f"at the pace of the last half hour the rest would be done at {finished_at(left)}" if left else None


@app.command(rich_help_panel="Look")
def explain(case: CaseId, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Say where every result of a case came from, and what would compute it anew."""
    from softlabels.monitor.status import explain_case
    from softlabels.store import Store

    project = Project.load(config)
    store = Store(project.config.store)
    for row in explain_case(project.case(case).id, project.plan, project.results, store):
        print(f"{row['node']}: {row['state']}")
        if "receipt" in row:
            receipt, made = row["receipt"], row["provenance"]
            print(f"  entry      {receipt.key[:16]}… in {row['store']}")
            by = f"{made['user']}@{made['host']}"
            print(f"  computed   {made['finished']} by {by} in {made['seconds']} s, for case {made['case']}")
        print(f"  depends on algorithm {row['algorithm']}, " + json.dumps(row["params"], sort_keys=True))
        print("  and on     " + ("the bytes of the case's files" if row["stage"] == "prepare" else "the entries above"))
        for flag in row["receipt"].flags if "receipt" in row else []:
            print(f"  note       {flag}")


@app.command(rich_help_panel="Look")
def show(
    case: CaseId,
    config: ConfigPath = DEFAULT_CONFIG,
    config_json: ConfigJson = None,
    node: Annotated[str | None, typer.Option(help="one node's own montage, by its id (softlabels status)")] = None,
    class_name: Annotated[str | None, typer.Option(help="the class whose distance and soft labels are shown")] = None,
    plane: Annotated[str | None, typer.Option(help="axial, coronal or sagittal; default: the finest pixels")] = None,
    output: Annotated[Path | None, typer.Option(help="PNG file; default: montage.png in the case's results")] = None,
) -> None:
    """Write a picture of a case from image to soft labels, or of any node."""
    from softlabels.view.entries import case_entries, node_entry
    from softlabels.view.panels import save_png

    project = Project.load(config, config_json)
    case_id = project.case(case).id
    if node is None:
        from softlabels.view.case_page import case_picture

        entries = case_entries(project.config, project.plan, case_id)
        figure = case_picture(entries, class_name=class_name, plane=plane)
    else:
        from softlabels.view.montage import montage

        figure = montage(node_entry(project.config, project.plan, case_id, node), plane=plane)
    path = output or project.results / case_id / (f"{node}.png" if node else "montage.png")
    save_png(figure, path)
    print(path)


@app.command(rich_help_panel="Look")
def export(
    case: CaseId,
    config: ConfigPath = DEFAULT_CONFIG,
    output: Annotated[Path, typer.Option(help="folder for the NIfTI files")] = Path("export"),
    intermediate: Annotated[bool, typer.Option(help="also seeds and distances")] = False,
) -> None:
    """Write a case's image, labels and training targets as NIfTI, with the right affine."""
    from softlabels.view.entries import case_entries
    from softlabels.view.export import export_layer, export_target

    project = Project.load(config)
    case_id = project.case(case).id
    entries = case_entries(project.config, project.plan, case_id)
    output.mkdir(parents=True, exist_ok=True)
    prepared = entries.case.entry
    for layer in prepared.layers:
        print(export_layer(prepared, layer, output / f"{case_id}_{layer}.nii.gz"))
    for name, one in entries.targets.items():
        print(export_target(one.target, output / f"{case_id}_{name}.nii.gz"))
        for layer, entry in (("seeds", one.seeds), ("distance", one.distance)) if intermediate else ():
            if entry is not None:
                print(export_layer(entry, layer, output / f"{case_id}_{name}_{layer}.nii.gz"))
