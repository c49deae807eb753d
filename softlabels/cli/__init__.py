"""The commands for users, and the command that the rules call. Each parses arguments, calls functions and prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from softlabels.errors import SoftLabelsError
from softlabels.monitor.environment import restart_in_utf8

if TYPE_CHECKING:
    import typer

#: The modules of the commands that the rules call. A job imports its own alone: making them all takes 0.04 s.
OF_RULES = {
    **dict.fromkeys(("stage", "pictures", "index"), "workflow"),
    "show": "view",
    "report": "report",
    **dict.fromkeys(("tune", "tune-case"), "tuning"),
}
#: The extra that installs a package, by the name of the module. A machine that only trains has few of them.
EXTRAS = {
    **dict.fromkeys(
        (
            *("pydantic", "yaml", "SimpleITK", "scipy", "skimage", "numba", "platformdirs", "dask", "matplotlib"),
            *("jinja2", "snakemake"),
        ),
        "workflow",
    ),
    "torch": "loader",
    "monai": "monai",
    "blosc2": "nnunet",
}


def main() -> None:
    """Run a command; an error of softlabels or of the file system ends it with one line on stderr and exit code 1."""
    restart_in_utf8("softlabels", sys.argv[1:])
    try:
        app_for(sys.argv[1:])()
    except SoftLabelsError as error:
        where = "".join(f"\n  in {note}" for note in getattr(error, "__notes__", []))
        _fail(f"{error}{where}")
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        _fail(
            f"`softlabels {command}` needs {module}, which is not installed here: "
            f"pip install 'softlabels[{EXTRAS[module]}]'. Commands on a store or an index, such as "
            "`softlabels verify INDEX`, run without it"
        )
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}. Check path, permissions and free space")


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """Return the app: with all commands, or of a command that the rules call with those of its module."""
    import_module(f"softlabels.cli.{OF_RULES.get(arguments[0], 'commands') if arguments else 'commands'}")
    from softlabels.cli.app import app

    return app


def _fail(message: str) -> NoReturn:
    """End with a message on stderr, whose first word is red on a terminal."""
    is_coloured = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    name = "\x1b[1;31msoftlabels:\x1b[0m" if is_coloured else "softlabels:"
    print(f"{name} {message}", file=sys.stderr)
    sys.exit(1)
