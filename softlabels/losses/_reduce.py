"""What all losses share: checks of shapes and types, means and sums where valid."""

from __future__ import annotations

from typing import overload

import torch
import torch.distributed as dist
from torch import Tensor

from softlabels.errors import InputError
from softlabels.sparse import SparseLabel


def matched(prediction: Tensor, target: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return both in one floating type of at least 32 bits, 0 where not valid; refuse what would broadcast.

    The zeros come first: a NaN that is left out of the sum only at the end still makes the gradient NaN, as 0 times NaN
    is NaN.
    """
    if isinstance(target, SparseLabel):
        raise InputError(
            "loss: got a sparse target, expected a dense one: pass softlabels.losses.to_dense(target, n_classes)"
        )
    if prediction.shape != target.shape or prediction.ndim < 3:
        raise InputError(
            f"loss: prediction {tuple(prediction.shape)} and target {tuple(target.shape)}, expected one shape "
            "(B, C, ...). Give the network one output for each class of the target; one-hot encode integer labels first"
        )
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    prediction, target = prediction.to(dtype), target.to(dtype)
    if valid is None:
        return prediction, target
    keep = kept(prediction, valid)
    return torch.where(keep, prediction, 0), torch.where(keep, target, 0)


@overload
def like(weight: Tensor, prediction: Tensor) -> Tensor: ...


@overload
def like(weight: Tensor | None, prediction: Tensor) -> Tensor | None: ...


def like(weight: Tensor | None, prediction: Tensor) -> Tensor | None:
    """Return class weights in the type and on the device of the prediction."""
    if weight is not None and weight.shape != prediction.shape[1:2]:
        raise InputError(
            f"loss: weight got shape {tuple(weight.shape)}, expected one per class, ({prediction.shape[1]},)"
        )
    return None if weight is None else weight.to(prediction)


def kept(values: Tensor, valid: Tensor) -> Tensor:
    """Return `valid` with the channels of (B, C, ...) values."""
    if valid.dtype != torch.bool or valid.shape != values[:, 0].shape:
        got, expected = (valid.dtype, tuple(valid.shape)), tuple(values[:, 0].shape)
        raise InputError(f"loss: valid got {got}, expected bool {expected}, (B, ...)")
    return valid[:, None].expand_as(values)


def mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Return the mean of (B, ...) or (B, C, ...) values where valid; 0 if that is nowhere."""
    if valid is None:
        return values.mean()
    keep = kept(values, valid) if values.ndim > valid.ndim else kept(values[:, None], valid)[:, 0]
    return torch.where(keep, values, 0).sum() / keep.sum().clamp_min(1)


def sums(parts: tuple[Tensor, ...], valid: Tensor | None, over_batch: bool) -> list[Tensor]:
    """Return the sum over valid voxels of each part: (B, C), or (C,) over the batch."""
    if valid is not None:
        parts = tuple(torch.where(kept(part, valid), part, 0) for part in parts)
    totals = [part.flatten(2).sum(2) for part in parts]
    return [total.sum(0) for total in totals] if over_batch else totals


def over_processes(parts: list[Tensor]) -> list[Tensor]:
    """Return the sums of all processes of torch.distributed, gradients included; `parts` where there is one process.

    The gradient that reaches a process is summed over all of them, so that the mean that DistributedDataParallel takes
    is the gradient of one loss on the joint batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return parts
    from torch.distributed.nn.functional import all_reduce

    return list(all_reduce(torch.stack(parts)).unbind())
