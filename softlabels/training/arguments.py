"""The checks of a data set's arguments: which patch, which foreground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from softlabels.classes import LabelClass, foreground
from softlabels.errors import InputError
from softlabels.training.patches import checked_sizes

T = TypeVar("T")


def chosen(known: Mapping[str, T], name: str, what: str, where: str) -> T:
    """Return `known[name]`, or raise with the names that exist."""
    if name not in known:
        raise InputError(f"{what}: got {name!r}, expected one of {', '.join(map(repr, known))} (in {where})")
    return known[name]


def checked_patch(mode: str, patch_size: Sequence[int] | None) -> tuple[bool, tuple[int, int, int] | None]:
    """Return whether samples are 2D, and the patch size (z, y, x) or None for whole volumes."""
    if mode == "whole":
        if patch_size is not None:
            raise InputError(
                f"patch_size: got {patch_size}, expected None in mode 'whole'; use mode 'random' or 'grid'"
            )
        return False, None
    if patch_size is not None and np.size(patch_size) == 2:
        return True, checked_sizes("patch_size", (1, *patch_size))
    return False, checked_sizes("patch_size", patch_size)


def foreground_values(classes: Sequence[LabelClass], names: Sequence[str] | None) -> tuple[tuple[int, ...], ...]:
    """Return the label values of the foreground classes, by default of every class but the background."""
    if names is None:
        return tuple(c.values for c in foreground(classes))
    known = {c.name: c.values for c in classes}
    return tuple(chosen(known, name, "foreground_classes", "the target") for name in names)
