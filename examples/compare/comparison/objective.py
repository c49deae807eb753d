"""What a row's network is trained towards, and how its scores become probabilities of the study's classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from softlabels import losses
from softlabels.errors import InputError

Activation = Literal["softmax", "sigmoid", "tanh"]
#: (scores, soft label, one-hot, valid) to the loss; all but valid (B, C, ...).
LossFunction = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def _of_probabilities(loss: Callable[..., Tensor], activate: Callable[[Tensor], Tensor]) -> LossFunction:
    """Return a loss of scores from one of what they are activated to."""
    return lambda scores, soft, onehot, valid: loss(activate(scores), soft, valid=valid)


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(1)


def _with_dice(cross_entropy: Callable[..., Tensor], activate: Callable[[Tensor], Tensor]) -> LossFunction:
    """Return cross-entropy and plain Dice, both against the hard label."""
    return lambda scores, soft, onehot, valid: (
        cross_entropy(scores, onehot, valid=valid) + losses.dice_loss(activate(scores), onehot, valid=valid)
    )


def _of_scores(loss: Callable[..., Tensor]) -> LossFunction:
    """Return a loss that takes scores and soft label."""
    return lambda scores, soft, onehot, valid: loss(scores, soft, valid=valid)


_LOSSES: Mapping[Activation, Mapping[str, LossFunction]] = {
    "softmax": {
        "cross_entropy": _of_scores(losses.soft_cross_entropy),
        "cross_entropy_dice": _with_dice(losses.soft_cross_entropy, _softmax),
        "focal": _of_scores(losses.focal_loss),
        "jaccard_metric": _of_probabilities(losses.jaccard_metric_loss, _softmax),
        "dice_metric": _of_probabilities(losses.dice_metric_loss, _softmax),
        "superpixel": lambda scores, soft, onehot, valid: losses.superpixel_loss(scores, soft, onehot, valid=valid),
    },
    "sigmoid": {
        "cross_entropy": _of_scores(losses.soft_binary_cross_entropy),
        "cross_entropy_dice": _with_dice(losses.soft_binary_cross_entropy, torch.sigmoid),
        "jaccard_metric": _of_probabilities(losses.jaccard_metric_loss, torch.sigmoid),
        "dice_metric": _of_probabilities(losses.dice_metric_loss, torch.sigmoid),
    },
    "tanh": {
        "focal_l1": _of_probabilities(losses.focal_l1, torch.tanh),
        "focal_l1_simplified": lambda scores, soft, onehot, valid: losses.focal_l1(
            torch.tanh(scores), soft, simplified=True, valid=valid
        ),
        "l1": _of_probabilities(losses.l1_loss, torch.tanh),
        "l2": _of_probabilities(losses.l2_loss, torch.tanh),
        "product": _of_probabilities(losses.product_loss, torch.tanh),
    },
}
_DEFAULT = {"softmax": "cross_entropy", "sigmoid": "cross_entropy", "tanh": "focal_l1"}


@dataclass(frozen=True)
class Objective:
    """A loss and the activation that it belongs to.

    Parameters
    ----------
    activation : {"softmax", "sigmoid", "tanh"}
        tanh for signed maps; else softmax, or sigmoid where classes overlap.
    loss : LossFunction
    is_overlapping : bool
        Whether the study's classes overlap.
    """

    activation: Activation
    loss: LossFunction
    is_overlapping: bool

    @classmethod
    def of(cls, kind: str, is_overlapping: bool, loss: str | None) -> Objective:
        """Return the objective of a kind of target with a named loss, or the default one.

        Raises
        ------
        InputError
            If the kind of target has no such loss.

        Examples
        --------
        >>> Objective.of("signed", False, None).activation, Objective.of("probability", True, "dice_metric").activation
        ('tanh', 'sigmoid')
        """
        if kind == "distance":
            raise InputError(
                "a target of distances in mm is no soft label; compare others, or use boundary loss yourself"
            )
        activation: Activation = "tanh" if kind == "signed" else "sigmoid" if is_overlapping else "softmax"
        known = _LOSSES[activation]
        name = loss or _DEFAULT[activation]
        if name not in known:
            raise InputError(
                f"loss: got {name!r} for a target that is trained through {activation}, expected {', '.join(known)}"
            )
        return cls(activation, known[name], is_overlapping)

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return the probabilities (B, C, ...) of the study's classes that a network's scores (B, K, ...) stand for."""
        if self.activation == "softmax":
            return scores.softmax(1)
        if self.activation == "sigmoid":
            return scores.sigmoid()
        return self.of_soft_label(scores.tanh())

    def of_soft_label(self, values: Tensor) -> Tensor:
        """Return the probabilities (B, C, ...) of the study's classes that a soft label (B, K, ...) stands for.

        Those of kind probability are returned as they are. A signed map S is read as the probability (1 + S) / 2. It
        has no background; where classes exclude each other, the background gets 1 minus the largest of them, and the
        voxel is divided by its sum. So the most probable class is the one with the largest S above 0, as in SiNGR.

        Examples
        --------
        >>> signed = Objective.of("signed", False, None)
        >>> signed.of_soft_label(torch.tensor([[[0.5], [-0.5]]])).flatten().tolist()  # of 0.25, 0.75, 0.25
        [0.20000000298023224, 0.6000000238418579, 0.20000000298023224]
        """
        if self.activation != "tanh":
            return values
        shares = (1 + values) / 2
        if self.is_overlapping:
            return shares
        whole = torch.cat([1 - shares.amax(1, keepdim=True), shares], dim=1)
        return whole / whole.sum(1, keepdim=True)
