"""Targets of a few classes a voxel: what the losses share, without a tensor that has all classes of the target."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from softlabels.errors import InputError
from softlabels.losses._reduce import kept, like
from softlabels.sparse import SparseLabel

Target = Tensor | SparseLabel[Tensor]


def matched_sparse(
    prediction: Tensor, target: SparseLabel[Tensor], valid: Tensor | None
) -> tuple[Tensor, SparseLabel[Tensor]]:
    """Return both in one floating type of at least 32 bits, 0 where not valid, and the classes as int64."""
    classes, shares, floor = target
    expected = (prediction.shape[0], classes.shape[1] if classes.ndim > 1 else 0, *prediction.shape[2:])
    if not (classes.shape == shares.shape == expected and prediction.ndim > 2 and floor.shape[:1] == shares.shape[:1]):
        raise InputError(
            f"loss: prediction {tuple(prediction.shape)} and sparse target of classes {tuple(classes.shape)}, "
            f"shares {tuple(shares.shape)}, floor {tuple(floor.shape)}; "
            "expected (B, C, ...), (B, K, ...), (B, K, ...), (B, 0 or 1)"
        )
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    prediction, shares, floor = prediction.to(dtype), shares.to(dtype), floor.to(dtype)
    if valid is not None:
        prediction = torch.where(kept(prediction, valid), prediction, 0)
        shares = torch.where(kept(shares, valid), shares, 0)
    return prediction, SparseLabel(classes.long(), shares, floor)


def expected(
    values: Tensor,
    target: SparseLabel[Tensor],
    of: Callable[[Tensor], Tensor] = lambda values: values,
    *,
    weight: Tensor | None = None,
) -> Tensor:
    """Return ``sum_c w_c q_c of(values_c)`` at each voxel, (B, ...).

    Parameters
    ----------
    values : (B, C, ...) tensor
    target : SparseLabel
        From `matched_sparse`.
    of : callable
        Applied to each value by itself.
    weight : (C,) tensor, optional
        By default 1.
    """
    weight = like(weight, values)
    terms = target.shares * of(values.gather(1, target.classes))
    total = (terms if weight is None else terms * weight[target.classes]).sum(1)
    if not target.floor.shape[1]:
        return total
    everywhere = of(values)
    if weight is not None:
        everywhere = everywhere * weight.view(-1, *[1] * (values.ndim - 2))
    return total + floor_like(target, total) * everywhere.sum(1)


def floor_like(target: SparseLabel[Tensor], values: Tensor) -> Tensor:
    """Return what every class has besides, in a shape that broadcasts over (B, ...) values."""
    return target.floor.reshape(-1, *[1] * (values.ndim - 1))


def class_sums(values: Tensor, target: SparseLabel[Tensor], n_classes: int) -> Tensor:
    """Return the sum over voxels of (B, K, ...) values by the class of their slot, (B, C).

    Millions of values are added one after the other, so this is done in float64.
    """
    exact = values.dtype if values.device.type == "mps" else torch.float64
    zeros = torch.zeros(len(values), n_classes, dtype=exact, device=values.device)
    return zeros.scatter_add(1, target.classes.flatten(1), values.flatten(1).to(exact)).to(values.dtype)


def to_dense(target: SparseLabel[Tensor], n_classes: int) -> Tensor:
    """Return the share of every class of a batch, on its device, for losses that take dense targets only.

    Parameters
    ----------
    target : SparseLabel of (B, K, ...) tensors
    n_classes : int
        C.

    Returns
    -------
    (B, C, ...) tensor

    Examples
    --------
    >>> few = SparseLabel(torch.tensor([[[2], [0]]]), torch.tensor([[[0.75], [0.25]]]), torch.zeros(1, 0))
    >>> to_dense(few, 3)
    tensor([[[0.2500],
             [0.0000],
             [0.7500]]])
    """
    classes, shares, floor = target
    dense = shares.new_zeros(len(shares), n_classes, *shares.shape[2:])
    if floor.shape[1]:
        dense = dense + floor.to(shares.dtype).reshape(-1, *[1] * (dense.ndim - 1))
    return dense.scatter_add(1, classes.long(), shares)


def without_background(target: Target) -> Target:
    """Return a target without its first class, for overlap losses that leave the background out.

    Parameters
    ----------
    target : (B, C, ...) tensor, or SparseLabel of (B, K, ...) tensors

    Returns
    -------
    The same with C - 1 classes; of a sparse target, a class keeps its slot.

    Examples
    --------
    >>> few = SparseLabel(torch.tensor([[[2], [0]]]), torch.tensor([[[0.75], [0.25]]]), torch.zeros(1, 0))
    >>> to_dense(without_background(few), 2).flatten()
    tensor([0.0000, 0.7500])
    """
    if not isinstance(target, SparseLabel):
        return target[:, 1:]
    classes = target.classes.long()
    return SparseLabel((classes - 1).clamp_min(0), torch.where(classes > 0, target.shares, 0), target.floor)
