"""Commands that list what a configuration may name: methods and seed strategies, those of installed packages too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softlabels.cli.app import app

if TYPE_CHECKING:
    from softlabels._shared.registry import Registry

Name = Annotated[str | None, typer.Argument(help="print the keys of this one")]


@app.command(rich_help_panel="Start a project")
def methods(name: Name = None) -> None:
    """List the soft-label methods and what each promises, or the keys of one.

    Examples
    --------
        softlabels methods

        softlabels methods geols
    """
    from softlabels.config.tables import METHOD_HEADER, method_rows
    from softlabels.methods import METHODS

    if name is None:
        _list(METHODS, METHOD_HEADER, lambda method: method_rows([method])[0])
    else:
        _describe(METHODS, name)


@app.command(rich_help_panel="Start a project")
def seeds(name: Name = None) -> None:
    """List the seed strategies, or the keys of one.

    Examples
    --------
        softlabels seeds erosion
    """
    from softlabels.config.tables import SEEDS_HEADER, seeds_row
    from softlabels.seeds import STRATEGIES

    if name is None:
        _list(STRATEGIES, SEEDS_HEADER, seeds_row)
    else:
        _describe(STRATEGIES, name)


def _list(registry: Registry[Any], header: Sequence[str], row: Any) -> None:
    """Print a row for everything that has a name; what cannot be imported is named and ends in exit code 1."""
    from softlabels.errors import PluginError

    rows, broken = [], []
    for name in registry:
        provider = ", ".join(map(str, registry.distributions(name))) or "softlabels"
        try:
            rows.append((*row(registry[name]), provider))
        except PluginError as error:
            broken.append(str(error))
    _print((*header, "package"), rows)
    for message in broken:
        print(message)
    if broken:
        raise typer.Exit(1)


def _describe(registry: Registry[Any], name: str) -> None:
    """Print what one is and the keys that it has in config.yaml."""
    from softlabels._shared.section import unknown_key
    from softlabels.config.tables import key_rows
    from softlabels.errors import InputError

    if name not in registry:
        raise InputError(
            f"{registry.base.key} {name!r}: no installed package has it. {unknown_key(name, list(registry))}"
        )
    component = registry[name]
    print(f"{component.title}: {component.summary()}\nSource: {component.source}. Version {component.version}.")
    _print(("key", "values", "default", "meaning"), key_rows(component))


def _print(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; one that is wider than the terminal folds, and into a pipe it goes line by line."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        for row in (header, *rows):
            print("\t".join(cell.replace("`", "") for cell in row))
        return
    table = Table(*header)
    for row in rows:
        table.add_row(*(cell.replace("`", "") for cell in row))
    console.print(table)
