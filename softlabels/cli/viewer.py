"""The command that shows a case in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softlabels.cli import completion
from softlabels.cli.app import DEFAULT_CONFIG, ConfigPath, Make, Project, TargetNames, app, make_again
from softlabels.errors import InputError

if TYPE_CHECKING:
    from softlabels.view.viewer.case_view import CaseView
    from softlabels.view.viewer.lone import Written

#: More do not fit side by side.
_MOST_CASES = 2


@app.command(rich_help_panel="View and export")
def view(
    cases: Annotated[
        list[str],
        typer.Argument(
            help="a case id, or path or key of a store entry; two to compare",
            show_default=False,
            autocompletion=completion.cases,
        ),
    ],
    config: ConfigPath = DEFAULT_CONFIG,
    target: TargetNames = None,
    store: Annotated[Path | None, typer.Option(help="the store of the keys; no project is needed")] = None,
    html: Annotated[Path | None, typer.Option(help="write one self-contained page instead of serving it")] = None,
    class_name: Annotated[list[str] | None, typer.Option(help="with --html: only this class; may be repeated")] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="with --html: the whole volume, not only around the labels")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port of the server; 0 selects a free port")] = 0,
    browser: Annotated[bool, typer.Option("--browser", help="open the page in this machine's browser")] = False,
    make: Make = False,
) -> None:
    """Show every map of a case in a browser: linked slices, values in mm, any class, channel and plane.

    Serves a page on 127.0.0.1 until Ctrl-C.

    Examples
    --------
        softlabels view case_0001

        softlabels view case_0001 case_0002 --target geols

        softlabels view results/case_0001/distance-0a1b2c3d.zarr

        softlabels view case_0001 --html case_0001.html
    """
    if len(cases) > _MOST_CASES:
        raise InputError(f"view: got {len(cases)} cases, expected one, or two to compare")
    views = _views(cases, config, target or [], store, is_made=make)
    if html is not None:
        from softlabels.view.viewer.lone import write_page

        written = write_page(views, html, classes=class_name or [], is_whole=whole)
        _print_written(written, html)
        return
    if class_name or whole:
        raise InputError("view: --class-name and --whole are for --html; the served page has every class and part")
    _serve(views, port, browser)


def _views(
    cases: Sequence[str], config: Path, targets: Sequence[str], store: Path | None, *, is_made: bool
) -> list[CaseView]:
    """Return what was asked for: entries of a store, or cases of the project."""
    from softlabels.cli.app import store_of
    from softlabels.view.viewer.sources import entry_at, view_case, view_entry

    shelf = store_of(store, config).path if store is not None else None
    project: Project | None = None
    found: list[CaseView] = []
    for case in cases:
        entry = entry_at(case, shelf)
        if entry is None and store is None:
            project = project or _project(case, config)
            if case not in {one.id for one in project.cases}:
                entry = entry_at(case, Path(project.config.store))
        if entry is not None:
            found.append(view_entry(entry))
        elif project is None:
            raise InputError(f"entry {case!r}: not in store {store}. Give at least 8 digits of its key, or its path")
        else:
            if is_made:
                make_again(project, case, project.plan.nodes)
            shown, notes = view_case(project.config, project.plan, project.case(case).id, targets)
            for note in notes:
                print(f"note: {case}: {note}")
            found.append(shown)
    return found


def _project(case: str, config: Path) -> Project:
    """Return the project that a case is looked up in, or raise InputError that says what else can be shown."""
    if not config.exists():
        raise InputError(
            f"view {case!r}: neither an entry of a store nor a case of a project, for there is no {config}. "
            "Go to the project's folder, or name the entry's path, or its key with --store"
        )
    return Project.load(config)


def _print_written(written: list[Written], path: Path) -> None:
    """Print what a page holds, and how far its values may be from those of the store."""
    from rich.console import Console
    from rich.table import Table

    table = Table("case", "layer", "maps", "colour scale", "largest error", title=str(path))
    for one in written:
        low, high = one.scale
        error = "exact" if one.error == 0 else f"{one.error:.2g}"
        table.add_row(one.case, one.layer, str(one.n_channels), f"{low:.4g} to {high:.4g}", error)
    Console().print(table)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, opens without a network")


def _serve(views: list[CaseView], port: int, browser: bool) -> None:
    """Serve the page until the person ends it."""
    import webbrowser

    from softlabels.view.viewer.serve import Server, Viewer

    with Server(Viewer(views), port) as server:
        print(server.address)
        print(f"On another machine, run there: {server.tunnel}\nand open the same address. Ctrl-C ends.", flush=True)
        if browser:
            webbrowser.open(server.address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("ended")
