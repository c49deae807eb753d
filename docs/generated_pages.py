"""Pages made from the code: the public names of every wing with their docstrings, and the commands with their help."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import typer
from sphinx.pycode import ModuleAnalyzer

#: The wings in the order of a reader's interest: page title, package or module.
WINGS = {
    "Loading into training": ("softlabels.loader", "softlabels.training", "softlabels.augmentation"),
    "Losses": ("softlabels.losses",),
    "Reading a cohort": ("softlabels.cohort",),
    "Methods": ("softlabels.methods", "softlabels.blend", "softlabels.calibration", "softlabels.classes"),
    "Geodesic distance": ("softlabels.geodesic",),
    "Seeds": ("softlabels.seeds",),
    "Configuration": ("softlabels.config",),
    "Store": ("softlabels.store",),
    "Inputs": ("softlabels.inputs", "softlabels.grid", "softlabels.preprocess"),
    "Pipeline": ("softlabels.pipeline", "softlabels.monitor"),
    "Looking and judging": ("softlabels.view", "softlabels.evaluation"),
    "Errors": ("softlabels.errors",),
}
#: Modules that nnU-Net loads, and that cannot be imported without it; docs/nnunet.md is their page.
_OF_NNUNET = ("softlabels.training.nnunet.trainer", "softlabels.training.nnunet.transforms")


def write_api_pages(folder: Path) -> None:
    """Write a page for each entry of WINGS, and their index."""
    folder.mkdir(exist_ok=True)
    names = []
    for title, roots in WINGS.items():
        names.append(title.lower().replace(" ", "-"))
        shown: set[int] = set()
        lines = [title, "=" * len(title), ""]
        for root in roots:
            for module in _modules(import_module(root)):
                lines += _section(module, shown)
        _write(folder / f"{names[-1]}.rst", "\n".join(lines))
    entries = "\n   ".join(["commands", *names])
    _write(folder / "index.rst", f"Reference\n=========\n\n.. toctree::\n   :maxdepth: 1\n\n   {entries}\n")


def write_commands_page(folder: Path) -> None:
    """Write the page of the commands, each with the help that it prints."""
    from softlabels.cli.commands import app

    group = typer.main.get_command(app)
    lines = ["Commands", "========", ""]
    for name, command in group.commands.items():
        if not command.hidden:
            title = f"softlabels {name}"
            with click.Context(command, info_name=title) as context:
                usage = " ".join([title, *command.collect_usage_pieces(context)])
                rows = [row for p in command.get_params(context) if (row := _row(p, context))]
            lines += [title, "-" * len(title), "", inspect.cleandoc(command.help), "", "::", "", f"   {usage}", ""]
            lines += [line for term, text in rows for line in (f"``{term}``", f"   {text or 'see the usage'}", "")]
    _write(folder / "commands.rst", "\n".join(lines))


def _row(param: click.Parameter, context: click.Context) -> tuple[str, str] | None:
    """Return how a parameter is written and what it means, or None for one that only the workflow uses."""
    if getattr(param, "hidden", False):
        return None
    if param.param_type_name == "argument":
        return param.name.upper(), param.help or ""
    return param.get_help_record(context)


def _modules(root: ModuleType) -> list[ModuleType]:
    """Return a package and its public modules, its face first; or a module alone."""
    found = pkgutil.walk_packages(getattr(root, "__path__", []), f"{root.__name__}.")
    names = [info.name for info in found if not any(part.startswith("_") for part in info.name.split("."))]
    names = [name for name in names if name not in _OF_NNUNET or find_spec("nnunetv2")]
    return [root, *map(import_module, names)]


def _section(module: ModuleType, shown: set[int]) -> list[str]:
    """Return the section of a module: its docstring and its public names that are not shown yet."""
    members = [(name, value) for name, value in _public(module) if id(value) not in shown]
    shown.update(id(value) for _, value in members)
    title = module.__name__
    lines = [title, "-" * len(title), "", f".. automodule:: {title}", "   :no-members:", ""]
    for name, value in members:
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else "data"
        whole = ["   :members:", "   :exclude-members: model_config"]
        options = whole if kind == "class" else ["   :no-value:"] if kind == "data" else []
        lines += [f".. auto{kind}:: {title}.{name}", *options, ""]
    return lines if members else []


def _public(module: ModuleType) -> list[tuple[str, Any]]:
    """Return what a module offers: what it describes of its `__all__`, else the classes and functions it defines."""
    if hasattr(module, "__all__"):
        described = ModuleAnalyzer.for_module(module.__name__).find_attr_docs()
        named = [(name, getattr(module, name)) for name in module.__all__]
        return [(name, value) for name, value in named if callable(value) or ("", name) in described]
    own = [(name, value) for name, value in vars(module).items() if not name.startswith("_")]
    return [
        (name, value)
        for name, value in own
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == module.__name__
    ]


def _write(path: Path, text: str) -> None:
    """Write a page unless it is the same, so that Sphinx reads only what changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
