"""Losses: closed forms by hand, gradients by differences, and where each has its minimum on a fractional target."""

import math
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from softlabels.errors import InputError  # noqa: E402
from softlabels.losses import (  # noqa: E402
    boundary_loss,
    dice_loss,
    dice_metric_loss,
    focal_l1,
    focal_loss,
    inverse_log_frequency,
    jaccard_metric_loss,
    kl_divergence,
    l1_loss,
    l2_loss,
    product_loss,
    soft_binary_cross_entropy,
    soft_cross_entropy,
    superpixel_loss,
)

FROM_LOGITS = [soft_cross_entropy, soft_binary_cross_entropy, kl_divergence, focal_loss]
FROM_PROBABILITIES = [dice_loss, jaccard_metric_loss, dice_metric_loss]
FROM_MAPS = [focal_l1, partial(focal_l1, simplified=True), l1_loss, l2_loss, product_loss]
ALL = [*FROM_LOGITS, *FROM_PROBABILITIES, *FROM_MAPS, boundary_loss]
SHAPES = [(2, 3, 7), (1, 4, 5, 3), (2, 2, 3, 4, 2)]
few = settings(derandomize=True, deadline=None, max_examples=25)


def name_of(loss) -> str:
    return loss.func.__name__ + "-simplified" if isinstance(loss, partial) else loss.__name__


def scores(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def soft(shape, seed=1):
    return scores(shape, seed).softmax(1)


def onehot(shape, seed=2):
    hard = scores(shape, seed).argmax(1)
    return torch.nn.functional.one_hot(hard, shape[1]).movedim(-1, 1).double()


def column(*values):
    """One sample of one voxel with a channel per value."""
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1)


def row(*values):
    """One sample of one channel with a voxel per value."""
    return torch.tensor(values, dtype=torch.float64).view(1, 1, -1)


# Closed forms


@pytest.mark.parametrize("shape", SHAPES)
def test_the_distribution_losses_are_their_formulas(shape):
    z, q, w = scores(shape), soft(shape), torch.arange(1.0, shape[1] + 1, dtype=torch.float64)
    p, target = z.softmax(1).numpy(), q.numpy()
    by_class = w.numpy().reshape(-1, *[1] * (len(shape) - 2))
    n = p.size / shape[1]
    expected = {
        "ce": -(target * np.log(p)).sum() / n,
        "wce": -(by_class * target * np.log(p)).sum() / n,
        "kl": (target * np.log(target / p)).sum() / n,
        "focal": -(by_class * target * (1 - p) ** 3 * np.log(p)).sum() / n,
    }
    got = {
        "ce": soft_cross_entropy(z, q),
        "wce": soft_cross_entropy(z, q, weight=w),
        "kl": kl_divergence(z, q),
        "focal": focal_loss(z, q, gamma=3, weight=w),
    }
    assert {k: float(v) for k, v in got.items()} == pytest.approx(expected, rel=1e-12)


def test_kl_is_cross_entropy_less_the_entropy_of_the_target():
    z, q = scores(SHAPES[2]), soft(SHAPES[2])
    entropy = -(q * q.log()).sum(1).mean()
    assert float(kl_divergence(z, q)) == pytest.approx(float(soft_cross_entropy(z, q) - entropy), rel=1e-12)


def test_kl_of_hard_labels_is_their_cross_entropy():
    z, y = scores(SHAPES[0]), onehot(SHAPES[0])
    assert float(kl_divergence(z, y)) == pytest.approx(float(soft_cross_entropy(z, y)), rel=1e-12)


def test_weighted_cross_entropy_divides_by_the_voxels_as_eq_3_and_not_by_the_weights_as_integer_labels_do():
    z, labels = scores((1, 2, 4)), torch.tensor([[0, 0, 0, 1]])
    y = torch.nn.functional.one_hot(labels, 2).movedim(-1, 1)
    w = torch.tensor([1.0, 9.0], dtype=torch.float64)
    log_p = z.log_softmax(1)[0]
    expected = -(log_p[0, 0] + log_p[0, 1] + log_p[0, 2] + 9 * log_p[1, 3]) / 4
    assert float(soft_cross_entropy(z, y, weight=w)) == pytest.approx(float(expected), rel=1e-12)
    by_weight = torch.nn.functional.cross_entropy(z, labels, w)
    assert float(by_weight) == pytest.approx(float(expected * 4 / 12), rel=1e-12)


def test_class_weights_are_those_of_the_superpixel_paper():
    y = torch.zeros(2, 3, 2, 5)
    y[:, 0], y[0, 0, 0, :2], y[0, 1, 0, :2] = 1, 0, 1
    expected = [1 / math.log(1.02 + f) for f in (18 / 20, 2 / 20, 0)]
    assert inverse_log_frequency(y).tolist() == pytest.approx(expected, rel=1e-5)
    valid = torch.zeros(2, 2, 5, dtype=torch.bool)
    valid[0, 0, :4] = True
    expected = [1 / math.log(1.02 + f) for f in (0.5, 0.5, 0)]
    assert inverse_log_frequency(y, valid=valid).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_superpixel_loss_is_the_sum_of_its_parts():
    z, q, y = scores(SHAPES[1]), soft(SHAPES[1]), onehot(SHAPES[1])
    w = inverse_log_frequency(y)
    parts = soft_cross_entropy(z, y, weight=w) + 0.5 * dice_loss(z.softmax(1), y) + 4 * kl_divergence(z, q)
    assert float(superpixel_loss(z, q, y, alpha=0.5, beta=4, weight=w)) == pytest.approx(float(parts), rel=1e-12)
    assert float(superpixel_loss(z, q, y, alpha=0, beta=0)) == pytest.approx(float(soft_cross_entropy(z, y)), rel=1e-12)


def test_overlap_losses_by_hand():
    p, q = row(1.0, 0.5, 0.25), row(1.0, 0.0, 0.5)
    # sum p 1.75, sum q 1.5, sum pq 1.125, |p - q| 0.75: overlap 1.25, union 2.
    assert float(dice_loss(p, q, smooth=0)) == pytest.approx(1 - 2.25 / 3.25)
    assert float(jaccard_metric_loss(p, q, smooth=0)) == pytest.approx(1 - 1.25 / 2)
    assert float(dice_metric_loss(p, q, smooth=0)) == pytest.approx(1 - 2.5 / 3.25)
    assert float(jaccard_metric_loss(p, q, smooth=1)) == pytest.approx(1 - 2.25 / 3)
    assert float(dice_metric_loss(p, q, smooth=1)) == pytest.approx(1 - 2.25 / 2.625)


@pytest.mark.parametrize("shape", SHAPES)
def test_on_hard_labels_the_metric_losses_are_soft_jaccard_and_soft_dice(shape):
    p, y = scores(shape).softmax(1), onehot(shape)
    axes = tuple(range(2, len(shape)))
    overlap, total = (p * y).sum(axes), p.sum(axes) + y.sum(axes)
    jaccard = (1 - overlap / (total - overlap)).mean()
    assert float(jaccard_metric_loss(p, y, smooth=0)) == pytest.approx(float(jaccard), rel=1e-12)
    assert float(dice_metric_loss(p, y, smooth=0)) == pytest.approx(float(dice_loss(p, y, smooth=0)), rel=1e-12)


@pytest.mark.parametrize("loss", FROM_PROBABILITIES, ids=name_of)
def test_a_class_neither_there_nor_predicted_costs_nothing(loss):
    nothing = torch.zeros(1, 1, 9)
    assert float(loss(nothing, nothing)) == 0
    assert float(loss(nothing + 1, nothing)) > 0.99


@pytest.mark.parametrize("loss", FROM_PROBABILITIES, ids=name_of)
def test_over_the_batch_the_samples_are_one_volume(loss):
    p, q = soft((3, 2, 5)), soft((3, 2, 5), 7)
    joined = [t.movedim(0, 1).reshape(1, 2, 15) for t in (p, q)]
    assert float(loss(p, q, over_batch=True)) == pytest.approx(float(loss(*joined)), rel=1e-12)
    alone = [float(loss(p[k : k + 1], q[k : k + 1])) for k in range(3)]
    assert float(loss(p, q)) == pytest.approx(np.mean(alone), rel=1e-12)


def test_focal_l1_by_hand():
    # Wrong sign: weight 1 / max = 1 / 1, so 1.5. Right sign: 0.3 * 0.3 / 0.8. Both zero: 0. Map 0: counts as right.
    z, s = row(-0.5, 0.5, 0.0, 0.4), row(1.0, 0.8, 0.0, 0.0)
    assert float(focal_l1(z, s)) == pytest.approx((1.5 + 0.09 / 0.8 + 0 + 0.16 / 0.4) / 4)
    assert float(focal_l1(z, s, gamma=2)) == pytest.approx((1.5 + 0.027 / 0.8 + 0 + 0.064 / 0.4) / 4)
    assert float(focal_l1(z, s, eps=0.5)) == pytest.approx((1.0 + 0.09 / 1.3 + 0 + 0.16 / 0.9) / 4)
    assert float(focal_l1(z, s, simplified=True)) == pytest.approx((2.25 + 0.09 + 0 + 0.16) / 4)
    assert float(focal_l1(z, s, gamma=0, simplified=True)) == pytest.approx(float(l1_loss(z, s)))


def test_nothing_is_propagated_through_the_weight_of_focal_l1():
    z, s = row(-0.5, 0.5, 0.9).requires_grad_(), row(1.0, 0.8, 0.8)
    focal_l1(z, s).backward()
    np.testing.assert_allclose(z.grad.flatten(), np.array([-1.0, -0.3 / 0.8, 0.1 / 0.9]) / 3, rtol=1e-12)
    z.grad = None
    focal_l1(z, s, simplified=True).backward()
    np.testing.assert_allclose(z.grad.flatten(), np.array([-1.5, -0.3, 0.1]) / 3, rtol=1e-12)


def test_focal_l1_has_a_finite_gradient_where_map_and_prediction_are_zero():
    z = torch.zeros(1, 1, 3, requires_grad=True)
    focal_l1(z, torch.zeros(1, 1, 3)).backward()
    assert z.grad.tolist() == [[[0, 0, 0]]]


def test_product_loss_by_hand_and_for_each_region_alone():
    p, y = row(0.5, 1.0), row(1.0, 0.5)
    assert float(product_loss(p, y)) == pytest.approx(-1 / (1 + 1.25 + 1.25) + 0.5)
    several = [scores((2, 3, 8), seed).tanh() for seed in (0, 1)]
    alone = [float(product_loss(several[0][:, k : k + 1], several[1][:, k : k + 1])) for k in range(3)]
    assert float(product_loss(*several)) == pytest.approx(np.mean(alone), rel=1e-12)
    assert float(product_loss(row(0.0, 0.0), row(0.0, 0.0))) == 0


def test_boundary_loss_is_the_mean_product_and_its_gradient_the_level_set():
    p, phi = soft(SHAPES[2]).requires_grad_(), scores(SHAPES[2], 5)
    loss = boundary_loss(p, phi)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float((p.detach() * phi).sum() / p.numel()), rel=1e-12)
    np.testing.assert_allclose(p.grad, phi / p.numel(), rtol=1e-12)


# Gradients


@pytest.mark.parametrize("loss", [*FROM_LOGITS, partial(superpixel_loss, onehot=onehot((2, 3, 4)))], ids=name_of)
def test_gradients_of_losses_on_logits_are_those_by_differences(loss):
    z, q = scores((2, 3, 4)).requires_grad_(), soft((2, 3, 4))
    assert torch.autograd.gradcheck(lambda z: loss(z, q), z)


@pytest.mark.parametrize("loss", [*FROM_PROBABILITIES, l1_loss, l2_loss, product_loss, boundary_loss], ids=name_of)
def test_gradients_of_losses_on_maps_are_those_by_differences(loss):
    p, q = soft((2, 3, 4)).requires_grad_(), soft((2, 3, 4), 9)
    assert torch.autograd.gradcheck(lambda p: loss(p, q), p)
    assert torch.autograd.gradcheck(lambda p: loss(p, q, valid=q[:, 0] > 0.2), p)


@pytest.mark.parametrize("loss", [*FROM_LOGITS, superpixel_loss, *FROM_PROBABILITIES, *FROM_MAPS], ids=name_of)
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf")])
def test_what_is_not_valid_reaches_neither_value_nor_gradient(loss, rubbish):
    shape = (2, 3, 5, 4)
    valid = torch.rand((2, 5, 4), generator=torch.Generator().manual_seed(1)) > 0.4
    found = []
    for filler in (0.5, rubbish):
        given = [torch.where(valid[:, None], one, filler) for one in (soft(shape), soft(shape, 9), onehot(shape))]
        given[0].requires_grad_()
        value = loss(*given[: 3 if loss is superpixel_loss else 2], valid=valid)
        value.backward()
        found.append((float(value.detach()), given[0].grad))
    (clean, expected), (value, gradient) = found
    assert value == pytest.approx(clean, rel=1e-12)
    np.testing.assert_allclose(gradient, expected, atol=1e-15)
    assert (gradient[~valid[:, None].expand(shape)] == 0).all()


def test_class_weights_count_valid_voxels_only():
    labels = onehot((2, 3, 5))
    valid = torch.ones((2, 5), dtype=torch.bool)
    valid[0] = False
    spoilt = torch.where(valid[:, None], labels, float("nan"))
    np.testing.assert_allclose(inverse_log_frequency(spoilt, valid=valid), inverse_log_frequency(labels[1:]))


# Where the minimum is


@pytest.mark.parametrize("loss", [soft_cross_entropy, kl_divergence], ids=name_of)
def test_distribution_losses_are_stationary_at_the_target_and_smallest_there(loss):
    q = soft(SHAPES[2])
    z = q.log().requires_grad_()
    at_target = loss(z, q)
    at_target.backward()
    assert z.grad.abs().max() < 1e-15
    for seed in range(20):
        assert loss(z + 0.3 * scores(SHAPES[2], seed), q) > at_target


@pytest.mark.parametrize("loss", [jaccard_metric_loss, dice_metric_loss, *FROM_MAPS], ids=name_of)
def test_map_losses_are_smallest_at_a_fractional_target(loss):
    q = soft(SHAPES[1])
    at_target = float(loss(q, q))
    assert at_target == pytest.approx(-1 / 3 if loss is product_loss else 0, abs=1e-15)
    for seed in range(20):
        assert float(loss((q + 0.2 * scores(SHAPES[1], seed)).clamp(0, 1), q)) > at_target


def minimiser(loss, q):
    """The class probabilities that Newton-like descent finds for a target, from equal scores."""
    z = torch.zeros_like(q, requires_grad=True)
    optimiser = torch.optim.LBFGS(
        [z], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=0
    )

    def closure():
        optimiser.zero_grad()
        value = loss(z, q)
        value.backward()
        return value

    optimiser.step(closure)
    return z.detach().softmax(1)


def test_training_on_a_fractional_target_ends_at_it_with_cross_entropy_and_beside_it_with_focal_and_dice():
    q = torch.tensor([[0.9, 0.7, 0.4, 0.1], [0.1, 0.3, 0.6, 0.9]], dtype=torch.float64)[None]
    np.testing.assert_allclose(minimiser(soft_cross_entropy, q), q, atol=1e-6)
    np.testing.assert_allclose(minimiser(lambda z, q: l2_loss(z.softmax(1), q), q), q, atol=1e-6)
    focal = minimiser(focal_loss, q)[0, 0]
    np.testing.assert_allclose(focal, [0.694, 0.578, 0.462, 0.306], atol=2e-3)
    plain = minimiser(lambda z, q: dice_loss(z.softmax(1), q), q)[0, 0]
    np.testing.assert_allclose(plain, [1, 1, 0, 0], atol=0.01)


@pytest.mark.parametrize("target", [0.2, 0.5, 0.8])
def test_a_lone_fractional_voxel_is_met_by_1_with_plain_dice_and_by_itself_with_the_metric_losses(target):
    q, grid = row(target), torch.linspace(0, 1, 101, dtype=torch.float64)
    best = {loss: float(grid[np.argmin([float(loss(row(float(p)), q)) for p in grid])]) for loss in FROM_PROBABILITIES}
    assert best == pytest.approx({dice_loss: 1, jaccard_metric_loss: target, dice_metric_loss: target})


def test_boundary_loss_is_smallest_at_the_mask():
    phi = scores((1, 1, 50))
    assert float(boundary_loss((phi < 0).double(), phi)) < min(
        float(boundary_loss(scores((1, 1, 50), seed).sigmoid(), phi)) for seed in range(1, 20)
    )


def test_a_target_that_does_not_sum_to_one_weighs_its_voxel():
    z, q = scores((1, 3, 1)), soft((1, 3, 1))
    assert float(soft_cross_entropy(z, 1.7 * q)) == pytest.approx(1.7 * float(soft_cross_entropy(z, q)), rel=1e-12)
    assert float(kl_divergence(q.log(), 0.5 * q)) == pytest.approx(0.5 * math.log(0.5), rel=1e-12)


units = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(lambda values: row(*values))


@given(units, units, units)
@few
def test_the_jaccard_metric_loss_is_a_metric(a, b, c):
    distance = partial(jaccard_metric_loss, smooth=1e-12)
    assert float(distance(a, b)) == pytest.approx(float(distance(b, a)), abs=1e-12)
    assert float(distance(a, c)) <= float(distance(a, b) + distance(b, c)) + 1e-9
    assert float(distance(a, a)) == 0


# Masks, types, errors


@pytest.mark.parametrize("loss", ALL, ids=name_of)
def test_what_is_not_valid_does_not_matter(loss):
    prediction, target = soft((2, 3, 6, 5)), soft((2, 3, 6, 5), 4)
    valid = torch.zeros(2, 6, 5, dtype=torch.bool)
    valid[:, 1:4, 2:] = True
    inside = [t[:, :, 1:4, 2:] for t in (prediction, target)]
    assert float(loss(prediction, target, valid=valid)) == pytest.approx(float(loss(*inside)), rel=1e-12)
    prediction[~valid[:, None].expand_as(prediction)] = -50.0
    assert float(loss(prediction, target, valid=valid)) == pytest.approx(float(loss(*inside)), rel=1e-12)
    everywhere = torch.ones_like(valid)
    assert float(loss(*inside, valid=everywhere[:, 1:4, 2:])) == pytest.approx(float(loss(*inside)), rel=1e-12)


@pytest.mark.parametrize("loss", ALL, ids=name_of)
def test_a_patch_with_nothing_valid_gives_no_gradient(loss):
    prediction, target = soft((1, 2, 4)).requires_grad_(), soft((1, 2, 4), 4)
    value = loss(prediction, target, valid=torch.zeros(1, 4, dtype=torch.bool))
    value.backward()
    assert float(value.detach()) == 0
    assert not prediction.grad.any()


@pytest.mark.parametrize("loss", ALL, ids=name_of)
def test_half_precision_is_computed_in_float32(loss):
    # 90 000 voxels of 1 are more than a float16 sum can hold.
    prediction, target = torch.ones(1, 2, 90_000, dtype=torch.float16), torch.full((1, 2, 90_000), 0.5)
    value = loss(prediction, target)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(loss(prediction.double(), target.double())), rel=1e-5)


@pytest.mark.parametrize("loss", ALL, ids=name_of)
@pytest.mark.parametrize("shape", [(2, 4), (2, 1, 4), (2, 3, 5), (1, 3, 4)])
def test_shapes_that_would_broadcast_are_refused(loss, shape):
    with pytest.raises(InputError, match="expected one shape"):
        loss(soft((2, 3, 4)), torch.rand(shape))


@pytest.mark.parametrize("loss", ALL, ids=name_of)
@pytest.mark.parametrize(
    "valid", [torch.ones(2, 4), torch.ones(2, 1, 4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)]
)
def test_masks_of_another_shape_or_type_are_refused(loss, valid):
    with pytest.raises(InputError, match="valid got"):
        loss(soft((2, 3, 4)), soft((2, 3, 4)), valid=valid)


def test_parameters_out_of_range_are_refused():
    with pytest.raises(InputError, match="gamma got 0.5"):
        focal_loss(soft((1, 2, 3)), soft((1, 2, 3)), gamma=0.5)
    with pytest.raises(InputError, match="expected one per class"):
        soft_cross_entropy(soft((1, 2, 3)), soft((1, 2, 3)), weight=torch.ones(3))


def test_integer_one_hot_labels_are_taken_as_probabilities():
    z, y = scores((1, 3, 5)), onehot((1, 3, 5))
    for kind in (torch.bool, torch.uint8, torch.int64):
        assert float(soft_cross_entropy(z, y.to(kind))) == float(soft_cross_entropy(z, y))
        assert float(dice_loss(z.softmax(1), y.to(kind))) == float(dice_loss(z.softmax(1), y))


# Schedules
