"""Losses on class distributions: cross-entropy, KL, focal, and the sum that superpixel softening trains with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from softlabels.errors import InputError
from softlabels.losses._reduce import kept, like, matched, mean
from softlabels.losses._sparse import Target, expected, floor_like, matched_sparse
from softlabels.losses.overlap import dice_loss
from softlabels.sparse import SparseLabel


def soft_cross_entropy(
    logits: Tensor, target: Target, *, weight: Tensor | None = None, valid: Tensor | None = None
) -> Tensor:
    """Return the cross-entropy with a target distribution, the loss of GeoLS (Eqs. 1, 6), LS and SVLS.

    Mean over voxels of ``-sum_c w_c q_c log p_c`` with ``p = softmax(logits)``. PyTorch's own cross_entropy computes it
    and is right on fractional targets. It divides by the number of voxels, not by the sum of weights as it does with
    integer labels. A target that does not sum to one acts as a weight of its voxel.

    Parameters
    ----------
    logits : (B, C, ...) tensor
        Scores before softmax.
    target : (B, C, ...) tensor, or SparseLabel of (B, K, ...) tensors
        Probabilities, one-hot or soft; or those of the few classes of each voxel, as the loader gives them.
    weight : (C,) tensor, optional
        One factor per class.
    valid : (B, ...) bool tensor, optional
        Where to look.

    Examples
    --------
    >>> logits = torch.tensor([[[0.0], [0.0]]])
    >>> f"{soft_cross_entropy(logits, torch.tensor([[[0.3], [0.7]]])):.4f}"  # log 2
    '0.6931'
    """
    if isinstance(target, SparseLabel):
        logits, target = matched_sparse(logits, target, valid)
        return mean(-expected(functional.log_softmax(logits, 1), target, weight=weight), valid)
    logits, target = matched(logits, target, valid)
    return mean(functional.cross_entropy(logits, target, like(weight, logits), reduction="none"), valid)


def soft_binary_cross_entropy(logits: Tensor, target: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of regions that may overlap, each a binary problem of its own.

    Mean over voxels and regions of ``-q log p - (1 - q) log(1 - p)`` with ``p = sigmoid(logits)``. PyTorch's own
    binary_cross_entropy_with_logits computes it and is right on fractional targets.

    Parameters
    ----------
    logits, target : (B, C, ...) tensors
        Scores before the sigmoid; probabilities in [0, 1].
    valid : (B, ...) bool tensor, optional
        Where to look.

    Examples
    --------
    >>> f"{soft_binary_cross_entropy(torch.zeros(1, 2, 1), torch.tensor([[[0.3], [1.0]]])):.4f}"  # log 2
    '0.6931'
    """
    logits, target = matched(logits, target, valid)
    return mean(functional.binary_cross_entropy_with_logits(logits, target, reduction="none"), valid)


def kl_divergence(logits: Tensor, target: Target, *, valid: Tensor | None = None) -> Tensor:
    """Return the Kullback-Leibler divergence from prediction to target, L_KL of superpixel softening (Eq. 2).

    Mean over voxels of ``sum_c q_c log(q_c / p_c)`` with ``0 log 0 = 0``: soft cross-entropy less the entropy of the
    target, so the gradients are the same and the minimum is 0. PyTorch's kl_div computes the terms. Superpixel targets
    need not sum to one; the value may then be negative.

    Parameters
    ----------
    logits, target, valid
        As for `soft_cross_entropy`.

    Examples
    --------
    >>> q = torch.tensor([[[0.25], [0.75]]])
    >>> f"{kl_divergence(torch.zeros(1, 2, 1), q):.4f}"  # log 2 - H(1/4)
    '0.1308'
    """
    if isinstance(target, SparseLabel):
        logits, target = matched_sparse(logits, target, valid)
        cross_entropy = -expected(functional.log_softmax(logits, 1), target)
        return mean(_negative_entropy(target, logits.shape[1]) + cross_entropy, valid)
    logits, target = matched(logits, target, valid)
    terms = functional.kl_div(functional.log_softmax(logits, 1), target, reduction="none")
    return mean(terms.sum(1), valid)


def _negative_entropy(target: SparseLabel[Tensor], n_classes: int) -> Tensor:
    """Return ``sum_c q_c log q_c`` at each voxel, (B, ...)."""
    if not target.floor.shape[1]:
        return torch.xlogy(target.shares, target.shares).sum(1)
    floor = floor_like(target, target.shares)
    of_floor = torch.xlogy(floor, floor)
    # A slot that is not in use has the floor like all other classes: it adds nothing.
    raised = torch.xlogy(target.shares + floor, target.shares + floor) - of_floor
    return raised.sum(1) + n_classes * of_floor[:, 0]


def focal_loss(
    logits: Tensor,
    target: Target,
    *,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the focal loss of Lin et al. (ICCV 2017, Eq. 4) over softmax, a baseline of GeoLS.

    Mean over voxels of ``-sum_c w_c q_c (1 - p_c)^gamma log p_c``. It takes any target, but its minimum is at ``p = q``
    only for hard ones or gamma 0: at gamma 2 the target (0.8, 0.2) is met best by (0.63, 0.37).

    Parameters
    ----------
    logits, target, weight, valid
        As for `soft_cross_entropy`.
    gamma : float
        0 (cross-entropy) or >= 1; the GeoLS paper gives none, 2 is from Lin et al.

    Examples
    --------
    >>> f"{focal_loss(torch.zeros(1, 2, 1), torch.tensor([[[1.0], [0.0]]])):.4f}"  # 0.25 log 2
    '0.1733'
    """
    if not (gamma == 0 or gamma >= 1):
        raise InputError(f"focal loss: gamma got {gamma!r}, expected 0 or >= 1")

    def focal(log_p: Tensor) -> Tensor:
        # 1 - p from log p keeps its digits where p is near 1.
        return (-torch.expm1(log_p)).clamp_min(0) ** gamma * log_p

    if isinstance(target, SparseLabel):
        logits, target = matched_sparse(logits, target, valid)
        return mean(-expected(functional.log_softmax(logits, 1), target, focal, weight=weight), valid)
    logits, target = matched(logits, target, valid)
    terms = -target * focal(functional.log_softmax(logits, 1))
    if weight is not None:
        terms = terms * like(weight, terms).view(-1, *[1] * (terms.ndim - 2))
    return mean(terms.sum(1), valid)


def inverse_log_frequency(onehot: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Return the class weights ``1 / log(1.02 + f_c)`` of superpixel softening's WCE, f_c the share of class c.

    Parameters
    ----------
    onehot : (B, C, ...) tensor
        Hard labels.
    valid : (B, ...) bool tensor, optional
        Where to count.

    Returns
    -------
    (C,) tensor
        For `soft_cross_entropy` and `superpixel_loss`.

    Examples
    --------
    >>> inverse_log_frequency(torch.tensor([[[1, 1, 1, 1], [0, 0, 0, 0]]]))  # 1 / log 2.02, 1 / log 1.02
    tensor([ 1.4223, 50.4984])
    """
    onehot, _ = matched(onehot, onehot, valid)
    keep = torch.ones_like(onehot[:, 0]) if valid is None else kept(onehot, valid)[:, 0]
    frequency = (onehot * keep[:, None]).transpose(0, 1).flatten(1).sum(1) / keep.sum()
    return 1 / torch.log(1.02 + frequency)


def superpixel_loss(
    logits: Tensor,
    soft: Target,
    onehot: Tensor,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    weight: Tensor | None = None,
    valid: Tensor | None = None,
) -> Tensor:
    """Return ``L_CE + alpha L_Dice + beta L_KL`` of superpixel-guided softening (Eqs. 2, 3 and the text below).

    Cross-entropy and Dice see the hard labels, KL the soft ones. The paper prints no formula for Dice; `dice_loss` over
    all classes is used.

    Parameters
    ----------
    logits, soft, onehot : (B, C, ...) tensors
        Scores before softmax, softened labels, hard labels.
    alpha, beta : float
        1 and 1 in the paper; alpha 0 on OCT, where Dice did harm.
    weight : (C,) tensor, optional
        `inverse_log_frequency` of the labels gives the paper's WCE.
    valid : (B, ...) bool tensor, optional
        Where to look.

    Examples
    --------
    >>> y = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> f"{superpixel_loss(torch.zeros(1, 2, 2), y, y):.4f}"  # log 2 + 1/2 + log 2
    '1.8863'
    """
    logits, onehot = matched(logits, onehot, valid)
    hard_part = soft_cross_entropy(logits, onehot, weight=weight, valid=valid)
    overlap_part = dice_loss(logits.softmax(1), onehot, valid=valid)
    return hard_part + alpha * overlap_part + beta * kl_divergence(logits, soft, valid=valid)
