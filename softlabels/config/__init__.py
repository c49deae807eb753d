"""config.yaml as one pydantic model: the only place where keys, types, ranges and defaults are defined.

Nothing heavier than pydantic is imported here, because the Snakefile is read again in every job.
"""

from softlabels.config.model import Config, json_schema, load_config, parse_config, read_yaml, recipe_notes

__all__ = ["Config", "json_schema", "load_config", "parse_config", "read_yaml", "recipe_notes"]
