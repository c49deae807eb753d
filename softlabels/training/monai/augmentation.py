"""MONAI's dictionary transforms on samples of SoftLabelDataset: they move all volumes alike, and obey the contract."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from torch import Tensor

from softlabels.errors import InputError
from softlabels.training.augmentation import Sample, SpatialAugmentation

#: The volumes of a sample, as keys for MONAI's spatial transforms.
KEYS = ("image", "soft_label", "labels", "valid")
#: Their interpolation, for transforms that take a mode for each key.
MODES = ("bilinear", "bilinear", "nearest", "bilinear")

#: What transforms do, in the names of the contract; those of RandAffined depend on its ranges.
_DOES = {
    "Flipd": "flip",
    "RandFlipd": "flip",
    "RandAxisFlipd": "flip",
    "Rotate90d": "rot90",
    "RandRotate90d": "rot90",
    "Rotated": "rotation",
    "RandRotated": "rotation",
    "Zoomd": "rescale",
    "RandZoomd": "rescale",
    "Affined": "affine",
    "Rand2DElasticd": "elastic",
    "Rand3DElasticd": "elastic",
    "GridDistortiond": "elastic",
    "RandGridDistortiond": "elastic",
}
_OF_RANGES = {"rotate_range": "rotation", "shear_range": "shear", "scale_range": "rescale"}
_ZEROS = ("zeros", "constant")


class MonaiAugmentation(SpatialAugmentation):
    """MONAI's dictionary transforms as the `transform` of a SoftLabelDataset.

    What the transforms do is found from their classes and ranges, and checked against the contract of each target. The
    affine of the sample is that of the transformed patch, except after an elastic deformation, which has none.

    Parameters
    ----------
    transforms : transform, or sequence of transforms
        From `monai.transforms`, with names of the sample as keys: spatial ones with all of `KEYS` (and the
        ``soft_label_<name>`` of further targets), transforms of intensity with "image". Axis 0 is z (y in 2D).
    augmentations : sequence of str, optional
        What they do, in the names of `softlabels.augmentation`, for transforms that are not known here.

    Raises
    ------
    InputError
        If a transform would leave invented voxels valid (`padding_mode` other than zeros), moves some volumes and not
        others, blends label values, or is not known.

    Examples
    --------
    Flips, rotations and zoom, then noise on the image::

        augment = MonaiAugmentation(
            [
                RandFlipd(KEYS, prob=0.5, spatial_axis=2),
                RandAffined(KEYS, prob=0.3, rotate_range=0.2, scale_range=0.1, mode=MODES, padding_mode="zeros"),
                RandGaussianNoised("image", prob=0.2, std=0.1),
            ]
        )
        dataset = SoftLabelDataset("results/index.json", target="geols", patch_size=(96, 96, 96), transform=augment)
    """

    def __init__(self, transforms: Any, augmentations: Sequence[str] | None = None) -> None:
        self._compose = Compose(transforms)
        steps = list(_steps(self._compose))
        for step in steps:
            _check_step(step)
        does = _found(steps) if augmentations is None else augmentations
        super().__init__(lambda volumes, rng: volumes, does)
        self._moving = [step for step in steps if "soft_label" in step.keys]

    def with_pads(self, pads: Mapping[str, float | Sequence[float]]) -> Self:
        """Return the transform for samples with these pad values, if it moves all their volumes."""
        for step in self._moving:
            if left_out := sorted({*pads, "labels", "valid"} - set(step.keys)):
                raise InputError(
                    f"{type(step).__name__}: moves {', '.join(step.keys)}, but not {', '.join(left_out)}. "
                    "Give it all of them as keys"
                )
        return super().with_pads(pads)

    def _moved(self, volumes: dict[str, Tensor], sample: Sample, rng: np.random.Generator) -> dict[str, Tensor]:
        """Return the moved volumes as plain tensors, and where the image is now."""
        self._compose.set_random_state(seed=int(rng.integers(2**31)))
        tracked = {
            name: MetaTensor(volume, affine=torch.eye(4, dtype=torch.float64)) for name, volume in volumes.items()
        }
        moved = self._compose(tracked)
        plain = {name: volume.as_tensor() for name, volume in moved.items()}
        return {**plain, "affine": sample["affine"] @ _in_zyx(moved["image"].affine, sample["labels"].ndim)}


def _in_zyx(affine: Tensor, n_axes: int) -> Tensor:
    """Return MONAI's affine of voxels as one of (z, y, x, 1); in 2D its axes are y and x."""
    found = torch.as_tensor(affine, dtype=torch.float64)
    if n_axes == 3:
        return found
    full, own = torch.eye(4, dtype=torch.float64), [0, 1, -1]
    full[1:, 1:] = found[own][:, own]
    return full


def _steps(transform: Any) -> Iterator[Any]:
    """Yield the single transforms of a composition, however deep."""
    for step in transform.transforms if isinstance(transform, Compose) else (transform,):
        if isinstance(step, Compose):
            yield from _steps(step)
        elif not hasattr(step, "keys"):
            raise InputError(
                f"{type(step).__name__}: takes arrays, expected a dictionary transform. Use {type(step).__name__}d"
            )
        else:
            yield step


def _check_step(step: Any) -> None:
    """Raise InputError if a transform would invent valid voxels, move volumes apart or blend labels."""
    name, keys = type(step).__name__, tuple(step.keys)
    if set(keys) == {"image"}:
        if name in _DOES or name == "RandAffined":
            raise InputError(f"{name}: moves image alone, expected all volumes. Give it the keys {', '.join(KEYS)}")
        return
    if left_out := [key for key in KEYS if key not in keys]:
        raise InputError(f"{name}: moves {', '.join(keys)}, but not {', '.join(left_out)}. Give it all of them as keys")
    for key, padding in _by_key(step, "padding_mode"):
        if key != "image" and padding not in _ZEROS:
            expected = "constant" if "Zoom" in name else "zeros"
            raise InputError(
                f"{name}: padding_mode {padding!r} would make invented voxels of {key} valid. "
                f"Give padding_mode={expected!r}"
            )
    for key, mode in _by_key(step, "mode"):
        if key == "labels" and not mode.startswith("nearest") and mode != "0":
            raise InputError(f"{name}: mode {mode!r} would blend label values. Give 'nearest' for labels (mode=MODES)")


def _by_key(step: Any, attribute: str) -> Iterator[tuple[str, str]]:
    """Yield each key of a transform with its own value of an attribute, if it has such."""
    values = getattr(step, attribute, ())
    if isinstance(values, tuple):
        yield from ((key, str(getattr(value, "value", value))) for key, value in zip(step.keys, values, strict=False))


def _found(steps: Sequence[Any]) -> list[str]:
    """Return what transforms do, in the names of the contract."""
    found: list[str] = []
    for step in steps:
        name = type(step).__name__
        if set(step.keys) == {"image"}:
            continue
        if name == "RandAffined":
            grid = step.rand_affine.rand_affine_grid
            found += [kind for attribute, kind in _OF_RANGES.items() if _is_used(getattr(grid, attribute))]
        elif name in _DOES:
            found.append(_DOES[name])
        else:
            raise InputError(
                f"{name}: what it does to a soft label is not known here. Name it: augmentations=(...) with all that "
                "the transforms do; () for translations and crops"
            )
    return found


def _is_used(values: Any) -> bool:
    """Return whether any number in nested tuples is not 0."""
    if isinstance(values, list | tuple):
        return any(map(_is_used, values))
    return bool(values)
