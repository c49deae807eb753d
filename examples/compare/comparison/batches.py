"""The batches of a training, which depend on the seed and the fold alone: all rows of a seed see the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from softlabels.classes import LabelClass, class_masks
from softlabels.loader import EpochSampler, RandomFlip, SoftLabelDataset
from softlabels.training.augmentation import Sample
from softlabels.training.patches import padded, patch_windows


class WithReference:
    """A transform that puts the true soft label in the place of the target's, then mirrors.

    Parameters
    ----------
    references : mapping of str to (C, D, H, W) float32 array
        By case id.
    flip : RandomFlip or None
    """

    augmentations = ("flip",)

    def __init__(self, references: Mapping[str, NDArray[np.float32]], flip: RandomFlip | None) -> None:
        self.references, self.flip = references, flip

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Return the sample with the truth of its window as soft label; outside the volume, the background."""
        truth = self.references[sample["case_id"]]
        size = (1,) * (3 - sample["labels"].ndim) + tuple(sample["labels"].shape)
        window, place = patch_windows(sample["origin"].tolist(), size, truth.shape[1:])
        part = truth[(slice(None), *(slice(*pair) for pair in window))]
        fill = [1.0] + [0.0] * (len(truth) - 1)
        patch = padded(part, place, size, fill).reshape(len(truth), *sample["labels"].shape)
        replaced = {**sample, "soft_label": torch.from_numpy(np.ascontiguousarray(patch)).to(sample["image"].dtype)}
        return replaced if self.flip is None else self.flip(replaced, rng)


def training_set(
    index: str,
    targets: Sequence[str],
    cases: Sequence[str],
    *,
    seed: int,
    patch_size: Sequence[int],
    foreground_fraction: float,
    flip_axes: Sequence[int],
    references: Mapping[str, NDArray[np.float32]] | None = None,
) -> SoftLabelDataset:
    """Return random patches of cases with the soft label of a row.

    Parameters
    ----------
    targets : sequence of str
        Of the index; with `references`, the one whose classes the references have.
    references : mapping, optional
        Train on these instead of the target.
    """
    flip = RandomFlip(flip_axes) if flip_axes else None
    return SoftLabelDataset(
        index,
        target=targets[0],
        further_targets=targets[1:],
        cases=cases,
        patch_size=patch_size,
        foreground_fraction=foreground_fraction,
        seed=seed,
        transform=flip if references is None else WithReference(references, flip),
    )


def soft_label_of(batch: Mapping[str, Any], names: Sequence[str], picks: Sequence[tuple[int, int]]) -> Tensor:
    """Return the soft label of a row (B, C, ...), each channel from one of its targets.

    Parameters
    ----------
    batch : mapping
        With `soft_label` of the first target and `soft_label_<name>` of the others.
    names : sequence of str
        The targets.
    picks : sequence of (int, int)
        For each channel, which of the targets and which of its channels.

    Examples
    --------
    >>> batch = {"soft_label": torch.tensor([[[1.0], [2.0]]]), "soft_label_b": torch.tensor([[[3.0], [4.0]]])}
    >>> soft_label_of(batch, ["a", "b"], [(0, 1), (1, 1)]).flatten().tolist()
    [2.0, 4.0]
    """
    keys = ["soft_label", *(f"soft_label_{name}" for name in names[1:])]
    return torch.stack([batch[keys[number]][:, channel] for number, channel in picks], dim=1)


def onehot_of(labels: Tensor, classes: Sequence[LabelClass]) -> Tensor:
    """Return hard labels (B, ...) as (B, C, ...) float32 masks of classes."""
    return torch.from_numpy(class_masks(labels.numpy(), classes)).movedim(0, 1).float()


def stream(
    dataset: SoftLabelDataset, *, batch_size: int, steps: int, seed: int, done: int = 0, workers: int = 0
) -> Iterator[dict[str, Any]]:
    """Yield the batches of a training after the first `done`; each sample is another patch.

    One epoch has all samples of the training, so that its order depends on the seed alone.
    """
    sampler = EpochSampler(dataset, num_samples=batch_size * steps, seed=seed)
    sampler.load_state_dict({**sampler.state_dict(), "done": batch_size * done})
    yield from DataLoader(dataset, batch_size=batch_size, sampler=sampler, num_workers=workers)


def chained(digest: str, seen: Sequence[Tensor], cases: Sequence[str]) -> str:
    """Return the digest of all batches so far and this one.

    Parameters
    ----------
    digest : str
        Of all before this one; "" at the beginning.
    seen : sequence of tensors
        Of the batch, what all rows must see alike: everything but soft labels.
    cases : sequence of str
        The case of each sample.
    """
    content = sha256(digest.encode())
    for values in seen:
        content.update(values.contiguous().numpy().tobytes())
    content.update("/".join(cases).encode())
    return content.hexdigest()
