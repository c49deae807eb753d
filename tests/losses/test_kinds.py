"""Each loss that is advised for a method takes its kind, and no loss takes a kind in which it means nothing."""

import re

import pytest
import torch

import softlabels.losses as losses
from softlabels.errors import InputError
from softlabels.losses import check_loss
from softlabels.methods import METHODS


@pytest.mark.parametrize("name", METHODS)
def test_what_is_advised_passes(name):
    for method in METHODS[name].in_every_variant():
        named = [re.findall(r"\w+", advice.loss) for advice in method.losses]
        advised = {word for words in named for word in words} & set(losses.__all__)
        assert advised
        for loss in advised:
            check_loss(getattr(losses, loss), method.kind)


@pytest.mark.parametrize(
    ("loss", "kind", "remedy"),
    [
        (losses.soft_cross_entropy, "signed", "focal_l1"),
        (losses.soft_cross_entropy, "distance", "boundary_loss"),
        (losses.dice_metric_loss, "signed", "focal_l1"),
        (losses.focal_l1, "probability", "soft_cross_entropy"),
        (losses.boundary_loss, "probability", "soft_cross_entropy"),
        (losses.boundary_loss, "signed", "focal_l1"),
    ],
)
def test_a_kind_that_a_loss_cannot_take_is_an_error_with_another_loss(loss, kind, remedy):
    with pytest.raises(InputError, match=f"{loss.__name__}: target 'mine' is {kind}, expected .*{remedy}"):
        check_loss(loss, kind, target="mine")


def test_losses_of_others_are_not_judged():
    check_loss(torch.nn.functional.cross_entropy, "signed")
    with pytest.raises(InputError, match="kind: got 'soft', expected one of probability, signed, distance"):
        check_loss(losses.l1_loss, "soft")
