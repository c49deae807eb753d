"""Schedules of the boundary loss by hand."""

import pytest

torch = pytest.importorskip("torch")


from softlabels.losses import (  # noqa: E402
    constant_weights,
    rebalanced_weights,
    stolen_weights,
)


def test_stolen_weights_are_the_authors_recurrence():
    region, boundary = 1.0, 0.01
    for epoch in range(200):
        assert stolen_weights(epoch) == pytest.approx((region, boundary), rel=1e-9)
        region, boundary = max(0.1, region - 0.01), boundary + 0.01


def test_rebalanced_and_constant_weights():
    weights = [rebalanced_weights(epoch) for epoch in range(150)]
    assert weights[0] == (1, 0) and weights[-1] == pytest.approx((0.01, 0.99))
    assert all(sum(pair) == pytest.approx(1) for pair in weights)
    assert all(later[0] <= sooner[0] for sooner, later in zip(weights, weights[1:], strict=False))
    assert {constant_weights(epoch) for epoch in range(5)} == {(1.0, 0.1)}
