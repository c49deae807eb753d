"""YAML files read with care: plain values only, no key twice, and a file made to exhaust the reader ends at once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from softlabels._shared.files import read_small_text
from softlabels._shared.section import shown
from softlabels.errors import ConfigError

#: A configuration has some kilobytes; values that are written once and referred to count each time.
_MOST_BYTES = 2**20
_MOST_VALUES = 100_000
_MOST_LEVELS = 50


class _StrictLoader(yaml.SafeLoader):
    """YAML without Python tags and without silent loss of duplicate keys."""

    _level = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._level += 1
        if self._level > _MOST_LEVELS:
            raise ConfigError(f"more than {_MOST_LEVELS} levels of nested values, expected a few")
        node = super().compose_node(parent, index)
        self._level -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _n_values(node, {}) > _MOST_VALUES:
            raise ConfigError(f"more than {_MOST_VALUES} values once its references (*name) are followed")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(str(key.value) for key, _ in node.value)
        if duplicates := [key for key, count in keys.items() if count > 1]:
            lines = [str(one.start_mark.line + 1) for one, _ in node.value if str(one.value) == duplicates[0]]
            raise ConfigError(f"duplicate key {shown(duplicates[0])} (lines {' and '.join(lines[:9])}). Keep one")
        return super().construct_mapping(node, deep)


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node has, each reference followed; raise ConfigError if one leads to itself."""
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        known[id(node)] = -1
        parts = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_n_values(one, known) for one in parts)
    if known[id(node)] < 0:
        raise ConfigError(f"a reference (line {node.start_mark.line + 1}) leads to itself. Write the value out")
    return known[id(node)]


def read_yaml(path: str | os.PathLike[str]) -> Any:
    """Return the unchecked content of a YAML file: mappings, lists, text, numbers, booleans and null.

    Raises
    ------
    ConfigError
        If it cannot be read, is no YAML, repeats a key, or holds anything else, such as a date.
    """
    try:
        return plain_values(read_small_text(path, _MOST_BYTES))
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise ConfigError(f"{path}: no such file. Run 'softlabels init' to write one") from None
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Name a configuration in YAML") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason} at byte {error.start}). Save it as UTF-8") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def plain_values(text: str) -> Any:
    r"""Return the values of a YAML text; raise ConfigError as `read_yaml` does.

    Examples
    --------
    >>> plain_values("crop: none\nspacing: [1, 0.5, 0.5]")
    {'crop': 'none', 'spacing': [1, 0.5, 0.5]}
    >>> plain_values("since: 2026-13-45")
    Traceback (most recent call last):
    softlabels.errors.ConfigError: not plain YAML: month must be in 1..12
    """
    try:
        values = yaml.load(text, _StrictLoader)
        _check_plain(values, "")
    except ConfigError:
        raise
    # PyYAML hands on what int(), float() and dates raise, and what keys raise that are no plain values.
    except (yaml.YAMLError, ValueError, TypeError, ArithmeticError, AttributeError, LookupError) as error:
        raise ConfigError(f"not plain YAML: {' '.join(str(error).split())[:300]}") from None
    return values


def command_line_values(content: Any, given: Any) -> Any:
    """Return a configuration in which what Snakemake's `--config` set is read as it would be in a file.

    Snakemake leaves all but whole numbers, fractions, `True` and `False` as text, and everything inside of brackets.

    Parameters
    ----------
    content : any
        The configuration, or a value in it.
    given : any
        What the command line says of it.

    Examples
    --------
    >>> command_line_values({"pictures": "false", "device": "cpu"}, {"pictures": "false"})
    {'pictures': False, 'device': 'cpu'}
    """
    if isinstance(given, Mapping) and isinstance(content, Mapping):
        changed = {key: command_line_values(content[key], value) for key, value in given.items() if key in content}
        return {**content, **changed}
    if isinstance(given, list) and isinstance(content, list) and len(given) == len(content):
        return [command_line_values(*pair) for pair in zip(content, given, strict=True)]
    return plain_values(given) if isinstance(given, str) and given == content else content


def _check_plain(value: Any, key: str) -> None:
    """Raise ConfigError for a value that JSON could not hold."""
    if isinstance(value, dict):
        for name, one in value.items():
            if not isinstance(name, str):
                where = f" in {key}" if key else ""
                raise ConfigError(f'got the key {shown(name)}{where}, expected text. Put it in quotes: "{name}"')
            _check_plain(one, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for one in value:
            _check_plain(one, key)
    elif not isinstance(value, str | int | float | None):
        raise ConfigError(f"{key}: got {shown(value)}, expected text, a number, a list or keys and values")
