"""Transforms of samples: the check of their contract, mirroring, and what every spatial transform must see to."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from softlabels.augmentation import Contract, allowed_names, expanded
from softlabels.errors import InputError
from softlabels.sparse import SparseLabel

#: A sample of `SoftLabelDataset`: tensors by name, and the case id.
Sample = dict[str, Any]
#: Moves volumes (channels, ...) by name, all alike; see `SpatialAugmentation`.
Move = Callable[[dict[str, Tensor], np.random.Generator], Mapping[str, Tensor]]

#: What a sample holds for each voxel, besides the soft labels or stored maps.
_VOLUMES = ("image", "labels", "valid", "inside")
#: What may be done to labels and maps as they are stored, because no value changes.
_EXACT = ("flip", "rot90")
#: The least share of valid voxels in what a voxel was interpolated from: all, but for rounding.
_ALL = 0.999


def check_transform(transform: Any, target: str, allowed: Contract) -> None:
    """Raise InputError if a target forbids what a transform says it does.

    Parameters
    ----------
    transform : object
        What it does is in its attribute `augmentations`, a sequence of names; without one nothing is checked. It may
        run where you like, on batches on the device for instance.
    target : str
        For the message.
    allowed : mapping of str to bool
        The target's contract, such as `SoftLabelDataset.augmentation`.

    Examples
    --------
    >>> check_transform(RandomFlip(), "svls", {"flip": True})
    """
    does = expanded(getattr(transform, "augmentations", ()))
    forbidden = [kind for kind in does if not allowed.get(kind, False)]
    if forbidden:
        raise InputError(
            f"transform: does {', '.join(forbidden)}, which would make target {target!r} wrong "
            f"(it allows {', '.join(allowed_names(allowed)) or 'none'}). Leave it out"
        )


def check_exact(transform: Any, why: str) -> None:
    """Raise InputError if a transform changes more than the places of voxels: `why` says what does not allow it."""
    inexact = [kind for kind in expanded(getattr(transform, "augmentations", ())) if kind not in _EXACT]
    if inexact or isinstance(transform, SpatialAugmentation):
        raise InputError(f"transform: does {', '.join(inexact) or 'interpolate'}, but {why}")


def bound_transform(
    transform: Any, contracts: Mapping[str, Contract], pads: Mapping[str, float | Sequence[float]]
) -> Any:
    """Return a transform for the samples of a data set, checked against the contracts of all its targets.

    Parameters
    ----------
    transform : callable or None
        With a method `with_pads`, as `SpatialAugmentation` has, it is given the pad values.
    contracts : mapping of str to mapping
        By target.
    pads : mapping of str to float, or to one per channel
        What is outside the volume, by name in the sample: image and soft labels.
    """
    for target, allowed in contracts.items():
        check_transform(transform, target, allowed)
    return transform.with_pads(pads) if hasattr(transform, "with_pads") else transform


def checked_keys(keys: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """Return other names for parts of a sample, or raise InputError: known parts, and no name twice.

    Examples
    --------
    >>> checked_keys({"labels": "label"}, ("image", "labels"))
    {'labels': 'label'}
    """
    if unknown := sorted(set(keys) - set(names)):
        raise InputError(f"keys: got {unknown[0]!r}, expected some of {', '.join(names)}")
    renamed = [keys.get(name, name) for name in names]
    if twice := sorted({name for name in renamed if renamed.count(name) > 1}):
        raise InputError(f"keys: got {twice[0]!r} for two parts of the sample, expected another name for each")
    return dict(keys)


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
        names = [name for name in sample if name in _VOLUMES or name.startswith(("soft_label", "stored_map"))]
        mirrored = {name: _mirrored(sample[name], dims) for name in names}
        if "affine" in sample:
            mirrored["affine"] = _mirrored_affine(sample["affine"], dims, sample["labels"].shape)
        return {**sample, **mirrored}


def _mirrored(volume: Tensor | SparseLabel[Tensor], dims: list[int]) -> Tensor | SparseLabel[Tensor]:
    """Return a volume, or the classes and shares of a sparse label, mirrored along some of the last axes."""
    if isinstance(volume, SparseLabel):
        return volume._replace(classes=volume.classes.flip(dims), shares=volume.shares.flip(dims))
    return volume.flip(dims)


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


class SpatialAugmentation:
    """A spatial transform of any library, run so that nothing invented passes for data.

    What comes from outside of the patch is background: intensities are `image_pad`, soft labels have the pad value of
    their target, labels are 0, and `valid` is False there and wherever a voxel was interpolated from one that is not
    valid. For that the pad values are subtracted before the transform, which fills with 0, and added again after it.

    Parameters
    ----------
    move : callable
        `move(volumes, rng)` takes a dict of float tensors (channels, ...): `image`, each soft label, `labels` and
        `valid`, the last two with one channel. It returns the moved ones, interpolated linearly (`labels`: nearest
        neighbour) and 0 where they come from outside. It may return an `affine` too. All randomness comes from rng.
    augmentations : sequence of str
        What it does, in the names of `softlabels.augmentation`.

    Raises
    ------
    InputError
        If a name is unknown; when samples are transformed, if `move` leaves a volume out.

    Notes
    -----
    Pad values come from the data set that the transform is given to.

    Examples
    --------
    >>> def shift(volumes, rng):  # by one voxel to the right
    ...     return {name: torch.nn.functional.pad(v, (1, 0))[..., :-1] for name, v in volumes.items()}
    >>> augment = SpatialAugmentation(shift, ()).with_pads({"image": 5.0, "soft_label": (1.0, 0.0)})
    >>> sample = {"image": torch.zeros(1, 1, 3), "labels": torch.ones(1, 3, dtype=torch.int64)}
    >>> sample |= {"soft_label": torch.tensor([[[0.0] * 3], [[1.0] * 3]]), "valid": torch.ones(1, 3, dtype=torch.bool)}
    >>> moved = augment(sample, np.random.default_rng(0))
    >>> moved["image"].tolist(), moved["valid"].tolist(), moved["soft_label"][0].tolist()
    ([[[5.0, 0.0, 0.0]]], [[False, True, True]], [[1.0, 0.0, 0.0]])
    """

    def __init__(self, move: Move, augmentations: Sequence[str]) -> None:
        self.augmentations = expanded(augmentations)
        self._move = move
        self._pads: Mapping[str, float | Sequence[float]] = {}

    def with_pads(self, pads: Mapping[str, float | Sequence[float]]) -> Self:
        """Return the transform for samples with these pad values; called by the data set."""
        wrong = [name for name, values in pads.items() if not np.isfinite(values).all()]
        if wrong:
            raise InputError(
                f"pad value of {wrong[0]}: got {pads[wrong[0]]}, expected finite numbers to interpolate with"
            )
        bound = copy.copy(self)
        bound._pads = pads
        return bound

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with its volumes moved; the one passed is not modified."""
        shifts = {name: _per_channel(pad, sample[name]) for name, pad in self._pads.items() if name in sample}
        volumes = {name: sample[name] - shift for name, shift in shifts.items()}
        volumes |= {name: sample[name][None].float() for name in ("labels", "valid")}
        moved = dict(self._moved(volumes, sample, rng))
        if lost := sorted(set(volumes) - set(moved)):
            raise InputError(f"{type(self).__name__}: `move` returned no {', '.join(lost)}. Return all volumes")
        moved |= {name: moved[name] + shift for name, shift in shifts.items()}
        moved["labels"] = moved["labels"][0].round().long()
        moved["valid"] = moved["valid"][0] >= _ALL
        return {**sample, **moved}

    def _moved(self, volumes: dict[str, Tensor], sample: Sample, rng: np.random.Generator) -> Mapping[str, Tensor]:
        """Return the moved volumes, and the affine if it is known."""
        return self._move(volumes, rng)


def _per_channel(pad: float | Sequence[float], volume: Tensor) -> Tensor:
    """Return a pad value, or one per channel, in the shape to add to a volume (channels, ...)."""
    values = torch.as_tensor(pad, dtype=volume.dtype, device=volume.device)
    return values.reshape(-1, *[1] * (volume.ndim - 1)) if values.ndim else values
