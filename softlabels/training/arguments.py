"""The checks of a data set's arguments: which patch, which foreground, which form of the soft labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels.classes import LabelClass, foreground
from softlabels.cohort.index import TargetDescription
from softlabels.errors import InputError
from softlabels.training.patches import checked_sizes
from softlabels.training.volumes import Form

T = TypeVar("T")
#: Why samples of a form allow no transform that interpolates, and what to do.
EXACT: Mapping[Form, str] = {
    "stored": "with blend_on_device a sample has the integers of the store. Transform the batch after DeviceBlend has "
    "made its soft label",
    "sparse": "with sparse a sample has numbers of classes. Transform dense samples, or the batch after "
    "softlabels.losses.to_dense",
}


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


def foreground_values(
    classes: Sequence[LabelClass], names: Sequence[str] | Mapping[str, float] | None
) -> tuple[tuple[tuple[int, ...], ...], NDArray[np.float64] | None]:
    """Return the label values of the foreground classes, by default all but the background, and their weights."""
    if names is None:
        return tuple(c.values for c in foreground(classes)), None
    known = {c.name: c.values for c in classes}
    values = tuple(chosen(known, name, "foreground_classes", "the target") for name in names)
    if not isinstance(names, Mapping):
        return values, None
    weights = np.asarray(list(names.values()), np.float64)
    if not (np.isfinite(weights).all() and weights.min(initial=0) >= 0 and weights.sum() > 0):
        raise InputError(f"foreground_classes: got {dict(names)}, expected finite weights >= 0, one of them > 0")
    return values, weights


def checked_form(described: Mapping[str, TargetDescription], *, blend_on_device: bool, sparse: bool) -> Form:
    """Return in which form the samples of some targets have their soft labels."""
    if blend_on_device and sparse:
        raise InputError("blend_on_device, sparse: got both, expected one of them. Sparse samples are small already")
    for name, one in described.items() if sparse else ():
        if one.n_slots is None:
            raise InputError(
                f"sparse: target {name!r} is not a distribution that is stored by the largest classes of each voxel. "
                "Set its `storage: sparse` in config.yaml and run snakemake again, or leave sparse out"
            )
    return "stored" if blend_on_device else "sparse" if sparse else "dense"
