"""The command that brings a computed cohort to where it is trained on. It needs an index, and no project."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from softlabels._shared.counts import counted
from softlabels.cli.app import app


@app.command(rich_help_panel="Maintain the store")
def copy(
    index: Annotated[Path, typer.Argument(help="the index.json, or an archive made by this command")],
    destination: Annotated[Path, typer.Argument(help="a folder, or one file: a name that ends in .zip")],
    target: Annotated[list[str] | None, typer.Option(help="only this target; may be repeated")] = None,
    split: Annotated[list[str] | None, typer.Option(help="only the cases of this split; may be repeated")] = None,
    store: Annotated[Path | None, typer.Option(help="where the store is now; default: where the index says")] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="entries that are copied at once")] = 4,
) -> None:
    """Copy what an index names to a local disk, or into one file for transfer, and verify every byte.

    Training then opens DESTINATION/index.json, or the .zip itself. A copy to a folder resumes where an earlier one was
    interrupted, and several jobs may copy to the same folder.

    Examples
    --------
        softlabels copy results/index.json $TMPDIR/cohort --target geols

        softlabels copy results/index.json cohort.zip
    """
    from rich.console import Console
    from rich.progress import Progress

    from softlabels.cohort.copying import copy_cohort

    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Copying")
        copied = copy_cohort(
            index,
            destination,
            store=store,
            targets=target or (),
            splits=split or (),
            n_threads=threads,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            waiting=lambda: print(f"waiting for another process that copies to {destination}"),
        )
    there = f", {copied.n_entries - copied.n_copied} were there" if copied.n_copied < copied.n_entries else ""
    size = f"{counted(copied.n_copied, 'entry')} of {counted(copied.n_cases, 'case')}, {copied.n_bytes / 1e6:.1f} MB"
    print(f"{copied.index}: copied {size}{there}")
