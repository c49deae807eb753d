"""Commands that choose or correct a soft label on cases whose truth is known: tune, calibrate, coarsen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels._shared.cpus import usable_cpus
from softlabels._shared.files import write_atomically
from softlabels.cli.app import DEFAULT_CONFIG, CaseId, ConfigPath, JobConfig, Project, app, progress
from softlabels.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from softlabels.evaluation.trial import Trial
    from softlabels.evaluation.tuned import Tuned
    from softlabels.evaluation.tuning import CaseErrors
    from softlabels.inputs.sheet import Case


@app.command(rich_help_panel="Evaluate and refine")
def tune(
    config: ConfigPath = DEFAULT_CONFIG,
    job_config: JobConfig = None,
    threads: Annotated[int | None, typer.Option(min=1, help="cases scored at once; default: all cores")] = None,
    scored: Annotated[
        bool, typer.Option("--scored", help="the cases are scored already, by the jobs of snakemake")
    ] = False,
) -> None:
    """Choose method and parameters on the cases that have a reference, judged on cases they were not chosen on.

    Writes a configuration, tables and a picture to results/tune, and continues where it was stopped. See docs/tune.md.

    Examples
    --------
        softlabels tune
    """
    from rich.console import Console

    from softlabels.evaluation.trial import make_trial, tuning_cases
    from softlabels.evaluation.tune_report import statements, write_tuned
    from softlabels.evaluation.tuned import read_scored, tuned

    project = Project.load(config, job_config)
    cases, held_out = tuning_cases(project.config, project.cases)
    trial = make_trial(project.config, cases)
    n_threads = threads or usable_cpus()
    found = read_scored(trial, cases) if scored else _score_all(trial, cases, n_threads)
    console = Console()
    result = tuned(trial, cases, found, held_out, threads=n_threads, on_step=lambda what: console.print(f"{what} ..."))
    folder = write_tuned(result)
    console.print(_family_table(result))
    for line in statements(result):
        print(line)
    print(f"{folder / 'config.yaml'}: the configuration with the target 'tuned':\n")
    print(_block_text(result))
    print(folder / "tune.png")


@app.command(rich_help_panel="Evaluate and refine")
def coarsen(
    output: Annotated[Path, typer.Argument(help="a new folder: a project with the coarse cases and their references")],
    config: ConfigPath = DEFAULT_CONFIG,
    block: Annotated[
        tuple[int, int, int], typer.Option(help="voxels that are averaged along the axes z, y, x of the array")
    ] = (2, 2, 2),
) -> None:
    """Make cases with a reference of fine labels: image and labels averaged over blocks of voxels.

    The averaged labels are the true soft label of the averaged image. Run `softlabels tune` in the new folder.

    Examples
    --------
        softlabels coarsen coarse --block 2 2 2
    """
    from softlabels.evaluation.coarsen import coarse_case, coarse_config
    from softlabels.inputs.sheet import write_sheet
    from softlabels.monitor.deployment import project_files
    from softlabels.view.export import write_nifti

    project = Project.load(config)
    files = {"config.yaml": coarse_config(project.config), **project_files()}
    for path in (output / name for name in ("cases.tsv", *files)):
        if path.exists():
            raise InputError(f"{path}: already exists. Choose another folder, or delete it first")
    cases = [
        coarse_case(case, project.config, block, output / "cases" / case.id, write_nifti)
        for case in progress(project.cases, "Averaging", len(project.cases))
    ]
    write_sheet(cases, output / "cases.tsv", project.config.channels)
    for name, content in files.items():
        write_atomically(output / name, content)
    print(f"{output}: {len(cases)} cases with a reference. Next: softlabels tune, in that folder")


@app.command(rich_help_panel="Evaluate and refine")
def calibrate(
    target: Annotated[str, typer.Argument(help="a target of the configuration that has been computed")],
    config: ConfigPath = DEFAULT_CONFIG,
) -> None:
    """Fit slope and class offsets of a target on the cases that have a reference, judged on each without it.

    Prints the block for config.yaml if it helps. The loader applies it, so that nothing is computed again.

    Examples
    --------
        softlabels calibrate gaussian
    """
    import yaml

    from softlabels.classes import LabelSet
    from softlabels.evaluation.judged_calibration import (
        UndecidedVoxels,
        calibrated_candidate,
        judged_calibration,
    )
    from softlabels.evaluation.reference import case_reference, counted_voxels
    from softlabels.evaluation.trial import tuning_cases
    from softlabels.evaluation.tune_report import calibrate_block, calibration_statement
    from softlabels.evaluation.tuned import annotator_of
    from softlabels.view.entries import case_entries

    project = Project.load(config)
    cases, _ = tuning_cases(project.config, project.cases)
    classes = LabelSet.parse(project.config.labels)
    _check_can_be_calibrated(project, target)
    voxels = []
    for case in progress(cases, "Reading", len(cases)):
        entries = case_entries(project.config, project.plan, case.id)
        reference = case_reference(case, entries.case, classes.classes)
        counted = counted_voxels(entries.case, reference, classes, of_raters=case.has_rater_reference)
        soft = entries.targets[target].target.soft_label()
        voxels.append(UndecidedVoxels.of(soft, reference, counted, is_overlapping=classes.is_overlapping))
    fitted = {target: calibrated_candidate(voxels, fitted_for=annotator_of(project.config))}
    judged = judged_calibration(fitted, [[target]] * len(voxels), [target])
    print(calibration_statement(judged))
    if judged.is_kept:
        block = {"targets": {target: {"calibrate": calibrate_block(judged.calibration, classes.names)}}}
        print("\n" + yaml.safe_dump(block, sort_keys=False, allow_unicode=True))


def _check_can_be_calibrated(project: Project, name: str) -> None:
    """Raise unless a target is a probability over the classes of the reference, and has no calibration yet."""
    targets = project.config.targets
    if name not in targets:
        raise InputError(f"calibrate: no target {name!r} in the configuration; expected one of {', '.join(targets)}")
    target = targets[name]
    if target.calibrate is not None:
        raise InputError(f"calibrate: target {name} has a calibration already. Remove it, then fit it again")
    if target.kind != "probability" or target.blend == "onehot":
        raise InputError(f"calibrate: target {name} ({target.name}) gives nothing between 0 and 1 to calibrate")
    if target.labels is not None:
        raise InputError(f"calibrate: target {name} has classes of its own, expected the classes of the reference")


@app.command(hidden=True)
def tune_case(
    case: CaseId,
    config: ConfigPath = DEFAULT_CONFIG,
    job_config: JobConfig = None,
    threads: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Score every candidate on one case. The rule tune_case calls this."""
    from softlabels.evaluation.trial import make_trial, tuning_cases
    from softlabels.evaluation.tuning import score_case

    project = Project.load(config, job_config)
    cases, _ = tuning_cases(project.config, project.cases)
    found = score_case(make_trial(project.config, cases), project.case(case), threads=threads)
    print(f"case {case}: {len(found.errors)} candidates scored")
    for name, why in found.failed.items():
        print(f"case {case}: {name} left out: {why}")


def _score_all(trial: Trial, cases: Sequence[Case], threads: int) -> list[CaseErrors]:
    """Return the errors of all cases, several cases at a time, with a progress bar."""
    from concurrent.futures import ThreadPoolExecutor

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from softlabels.evaluation.tuning import score_case

    n_candidates = sum(map(len, trial.families.values()))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(f"{n_candidates} candidates on {len(cases)} cases", total=n_candidates * len(cases))
        at_once = min(threads, len(cases))

        def score(case: Case) -> CaseErrors:
            """Score one case."""
            own = max(1, threads // at_once)
            return score_case(trial, case, threads=own, on_scored=lambda n: bar.advance(task, n))

        with ThreadPoolExecutor(at_once) as pool:
            return list(pool.map(score, cases))


def _family_table(found: Tuned) -> Table:
    """Return the methods with their parameters and their scores on cases left out."""
    from rich.table import Table

    from softlabels.evaluation.tune_report import spoken

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for title in ("method", "chosen on all cases", "Brier", "vs Gaussian", "lower in"):
        table.add_column(title, no_wrap=title in ("method", "vs Gaussian", "lower in"))
    for family in found.families:
        name, _, listed = spoken(family.method).partition(" ")
        style = "bold" if family is found.winner else None
        if family.change is None:
            table.add_row(name, listed, "", "", "", style=style)
            continue
        brier = sum(one.brier for one in family.errors) / len(family.errors)
        change = family.change
        interval = f"{100 * change.mean:+.1f} % [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
        is_baseline = family is found.gaussian
        row = ("", "") if is_baseline else (interval, f"{change.n_better} of {change.n_cases}")
        table.add_row(name, listed, f"{brier:.5f}", *row, style=style)
    if found.nested:
        table.caption = "Scores of cases left out, their parameters chosen without them"
    return table


def _block_text(found: Tuned) -> str:
    """Return the chosen target as YAML."""
    import yaml

    from softlabels.evaluation.tune_report import TARGET_NAME, target_block

    return yaml.safe_dump({"targets": {TARGET_NAME: target_block(found)}}, sort_keys=False, allow_unicode=True)
