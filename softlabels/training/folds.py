"""Which cases train and which validate: k folds, and the splits of nnU-Net."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from softlabels._shared.files import read_small_text
from softlabels.errors import InputError


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
