"""Losses on overlap: plain Dice for hard targets, the two metric losses for all."""

from __future__ import annotations

from torch import Tensor

from softlabels.losses._reduce import matched, sums


def dice_loss(
    probabilities: Tensor,
    target: Tensor,
    *,
    smooth: float = 1e-5,
    valid: Tensor | None = None,
    over_batch: bool = False,
) -> Tensor:
    """Return plain soft Dice, for HARD targets: ``1 - (2 sum p y + s) / (sum p + sum y + s)``, mean over classes.

    On fractional targets it is wrong: a lone voxel with target 0.5 has its minimum at p = 1. Use `dice_metric_loss`,
    which is the same on hard targets.

    Parameters
    ----------
    probabilities, target : (B, C, ...) tensors
        After softmax or sigmoid; one-hot or regions. To leave the background out, pass ``[:, 1:]`` of both.
    smooth : float
        s, >= 0: makes a class that is neither there nor predicted cost 0.
    valid : (B, ...) bool tensor, optional
        Where to look.
    over_batch : bool
        Sum over the batch before dividing, instead of averaging the samples.

    Examples
    --------
    >>> import torch
    >>> p, y = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0]]])
    >>> f"{dice_loss(p, y, smooth=0):.2f}"  # 1 - 2 * 0.5 / (1 + 1)
    '0.50'
    """
    probabilities, target = matched(probabilities, target, valid)
    overlap, p, y = sums((probabilities * target, probabilities, target), valid, over_batch)
    return (1 - (2 * overlap + smooth) / (p + y + smooth)).mean()


def jaccard_metric_loss(
    probabilities: Tensor,
    target: Tensor,
    *,
    smooth: float = 1e-3,
    valid: Tensor | None = None,
    over_batch: bool = False,
) -> Tensor:
    """Return the Jaccard metric loss of Wang, Ning and Blaschko (NeurIPS 2023), mean over classes.

    ``1 - (t + s) / (u + s)`` with the overlap ``t = (|p|_1 + |q|_1 - |p - q|_1) / 2`` and the union
    ``u = (|p|_1 + |q|_1 + |p - q|_1) / 2``: soft Jaccard on hard targets, and 0 exactly at p = q on all others.
    The authors advise to add it to cross-entropy, 0.75 to 0.25.

    Parameters
    ----------
    probabilities, target, smooth, valid, over_batch
        As for `dice_loss`; the target may be fractional.

    Examples
    --------
    >>> import torch
    >>> p, q = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.5]]])
    >>> f"{jaccard_metric_loss(p, q, smooth=0):.4f} {jaccard_metric_loss(q, q):.4f}"  # 1 - 1 / 1.5
    '0.3333 0.0000'
    """
    size, apart = _size_and_difference(probabilities, target, valid, over_batch)
    return (1 - ((size - apart) / 2 + smooth) / ((size + apart) / 2 + smooth)).mean()


def dice_metric_loss(
    probabilities: Tensor,
    target: Tensor,
    *,
    smooth: float = 1e-3,
    valid: Tensor | None = None,
    over_batch: bool = False,
) -> Tensor:
    """Return the Dice semimetric loss of Wang et al. (MICCAI 2023), mean over classes.

    ``1 - (t + s) / ((|p|_1 + |q|_1) / 2 + s)`` with the overlap t of `jaccard_metric_loss`: soft Dice on hard targets,
    and 0 exactly at p = q on all others.

    Parameters
    ----------
    probabilities, target, smooth, valid, over_batch
        As for `dice_loss`; the target may be fractional.

    Examples
    --------
    >>> import torch
    >>> p, q = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.5]]])
    >>> f"{dice_metric_loss(p, q, smooth=0):.4f} {dice_metric_loss(q, q):.4f}"  # 1 - 1 / 1.25
    '0.2000 0.0000'
    """
    size, apart = _size_and_difference(probabilities, target, valid, over_batch)
    return (1 - ((size - apart) / 2 + smooth) / (size / 2 + smooth)).mean()


def _size_and_difference(probabilities: Tensor, target: Tensor, valid: Tensor | None, over_batch: bool) -> list[Tensor]:
    """Return ``|p|_1 + |q|_1`` and ``|p - q|_1`` of non-negative maps."""
    probabilities, target = matched(probabilities, target, valid)
    return sums((probabilities + target, (probabilities - target).abs()), valid, over_batch)
