"""Which loss takes which kind of target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from softlabels.errors import InputError
from softlabels.losses.distribution import (
    focal_loss,
    kl_divergence,
    soft_binary_cross_entropy,
    soft_cross_entropy,
    superpixel_loss,
)
from softlabels.losses.overlap import dice_loss, dice_metric_loss, jaccard_metric_loss
from softlabels.losses.regression import boundary_loss, focal_l1, l1_loss, l2_loss, product_loss

_KINDS: dict[Callable[..., Any], tuple[str, ...]] = {
    soft_cross_entropy: ("probability",),
    soft_binary_cross_entropy: ("probability",),
    kl_divergence: ("probability",),
    focal_loss: ("probability",),
    superpixel_loss: ("probability",),
    dice_loss: ("probability",),
    dice_metric_loss: ("probability",),
    jaccard_metric_loss: ("probability",),
    focal_l1: ("signed", "distance"),  # of normalised level sets
    product_loss: ("signed", "distance"),
    l1_loss: ("probability", "signed", "distance"),
    l2_loss: ("probability", "signed", "distance"),
    boundary_loss: ("distance",),
}
_REMEDIES = {
    "probability": "Train with soft_cross_entropy(logits, ...), or soft_binary_cross_entropy where classes overlap",
    "signed": "Train with focal_l1(torch.tanh(scores), ...)",
    "distance": "Train with boundary_loss(probabilities, ...) beside a loss on the hard labels",
}


def check_loss(loss: Callable[..., Any], kind: str, *, target: str = "") -> None:
    """Raise InputError if a loss cannot take a kind of target; call it once, before training.

    A cross-entropy on a signed map, or Focal-L1 on probabilities, fits in shape and may even fall, but the network
    learns nothing of use.

    Parameters
    ----------
    loss : callable
        A function of `softlabels.losses`; any other is not checked.
    kind : {"probability", "signed", "distance"}
        Of the target, as `SoftLabelDataset.kind`.
    target : str, optional
        Its name, for the message.

    Examples
    --------
    >>> check_loss(soft_cross_entropy, "probability")
    >>> try:
    ...     check_loss(soft_cross_entropy, "signed", target="sing")
    ... except InputError as error:
    ...     print(error)
    soft_cross_entropy: target 'sing' is signed, expected probability. Train with focal_l1(torch.tanh(scores), ...)
    """
    if kind not in _REMEDIES:
        raise InputError(f"kind: got {kind!r}, expected one of {', '.join(_REMEDIES)}")
    taken = _KINDS.get(loss, tuple(_REMEDIES))
    if kind not in taken:
        name = f"target {target!r}" if target else "the target"
        raise InputError(f"{loss.__name__}: {name} is {kind}, expected {' or '.join(taken)}. {_REMEDIES[kind]}")
