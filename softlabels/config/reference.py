"""The config's reference page and JSON schema, made from the model so that they cannot drift from it."""

from __future__ import annotations

import json
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from softlabels._shared.registry import Component
from softlabels._shared.section import Section
from softlabels.config.model import Config, json_schema
from softlabels.config.prepare import Prepare
from softlabels.methods import METHODS, Distance
from softlabels.seeds import STRATEGIES

_WORDS = {"null": "nothing", "boolean": "true, false", "string": "text"}


def reference_files() -> dict[str, str]:
    """Return path in the checkout to text, for every generated file."""
    schema = json.dumps(json_schema(), indent=1) + "\n"
    return {"workflow/schemas/config.schema.json": schema, "docs/config.md": _config_page()}


def _config_page() -> str:
    """Return the reference page of all keys as Markdown."""
    sections: list[tuple[str, type[Section]]] = [("top level", Config), ("prepare", Prepare)]
    sections += [(f"seeds: strategy {name}", strategy) for name, strategy in STRATEGIES.built_in.items()]
    sections += [("distance", Distance)]
    sections += [(f"target: method {name}", method) for name, method in METHODS.built_in.items()]
    parts = ["# Every key of config.yaml", "", "Made from the models by `python -m softlabels reference`."]
    for title, model in sections:
        parts += ["", f"## {title}", "", (model.__doc__ or "").strip(), "", *_key_table(model)]
    return "\n".join(parts) + "\n"


def _key_table(model: type[Section]) -> list[str]:
    """Return the keys of a section as the lines of a table."""
    lines = ["| key | values | default | meaning |", "|---|---|---|---|"]
    if issubclass(model, Component):
        lines.append(f"| `{model.key}` | `{model.name}` | required | |")
    properties = model.model_json_schema()["properties"]
    return lines + [_row(name, field, properties[name]) for name, field in model.model_fields.items()]


def _row(name: str, field: FieldInfo, schema: dict[str, Any]) -> str:
    """Return one key as a table row."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        shown = "required"
    elif hasattr(default, "model_dump"):
        shown = "the section's own"
    else:
        shown = f"`{json.dumps(default)}`"
    return f"| `{name}` | {_values(schema)} | {shown} | {field.description or ''} |"


def _values(schema: dict[str, Any]) -> str:
    """Return the legal values of a key, in words, from its JSON schema."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_values(option) for option in schema["anyOf"]))
    if "oneOf" in schema:
        return f"section by its `{schema['oneOf'][0]['required'][0]}`"
    if "$ref" in schema:
        return f"section `{schema['$ref'].rsplit('/', 1)[1]}`"
    if schema.get("type") == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        count = f"{len(items)} x " if "prefixItems" in schema else "list of "
        return count + _values(items[0])
    if schema.get("type") == "object":
        (of_values,) = schema.get("patternProperties", {}).values() or [{}]
        return "name: " + _values(of_values)
    return _WORDS.get(schema.get("type", "")) or _number(schema)


def _number(schema: dict[str, Any]) -> str:
    """Return the range of a number, such as `0 <= number <= 1`."""
    low = f"{schema['minimum']:g} <= " if "minimum" in schema else ""
    low = f"{schema['exclusiveMinimum']:g} < " if "exclusiveMinimum" in schema else low
    high = f" <= {schema['maximum']:g}" if "maximum" in schema else ""
    high = f" < {schema['exclusiveMaximum']:g}" if "exclusiveMaximum" in schema else high
    return f"{low}{schema.get('type', 'value')}{high}"
