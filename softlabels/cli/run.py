"""The command that runs the workflow, with a display of its progress."""

from __future__ import annotations

import os
import time
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from softlabels.cli.app import PassThrough, Project, app
from softlabels.monitor.events import MESSAGE, TEXT

if TYPE_CHECKING:
    from softlabels.cli.run_display import Display
    from softlabels.monitor.follow import Follower
    from softlabels.monitor.run import RunCommand, RunningWorkflow

#: Seconds between two looks at the events of a run.
_TICK = 0.25


@app.command(cls=PassThrough, rich_help_panel="Compute")
def run(context: typer.Context) -> None:
    """Compute everything that config.yaml asks for, with Snakemake; shows progress, failures and the time left.

    Every further argument goes to Snakemake: see `snakemake --help`. By default all cores are used.

    Examples
    --------
        softlabels run

        softlabels run --cores 4 --config device=cuda

        softlabels run --dry-run

        softlabels run --profile slurm
    """
    from softlabels.monitor.run import RunningWorkflow, check_snakemake_cache, run_command

    command = run_command(context.args)
    check_configurations(command)
    check_snakemake_cache()
    if command.is_plain:
        command.replace_process()
    from softlabels.cli.run_display import Display
    from softlabels.monitor.follow import Follower

    display = Display()
    follower = Follower(display.say, is_remote=command.is_remote)
    with RunningWorkflow(command, is_captured=display.is_live) as running:
        os.chdir(command.folder)
        with display.of(follower, lambda: running.n_interrupts > 0):
            _follow(running, follower, display)
    display.summarise(follower, running.exit_code, is_interrupted=running.n_interrupts > 0)
    raise typer.Exit(running.exit_code if running.exit_code >= 0 else 128 - running.exit_code)


def check_configurations(command: RunCommand) -> None:
    """Read the configurations with care before Snakemake's own reader does; raise ConfigError with every error."""
    from softlabels.config import read_yaml

    paths = [Path(os.path.relpath(path, command.folder)) for path in command.config_files]
    # The sheet's path is relative to the folder that Snakemake works in.
    with chdir(command.folder):
        if command.is_own:
            Project.load(paths[0])
        else:
            for path in paths:
                if path.exists():
                    read_yaml(path)


def _follow(running: RunningWorkflow, follower: Follower, display: Display) -> None:
    """Take the events of a run until it has ended and everything is read."""
    while True:
        has_ended, n_taken = running.has_ended(), 0
        for event in running.messages(0 if has_ended else _TICK):
            n_taken += 1
            # What Snakemake and its jobs print when they are interrupted are tracebacks.
            if not (running.n_interrupts and event["kind"] in (TEXT, MESSAGE)):
                follower.take(event, time.monotonic())
        follower.look(time.monotonic)
        display.update(follower)
        if has_ended and not n_taken:
            return
