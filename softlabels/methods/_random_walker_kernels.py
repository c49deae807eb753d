"""Compiled loops of the random walker: conjugate gradients on the voxels that are no seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.jit import Compiler

_compiled = Compiler("random_walker", [Path(__file__)]).compiled

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

#: How much of what the factorisation drops is taken from its diagonal.
_MODIFIED = 0.97


@_compiled
def incomplete_factor(neighbours: Ints, weights: Floats, degree: Floats) -> Floats:
    """Return the diagonal of the modified incomplete Cholesky factorisation of the Laplacian.

    `neighbours` are the (n, 6) places of each voxel's neighbours, -1 for those that are no unknowns, those before it at
    even columns; `weights` are the weights there, 0 for no unknown; `degree` is the sum of all, seeds included.
    """
    diagonal = np.empty(len(weights))
    for i in range(diagonal.size):
        pivot = degree[i]
        for k in (0, 2, 4):
            j = neighbours[i, k]
            if j >= 0:
                after = weights[j, 1] + weights[j, 3] + weights[j, 5] - weights[i, k]
                pivot -= weights[i, k] * (weights[i, k] + _MODIFIED * after) / diagonal[j]
        diagonal[i] = pivot
    return diagonal


@Compiler.called
def _precondition(neighbours: Ints, weights: Floats, diagonal: Floats, residual: Floats, out: Floats) -> None:
    """Write the solution of the factorised system."""
    for i in range(out.size):
        total = residual[i]
        for k in (0, 2, 4):
            if neighbours[i, k] >= 0:
                total += weights[i, k] * out[neighbours[i, k]]
        out[i] = total / diagonal[i]
    for i in range(out.size - 1, -1, -1):
        total = 0.0
        for k in (1, 3, 5):
            if neighbours[i, k] >= 0:
                total += weights[i, k] * out[neighbours[i, k]]
        out[i] += total / diagonal[i]


@_compiled
def conjugate_gradients(
    neighbours: Ints,
    weights: Floats,
    degree: Floats,
    diagonal: Floats,
    x: Floats,
    residual: Floats,
    direction: Floats,
    scratch: Floats,
    energy: float,
    n_steps: int,
) -> float:
    """Take steps of preconditioned conjugate gradients for ``(degree - weights) x = b``, in place.

    `energy` is what the steps before returned, residual times preconditioned residual; before the first step it is 0,
    as x and `direction` are, and `residual` is b. Sums run in one order, so that all processors get the same bits.
    """
    n = x.size
    for _ in range(n_steps):
        _precondition(neighbours, weights, diagonal, residual, scratch)
        before, energy = energy, 0.0
        for i in range(n):
            energy += residual[i] * scratch[i]
        if energy == 0:
            break
        turn = energy / before if before > 0 else 0.0
        for i in range(n):
            direction[i] = scratch[i] + turn * direction[i]
        curvature = 0.0
        for i in range(n):
            total = degree[i] * direction[i]
            for k in range(6):
                if neighbours[i, k] >= 0:
                    total -= weights[i, k] * direction[neighbours[i, k]]
            scratch[i] = total
            curvature += direction[i] * total
        step = energy / curvature
        for i in range(n):
            x[i] += step * direction[i]
            residual[i] -= step * scratch[i]
    return energy
