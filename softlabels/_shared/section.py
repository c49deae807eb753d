"""Blocks of config.yaml as pydantic models, and their errors as lines that name the key and the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError


class Section(BaseModel):
    """A block of config.yaml: unknown keys, NaN, and values of another type are refused, nothing changes after reading.

    A field whose ``validation_alias`` is ``AliasChoices(name, other)`` is also read under another spelling.

    `yes` is no number and `"1"` is text, as in the JSON schema that is made from the sections.
    """

    # Built when it is first used: a job uses one or two of all methods.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True, defer_build=True)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON schema, with all spellings of the keys."""
        schema = handler(core_schema)
        of_model = handler.resolve_ref_schema(schema)
        of_model["properties"] = spelled_properties(cls, of_model.get("properties", {}))
        return schema


def spelled_properties(section: type[BaseModel], properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the properties of a section's JSON schema, with all spellings of the keys; pydantic gives the first."""
    spelled = dict(properties)
    for name, field in section.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            spelled |= {str(spelling): properties[name] for spelling in field.validation_alias.choices}
    return spelled


#: The pydantic error type of `faults_error`.
_FAULTS = "softlabels_faults"
#: Characters of a value that a message shows.
_SHOWN = 80


def faults_error(faults: Sequence[str]) -> PydanticCustomError:
    """Return the error that a validator raises to report several faults of one value.

    Parameters
    ----------
    faults : sequence of str
        Each continues the key of the value: ``.kernel_size: got 4, expected an odd number`` names a key below it,
        ``: got ...`` speaks of the value itself.
    """
    return PydanticCustomError(_FAULTS, "{listed}", {"listed": "; ".join(faults).lstrip(": "), "faults": tuple(faults)})


def faults_of(error: ValidationError, section: type[BaseModel]) -> list[str]:
    r"""Return every fault of a section as ``<key>: got ..., expected ...``.

    Parameters
    ----------
    error : ValidationError
        Raised by the section's validation.
    section : type
        The model; its keys are suggested for unknown ones, its descriptions explain missing ones.

    Examples
    --------
    >>> from pydantic import Field
    >>> class Ball(Section):
    ...     radius: float
    ...     centre: float = Field(description="where it is, in mm")
    >>> try:
    ...     Ball.model_validate({"radius": "wide", "raduis": 2})
    ... except ValidationError as error:
    ...     print(*faults_of(error, Ball), sep="\n")
    radius: got 'wide', expected: a valid number
    centre: missing. Add it: where it is, in mm
    raduis: unknown key. Did you mean 'radius'?
    """
    fields = section.model_fields
    return [fault for detail in error.errors(include_url=False) for fault in _lines(detail, fields)]


def shown(value: Any) -> str:
    r"""Return a value for a message: on one line, printable, and short whatever it is.

    Examples
    --------
    >>> shown("wide"), shown(10**5000), shown("\x1b[31m")
    ("'wide'", 'a value too large to show', "'\\x1b[31m'")
    """
    try:
        text = repr(value)
    # Python writes no integer of more than 4300 digits, wherever in the value it is.
    except ValueError:
        return "a value too large to show"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def unknown_key(key: str, known_keys: Sequence[str]) -> str:
    """Return what to do about an unknown key or name: the nearest known one, or all of them."""
    near = difflib.get_close_matches(key, known_keys, 1)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(known_keys) or 'none'}"


def _lines(detail: Any, fields: Mapping[str, FieldInfo]) -> list[str]:
    """Return the lines of one of pydantic's errors."""
    # pydantic inserts the branch of a union; readers know only their own keys.
    location = [str(p) for p in detail["loc"] if not str(p).startswith(("tuple[", "function-", "literal[", "list["))]
    location = [part if part.isprintable() else shown(part) for part in location]
    key = ".".join(location)
    if detail["type"] == _FAULTS:
        return [f"{key}{fault}" for fault in detail["ctx"]["faults"]]
    if detail["type"] == "extra_forbidden":
        if len(location) == 1:
            return [f"{key}: unknown key. {unknown_key(key, list(fields))}"]
        return [f"{key}: unknown key. Remove it or correct its spelling (docs/config.md lists all keys)"]
    if detail["type"] == "missing":
        meaning = fields[key].description if key in fields else None
        return [f"{key}: missing. Add it" + (f": {meaning}" if meaning else " (see docs/config.md)")]
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return [f"{key}: got {shown(detail['input'])}, expected: {message.removeprefix('input should be ')}"]
