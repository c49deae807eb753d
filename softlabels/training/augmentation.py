"""Transforms of samples, and the contract that says which ones leave a target valid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from softlabels.errors import InputError

#: A sample of `SoftLabelDataset`: tensors by name, and the case id.
Sample = dict[str, Any]


def check_transform(transform: Any, target: str, allowed: Mapping[str, bool]) -> None:
    """Raise InputError if a target forbids what a transform says it does.

    Parameters
    ----------
    transform : callable or None
        What it does is in its attribute `augmentations`, a sequence of names; without one nothing is checked.
    target : str
        For the message.
    allowed : mapping of str to bool
        The target's contract.
    """
    forbidden = [kind for kind in getattr(transform, "augmentations", ()) if not allowed.get(kind, False)]
    if forbidden:
        raise InputError(
            f"transform: does {', '.join(forbidden)}, which would make target {target!r} wrong "
            f"(it allows {', '.join(k for k, v in allowed.items() if v) or 'none'}). Leave it out"
        )


class RandomFlip:
    """A transform that mirrors each axis with probability 1/2; exact for every target whose contract allows "flip".

    Parameters
    ----------
    axes : tuple of ints, optional
        Of the patch (0 is z in 3D, y in 2D); by default all.

    Examples
    --------
    >>> sample = {name: torch.arange(3).reshape(1, 1, 3) for name in ("image", "labels", "soft_label", "valid")}
    >>> flipped = RandomFlip(axes=(2,))(sample, np.random.default_rng(1))
    >>> flipped["labels"].tolist() in ([[[0, 1, 2]]], [[[2, 1, 0]]])
    True
    """

    augmentations = ("flip",)

    def __init__(self, axes: Sequence[int] | None = None) -> None:
        self.axes = axes

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with some axes mirrored; the one passed is not modified."""
        n_axes = sample["labels"].ndim
        axes = tuple(range(n_axes)) if self.axes is None else self.axes
        dims = [axis - n_axes for axis in axes if rng.random() < 0.5]
        names = [name for name in sample if name in ("image", "labels", "valid") or name.startswith("soft_label")]
        mirrored = {name: torch.flip(sample[name], dims) for name in names}
        if "affine" in sample:
            mirrored["affine"] = _mirrored_affine(sample["affine"], dims, sample["labels"].shape)
        return {**sample, **mirrored}


def _mirrored_affine(affine: torch.Tensor, dims: Iterable[int], shape: Sequence[int]) -> torch.Tensor:
    """Return the affine (z, y, x, 1) of a volume that was mirrored along some of its last axes, -1 being x.

    Examples
    --------
    >>> _mirrored_affine(torch.eye(4), [-1], (5, 5, 3))[2].tolist()
    [0.0, 0.0, -1.0, 2.0]
    """
    mirrored = affine.clone()
    for dim in dims:
        mirrored[:, 3] += mirrored[:, 3 + dim] * (shape[dim] - 1)
        mirrored[:, 3 + dim] *= -1
    return mirrored
