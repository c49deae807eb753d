"""`dataset.json`, as nnU-Net and the Medical Segmentation Decathlon write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from softlabels._shared.files import read_small_text
from softlabels._shared.plain_json import parsed_json
from softlabels._shared.section import shown
from softlabels.classes import BACKGROUND, grammar_faults
from softlabels.errors import ConfigError
from softlabels.inputs.importers.base import Labels, identifiers


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or raise ConfigError with the path."""
    try:
        return parsed_json(read_small_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the folder or file of a data set that has it") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from error


def read_dataset(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that describes a data set."""
    dataset = read_json(path)
    if not isinstance(dataset, dict):
        raise ConfigError(f"{path}: got {type(dataset).__name__}, expected an object")
    return dataset


def channels_of(path: Path, dataset: dict[str, Any]) -> list[str]:
    """Return channel names, in the order of their numbers."""
    names = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))) or not names:
        raise ConfigError(f"{path}: got channels {names!r}, expected {{'0': name, '1': name, ...}}")
    return identifiers([str(names[str(i)]) for i in range(len(names))])


def labels_of(path: Path, dataset: dict[str, Any]) -> Labels:
    """Return label names to values, also from the older form, values to names."""
    given = dataset.get("labels")
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{path}: got labels {given!r}, expected names and values")
    where = f"{path}: labels"
    # Pairs, not a mapping: the older form, values to names, may give one name to two values.
    pairs = list(given.items())
    try:
        if all(str(key).isdigit() for key in given):
            pairs = sorted(((str(name), int(value)) for value, name in given.items()), key=lambda pair: pair[1])
        values = [[_integer(one) for one in v] if isinstance(v, list) else _integer(v) for _, v in pairs]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}; expected integers or lists of integers") from error
    # Whatever the value 0 is called ("Background", "Clear Label"), and if it has no name: it is the background.
    rest = [(name, value) for (name, _), value in zip(pairs, values, strict=True) if value not in (0, [0])]
    if len(rest) < len(pairs) - 1 or BACKGROUND in [name for name, _ in rest]:
        raise ConfigError(
            f"{where}: got {shown(given)}, expected one name for the value 0, and no other value called 'background'"
        )
    names = identifiers([BACKGROUND, *(name for name, _ in rest)])
    labels: Labels = dict(zip(names, [0, *(value for _, value in rest)], strict=True))
    if faults := grammar_faults(labels):
        raise ConfigError(f"{where}: {'; '.join(faults)}")
    return labels


def _integer(value: Any) -> int:
    """Return an integer, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"got {shown(value)}")
    return int(value)


def folds_of(path: Path) -> dict[str, str]:
    """Return the fold in which each case is validated (`fold0`, ...), of those that are in one; empty without the file.

    Parameters
    ----------
    path : Path
        nnU-Net's `splits_final.json`.
    """
    if not path.is_file():
        return {}
    folds: dict[str, list[int]] = {}
    try:
        for fold, split in enumerate(read_json(path)):
            for identifier in split["val"]:
                folds.setdefault(identifier, []).append(fold)
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{path}: expected a list of {{'train': [...], 'val': [...]}} ({error!r})") from error
    return {identifier: f"fold{where[0]}" for identifier, where in folds.items() if len(where) == 1}
