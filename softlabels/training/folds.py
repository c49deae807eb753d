"""Which cases train and which validate: those of an index, k folds, and the splits of nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from warnings import warn

import numpy as np

from softlabels._shared.counts import some_of
from softlabels._shared.files import read_small_text
from softlabels.cohort.case_table import CaseTable
from softlabels.cohort.index import Index
from softlabels.errors import InputError


class MissingCasesWarning(UserWarning):
    """The index was written while cases had no result, so training goes on without them."""


@dataclass(frozen=True)
class Fold:
    """The case ids of one fold, each for `SoftLabelDataset(..., cases=...)`.

    Parameters
    ----------
    train, validation : tuple of str
        Of different cases.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]


def k_folds(case_ids: Sequence[str], k: int, *, seed: int = 0) -> list[Fold]:
    """Return k folds: each case is validated in exactly one of them, and trains in all others.

    Parameters
    ----------
    case_ids : sequence of str
        Their order does not matter.
    k : int
        2 to the number of cases. The folds differ by at most one case in size.
    seed : int
        Of the shuffling, >= 0.

    Raises
    ------
    InputError
        If k is out of range, or an id is there twice.

    Examples
    --------
    >>> [fold.validation for fold in k_folds(["a", "b", "c"], 3)]
    [('c',), ('a',), ('b',)]
    """
    ids = sorted(case_ids)
    if len(set(ids)) != len(ids):
        raise InputError("k_folds: got a case id twice, expected each once")
    if not 2 <= k <= len(ids):
        raise InputError(f"k_folds: got k {k} for {len(ids)} cases, expected 2 to {len(ids)}")
    shuffled = np.random.default_rng(seed).permutation(len(ids))
    parts = [{ids[i] for i in shuffled[fold::k]} for fold in range(k)]
    return [Fold(tuple(i for i in ids if i not in part), tuple(i for i in ids if i in part)) for part in parts]


def nnunet_folds(path: str | Path) -> list[Fold]:
    """Return the folds in nnU-Net's `splits_final.json`.

    Raises
    ------
    InputError
        If the file is missing or another one.
    """
    try:
        splits = json.loads(read_small_text(path))
        return [Fold(tuple(map(str, split["train"])), tuple(map(str, split["val"]))) for split in splits]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; nnU-Net writes it at its first training of the data set") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected a list of {{'train': [...], 'val': [...]}} ({error!r})") from error


def chosen_cases(index: Index, split: str | None, ids: Sequence[str] | None, where: str | Path) -> CaseTable:
    """Return the cases of a split, or those with some ids; at least one.

    Parameters
    ----------
    index : Index
    split : str, optional
        By default all cases; not together with `ids`.
    ids : sequence of str, optional
        In any order; the result is in the order of the index.
    where : path
        Of the index, for messages.

    Raises
    ------
    InputError
        If there is no such split or case, or one that is asked for has no result yet.

    Warns
    -----
    MissingCasesWarning
        If the index lacks cases of the project and none was asked for by id.
    """
    if ids is not None:
        return _with_ids(index, split, ids, where)
    known = index.cases.splits
    chosen = [position for position, its_split in enumerate(known) if split is None or its_split == split]
    if not chosen:
        if split is None:
            raise InputError(f"{where}: it has no case. Run snakemake again in the project's folder")
        splits = ", ".join(sorted({its_split for its_split in known if its_split is not None}))
        expected = f"one of {splits}" if splits else "none: the case sheet has no column 'split'. Choose cases by id"
        raise InputError(f"split: got {split!r}, expected {expected} (in {where})")
    if index.missing:
        warn(
            f"{where}: {len(index.missing)} cases had no result when it was written and are left out: "
            f"{some_of(index.missing)}. Run snakemake in the project's folder to add them, or choose cases by id",
            MissingCasesWarning,
            stacklevel=3,
        )
    return index.cases.chosen(chosen)


def _with_ids(index: Index, split: str | None, ids: Sequence[str], where: str | Path) -> CaseTable:
    """Return the cases with some ids, in the order of the index."""
    if split is not None:
        raise InputError(f"cases, split: got both, expected one of them. Leave split {split!r} out")
    if without := sorted(set(ids) & set(index.missing)):
        raise InputError(
            f"cases: {len(without)} have no result in {where}: {some_of(without)}. Run snakemake in the project's "
            "folder (softlabels status shows why), or leave them out"
        )
    wanted = set(ids)
    missing = sorted(wanted.difference(index.cases.ids))
    if missing or not ids:
        shown = f"{len(missing)} ids that it lacks: {some_of(missing)}" if missing else "no id"
        raise InputError(f"cases: got {shown}; expected ids of the {len(index.cases)} cases in {where}")
    return index.cases.chosen([position for position, case_id in enumerate(index.cases.ids) if case_id in wanted])
