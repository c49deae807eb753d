"""The loss of nnU-Net's heads: each kind is the published loss, and ignored voxels count nowhere."""

import pytest
import torch
from torch.nn import functional

from softlabels.errors import InputError
from softlabels.losses import boundary_loss, dice_metric_loss, focal_l1, soft_cross_entropy
from softlabels.training.nnunet.loss import SMOOTH, SoftLabelLoss

LABELS = [(0,), (1,), (2,)]
REGIONS = [(1, 2), (2,)]
SPATIAL = [(6, 7), (4, 6, 5)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def onehot_of(labels, heads):
    return torch.stack([torch.isin(labels, torch.tensor(head)) for head in heads], 1).float()


def sample(spatial, heads, has_softmax, ignore=None):
    """Return logits, labels, hard target as nnU-Net gives it, and a soft target in [0, 1]."""
    labels = torch.randint(0, 3 if ignore is None else 4, (2, *spatial))
    logits = torch.randn(2, len(heads), *spatial)
    soft = torch.rand(2, len(heads), *spatial)
    if has_softmax:
        hard, soft = labels[:, None].float(), soft / soft.sum(1, keepdim=True)
    else:
        hard = onehot_of(labels, heads if ignore is None else [*heads, (ignore,)])
    return logits, labels, hard, soft


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("ignore", [None, 3])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_probabilities_under_a_softmax(spatial, ignore, batch_dice):
    logits, labels, hard, soft = sample(spatial, LABELS, True, ignore)
    loss = SoftLabelLoss("probability", heads=LABELS, has_softmax=True, ignore_label=ignore, batch_dice=batch_dice)
    valid = None if ignore is None else labels != ignore
    expected = soft_cross_entropy(logits, soft, valid=valid) + dice_metric_loss(
        logits.softmax(1)[:, 1:], soft[:, 1:], smooth=SMOOTH, valid=valid, over_batch=batch_dice
    )
    torch.testing.assert_close(loss(logits, torch.cat([hard, soft], 1)), expected)
    onehot = onehot_of(labels, LABELS)
    torch.testing.assert_close(loss(logits, hard), loss(logits, torch.cat([hard, onehot], 1)))


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("ignore", [None, 3])
def test_probabilities_of_regions(spatial, ignore):
    logits, labels, hard, soft = sample(spatial, REGIONS, False, ignore)
    loss = SoftLabelLoss("probability", heads=REGIONS, has_softmax=False, ignore_label=ignore)
    valid = torch.ones_like(labels, dtype=torch.bool) if ignore is None else labels != ignore
    terms = functional.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    expected = terms[valid[:, None].expand_as(terms)].mean() + dice_metric_loss(
        logits.sigmoid(), soft, smooth=SMOOTH, valid=valid
    )
    torch.testing.assert_close(loss(logits, torch.cat([hard, soft], 1)), expected)
    torch.testing.assert_close(loss(logits, hard), loss(logits, torch.cat([hard, onehot_of(labels, REGIONS)], 1)))


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize("ignore", [None, 3])
def test_signed_maps_through_tanh(spatial, ignore):
    logits, labels, hard, soft = sample(spatial, REGIONS, False, ignore)
    signed = 2 * soft - 1
    loss = SoftLabelLoss("signed", heads=REGIONS, has_softmax=False, ignore_label=ignore)
    valid = None if ignore is None else labels != ignore
    torch.testing.assert_close(
        loss(logits, torch.cat([hard, signed], 1)), focal_l1(torch.tanh(logits), signed, valid=valid)
    )
    sign = 2 * onehot_of(labels, REGIONS) - 1
    torch.testing.assert_close(loss(logits, hard), focal_l1(torch.tanh(logits), sign, valid=valid))
    # nnU-Net's decision sigmoid > 0.5 is the sign of the map that was trained
    assert torch.equal(logits.sigmoid() > 0.5, torch.tanh(logits) > 0)


@pytest.mark.parametrize("spatial", SPATIAL)
@pytest.mark.parametrize(("heads", "has_softmax"), [(LABELS, True), (REGIONS, False)])
def test_level_sets_add_the_boundary_loss_with_its_weights(spatial, heads, has_softmax):
    logits, _, hard, soft = sample(spatial, heads, has_softmax)
    phi = 10 * soft - 5
    loss = SoftLabelLoss("distance", heads=heads, has_softmax=has_softmax)
    region = SoftLabelLoss("probability", heads=heads, has_softmax=has_softmax)(logits, hard)
    probabilities = logits.softmax(1)[:, 1:] if has_softmax else logits.sigmoid()
    boundary = boundary_loss(probabilities, phi[:, 1:] if has_softmax else phi)
    torch.testing.assert_close(loss(logits, torch.cat([hard, phi], 1)), region)
    loss.region_weight, loss.boundary_weight = 0.4, 0.6
    torch.testing.assert_close(loss(logits, torch.cat([hard, phi], 1)), 0.4 * region + 0.6 * boundary)
    torch.testing.assert_close(loss(logits, hard), 0.4 * region)


@pytest.mark.parametrize("kind", ["probability", "signed", "distance"])
def test_ignored_voxels_have_no_gradient(kind):
    heads, has_softmax = (REGIONS, False) if kind == "signed" else (LABELS, True)
    logits, labels, hard, soft = sample((6, 7), heads, has_softmax, ignore=3)
    logits.requires_grad_()
    loss = SoftLabelLoss(kind, heads=heads, has_softmax=has_softmax, ignore_label=3)
    loss.boundary_weight = 0.5
    loss(logits, torch.cat([hard, soft], 1)).backward()
    ignored = (labels == 3)[:, None].expand_as(logits)
    assert ignored.any()
    assert (logits.grad[ignored] == 0).all()
    assert (logits.grad[~ignored] != 0).any()


def test_a_batch_of_ignored_voxels_is_no_loss_and_no_nan():
    loss = SoftLabelLoss("probability", heads=LABELS, has_softmax=True, ignore_label=3)
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.full((1, 1, 4, 4), 3.0))
    value.backward()
    assert value.item() == 0
    assert (logits.grad == 0).all()


def test_half_precision_is_computed_in_float():
    logits, _, hard, soft = sample((6, 7), LABELS, True)
    loss = SoftLabelLoss("probability", heads=LABELS, has_softmax=True)
    target = torch.cat([hard, soft], 1)
    half = loss(logits.half(), target)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, loss(logits.half().float(), target))


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="kind: got 'hard'"):
        SoftLabelLoss("hard", heads=LABELS, has_softmax=True)
