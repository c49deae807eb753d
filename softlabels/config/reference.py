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
        parts += [_row(name, field) for name, field in model.model_fields.items()]
    return "\n".join(parts) + "\n"


def _target_models() -> list[type]:
    """Return the model of every method."""
    return list(targets.AnyTarget.__origin__.__args__)


def _row(name: str, field) -> str:
    """Return one key as a table row."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        shown = "required"
    elif hasattr(default, "model_dump"):
        shown = "the section's own"
    else:
        shown = f"`{json.dumps(default)}`"
    return f"| `{name}` | {_values(field)} | {shown} | {field.description or ''} |"


def _values(field) -> str:
    """Return the legal values in words a reader knows."""
    text = str(field.annotation).replace("typing.", "")
    for cls in (stages.Distance, stages.Prepare):
        text = text.replace(str(cls), cls.__name__)
    return text
