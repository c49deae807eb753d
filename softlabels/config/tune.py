"""The section `tune` of config.yaml: what `softlabels tune` tries, and on which cases."""

from __future__ import annotations

from pydantic import Field, field_validator

from softlabels._shared.section import Section, faults_error, unknown_key
from softlabels.errors import PluginError
from softlabels.methods import METHODS


class Tune(Section):
    """What `softlabels tune` tries, and on which of the cases that have a reference in the case sheet."""

    methods: list[str] | None = Field(
        None, min_length=1, description="methods to try, each with its grid; by default all that have one"
    )
    held_out: list[str] = Field(
        default_factory=list,
        description="cases with a reference that are scored with the choice, but not used for it",
    )
    annotator: str | None = Field(
        None, min_length=1, description="who made the hard labels; a calibration is tied to this name"
    )

    @field_validator("methods")
    @classmethod
    def _check_methods(cls, names: list[str] | None) -> list[str] | None:
        """Refuse methods that are unknown, without a grid, or named twice."""
        if names is None:
            return None
        faults = []
        for name in names:
            try:
                # The hard label is always scored.
                if name != "onehot" and not METHODS[name].grid:
                    faults.append(f": method {name} declares no grid. Remove it, or rank it as a target")
            except KeyError:
                faults.append(f": got {name!r}, which nothing installed provides. {unknown_key(name, list(METHODS))}")
            except PluginError as error:
                faults.append(f": {error}")
        if len(set(names)) != len(names):
            faults.append(f": got {names}, expected distinct names")
        if faults:
            raise faults_error(faults)
        return names
