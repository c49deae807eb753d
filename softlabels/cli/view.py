"""The command that draws results. It changes none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli import completion
from softlabels.cli.app import DEFAULT_CONFIG, CaseId, ClassName, ConfigPath, JobConfig, Make, Project, app, make_again
from softlabels.errors import InputError


@app.command(rich_help_panel="View and export")
def show(
    case: CaseId,
    config: ConfigPath = DEFAULT_CONFIG,
    job_config: JobConfig = None,
    node: Annotated[
        str | None,
        typer.Option(help="one stage alone: prepare, a target, or target/distance", autocompletion=completion.nodes),
    ] = None,
    class_name: ClassName = None,
    channel: Annotated[
        str | None,
        typer.Option(help="with --node: the image channel that is shown", autocompletion=completion.channels),
    ] = None,
    slice_number: Annotated[
        int | None, typer.Option("--slice", min=1, help="the slice, as the footer counts; default: most foreground")
    ] = None,
    plane: Annotated[str | None, typer.Option(help="axial, coronal or sagittal; default: the finest pixels")] = None,
    output: Annotated[Path | None, typer.Option(help="PNG file; default: montage.png in the case's results")] = None,
    make: Make = False,
    thumbnail: Annotated[
        Path | None, typer.Option(hidden=True, help="also write the small picture of the report")
    ] = None,
) -> None:
    """Write a picture of a case from image to soft labels, or of any node.

    Examples
    --------
        softlabels show case_0001 --class-name tumour

        softlabels show case_0001 --node geols/distance --class-name tumour --channel T1 --slice 42
    """
    from softlabels.view.entries import case_entries, node_entry
    from softlabels.view.panels import save_png

    project = Project.load(config, job_config)
    case_id = project.case(case).id
    if channel is not None and node is None:
        raise InputError("show: got --channel without --node. Name the stage, such as --node geols/distance")
    if make:
        make_again(project, case_id, [project.plan.find_node(node)] if node else project.plan.nodes)
    if node is None:
        from softlabels.view.case_page import case_picture
        from softlabels.view.thumbnail import save_thumbnail

        entries = case_entries(project.config, project.plan, case_id)
        if left_out := entries.not_kept:
            print(f"note: not in the picture, because not kept: {', '.join(left_out)}. --make computes it again")
        figure = case_picture(entries, class_name=class_name, plane=plane, slice_number=slice_number)
        if thumbnail is not None:
            save_thumbnail(entries, thumbnail)
    else:
        from softlabels.view.montage import montage, shown_channels

        shown = node_entry(project.config, project.plan, case_id, node)
        if words := shown_channels(shown, class_name, channel).words:
            print(f"note: {words}")
        figure = montage(shown, plane=plane, class_name=class_name, channel=channel, slice_number=slice_number)
    path = output or project.results / case_id / (f"{node.replace('/', '-')}.png" if node else "montage.png")
    save_png(figure, path)
    print(path)
