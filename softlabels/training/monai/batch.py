"""Batches of soft labels for MONAI's engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from softlabels.errors import InputError


def prepare_batch(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the image of a batch, and what a loss of `softlabels.losses` takes besides the scores.

    For SupervisedTrainer::

        SupervisedTrainer(
            ...,
            prepare_batch=prepare_batch,
            loss_function=lambda scores, batch: soft_cross_entropy(scores, **batch),
        )

    Parameters
    ----------
    batch : mapping
        With `image`, `soft_label` and `valid`, from a SoftLabelDataset (``valid`` is (B, ...)) or from `data_list`
        (``valid`` is (B, 1, ...)).
    device, non_blocking, **kwargs
        As for `torch.Tensor.to`, for image and soft label.

    Returns
    -------
    image : (B, M, ...) tensor
    arguments : dict
        `target`, the (B, C, ...) soft label, and `valid`, (B, ...) bool.

    Raises
    ------
    InputError
        If the batch lacks one of them.
    """
    if missing := [name for name in ("image", "soft_label", "valid") if name not in batch]:
        raise InputError(f"batch: has no {', '.join(missing)}, only {', '.join(batch)}. Load them too (data_list)")
    image, soft, valid = (_plain(batch[name]) for name in ("image", "soft_label", "valid"))
    image, soft = (volume.to(device=device, non_blocking=non_blocking, **kwargs) for volume in (image, soft))
    valid = valid.to(device=device, non_blocking=non_blocking) > 0
    return image, {"target": soft, "valid": valid[:, 0] if valid.ndim == soft.ndim else valid}


def _plain(volume: Tensor) -> Tensor:
    """Return a MetaTensor as a tensor: the loss needs no affine."""
    return volume.as_tensor() if hasattr(volume, "as_tensor") else volume
