"""Compiled loops of GeoLS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from softlabels._shared.exponential import BLOCK, SOURCE, exponentials_of_block
from softlabels._shared.jit import Compiler

compiled = Compiler("geols", [Path(__file__), SOURCE]).compiled

_ZERO, _ONE, _INF = np.float32(0), np.float32(1), np.float32(np.inf)


@compiled
def add_distribution(distance, largest, factor, hard, total, lo, hi):
    """Add the distribution over classes of one channel to voxels lo..hi-1 of `total`; see `geols.paper_map`.

    `distance`, `hard` and `total` are (C, n) and contiguous, so that the loops over voxels become vector instructions;
    `largest` is the largest finite distance M of each class, `factor` is 1 - exp(-M), or 1 where M is 0.
    """
    n_classes = len(distance)
    weight, exponents = np.empty((n_classes, BLOCK), np.float32), np.empty(BLOCK, np.int32)
    x, soft = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    nearest, total_weight = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    for start in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - start)
        _weigh(distance, start, n, largest, factor, weight, x, exponents)
        _find_nearest(distance, start, n, weight, nearest)
        total_weight[:n] = 0
        for c in range(n_classes):
            for i in range(n):
                # At most 0: a class that does not count may be nearer than all that do, and 0 times inf is no weight.
                x[i] = min(nearest[i] - distance[c, start + i], _ZERO)
            exponentials_of_block(x[:n], 0, soft[:n], exponents[:n])
            for i in range(n):
                weight[c, i] *= soft[i]
                total_weight[i] += weight[c, i]
        for c in range(n_classes):
            for i in range(n):
                share = weight[c, i] / total_weight[i]
                total[c, start + i] += share if nearest[i] < _INF else np.float32(hard[c, start + i])


@compiled
def _weigh(distance, start, n, largest, factor, weight, x, exponents):
    """Write the factor that min-max normalisation gives each class, between 0 and 1; 0 where it is out of reach."""
    for c in range(len(distance)):
        for i in range(n):
            x[i] = min(distance[c, start + i] - largest[c], _ZERO)
        exponentials_of_block(x[:n], 1, weight[c, :n], exponents[:n])
        for i in range(n):
            scaled = _ONE if largest[c] == 0 else -weight[c, i] / factor[c]
            weight[c, i] = scaled if distance[c, start + i] < _INF else _ZERO


@compiled
def _find_nearest(distance, start, n, weight, nearest):
    """Write the least distance of a class with weight; where no class has any, all get 1 first."""
    for i in range(n):
        nearest[i] = _INF
    for c in range(len(distance)):
        for i in range(n):
            nearest[i] = min(nearest[i], distance[c, start + i] if weight[c, i] > 0 else _INF)
    for i in range(n):
        if nearest[i] == _INF:
            for c in range(len(distance)):
                weight[c, i] = _ONE
                nearest[i] = min(nearest[i], distance[c, start + i])
