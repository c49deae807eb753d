"""The app, the options that several commands take, and the project they work on."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from softlabels.cli import completion
from softlabels.errors import InputError

if TYPE_CHECKING:
    from softlabels.config import Config
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.plan import Plan
    from softlabels.store import Store

Item = TypeVar("Item")


class _Group(TyperGroup):
    """Commands that have the options of the group too: `softlabels -C FOLDER status`, `softlabels status -C FOLDER`."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        shared = [option for option in self.params if "--directory" in option.opts]
        for command in self.commands.values():
            command.params.extend(shared)
            command.help = _as_help(command.help or "")


def _as_help(docstring: str) -> str:
    """Return a numpydoc docstring as typer shows it well: each paragraph on one line, and the examples indented."""
    text, _, examples = docstring.partition("Examples\n--------\n")
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n")]
    if examples:
        # typer removes the common indentation of all lines but the first: "Examples:" must not be the first.
        paragraphs.append(f"Examples:\n\n{examples}" if len(paragraphs) > 1 else f"\nExamples:\n\n{examples}")
    return "\n\n".join(paragraphs)


class PassThrough(TyperCommand):
    """A command that takes any further argument, in `context.args`, also after `--`."""

    def parse_args(self, context: Any, args: list[str]) -> list[str]:
        """Keep arguments that are not the command's own as they are."""
        context.ignore_unknown_options = context.allow_extra_args = True
        end = args.index("--") if "--" in args else len(args)
        super().parse_args(context, args[:end])
        context.args += args[end:]
        return context.args


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _change_directory(value: Path | None) -> Path | None:
    """Work in another folder, as git and make do; all other paths count from there."""
    if value is not None:
        try:
            os.chdir(value)
        except OSError as error:
            raise InputError(f"-C {value}: {error.strerror}. Name the folder of a project") from None
    return value


def _print_version(is_asked: bool) -> None:
    """Print the version and end."""
    if is_asked:
        from softlabels import __version__

        print(f"softlabels {__version__}")
        raise typer.Exit


@app.callback()
def _shared_options(
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory",
            "-C",
            help="work in this folder, as if the command was typed there",
            callback=_change_directory,
            is_eager=True,
            expose_value=False,
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Exact soft labels for segmentation networks, computed once, offline."""


ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="the configuration file")]
JobConfig = Annotated[Path | None, typer.Option(hidden=True, help="job file with the configuration of a run")]
StorePath = Annotated[Path | None, typer.Option("--store", help="the store; default: the store of the configuration")]
Make = Annotated[bool, typer.Option("--make", help="first compute seeds and distances that were not kept (`keep`)")]
CaseId = Annotated[str, typer.Argument(help="a case id in the sheet", autocompletion=completion.cases)]
ClassName = Annotated[
    str | None,
    typer.Option(help="the class of the distance and the soft labels", autocompletion=completion.classes),
]
TargetNames = Annotated[
    list[str] | None,
    typer.Option(help="only this target; may be repeated", autocompletion=completion.targets),
]
DEFAULT_CONFIG = Path("config.yaml")


def progress(items: Iterable[Item], description: str, total: int) -> Iterable[Item]:
    """Return items with a progress bar on the terminal; without one where the output is a file or a pipe."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    return track(items, description, total, console=console, transient=True, disable=not console.is_terminal)


@dataclass(frozen=True)
class Project:
    """A configuration with its plan and cases."""

    config: Config
    plan: Plan
    cases: list[Case]
    results: Path

    @classmethod
    def load(cls, path: Path, job_config: Path | None = None) -> Project:
        """Return the project of a configuration file, or of the job file of what Snakemake resolved from it."""
        from softlabels.config import load_config, parse_config
        from softlabels.inputs.sheet import read_sheet
        from softlabels.pipeline.job_files import read_job_file
        from softlabels.pipeline.plan import make_plan

        config = parse_config(json.loads(read_job_file(job_config))) if job_config else load_config(path)
        return cls(config, make_plan(config), read_sheet(config.cases, config.channels), Path(config.results))

    def case(self, case_id: str) -> Case:
        """Return one case of the sheet, or raise InputError with similar names."""
        by_id = {case.id: case for case in self.cases}
        if case_id not in by_id:
            near = difflib.get_close_matches(case_id, by_id, 3) or list(by_id)[:3]
            raise InputError(f"case {case_id!r}: not in {self.config.cases}. Did you mean {', '.join(near)}?")
        return by_id[case_id]


def make_again(project: Project, case_id: str, nodes: Iterable[str]) -> None:
    """Put the results of a case that were not kept into the store, for a person to look at; say which."""
    from softlabels._shared.cpus import usable_cpus
    from softlabels.pipeline.job import publish_again
    from softlabels.pipeline.stages import Job
    from softlabels.store import Store

    config, case = project.config, project.case(case_id)
    wanted = {upstream for node in nodes for upstream in project.plan.upstream(node)}
    for node_id, node in project.plan.nodes.items():
        if node_id in wanted and not node.is_kept:
            job = Job(case, node, Store(config.store), project.results, config.device, usable_cpus())
            if publish_again(job) == "computed":
                print(f"{node_id}: computed again; 'softlabels gc' removes it when it has not been used for a while")


def store_of(store: Path | None, config: Path) -> Store:
    """Return the given store, which must exist, or the store of the configuration, which a run creates."""
    from softlabels.store import Store

    if store is not None:
        if not store.exists():
            raise InputError(f"store {store}: no such folder. Give the store of a project, or omit --store")
        return Store(store)
    from softlabels.config import load_config

    return Store(load_config(config).store)
