"""The losses of the papers, right on fractional targets (PyTorch).

Every function takes a prediction and a target of one shape (B, C, ...), in 1D, 2D or 3D, and returns a scalar. The
first parameter's name says what the network gives: logits, probabilities or a signed map. ``valid`` is the loader's: a
bool (B, ...) tensor, False where the loss may not look. Half precision is computed in float32. docs/losses.md says
which loss fits which target, and which losses of other libraries do not.

For a target ``q`` that sums to one, soft cross-entropy, KL, L1, L2 and the metric losses are smallest at the prediction
``p = q``. Plain Dice and the focal loss are not: Dice pulls a fractional target to 0 or 1, focal towards 1/C.
"""

from softlabels.losses._sparse import to_dense, without_background
from softlabels.losses.distribution import (
    focal_loss,
    inverse_log_frequency,
    kl_divergence,
    soft_binary_cross_entropy,
    soft_cross_entropy,
    superpixel_loss,
)
from softlabels.losses.kinds import check_loss
from softlabels.losses.overlap import dice_loss, dice_metric_loss, jaccard_metric_loss
from softlabels.losses.regression import boundary_loss, focal_l1, l1_loss, l2_loss, product_loss
from softlabels.losses.schedules import constant_weights, rebalanced_weights, stolen_weights
from softlabels.sparse import SparseLabel

__all__ = [
    "SparseLabel",
    "boundary_loss",
    "check_loss",
    "constant_weights",
    "dice_loss",
    "dice_metric_loss",
    "focal_l1",
    "focal_loss",
    "inverse_log_frequency",
    "jaccard_metric_loss",
    "kl_divergence",
    "l1_loss",
    "l2_loss",
    "product_loss",
    "rebalanced_weights",
    "soft_binary_cross_entropy",
    "soft_cross_entropy",
    "stolen_weights",
    "superpixel_loss",
    "to_dense",
    "without_background",
]
