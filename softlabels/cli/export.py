"""The command that writes results as NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels.cli.app import DEFAULT_CONFIG, CaseId, ConfigPath, Make, Project, TargetNames, app, make_again
from softlabels.errors import InputError, NotKeptError

if TYPE_CHECKING:
    from softlabels.view.entries import CaseEntries


@app.command(rich_help_panel="View and export")
def export(
    case: CaseId,
    config: ConfigPath = DEFAULT_CONFIG,
    output: Annotated[Path, typer.Option(help="folder for the files")] = Path("export"),
    target: TargetNames = None,
    class_name: Annotated[
        list[str] | None, typer.Option(help="a file for this class alone, instead of all; may be repeated")
    ] = None,
    intermediate: Annotated[bool, typer.Option(help="also seeds and distances")] = False,
    make: Make = False,
) -> None:
    """Write a case's image, labels and training targets as NIfTI, with names and colours beside them.

    Beside each file, a JSON file names its channels and says what its values are. Beside the labels are a label file
    for ITK-SNAP (.label.txt) and a colour table for 3D Slicer (.ctbl).

    Examples
    --------
        softlabels export case_0001

        softlabels export case_0001 --target geols --class-name tumour --intermediate
    """
    from softlabels.view.entries import case_entries
    from softlabels.view.export import write_prepared, write_target

    project = Project.load(config)
    case_id = project.case(case).id
    if make:
        make_again(project, case_id, project.plan.nodes)
    entries = case_entries(project.config, project.plan, case_id)
    if intermediate and (left_out := entries.not_kept):
        raise NotKeptError(f"case {case_id}: not kept: {', '.join(left_out)}. Add --make to compute it again")
    chosen = {name: entries.targets[_known(name, entries)] for name in target or entries.targets}
    output.mkdir(parents=True, exist_ok=True)
    for path in write_prepared(entries, output):
        print(path)
    for one in chosen.values():
        for path in write_target(one, output, class_names=class_name, is_whole=intermediate):
            print(path)


def _known(name: str, entries: CaseEntries) -> str:
    """Return the name of a target, or raise InputError with those that there are."""
    if name not in entries.targets:
        raise InputError(f"target {name!r}: not in the configuration. Choose one of {', '.join(entries.targets)}")
    return name
