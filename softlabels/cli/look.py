"""Commands that show what is there: they change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from softlabels.cli.project import DEFAULT_CONFIG, CaseId, ConfigJson, ConfigPath, Project, app


@app.command(rich_help_panel="Look")
def status(config: ConfigPath = DEFAULT_CONFIG, logs: Path = Path("logs")) -> None:
    """Show what is done, computed or reused, and what failed; works while jobs run."""
    from rich.console import Console
    from rich.table import Table

    from softlabels.status import failures, summarise

    project = Project.load(config)
    table = Table(
        "node", "for", "done", "computed", "reused", "flagged", "seconds", title=f"{len(project.cases)} cases"
    )
    for row in summarise(project.plan, project.cases, project.results):
        cells = [row["node"], ", ".join(row["targets"]), f"{row['done']}/{row['of']}"]
        table.add_row(*cells, *(str(row[k]) for k in ("computed", "reused", "flagged")), f"{row['seconds']:.1f}")
    Console().print(table)
    for failed in failures(project.plan, project.cases, project.results, logs):
        print(f"failed or running: {failed['case']} {failed['node']}: {failed['last_line']} (log: {failed['log']})")


@app.command(rich_help_panel="Look")
def explain(case: CaseId, config: ConfigPath = DEFAULT_CONFIG) -> None:
    """Say where every result of a case came from, and what would compute it anew."""
    from softlabels.status import explain_case

    project = Project.load(config)
    for row in explain_case(project.case(case).id, project.plan, project.results):
        print(f"{row['node']}: {row['state']}")
        if "receipt" in row:
            receipt, made = row["receipt"], row["provenance"]
            print(f"  entry      {receipt.key[:16]}… in {receipt.store}")
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
    from softlabels.inspect import case_picture, montage
    from softlabels.panels import save_png
    from softlabels.results import case_entries, describe_node

    project = Project.load(config, config_json)
    case_id = project.case(case).id
    prepare, targets = case_entries(project.config, project.plan, case_id)
    if node is None:
        figure = case_picture(case_id, prepare, targets, class_name=class_name, plane=plane)
    else:
        entry, stage, target = describe_node(project.config, project.plan, case_id, node)
        figure = montage(case_id, prepare, entry, stage, target=target, plane=plane)
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
    from softlabels.export import export_layer, export_target
    from softlabels.results import case_entries

    project = Project.load(config)
    case_id = project.case(case).id
    prepare, targets = case_entries(project.config, project.plan, case_id)
    output.mkdir(parents=True, exist_ok=True)
    for layer in prepare.layers:
        print(export_layer(prepare, layer, output / f"{case_id}_{layer}.nii.gz"))
    for name, target in targets.items():
        print(export_target(prepare, target.entry, target.described, output / f"{case_id}_{name}.nii.gz"))
        for layer in ("seeds", "distance") if intermediate else ():
            if (entry := getattr(target, layer)) is not None:
                print(export_layer(entry, layer, output / f"{case_id}_{name}_{layer}.nii.gz"))
