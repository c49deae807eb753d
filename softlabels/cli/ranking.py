"""The command that scores targets against a true soft reference: rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, Project, app, progress
from softlabels.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from softlabels.evaluation.rank import ScoredCandidate
    from softlabels.evaluation.ranking import Ranking
    from softlabels.inputs.sheet import Case

#: Cases whose errors are shown, and the soft labels in each picture.
_MOST_PICTURES, _MOST_PANELS = 8, 6


@app.command(rich_help_panel="Evaluate and refine")
def rank(
    case: Annotated[str | None, typer.Argument(help="a case id; default: every case with a reference")] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Argument(
            help="maps of the case, in the order of its classes, with or without background; default: of the case sheet"
        ),
    ] = None,
    config: ConfigPath = DEFAULT_CONFIG,
    output: Annotated[Path | None, typer.Option(help="folder of tables, plot and page; default: results/rank")] = None,
) -> None:
    """Rank the targets by their distance from a true soft reference, such as the mean of raters.

    Writes tables, a plot, and a page with pictures of where each soft label errs. See docs/tune.md.

    Examples
    --------
        softlabels rank case_0001 reference.nii.gz

        softlabels rank
    """
    from rich.console import Console

    from softlabels._shared.files import write_atomically
    from softlabels.evaluation.page import data_uri, ranking_page, write_page
    from softlabels.evaluation.plot import ranking_plot
    from softlabels.evaluation.ranking import combined
    from softlabels.evaluation.table import cases_table, means_table

    project = Project.load(config)
    cases = _cases_to_rank(project, case, bool(reference))
    step = -(-len(cases) // _MOST_PICTURES)
    judged = {
        one.id: _judged(project, one, reference or [], with_picture=number % step == 0)
        for number, one in enumerate(progress(cases, "Scoring", len(cases)))
    }
    ranking = combined({case_id: one.scored for case_id, one in judged.items()})
    left_out = {name: why for one in judged.values() for name, why in one.left_out.items()}
    folder, plot = output or project.results / "rank", ranking_plot(ranking)
    write_atomically(folder / "rank.tsv", means_table(ranking))
    write_atomically(folder / "rank_cases.tsv", cases_table(ranking))
    plot.savefig(folder / "rank.png")
    pictures = {case_id: one.picture for case_id, one in judged.items() if one.picture}
    title = f"Soft labels of {len(cases)} cases against their reference" if len(cases) > 1 else f"Case {cases[0].id}"
    page = ranking_page(ranking, plot=data_uri(plot), pictures=pictures, left_out=left_out, title=title)
    Console().print(_table(ranking))
    for name, why in left_out.items():
        print(f"not ranked: {name}: {why}")
    print(write_page(folder / "rank.html", page))


@dataclass(frozen=True)
class _Judged:
    """The candidates of one case with their scores, those left out, and a picture as a data URI, if there is one."""

    scored: list[ScoredCandidate]
    left_out: dict[str, str]
    picture: str


def _cases_to_rank(project: Project, case_id: str | None, has_maps: bool) -> list[Case]:
    """Return the cases that a person asked for."""
    if case_id is not None:
        case = project.case(case_id)
        if not has_maps and not case.reference:
            raise InputError(
                f"case {case_id}: no reference in the case sheet. Give its maps, or add a column 'reference'"
            )
        return [case]
    cases = [case for case in project.cases if case.reference]
    if not cases:
        raise InputError(
            f"rank: no case of {project.config.cases} has a reference. Add a column 'reference' (docs/tune.md), or "
            "name a case and give its maps"
        )
    return cases


def _judged(project: Project, case: Case, maps: Sequence[Path], *, with_picture: bool) -> _Judged:
    """Return the scores of one case."""
    from softlabels.classes import LabelSet
    from softlabels.evaluation.candidates import candidates
    from softlabels.evaluation.page import data_uri
    from softlabels.evaluation.rank import rank as ranked_by_score
    from softlabels.evaluation.reference import case_reference, counted_voxels, read_reference
    from softlabels.view.entries import case_entries
    from softlabels.view.error_maps import error_figure

    labels = LabelSet.parse(project.config.labels)
    overlap = labels.is_overlapping
    entries = case_entries(project.config, project.plan, case.id)
    if maps:
        truth = read_reference(maps, entries.case.grid, is_overlapping=overlap)
    else:
        truth = case_reference(case, entries.case, labels.classes)
    found = candidates({name: one.target for name, one in entries.targets.items()}, len(truth), is_overlapping=overlap)
    of_raters = not maps and case.has_rater_reference
    included, spacing = counted_voxels(entries.case, truth, labels, of_raters=of_raters), entries.case.grid.spacing
    scored = ranked_by_score(found.soft_labels, truth, include=included, spacing=spacing, is_overlapping=overlap)
    picture = ""
    if with_picture:
        names = [one.name for one in scored[:_MOST_PANELS]]
        shown = {name: found.soft_labels[name] for name in names}
        masks = entries.case.masks(found.classes)
        figure = error_figure(entries.case, masks, truth, shown, included=included, is_overlapping=overlap)
        picture = data_uri(figure)
    return _Judged(scored, found.left_out, picture)


def _table(ranking: Ranking) -> Table:
    """Return the means for the terminal."""
    from rich.table import Table

    from softlabels.evaluation.ranking import BASELINE

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("")
    for title in ("Brier", "calibr.", "refine.", "boundary", "ambig.", f"vs {BASELINE}", "lower in"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in ranking.candidates:
        whole = one.everywhere
        scores = (whole.brier, whole.brier_calibration, whole.brier_refinement, one.boundary.brier, one.ambiguous.brier)
        change = ("", "")
        if one.change is not None and one.name != BASELINE:
            # NaN differs from itself: one case has no interval.
            has_interval = one.change.low == one.change.low
            interval = f" [{100 * one.change.low:+.0f}, {100 * one.change.high:+.0f}]" if has_interval else ""
            change = (f"{100 * one.change.mean:+.0f} %{interval}", f"{one.change.n_better} of {one.change.n_cases}")
        table.add_row(one.name, *(f"{score:.4f}" for score in scores), *change)
    return table
