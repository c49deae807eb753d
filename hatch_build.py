"""Build hook: the workflow, kept at the top of the repository, travels in the wheel as package data."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

#: The folder of the wheel has the layout of the repository, so that the rules' relative paths hold in both.
HOME = "softlabels/workflow"
TRAVELS = ("Snakefile", "config.yaml", "envs", "workflow")


class WorkflowHook(BuildHookInterface):
    """Add the workflow to a wheel; an editable install runs the checkout's own and gets no copy that would age."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name what the wheel includes beside the package."""
        if version == "standard":
            build_data["force_include"].update({f"{self.root}/{name}": f"{HOME}/{name}" for name in TRAVELS})
