"""Losses on overlap: plain Dice for hard targets, the two metric losses for all."""

from __future__ import annotations

from torch import Tensor

from softlabels.errors import InputError
from softlabels.losses._reduce import matched, over_processes, sums
from softlabels.losses._sparse import Target, class_sums, matched_sparse
from softlabels.sparse import SparseLabel


def dice_loss(
    probabilities: Tensor,
    target: Target,
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
    probabilities : (B, C, ...) tensor
        After softmax or sigmoid. To leave the background out, pass ``[:, 1:]``.
    target : (B, C, ...) tensor, or SparseLabel of (B, K, ...) tensors
        One-hot or regions. To leave the background out, pass `without_background` of it.
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
    if isinstance(target, SparseLabel):
        probabilities, target = matched_sparse(probabilities, target, valid)
        p, y = _sizes(probabilities, target, valid)
        at_target = probabilities.gather(1, target.classes)
        overlap = class_sums(at_target * target.shares, target, probabilities.shape[1]) + _floor(target) * p
        overlap, p, y = _over([overlap, p, y], over_batch)
    else:
        probabilities, target = matched(probabilities, target, valid)
        overlap, p, y = sums((probabilities * target, probabilities, target), valid, over_batch)
    return (1 - (2 * overlap + smooth) / (p + y + smooth)).mean()


def jaccard_metric_loss(
    probabilities: Tensor,
    target: Target,
    *,
    smooth: float = 1e-3,
    valid: Tensor | None = None,
    over_batch: bool = False,
    over_ranks: bool = False,
) -> Tensor:
    """Return the Jaccard metric loss of Wang, Ning and Blaschko (NeurIPS 2023), mean over classes.

    ``1 - (t + s) / (u + s)`` with the overlap ``t = (|p|_1 + |q|_1 - |p - q|_1) / 2`` and the union
    ``u = (|p|_1 + |q|_1 + |p - q|_1) / 2``: soft Jaccard on hard targets, and 0 exactly at p = q on all others.
    The authors advise to add it to cross-entropy, 0.75 to 0.25.

    Parameters
    ----------
    probabilities, target, smooth, valid, over_batch
        As for `dice_loss`; the target may be fractional.
    over_ranks : bool
        Sum over the batches of all processes of torch.distributed as well; needs `over_batch`.

    Examples
    --------
    >>> import torch
    >>> p, q = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.5]]])
    >>> f"{jaccard_metric_loss(p, q, smooth=0):.4f} {jaccard_metric_loss(q, q):.4f}"  # 1 - 1 / 1.5
    '0.3333 0.0000'
    """
    size, apart = _joined(_size_and_difference(probabilities, target, valid, over_batch), over_batch, over_ranks)
    return (1 - ((size - apart) / 2 + smooth) / ((size + apart) / 2 + smooth)).mean()


def dice_metric_loss(
    probabilities: Tensor,
    target: Target,
    *,
    smooth: float = 1e-3,
    valid: Tensor | None = None,
    over_batch: bool = False,
    over_ranks: bool = False,
) -> Tensor:
    """Return the Dice semimetric loss of Wang et al. (MICCAI 2023), mean over classes.

    ``1 - (t + s) / ((|p|_1 + |q|_1) / 2 + s)`` with the overlap t of `jaccard_metric_loss`: soft Dice on hard targets,
    and 0 exactly at p = q on all others.

    Parameters
    ----------
    probabilities, target, smooth, valid, over_batch, over_ranks
        As for `jaccard_metric_loss`.

    Examples
    --------
    >>> import torch
    >>> p, q = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.5]]])
    >>> f"{dice_metric_loss(p, q, smooth=0):.4f} {dice_metric_loss(q, q):.4f}"  # 1 - 1 / 1.25
    '0.2000 0.0000'
    """
    size, apart = _joined(_size_and_difference(probabilities, target, valid, over_batch), over_batch, over_ranks)
    return (1 - ((size - apart) / 2 + smooth) / (size / 2 + smooth)).mean()


def _size_and_difference(probabilities: Tensor, target: Target, valid: Tensor | None, over_batch: bool) -> list[Tensor]:
    """Return ``|p|_1 + |q|_1`` and ``|p - q|_1`` of non-negative maps."""
    if not isinstance(target, SparseLabel):
        probabilities, target = matched(probabilities, target, valid)
        return sums((probabilities + target, (probabilities - target).abs()), valid, over_batch)
    probabilities, target = matched_sparse(probabilities, target, valid)
    p, y = _sizes(probabilities, target, valid)
    at_target, apart = probabilities.gather(1, target.classes), p
    if target.floor.shape[1]:
        floor = target.floor.reshape(-1, *[1] * (probabilities.ndim - 1))
        (apart,) = sums(((probabilities - floor).abs(),), valid, False)
        at_target = at_target - floor
        moved = (at_target - target.shares).abs() - at_target.abs()
    else:
        moved = (at_target - target.shares).abs() - at_target
    # All classes as if they had no share but the floor, and then those that have one.
    apart = apart + class_sums(moved, target, probabilities.shape[1])
    return _over([p + y, apart], over_batch)


def _joined(parts: list[Tensor], over_batch: bool, over_ranks: bool) -> list[Tensor]:
    """Return sums over a batch, or over those of all processes."""
    if over_ranks and not over_batch:
        raise InputError("over_ranks: got True without over_batch, expected both; samples have no partner elsewhere")
    return over_processes(parts) if over_ranks else parts


def _sizes(probabilities: Tensor, target: SparseLabel[Tensor], valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return ``|p|_1`` and ``|q|_1`` of each sample and class, (B, C)."""
    (p,) = sums((probabilities,), None, False)
    n_valid = probabilities[0, 0].numel() if valid is None else valid.flatten(1).sum(1, keepdim=True)
    return p, class_sums(target.shares, target, probabilities.shape[1]) + _floor(target) * n_valid


def _floor(target: SparseLabel[Tensor]) -> Tensor:
    """Return what every class has besides, (B, 1); 0 if there is no such share."""
    return target.floor.sum(1, keepdim=True)


def _over(parts: list[Tensor], over_batch: bool) -> list[Tensor]:
    """Return (B, C) sums, or their (C,) sums over the batch."""
    return [part.sum(0) for part in parts] if over_batch else parts
