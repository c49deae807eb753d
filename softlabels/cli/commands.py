"""The app with all commands. Importing a module registers its commands; this is their order on the help page."""

# isort: off
from softlabels.cli import init, project, listing, plan  # noqa: F401
from softlabels.cli import run, workflow, monitor  # noqa: F401
from softlabels.cli import view, viewer, export, restore, report, evaluation, tuning, store, copying, ranking  # noqa: F401

# isort: on
from softlabels.cli.app import app

__all__ = ["app"]
