"""Commands that follow a run: progress, failures, and the origin of each result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels._shared.counts import counted, some_of
from softlabels.cli.app import DEFAULT_CONFIG, CaseId, ConfigPath, Project, app

if TYPE_CHECKING:
    from rich.table import Table

    from softlabels.monitor.explain import Explanation
    from softlabels.monitor.failures import FailedJob
    from softlabels.monitor.status import Work
    from softlabels.pipeline.receipts import Receipt


@app.command(rich_help_panel="Follow a run")
def status(
    config: ConfigPath = DEFAULT_CONFIG,
    logs: Annotated[Path, typer.Option(help="log folder of the workflow")] = Path("logs"),
    limit: Annotated[int, typer.Option(min=0, help="number of failures to list")] = 20,
) -> None:
    """Show progress, failures and the expected end of a run. Works while jobs run.

    Examples
    --------
        softlabels status
    """
    from rich.console import Console

    from softlabels.cohort.index import INDEX_FILE
    from softlabels.monitor.failures import active_jobs, failed_jobs
    from softlabels.monitor.lock import is_running_here
    from softlabels.monitor.slurm import PATIENT, START_SECONDS, is_running
    from softlabels.monitor.status import changed_inputs, read_receipts
    from softlabels.pipeline.units import make_steps, make_units

    project = Project.load(config)
    receipts = read_receipts(project.plan, project.cases, project.results)
    units = make_units([case.id for case in project.cases], project.config.batch_size)
    steps, done = make_steps(project.plan.nodes, project.config.job_stages), set(receipts)
    queued = active_jobs(Path.cwd(), units, steps, done, project.results, logs)
    failed = failed_jobs(project.plan, units, steps, done, project.results, logs, lambda *job: job in queued)
    Console().print(_status_table(project, receipts, queued, failed, units))
    for reason, n_jobs in Counter(queued.values()).items():
        if not is_running(reason) and reason not in PATIENT:
            print(f"{n_jobs} jobs wait for {reason} and may never start. See docs/cluster.md for what to change")
    if n_compiling := sum(state == "COMPILING" for state in queued.values()):
        print(f"{n_compiling} jobs are compiling kernels, which happens once per machine; 'softlabels warm-up' does it")
    for job in failed[:limit]:
        print(job.line)
    if len(failed) > limit:
        print(f"... and {len(failed) - limit} more failures; --limit {len(failed)} lists them all")
    if to_mend := sorted({job.name for job in failed if job.is_of_case}):
        print(f"correct the files of {counted(len(to_mend), 'case')} before you run again: {some_of(to_mend)}")
    if changed := changed_inputs(project.cases, receipts):
        named = some_of(list(changed))
        print(f"files of {counted(len(changed), 'case')} changed since they were read: {named}. Run snakemake again")
    if held := [node.id for node in project.plan.nodes.values() if not node.is_kept]:
        print(f"not kept: {', '.join(held)}; 'softlabels show --make' computes them again for a case")
    if line := _work_done(project, receipts):
        print(line)
    n_left = len(project.cases) * len(project.plan.nodes) - len(receipts)
    is_idle = not queued and is_running_here(Path.cwd()) is False
    if n_left and not is_idle and (line := _pace(project, receipts, start_seconds=START_SECONDS if queued else 1)):
        print(line)
    if n_left and is_idle:
        print(f"{n_left} results are left and nothing runs. Run the same snakemake command to resume")
    if not n_left and not changed and (index := project.results / INDEX_FILE).exists():
        print(f"all results are complete; train on {index}")


def _status_table(
    project: Project,
    receipts: Mapping[Work, Receipt],
    queued: Mapping[tuple[str, str], str],
    failed: list[FailedJob],
    units: Mapping[str, list[str]],
) -> Table:
    """Return the table of nodes with their counts of cases."""
    from rich.table import Column, Table

    from softlabels.monitor.slurm import is_running
    from softlabels.monitor.status import progress
    from softlabels.pipeline.cost import duration
    from softlabels.pipeline.units import ALL_STAGES

    def n_open(node: str, names: Iterable[str]) -> str:
        """Return how many cases of these units, or of these cases, have no result of a node."""
        return str(sum((case, node) not in receipts for name in names for case in units.get(name, [name])))

    columns = ["node", "for", "done", "running", "waiting", "failed", "reused", "flagged", "work"]
    hidden = {"running": not queued, "waiting": not queued, "failed": not failed}
    shown = [name for name in columns if not hidden.get(name)]
    table = Table(Column("node", no_wrap=True), *shown[1:], title=counted(len(project.cases), "case"))
    for row in progress(project.plan, project.cases, dict(receipts)):
        states = {unit: is_running(state) for (unit, step), state in queued.items() if step in (row.node, ALL_STAGES)}
        cells = {
            "node": row.node,
            "for": ", ".join(row.targets),
            "done": f"{row.n_done}/{row.n_cases}",
            "running": n_open(row.node, [unit for unit, runs in states.items() if runs]),
            "waiting": n_open(row.node, [unit for unit, runs in states.items() if not runs]),
            "failed": n_open(row.node, {job.name for job in failed if job.step in (row.node, ALL_STAGES)}),
            "reused": str(row.n_reused),
            "flagged": str(row.n_flagged),
            "work": duration(row.seconds),
        }
        table.add_row(*(cells[name] for name in shown))
    return table


def _work_done(project: Project, receipts: Mapping[Work, Receipt]) -> str | None:
    """Return a line on the time that computed results took, beside the plan's, or None if there is none."""
    from softlabels.pipeline.cost import SPREAD, between, duration, planned_seconds

    case_of = {case.id: case for case in project.cases}
    computed = [(work, receipt.work_seconds) for work, receipt in receipts.items() if receipt.outcome == "computed"]
    if not computed:
        return None
    planned = planned_seconds(project.plan, case_of, (work for work, _ in computed))
    took = sum(seconds for _, seconds in computed)
    return f"{len(computed)} computed results took {duration(took)} of work; planned: {between([(planned, SPREAD)])}"


def _pace(project: Project, receipts: Mapping[Work, Receipt], start_seconds: float) -> str | None:
    """Return a line on when the rest will be done, or None if that cannot be known."""
    from softlabels.monitor.status import finished_at, receipt_times, seconds_left
    from softlabels.pipeline.cost import estimate_job, measured_rates
    from softlabels.pipeline.units import make_steps

    plan = project.plan
    rates = measured_rates(plan, {case.id: case for case in project.cases}, receipts)
    n_steps = len(make_steps(plan.nodes, project.config.job_stages))
    start_seconds *= n_steps / len(plan.nodes) / project.config.batch_size
    weights = {node: estimate_job(plan, node, project.cases[0], rates).seconds + start_seconds for node in plan.nodes}
    left = seconds_left(plan, project.cases, receipt_times(set(receipts), project.results), weights)
    return f"at the pace of the last half hour, the rest will be done at {finished_at(left)}" if left else None


@app.command(rich_help_panel="Follow a run")
def explain(case: CaseId, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Show where every result of a case came from, and what would cause it to be computed again.

    Examples
    --------
        softlabels explain case_0001
    """
    from softlabels.monitor.explain import explain_case
    from softlabels.store import Store

    project = Project.load(config)
    for one in explain_case(project.case(case), project.plan, project.results, Store(project.config.store)):
        print("\n".join(_explanation(one)))


def _explanation(one: Explanation) -> list[str]:
    """Return the lines on one node."""
    from softlabels.pipeline.stages import PREPARE

    node, lines = one.node, [f"{one.node.id}: {one.state}"]
    if one.result:
        made = one.result.entry.provenance
        by = f"{made['user']}@{made['host']}"
        lines += [
            f"  entry      {one.result.receipt.key[:16]}… in {one.store}",
            f"  computed   {made['finished']} by {by} in {made['seconds']} s, for case {made['case']}",
        ]
    if one.not_kept:
        lines.append(
            f"  entry      {one.not_kept.key[:16]}… was not written; 'softlabels show --make' computes it again"
        )
    lines.append(f"  depends on algorithm {node.algorithm}, {json.dumps(node.params, sort_keys=True)}")
    inputs = "the bytes of the case's files" if node.stage == PREPARE.name else "the entries above"
    lines.append(f"  and on     {inputs}")
    lines += [f"  changed    {line}; snakemake will read it again" for line in one.changed]
    receipt = one.result.receipt if one.result else one.not_kept
    return lines + [f"  note       {flag}" for flag in (receipt.flags if receipt else [])]
