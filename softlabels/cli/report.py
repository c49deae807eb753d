"""The command that writes the report of a cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, JobConfig, Project, app

if TYPE_CHECKING:
    from softlabels.monitor.status import Work
    from softlabels.pipeline.receipts import Receipt
    from softlabels.view.report import Provenance
    from softlabels.view.summary import CohortSummary, Problem


@app.command(rich_help_panel="View and export")
def report(
    config: ConfigPath = DEFAULT_CONFIG,
    job_config: JobConfig = None,
    logs: Annotated[Path, typer.Option(help="log folder of the workflow")] = Path("logs"),
    output: Annotated[Path | None, typer.Option(help="default: report/index.html in the results folder")] = None,
) -> None:
    """Write one HTML page with every case of the sheet: failures, flags, figures, pictures. Works while jobs run.

    Examples
    --------
        softlabels report
    """
    from softlabels.cohort import open_cohort
    from softlabels.cohort.index import INDEX_FILE
    from softlabels.monitor.status import read_receipts
    from softlabels.pipeline.index import describe_target
    from softlabels.view.picture_files import PICTURE, THUMBNAIL
    from softlabels.view.report import Report, addresses, values_plots, write_report
    from softlabels.view.summary import summarise

    project = Project.load(config, job_config)
    path = output or project.results / "report" / "index.html"
    receipts = read_receipts(project.plan, project.cases, project.results)
    targets = {name: describe_target(project.config, project.plan, name) for name in project.config.targets}
    cases = {case.id: case.split or "" for case in project.cases}
    problems = _problems(project, receipts, logs, is_of_run=job_config is not None)
    summary = summarise(cases, receipts.values(), targets, problems, n_nodes=len(project.plan.nodes))
    index = project.results / INDEX_FILE
    # Where cases failed, an index is older than the results, and voxels need not be read to find out why.
    plots = (
        values_plots(list(receipts.values()), targets, open_cohort(index)) if index.exists() and not problems else []
    )
    content = Report(
        title=f"Soft labels of {Path.cwd().name}",
        summary=summary,
        provenance=_provenance(project, summary),
        plots=plots,
        pictures=addresses(path.parent, project.results, cases, PICTURE),
        thumbnails=addresses(path.parent, project.results, cases, THUMBNAIL),
    )
    print(write_report(path, content))


def _problems(
    project: Project, receipts: Mapping[Work, Receipt], logs: Path, *, is_of_run: bool
) -> dict[str, list[Problem]]:
    """Return why cases have no result; what ended a whole batch is the problem of all of its unfinished cases.

    Where the report is of a run, the jobs of this machine have ended.
    """
    from softlabels.monitor.failures import active_jobs, failed_jobs
    from softlabels.monitor.slurm import queued_jobs
    from softlabels.pipeline.units import make_steps, make_units
    from softlabels.view.summary import Problem

    units = make_units([case.id for case in project.cases], project.config.batch_size)
    steps = make_steps(project.plan.nodes, project.config.job_stages)
    done, folder = set(receipts), Path.cwd()
    active = queued_jobs(folder) if is_of_run else active_jobs(folder, units, steps, done, project.results, logs)
    failed = failed_jobs(project.plan, units, steps, done, project.results, logs, lambda *job: job in active)
    problems: dict[str, list[Problem]] = defaultdict(list)
    for job in failed:
        nodes = steps.get(job.step, [job.step])
        for case in units.get(job.name, [job.name]):
            if any((case, node) not in receipts for node in nodes):
                problems[case].append(Problem(_in_words(project, job.step), job.why, job.log))
    return dict(problems)


def _in_words(project: Project, step: str) -> str:
    """Return the stage of a step, with the targets that it makes."""
    if step not in project.plan.nodes:
        return step
    made = [name for name, node in project.plan.targets.items() if node == step]
    return " ".join([project.plan.nodes[step].stage, *made[:1]])


def _provenance(project: Project, summary: CohortSummary) -> Provenance:
    """Return date, version, configuration and methods text."""
    import yaml

    from softlabels import __version__
    from softlabels.view.methods_text import methods_text
    from softlabels.view.report import Provenance

    total = summary.totals
    return Provenance(
        written=datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        version=__version__,
        configuration=yaml.safe_dump(project.config.model_dump(mode="json", by_alias=True), sort_keys=False),
        methods=methods_text(project.config, n_exact_maps=total.n_exact_maps, n_maps=total.n_maps),
    )
