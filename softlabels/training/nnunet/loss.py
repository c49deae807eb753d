"""The loss of nnU-Net's heads on soft labels; torch only."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from softlabels.errors import InputError
from softlabels.losses import (
    boundary_loss,
    dice_metric_loss,
    focal_l1,
    soft_binary_cross_entropy,
    soft_cross_entropy,
)

#: Half of nnU-Net's own smoothing of Dice: it adds it to numerator and denominator of 2t / (p + q).
SMOOTH = 1e-5 / 2


class SoftLabelLoss(nn.Module):
    """nnU-Net's compound loss with terms that are right on soft labels.

    ===========  ====================================================================================================
    kind         loss
    ===========  ====================================================================================================
    probability  softmax: soft cross-entropy + Dice semimetric loss without background; regions: binary cross-entropy +
                 Dice semimetric loss. On hard labels it is nnU-Net's own loss plus 1.
    signed       Focal-L1 of tanh(logits); nnU-Net's ``sigmoid(logits) > 0.5`` is then the sign of the map
    distance     region weight x the loss of kind probability on the hard labels + boundary weight x boundary loss, both
                 without background
    ===========  ====================================================================================================

    Parameters
    ----------
    kind : {"probability", "signed", "distance"}
        Of the target.
    heads : sequence of tuples of ints
        The label values of each head.
    has_softmax : bool
        Whether the heads share a softmax; else each has a sigmoid, and the hard target comes as regions.
    ignore_label : int, optional
        Voxels with this label count nowhere.
    batch_dice : bool
        Whether Dice is taken over the whole batch instead of per sample, as nnU-Net's plans say. Under DDP, over the
        batches of all processes.

    Attributes
    ----------
    region_weight, boundary_weight : float
        For kind distance; the trainer sets them in every epoch.
    """

    def __init__(
        self,
        kind: str,
        *,
        heads: Sequence[tuple[int, ...]],
        has_softmax: bool,
        ignore_label: int | None = None,
        batch_dice: bool = False,
    ) -> None:
        super().__init__()
        if kind not in ("probability", "signed", "distance"):
            raise InputError(f"kind: got {kind!r}, expected probability, signed or distance")
        self.kind, self.heads, self.has_softmax = kind, tuple(heads), has_softmax
        self.ignore_label, self.batch_dice = ignore_label, batch_dice
        self.n_hard = 1 if has_softmax else len(self.heads) + (ignore_label is not None)
        self.region_weight, self.boundary_weight = 1.0, 0.0

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        """Return the loss of one resolution.

        Parameters
        ----------
        output : (B, H, ...) tensor
            Logits of the H heads.
        target : (B, N + H, ...) or (B, N, ...) tensor
            First the N channels of nnU-Net's hard target: one label map, or one per region and one for the ignore
            label. Then the soft label; where it is left out, as in nnU-Net's validation, hard labels take its place.
        """
        hard, soft = target[:, : self.n_hard], target[:, self.n_hard :]
        valid, onehot, logits = self._valid(hard), self._onehot(hard), output.float()
        has_soft = soft.shape[1] > 0
        if self.kind == "signed":
            return focal_l1(torch.tanh(logits), soft if has_soft else 2 * onehot - 1, valid=valid)
        if self.kind == "probability":
            return self._compound(logits, soft if has_soft else onehot, valid)
        region = self.region_weight * self._compound(logits, onehot, valid)
        if not has_soft:
            return region
        boundary = boundary_loss(self._probabilities(logits), soft[:, self._first :], valid=valid)
        return region + self.boundary_weight * boundary

    @property
    def _first(self) -> int:
        """The first head that is no background."""
        return 1 if self.has_softmax else 0

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Return the probabilities of all heads but the background."""
        return logits.softmax(1)[:, 1:] if self.has_softmax else logits.sigmoid()

    def _compound(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> Tensor:
        """Return cross-entropy + Dice semimetric loss."""
        cross_entropy = soft_cross_entropy if self.has_softmax else soft_binary_cross_entropy
        dice = dice_metric_loss(
            self._probabilities(logits),
            target[:, self._first :],
            smooth=SMOOTH,
            valid=valid,
            over_batch=self.batch_dice,
            over_ranks=self.batch_dice,
        )
        return cross_entropy(logits, target, valid=valid) + dice

    def _valid(self, hard: Tensor) -> Tensor | None:
        """Return where the loss may look; None for everywhere."""
        if self.ignore_label is None:
            return None
        return hard[:, 0] != self.ignore_label if self.has_softmax else hard[:, -1] == 0

    def _onehot(self, hard: Tensor) -> Tensor:
        """Return the hard labels with one channel for each head."""
        if not self.has_softmax:
            return hard[:, : len(self.heads)].float()
        return torch.cat([hard == head[0] for head in self.heads], 1).float()
