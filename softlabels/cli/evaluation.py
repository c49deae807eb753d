"""Commands that judge results: the cohort's report, and a ranking against a true soft reference."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, CaseId, ConfigJson, ConfigPath, Project, app


@app.command(rich_help_panel="Look")
def report(
    config: ConfigPath = DEFAULT_CONFIG,
    config_json: ConfigJson = None,
    output: Annotated[Path | None, typer.Option(help="default: report/index.html in the results folder")] = None,
) -> None:
    """Write one page with every case, stage, certificate, quality figure and flag."""
    from softlabels.cohort.arrays import open_cohort
    from softlabels.monitor.status import read_receipts
    from softlabels.pipeline.index import describe_target
    from softlabels.view.report import write_report

    project = Project.load(config, config_json)
    results, names = project.results, project.config.targets
    receipts = read_receipts(project.plan, project.cases, results).values()
    targets = {name: describe_target(project.config, project.plan, name) for name in names}
    pictures = {case.id: results / case.id / "montage.png" for case in project.cases if project.config.pictures}
    index = results / "index.json"
    cohort = open_cohort(index) if index.exists() else None
    path = output or results / "report" / "index.html"
    print(write_report(path, receipts, targets, pictures=pictures, cohort=cohort))


@app.command(rich_help_panel="Look")
def rank(
    case: CaseId,
    reference: Annotated[list[Path], typer.Argument(help="the true soft label: a map per class, or one file with all")],
    config: ConfigPath = DEFAULT_CONFIG,
    output: Annotated[Path | None, typer.Option(help="folder for rank.tsv and rank.png; default: the case's")] = None,
) -> None:
    """Rank a case's targets by their closeness to probability maps or the mean of raters.

    The maps are those of the first target's classes in their order; the background's may be left out.
    """
    from softlabels.evaluation.candidates import candidates
    from softlabels.evaluation.plot import write_plot
    from softlabels.evaluation.rank import rank as ranked_by_score
    from softlabels.evaluation.reference import read_reference
    from softlabels.evaluation.table import ranking_table, write_table
    from softlabels.view.entries import case_entries

    project = Project.load(config)
    case_id = project.case(case).id
    entries = case_entries(project.config, project.plan, case_id)
    truth = read_reference(reference, entries.case.grid)
    soft_labels, left_out = candidates({name: one.target for name, one in entries.targets.items()}, len(truth))
    ranked = ranked_by_score(soft_labels, truth)
    folder = output or project.results / case_id
    folder.mkdir(parents=True, exist_ok=True)
    write_table(ranked, folder / "rank.tsv")
    write_plot(ranked, folder / "rank.png")
    print(ranking_table(ranked), end="")
    for name, why in left_out.items():
        print(f"left out: {name}: {why}")
    print(folder / "rank.png")
