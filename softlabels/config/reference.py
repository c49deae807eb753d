"""The config's reference page and JSON schema, made from the model so that they cannot drift from it."""

from __future__ import annotations

import json

from pydantic_core import PydanticUndefined

from softlabels.config import stages, targets
from softlabels.config.model import Config, json_schema

_SECTIONS = (
    ("top level", Config),
    ("prepare", stages.Prepare),
    ("seeds: strategy skeleton", stages.SkeletonSeeds),
    ("seeds: strategy erosion", stages.ErosionSeeds),
    ("seeds: strategy random", stages.RandomSeeds),
    ("seeds: strategy canny", stages.CannySeeds),
    ("seeds: strategy boundary", stages.BoundarySeeds),
    ("distance", stages.Distance),
)
_WORDS = {"null": "nothing", "boolean": "true, false", "string": "text"}


def reference_files() -> dict[str, str]:
    """Return path in the checkout to text, for every generated file."""
    schema = json.dumps(json_schema(), indent=1) + "\n"
    return {"workflow/schemas/config.schema.json": schema, "docs/config.md": _page()}


def _page() -> str:
    """Return the reference page as Markdown."""
    methods = [(f"target: method {m.model_fields['method'].annotation.__args__[0]}", m) for m in _target_models()]
    parts = ["# Every key of config.yaml", "", "Made from `softlabels/config` by `python -m softlabels reference`."]
    for title, model in (*_SECTIONS, *methods):
        parts += [
            "",
            f"## {title}",
            "",
            (model.__doc__ or "").strip(),
            "",
            "| key | values | default | meaning |",
            "|---|---|---|---|",
        ]
        properties = model.model_json_schema()["properties"]
        parts += [_row(name, field, properties[name]) for name, field in model.model_fields.items()]
    return "\n".join(parts) + "\n"


def _target_models() -> list[type]:
    """Return the model of every method."""
    return list(targets.AnyTarget.__origin__.__args__)


def _row(name: str, field, schema: dict) -> str:
    """Return one key as a table row."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        shown = "required"
    elif hasattr(default, "model_dump"):
        shown = "the section's own"
    else:
        shown = f"`{json.dumps(default)}`"
    return f"| `{name}` | {_values(schema)} | {shown} | {field.description or ''} |"


def _values(schema: dict) -> str:
    """Return the legal values of a key, in words, from its JSON schema."""
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    for alternative in ("anyOf", "oneOf"):
        if alternative in schema:
            return " or ".join(dict.fromkeys(_values(option) for option in schema[alternative]))
    if "$ref" in schema:
        return f"section `{schema['$ref'].rsplit('/', 1)[1]}`"
    if schema.get("type") == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        count = f"{len(items)} x " if "prefixItems" in schema else "list of "
        return count + _values(items[0])
    if schema.get("type") == "object":
        (of_values,) = schema.get("patternProperties", {}).values() or [{}]
        return "name: " + ("section by its method" if "discriminator" in of_values else _values(of_values))
    return _WORDS.get(schema.get("type")) or _number(schema)


def _number(schema: dict) -> str:
    """Return the range of a number, such as `0 <= number <= 1`."""
    low = f"{schema['minimum']:g} <= " if "minimum" in schema else ""
    low = f"{schema['exclusiveMinimum']:g} < " if "exclusiveMinimum" in schema else low
    high = f" <= {schema['maximum']:g}" if "maximum" in schema else ""
    high = f" < {schema['exclusiveMaximum']:g}" if "exclusiveMaximum" in schema else high
    return f"{low}{schema.get('type', 'value')}{high}"
