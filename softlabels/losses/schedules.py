"""Weights of a region loss and the boundary loss over the epochs, as the authors of boundary loss published them."""

from __future__ import annotations


def stolen_weights(epoch: int, *, step: float = 0.01, start: float = 0.01, floor: float = 0.1) -> tuple[float, float]:
    """Return (region weight, boundary weight) of the boundary-loss code's main runs: what one gives the other takes.

    ``max(floor, 1 - step * epoch)`` and ``start + step * epoch``, epoch counting from 0 (StealWeight, isles.make).

    Examples
    --------
    >>> [tuple(round(w, 2) for w in stolen_weights(epoch)) for epoch in (0, 1, 90, 199)]
    [(1.0, 0.01), (0.99, 0.02), (0.1, 0.91), (0.1, 2.0)]
    """
    return max(floor, 1 - step * epoch), start + step * epoch


def rebalanced_weights(epoch: int, *, step: float = 0.01, floor: float = 0.01) -> tuple[float, float]:
    """Return (a, 1 - a) with ``a = max(floor, 1 - step * epoch)``, as in the boundary-loss authors' Keras snippet.

    Examples
    --------
    >>> [tuple(round(w, 2) for w in rebalanced_weights(epoch)) for epoch in (0, 1, 50, 199)]
    [(1.0, 0.0), (0.99, 0.01), (0.5, 0.5), (0.01, 0.99)]
    """
    region = max(floor, 1 - step * epoch)
    return region, 1 - region


def constant_weights(epoch: int, *, boundary: float = 0.1) -> tuple[float, float]:
    """Return (1, boundary) at every epoch, the boundary-loss code's constant run.

    Examples
    --------
    >>> constant_weights(7)
    (1.0, 0.1)
    """
    return 1.0, boundary
