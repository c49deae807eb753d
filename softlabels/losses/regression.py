"""Losses on signed maps: Focal-L1, L1, L2, product, and the boundary loss on level sets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from softlabels.losses._reduce import matched, mean, sums


def focal_l1(
    prediction: Tensor,
    target: Tensor,
    *,
    gamma: float = 1.0,
    eps: float = 0.0,
    simplified: bool = False,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the Focal-L1 loss of SiNGR (Eq. 6).

    Mean over voxels and channels of ``w |S - Z|`` with ``w = |S - Z|^(gamma [S Z >= 0]) / (max(|S|, |Z|) + eps)``.
    The weight lets easy voxels (right sign) count less; no gradient runs through it. Where S = Z = 0 the loss is 0.

    Parameters
    ----------
    prediction, target : (B, C, ...) tensors
        Z, after tanh, and the signed map S.
    gamma, eps : float
        1 and 0 in the paper.
    simplified : bool
        The dagger form of Table 3: ``w = |S - Z|^gamma`` everywhere.
    valid : (B, ...) bool tensor, optional
        Where to look.

    Examples
    --------
    >>> z, s = torch.tensor([[[0.5, -0.5]]]), torch.tensor([[[1.0, 1.0]]])
    >>> f"{focal_l1(z, s):.3f} {focal_l1(z, s, simplified=True):.3f}"  # (0.25 + 1.5) / 2, (0.25 + 2.25) / 2
    '0.875 1.250'
    """
    prediction, target = matched(prediction, target, valid)
    apart = (prediction - target).abs()
    with torch.no_grad():
        if simplified:
            weight = apart**gamma
        else:
            scale = torch.maximum(prediction.abs(), target.abs()) + eps
            weight = apart ** (gamma * (prediction * target >= 0)) / scale.clamp_min(torch.finfo(scale.dtype).tiny)
    return mean(weight * apart, valid)


def l1_loss(prediction: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return the mean over voxels and channels of ``|p - q|``: PyTorch's l1_loss with a mask.

    Examples
    --------
    >>> float(l1_loss(torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[1.0, 1.0]]])))
    1.25
    """
    prediction, target = matched(prediction, target, valid)
    return mean(functional.l1_loss(prediction, target, reduction="none"), valid)


def l2_loss(prediction: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return the mean over voxels and channels of ``(p - q)^2``: PyTorch's mse_loss with a mask.

    Examples
    --------
    >>> float(l2_loss(torch.tensor([[[0.5, -1.0]]]), torch.tensor([[[1.0, 1.0]]])))
    2.125
    """
    prediction, target = matched(prediction, target, valid)
    return mean(functional.mse_loss(prediction, target, reduction="none"), valid)


def product_loss(prediction: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return the product loss plus L1 of shape-aware regression (Xue et al., AAAI 2020).

    ``-(y.p) / (y.p + |p|^2 + |y|^2) + mean |p - y|``: sums over the voxels of each sample and channel, then the mean
    over both, so that several regions work (SiNGR's code takes one channel). Smallest, at -1/3, where p = y.

    Parameters
    ----------
    prediction, target : (B, C, ...) tensors
        After tanh; the signed map.
    valid : (B, ...) bool tensor, optional
        Where to look.

    Examples
    --------
    >>> y = torch.tensor([[[0.5, -1.0]]])
    >>> f"{product_loss(y, y):.4f} {product_loss(-y, y):.4f}"  # -1/3; 1 + 1.5
    '-0.3333 2.5000'
    """
    prediction, target = matched(prediction, target, valid)
    product, p, y = sums((prediction * target, prediction**2, target**2), valid, False)
    ratio = product / (product + p + y).clamp_min(torch.finfo(product.dtype).tiny)
    return l1_loss(prediction, target, valid=valid) - ratio.mean()


def boundary_loss(probabilities: Tensor, level_set: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return the boundary loss of Kervadec et al. (MIDL 2019) on stored level sets: the mean of ``p phi``.

    phi is negative inside the class and positive outside, so the loss falls while p moves inside. Its minimum is the
    mask itself, but far from it the loss hardly steers, and a class of few voxels may vanish: add a region loss,
    weighted by one of the schedules in `softlabels.losses.schedules`.

    Parameters
    ----------
    probabilities : (B, K, ...) tensor
        After softmax, of the K classes that the loss is for (the authors often take the foreground only).
    level_set : (B, K, ...) tensor
        The target of method ``level_set``; in mm or voxels, which sets the scale of the loss.
    valid : (B, ...) bool tensor, optional
        Where to look.

    Examples
    --------
    >>> phi = torch.tensor([[[-1.0, 0.0, 2.0]]])
    >>> f"{boundary_loss(torch.tensor([[[1.0, 0.5, 0.5]]]), phi):.2f}"  # (-1 + 0 + 1) / 3
    '0.00'
    """
    probabilities, level_set = matched(probabilities, level_set, valid)
    return mean(probabilities * level_set, valid)
