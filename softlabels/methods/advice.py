"""What to train with: the rows of the table in docs/losses.md, declared by the methods."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LossAdvice:
    """A loss that is right for a target.

    Parameters
    ----------
    values : str
        What the values of the target are.
    network : str
        What the network ends in.
    loss : str
        The loss, as code of `softlabels.losses`.
    source : str
        Where it is from; empty where it goes without saying.
    """

    values: str
    network: str
    loss: str
    source: str = ""


#: For distributions over exclusive classes.
DISTRIBUTION_LOSSES = (
    LossAdvice("[0, 1], sums to 1", "softmax", "`soft_cross_entropy`", "GeoLS Eqs. 1, 6"),
    LossAdvice(
        "[0, 1], sums to 1",
        "softmax",
        "`0.75 * soft_cross_entropy + 0.25 * jaccard_metric_loss`",
        "Wang et al. 2023, recommended by the authors",
    ),
)
#: For regions that may overlap, each a probability by itself.
REGION_LOSSES = (
    LossAdvice(
        "[0, 1] each", "sigmoid", "`soft_binary_cross_entropy`, with `jaccard_metric_loss` or `dice_metric_loss`"
    ),
)
#: For the superpixel method, whose values need not sum to one.
SUPERPIXEL_LOSSES = (
    LossAdvice(
        "(0, 1), need not sum to 1",
        "softmax",
        "`superpixel_loss(logits, soft, onehot, weight=inverse_log_frequency(onehot))`",
        "superpixel Eqs. 2, 3",
    ),
)
#: For signed maps in [-1, 1].
SIGNED_LOSSES = (
    LossAdvice("[-1, 1]", "tanh", "`focal_l1`; also `l1_loss`, `l2_loss`, `product_loss`", "SiNGR Eq. 6, Table 3"),
)
#: For signed distances.
DISTANCE_LOSSES = (
    LossAdvice(
        "signed distance",
        "softmax",
        "`a * region_loss + b * boundary_loss` with a schedule",
        "Kervadec et al.",
    ),
)
