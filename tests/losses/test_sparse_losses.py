"""Losses on targets of a few classes a voxel: the values and gradients of the dense ones."""

import re
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from helpers import ROOT  # noqa: E402
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch.utils.data import default_collate  # noqa: E402

from softlabels.blend import Blend  # noqa: E402
from softlabels.errors import InputError  # noqa: E402
from softlabels.losses import (  # noqa: E402
    SparseLabel,
    boundary_loss,
    dice_loss,
    dice_metric_loss,
    focal_l1,
    focal_loss,
    jaccard_metric_loss,
    kl_divergence,
    l1_loss,
    l2_loss,
    soft_binary_cross_entropy,
    soft_cross_entropy,
    superpixel_loss,
    to_dense,
    without_background,
)
from softlabels.sparse import blended  # noqa: E402

WEIGHT = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1], dtype=torch.float64)
FROM_LOGITS = {
    "soft_cross_entropy": soft_cross_entropy,
    "weighted": partial(soft_cross_entropy, weight=WEIGHT),
    "kl_divergence": kl_divergence,
    "focal_loss": partial(focal_loss, gamma=3),
    "weighted_focal": partial(focal_loss, weight=WEIGHT),
}
FROM_PROBABILITIES = {
    "dice_loss": dice_loss,
    "dice_of_batch": partial(dice_loss, over_batch=True),
    "jaccard_metric_loss": jaccard_metric_loss,
    "dice_metric_loss": partial(dice_metric_loss, smooth=0.1),
    "dice_metric_of_batch": partial(dice_metric_loss, over_batch=True),
}
ALL = FROM_LOGITS | FROM_PROBABILITIES
KINDS = ["few", "floor", "mixed", "none"]
N_CLASSES = 5
SHAPES = [(2, 7), (1, 5, 3), (2, 3, 4, 2)]


def scores(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sparse(shape, kind, seed=0, n_slots=3):
    """Return a batch of sparse targets (B, K, ...) of each kind that the loader gives, in float64."""
    n_batch, *space = shape
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(n_batch):
        classes = np.argsort(rng.random((N_CLASSES, *space)), axis=0)[:n_slots].astype(np.uint8)
        shares = np.moveaxis(rng.dirichlet(np.ones(n_slots), space), -1, 0).astype(np.float32)
        shares[-1][rng.random(space) < 0.5] = 0  # a slot that is not in use
        classes[shares == 0] = 0
        if kind == "none":
            shares[:, ..., 0] = 0  # a voxel of no class
        label = SparseLabel(classes, shares, np.zeros(0, np.float32))
        hard = rng.integers(-1, N_CLASSES, space, dtype=np.int32)
        if kind == "floor":
            label = blended(Blend("label_smoothing", 0.3), hard, N_CLASSES)
        if kind == "mixed":
            label = blended(Blend("mix_onehot", 0.4), hard, N_CLASSES, label)
        samples.append(SparseLabel(*map(torch.from_numpy, label)))
    batch = default_collate(samples)
    return batch._replace(shares=batch.shares.double(), floor=batch.floor.double())


def prediction(name, shape, seed=3):
    z = scores((shape[0], N_CLASSES, *shape[1:]), seed)
    return z if name in FROM_LOGITS else z.softmax(1)


def value_and_gradient(loss, given, target, **options):
    given = given.detach().clone().requires_grad_()
    value = loss(given, target, **options)
    value.backward()
    return value.detach(), given.grad


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_those_of_the_dense_target(name, shape, kind):
    few = sparse(shape, kind)
    dense, given = to_dense(few, N_CLASSES), prediction(name, shape)
    valid = torch.rand(shape, generator=torch.Generator().manual_seed(5)) > 0.3
    for options in ({}, {"valid": valid}, {"valid": torch.zeros(shape, dtype=torch.bool)}):
        value, gradient = value_and_gradient(ALL[name], given, few, **options)
        expected, of_dense = value_and_gradient(ALL[name], given, dense, **options)
        assert float(value) == pytest.approx(float(expected), rel=1e-12, abs=1e-14)
        np.testing.assert_allclose(gradient, of_dense, rtol=1e-10, atol=1e-15)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(sorted(ALL)), kind=st.sampled_from(KINDS))
def test_random_distributions_give_the_same_in_single_precision(seed, name, kind):
    shape = (2, 6, 5)
    few = sparse(shape, kind, seed, n_slots=1 + seed % N_CLASSES)
    few = few._replace(shares=few.shares.float(), floor=few.floor.float())
    given = prediction(name, shape, seed % 100).float()
    value, gradient = value_and_gradient(ALL[name], given, few)
    expected, of_dense = value_and_gradient(ALL[name], given, to_dense(few, N_CLASSES))
    assert float(value) == pytest.approx(float(expected), rel=1e-6, abs=1e-6)
    np.testing.assert_allclose(gradient, of_dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ALL)
def test_gradients_are_those_by_differences(name, kind):
    few, given = sparse((2, 2), kind), prediction(name, (2, 2)).requires_grad_()
    valid = torch.tensor([[True, False], [True, True]])
    assert torch.autograd.gradcheck(lambda x: ALL[name](x, few, valid=valid), given, fast_mode=kind != "mixed")


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rubbish", [float("nan"), float("inf")])
def test_what_is_not_valid_reaches_neither_value_nor_gradient(name, rubbish):
    shape = (2, 5, 4)
    few, given = sparse(shape, "few"), prediction(name, shape)
    valid = torch.rand(shape, generator=torch.Generator().manual_seed(1)) > 0.4
    expected, clean = value_and_gradient(ALL[name], given, few, valid=valid)
    keep = valid[:, None]
    spoilt = few._replace(shares=torch.where(keep, few.shares, rubbish))
    value, gradient = value_and_gradient(ALL[name], torch.where(keep, given, rubbish), spoilt, valid=valid)
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    np.testing.assert_allclose(gradient, clean, atol=1e-15)


@pytest.mark.parametrize("name", FROM_PROBABILITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_background_may_be_left_out(name, kind):
    few, given = sparse((2, 3, 4), kind), prediction(name, (2, 3, 4))
    expected = ALL[name](given[:, 1:], to_dense(few, N_CLASSES)[:, 1:])
    assert float(ALL[name](given[:, 1:], without_background(few))) == pytest.approx(float(expected), rel=1e-12)
    dense = to_dense(few, N_CLASSES)
    np.testing.assert_array_equal(without_background(dense), dense[:, 1:])


@pytest.mark.parametrize("loss", [dice_loss, jaccard_metric_loss, dice_metric_loss])
def test_sums_over_many_voxels_keep_their_digits(loss):
    n = 300_000
    classes = torch.zeros(1, 1, n, dtype=torch.uint8)
    few = SparseLabel(classes, torch.full((1, 1, n), 0.99607843), torch.zeros(1, 0))
    given = torch.full((1, 2, n), 0.3337)
    expected = loss(given.double(), to_dense(few, 2).double())
    assert float(loss(given, few)) == pytest.approx(float(expected), rel=1e-6)


def test_half_precision_is_computed_in_single_precision():
    few, given = sparse((2, 3, 4), "few"), prediction("soft_cross_entropy", (2, 3, 4))
    for loss in (soft_cross_entropy, kl_divergence):
        assert loss(given.half(), few._replace(shares=few.shares.half())).dtype == torch.float32


def test_training_on_a_sparse_target_ends_at_it():
    few = sparse((1, 4), "floor")
    z = torch.zeros(1, N_CLASSES, 4, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([z], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-10)

    def closure():
        optimiser.zero_grad()
        value = soft_cross_entropy(z, few)
        value.backward()
        return value

    optimiser.step(closure)
    dense = to_dense(few, N_CLASSES)
    total = dense.sum(1, keepdim=True)
    np.testing.assert_allclose(z.detach().softmax(1), dense / total, atol=1e-5)


def test_collation_and_devices_keep_the_form():
    few = sparse((2, 3, 4), "floor")
    assert isinstance(few, SparseLabel) and few.classes.dtype == torch.uint8
    assert [tuple(part.shape) for part in few] == [(2, 1, 3, 4), (2, 1, 3, 4), (2, 1)]
    assert [tuple(part.shape) for part in sparse((2, 3, 4), "mixed")] == [(2, 4, 3, 4), (2, 4, 3, 4), (2, 0)]
    moved = few.to("meta", non_blocking=True)
    assert isinstance(moved, SparseLabel) and {part.device.type for part in moved} == {"meta"}


@pytest.mark.parametrize("change", ["classes", "shares", "prediction", "no channels"])
def test_shapes_that_do_not_fit_are_refused(change):
    few, given = sparse((2, 3, 4), "few"), prediction("soft_cross_entropy", (2, 3, 4))
    if change in ("classes", "shares"):
        few = few._replace(**{change: getattr(few, change)[:, :2]})
    given = {"prediction": given[:, :, 1:], "no channels": given[:, 0, 0]}.get(change, given)
    with pytest.raises(
        InputError, match=r"sparse target of classes \(2, .*expected \(B, C, \.\.\.\), \(B, K, \.\.\.\)"
    ):
        soft_cross_entropy(given, few)


@pytest.mark.parametrize("loss", [soft_binary_cross_entropy, focal_l1, l1_loss, l2_loss, boundary_loss])
def test_losses_that_need_every_class_say_how_to_get_them(loss):
    few, given = sparse((2, 3, 4), "few"), prediction("dice_loss", (2, 3, 4))
    with pytest.raises(InputError, match=r"got a sparse target.*softlabels\.losses\.to_dense\(target, n_classes\)"):
        loss(given, few)
    dense = to_dense(few, N_CLASSES)
    assert torch.isfinite(loss(given, dense))


def test_the_superpixel_loss_takes_a_sparse_soft_target():
    few, z = sparse((2, 3, 4), "few"), prediction("soft_cross_entropy", (2, 3, 4))
    hard = to_dense(sparse((2, 3, 4), "few", 9, n_slots=1), N_CLASSES)
    expected = superpixel_loss(z, to_dense(few, N_CLASSES), hard)
    assert float(superpixel_loss(z, few, hard)) == pytest.approx(float(expected), rel=1e-12)


def test_the_code_of_the_page_on_losses_runs():
    page = (ROOT / "docs" / "losses.md").read_text()
    (block,) = (code for code in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "SparseLabel" in code)
    names = {}
    exec(block, names)
    assert float(names["loss"]) == pytest.approx(np.log(5) + float(dice_metric_loss(*dense_of(names))), rel=1e-5)


def dense_of(names):
    """Return what the page passes to the overlap loss, with all classes."""
    return names["logits"].softmax(1)[:, 1:], to_dense(names["few"], 5)[:, 1:]
