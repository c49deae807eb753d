"""What the shell offers when a case, a target, a class or a node is being typed; it never raises."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from softlabels.config import Config


def cases(context: typer.Context, incomplete: str) -> list[str]:
    """Return the case ids of the sheet that begin so."""
    from softlabels.inputs.sheet import read_sheet

    with contextlib.suppress(Exception):
        config = _config(context)
        return _beginning(incomplete, (case.id for case in read_sheet(config.cases, config.channels)))
    return []


def targets(context: typer.Context, incomplete: str) -> list[str]:
    """Return the targets of the configuration that begin so."""
    with contextlib.suppress(Exception):
        return _beginning(incomplete, _config(context).targets)
    return []


def classes(context: typer.Context, incomplete: str) -> list[str]:
    """Return the classes of all targets that begin so."""
    with contextlib.suppress(Exception):
        config = _config(context)
        names = (name for target in config.targets.values() for name in config.label_set(target).names)
        return _beginning(incomplete, dict.fromkeys(names))
    return []


def nodes(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of nodes that begin so: `prepare`, a target, a target with a stage."""
    from softlabels.pipeline.plan import make_plan

    with contextlib.suppress(Exception):
        return _beginning(incomplete, make_plan(_config(context)).names())
    return []


def channels(context: typer.Context, incomplete: str) -> list[str]:
    """Return the image channels that begin so."""
    with contextlib.suppress(Exception):
        return _beginning(incomplete, _config(context).channels)
    return []


def _config(context: typer.Context) -> Config:
    """Return the configuration that the command line names so far."""
    from softlabels.config import load_config

    return load_config(Path(context.params.get("config") or "config.yaml"))


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    """Return the names that begin so."""
    return [name for name in names if name.startswith(incomplete)]
