"""Tables of keys, methods, losses and metrics, made from what the classes declare."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from softlabels._shared.registry import Component
from softlabels._shared.section import Section
from softlabels.augmentation import allowed_names
from softlabels.geodesic.metric import METRICS
from softlabels.methods import METHODS, GeodesicMethod, Method, SeededMethod
from softlabels.methods.advice import DISTRIBUTION_LOSSES, REGION_LOSSES, LossAdvice
from softlabels.methods.base import STANDARD
from softlabels.seeds import SeedStrategy

_WORDS = {"null": "nothing", "boolean": "true, false", "string": "text"}
#: Keys of every method, and those that the table of defaults has columns for.
_SHARED_KEYS = {*Method.model_fields, "seeds", "distance"}
_NEEDS = {"source_labels": "labels on their own grid", "raters": "several label files"}


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a table as lines of Markdown.

    Examples
    --------
    >>> markdown(("a", "b"), [("1", "")])
    ['| a | b |', '|---|---|', '| 1 | |']
    """
    lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
    return lines + ["".join(f"| {cell} " if cell else "| " for cell in row) + "|" for row in rows]


def key_rows(model: type[Section]) -> list[tuple[str, str, str, str]]:
    """Return key, legal values, default and meaning of every key of a section."""
    rows = [(f"`{model.key}`", f"`{model.name}`", "required", "")] if issubclass(model, Component) else []
    properties = model.model_json_schema()["properties"]
    for name, field in model.model_fields.items():
        rows.append((f"`{name}`", _values(properties[name]), _default(field), field.description or ""))
    return rows


def method_rows(methods: Iterable[type[Method]] = tuple(METHODS.built_in.values())) -> list[tuple[str, ...]]:
    """Return what each method promises; `METHOD_HEADER` names the columns."""
    rows: list[tuple[str, ...]] = []
    for method in methods:
        variants = method.in_every_variant()
        is_stored = method.is_stored()
        names = "" if len(variants) == 1 else ", ".join(f"`{one.variant_name}`" for one in variants)
        survives = ", ".join(allowed_names(method.augmentation))
        rows.append(
            (
                f"`{method.name}`",
                method.title,
                names,
                needs(method),
                _by_variant(variants, _range) if is_stored else "nothing",
                _sums(variants) if method.kind == "probability" else "no distribution",
                _by_variant(variants, lambda one: f"{one.absent_value:g}") if is_stored else "",
                "yes" if method.allows_overlap else "no",
                survives,
                method.load_time() or "",
                method.source,
            )
        )
    return rows


METHOD_HEADER = (
    "method",
    "name",
    "variants",
    "needs",
    "stored map",
    "sums to one",
    "absent class",
    "may overlap",
    "valid after",
    "at load",
    "source",
)


def default_rows() -> list[tuple[str, ...]]:
    """Return what every variant does where the configuration is silent; `DEFAULT_HEADER` names the columns."""
    rows: list[tuple[str, ...]] = []
    for declared in METHODS.built_in.values():
        for method in declared.in_every_variant():
            own = [name for name in declared.model_fields if name not in {"variant", *_SHARED_KEYS}]
            seeds = method.seed_strategy if isinstance(method, SeededMethod) else None
            distance = method.metric_parameters() if isinstance(method, GeodesicMethod) else {}
            shown = "" if method.variant_name == STANDARD else f"`{method.variant_name}`"
            parameters = _settings({name: getattr(method, name) for name in own})
            strategy = _settings({"strategy": seeds.name, **seeds.model_dump(exclude_defaults=True)}) if seeds else ""
            rows.append((f"`{method.name}`", shown, parameters, strategy, _settings(distance)))
    return rows


DEFAULT_HEADER = ("method", "variant", "parameters", "seeds", "distance")


def needs(method: type[Method]) -> str:
    """Return in words what a method reads."""
    return ", ".join(_NEEDS.get(need, need) for need in sorted(method.needs)) or "labels"


def seeds_row(strategy: type[SeedStrategy]) -> tuple[str, ...]:
    """Return what a seed strategy declares; `SEEDS_HEADER` names the columns."""
    where = "on the boundary" if strategy.is_on_boundary else "inside"
    return f"`{strategy.name}`", strategy.title, where, strategy.summary(), strategy.source


SEEDS_HEADER = ("strategy", "name", "seeds are", "description", "source")


def loss_rows() -> list[tuple[str, ...]]:
    """Return which loss is right for which method; `LOSS_HEADER` names the columns."""
    groups: dict[tuple[LossAdvice, ...], list[str]] = {}
    for method in METHODS.built_in.values():
        variants = method.in_every_variant()
        advice = {one.losses for one in variants}
        for losses in dict.fromkeys(one.losses for one in variants):
            own = [one.variant_name for one in variants if one.losses == losses]
            of_some = "" if len(advice) == 1 else f" ({', '.join(own)})"
            groups.setdefault(losses, []).append(f"{method.title}{of_some}")
    rows = []
    for losses, titles in groups.items():
        rows += _advice_rows(", ".join(titles), losses)
        if losses == DISTRIBUTION_LOSSES:
            rows += _advice_rows("the same, of overlapping regions", REGION_LOSSES)
    return rows


LOSS_HEADER = ("target", "values", "last layer", "loss", "source")


def metric_rows() -> list[tuple[str, ...]]:
    """Return the cost of a step of every metric; `METRIC_HEADER` names the columns."""
    return [
        (f"`{m.name}`", f"`{m.step}`", f"`{m.weight}`", f"{m.default_weight:g}", m.engine or "", m.source)
        for m in METRICS.values()
    ]


METRIC_HEADER = ("metric", "cost of a step", "weight", "default", "third-party engine", "from")


def _advice_rows(target: str, losses: Iterable[LossAdvice]) -> list[tuple[str, ...]]:
    """Return the rows of one kind of target."""
    return [
        ("the same" if i else target, one.values, one.network, one.loss, one.source) for i, one in enumerate(losses)
    ]


def _settings(values: Mapping[str, Any]) -> str:
    """Return names and values as config.yaml has them."""
    return ", ".join(
        f"`{name}: {value if isinstance(value, str) else json.dumps(value)}`" for name, value in values.items()
    )


def _range(method: Method) -> str:
    """Return the range of a stored map."""
    if method.value_range is None:
        return "mm"
    return f"[{method.value_range[0]:g}, {method.value_range[1]:g}]"


def _sums(variants: Sequence[Method]) -> str:
    """Return whether the maps of all variants sum to one, and which switch makes them."""
    said = _by_variant(variants, lambda one: "yes" if one.sums_to_one else "no")
    switches = [name for name, field in type(variants[0]).model_fields.items() if field.annotation is bool]
    makes = [s for s in switches if said == "no" and variants[0].model_copy(update={s: True}).sums_to_one]
    return f"only with {', '.join(f'`{s}`' for s in makes)}" if makes else said


def _by_variant(variants: Sequence[Method], says: Callable[[Method], str]) -> str:
    """Return what is said of all variants, or what of each."""
    said: dict[str, list[str]] = {}
    for one in variants:
        said.setdefault(says(one), []).append(one.variant_name)
    if len(said) == 1:
        return next(iter(said))
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in said.items())


def _default(field: FieldInfo) -> str:
    """Return the default of a key."""
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    return "the section's own" if hasattr(default, "model_dump") else f"`{json.dumps(default)}`"


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


def _short(bound: float) -> str:
    """Return a number as people write it.

    Examples
    --------
    >>> _short(2**31 - 1), _short(1e-4), _short(12.0)
    ('2^31 - 1', '0.0001', '12')
    """
    return "2^31 - 1" if bound == 2**31 - 1 else f"{bound:g}"


def _number(schema: dict[str, Any]) -> str:
    """Return the range of a number, such as `0 <= number <= 1`."""
    low = f"{_short(schema['minimum'])} <= " if "minimum" in schema else ""
    low = f"{_short(schema['exclusiveMinimum'])} < " if "exclusiveMinimum" in schema else low
    high = f" <= {_short(schema['maximum'])}" if "maximum" in schema else ""
    high = f" < {_short(schema['exclusiveMaximum'])}" if "exclusiveMaximum" in schema else high
    return f"{low}{schema.get('type', 'value')}{high}"
