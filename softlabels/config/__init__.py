"""config.yaml as one pydantic model: the only place where keys, types, ranges and defaults are defined.

Nothing heavier than pydantic is imported here, because the Snakefile is read again in every job.
"""

from typing import TYPE_CHECKING

from softlabels._shared.lazy import lazy_names
from softlabels.config.model import Config, json_schema, load_config, parse_config, recipe_notes

if TYPE_CHECKING:
    from softlabels.config.plain_yaml import command_line_values, read_yaml

__all__ = ["Config", "command_line_values", "json_schema", "load_config", "parse_config", "read_yaml", "recipe_notes"]

__getattr__ = lazy_names(__name__, dict.fromkeys(("command_line_values", "read_yaml"), "softlabels.config.plain_yaml"))
