"""What every importer returns, and the names that it makes fit for a project."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from softlabels._shared.counts import bounded, counted
from softlabels.errors import ConfigError
from softlabels.inputs.sheet import MAX_CASE_ID, Case, case_id_fault

#: A name that config.yaml takes as it is.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")
#: Letters that are no plain letter with a mark.
_LETTERS = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L"}
)

Labels = dict[str, int | list[int]]


class Dataset(NamedTuple):
    """A data set as a project needs it.

    Parameters
    ----------
    cases : list of Case
        Sorted by id.
    channels : list of str
        Names of the image channels, in stored order.
    labels : dict
        In nnU-Net's grammar: name to an integer, or to a list of integers for a region. Empty if the data set does not
        say; `found_labels` then reads the label files.
    left_out : sequence of str
        A line for each file or case that was not taken, with the reason.
    originals : mapping of str to str
        Case id to the name in the data set, of those that had to be changed.
    colours : mapping of str to str
        Class name to ``#rrggbb``, of those to which the data set gives one.
    """

    cases: list[Case]
    channels: list[str]
    labels: Labels
    left_out: Sequence[str] = ()
    originals: Mapping[str, str] = MappingProxyType({})
    colours: Mapping[str, str] = MappingProxyType({})


def identifiers(names: list[str]) -> list[str]:
    """Return names made of letters, digits and `_` that begin with a letter and differ; good ones stay as they are.

    Examples
    --------
    >>> identifiers(["node_3", "node+", "node-", "left kidney"])
    ['node_3', 'node', 'node_2', 'left_kidney']
    """
    made: list[str] = []
    kept = {name for name in names if _NAME.fullmatch(name)}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:48]
        plain = name if name in kept else plain if plain[:1].isalpha() else f"n{plain}"
        numbers = count(len(made))
        unique = plain
        while unique in made or (unique in kept and unique != name):
            unique = f"{plain}_{next(numbers)}"
        made.append(unique)
    return made


def safe_ids(names: Iterable[str]) -> dict[str, str]:
    """Return name to a case id: the name itself where it may be one, else the nearest one that is still free.

    Accents are dropped, and everything else that is no letter, digit, `_`, `.` or `-` becomes `_`.

    Examples
    --------
    >>> safe_ids(["p1", "Zoë 2+", "Zoe_2", "größe", "index"])
    {'p1': 'p1', 'Zoe_2': 'Zoe_2', 'Zoë 2+': 'Zoe_2_2', 'größe': 'grosse', 'index': 'case_index'}
    """
    # Names that are good already come first, so that no changed name takes theirs.
    ordered = sorted(names, key=lambda name: case_id_fault(name) is not None)
    made: dict[str, str] = {}
    taken: set[str] = set()
    for name in ordered:
        plain = name
        if case_id_fault(name):
            text = unicodedata.normalize("NFKD", name.translate(_LETTERS)).encode("ascii", "ignore").decode()
            plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).strip("_.-")[: MAX_CASE_ID - 10] or "case"
            plain = f"case_{plain}" if case_id_fault(plain) else plain
        numbers = count(2)
        unique = plain
        while unique.lower() in taken:
            unique = f"{plain}_{next(numbers)}"
        taken.add(unique.lower())
        made[name] = unique
    return made


def with_safe_ids(cases: Iterable[Case]) -> tuple[list[Case], dict[str, str]]:
    """Return the cases, sorted, with ids that a project takes; and of each changed id, what it was."""
    cases = list(cases)
    ids = safe_ids(dict.fromkeys(case.id for case in cases))
    renamed = sorted((replace(case, id=ids[case.id]) for case in cases), key=lambda case: case.id)
    return renamed, {new: old for old, new in ids.items() if new != old}


def checked_cases(folder: Path, cases: list[Case]) -> list[Case]:
    """Return `cases`, or raise ConfigError with every unusable id and missing file."""
    faults = [fault for case in cases if (fault := case_id_fault(case.id))]
    seen: set[str] = set()
    for case in cases:
        if case.id.lower() in seen:
            faults.append(f"case id {case.id!r}: found twice")
        seen.add(case.id.lower())
        faults += [f"case {case.id}, {role}: no file {path}" for role, path in case.files() if not Path(path).is_file()]
    if not cases:
        faults.append("no case found")
    if faults:
        raise ConfigError(f"{folder}: {counted(len(faults), 'error')}: {'; '.join(bounded(faults))}")
    return cases


def files_below(folder: Path) -> list[Path]:
    """Return all files of a folder at any depth, sorted, without hidden files and folders."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give the folder of the data set")
    found = []
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(here) / name for name in names if not name.startswith(".")]
    return sorted(path for path in found if path.is_file())
