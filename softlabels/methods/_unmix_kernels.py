"""Compiled loops of unmix: sums that do not change when the volume is flipped, Gaussian windows, and the estimate.

Every loop adds the two neighbours at the same distance to each other first. A flip swaps them, and addition is
commutative, so that a flipped case gives the flipped bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from softlabels._shared.jit import Compiler

_compiled = Compiler("unmix", [Path(__file__)]).compiled

#: A class whose share of the window is below this has no local statistics.
LEAST_SHARE = 1e-5


@_compiled
def mirrored_sum(first, first_centre, second, second_centre, domain):
    """Return the sum of (first - first_centre) (second - second_centre) over a domain, in float64.

    `first`, `second` and `domain` are (D, H, W); the sum over a flipped volume has the same bits.
    """
    depth, height, width = first.shape
    folded, total = np.empty(width, np.float64), 0.0
    for z in range((depth + 1) // 2):
        for y in range((height + 1) // 2):
            folded[:] = 0
            for is_lower in range(1 if 2 * z + 1 == depth else 2):
                zz = depth - 1 - z if is_lower else z
                yy = height - 1 - y
                for x in range(width):
                    pair = 0.0
                    if domain[zz, y, x]:
                        pair += (first[zz, y, x] - first_centre) * (second[zz, y, x] - second_centre)
                    if yy != y and domain[zz, yy, x]:
                        pair += (first[zz, yy, x] - first_centre) * (second[zz, yy, x] - second_centre)
                    folded[x] += pair
            for x in range(width // 2):
                total += folded[x] + folded[width - 1 - x]
            if width % 2:
                total += folded[width // 2]
    return total


@_compiled
def whiten(image, domain, mean, inverse, out):
    """Write inverse (image - mean) for (M, n) intensities, and 0 outside of a domain (n,); inverse is (K, M)."""
    for i in range(domain.size):
        for k in range(len(inverse)):
            total = 0.0
            if domain[i]:
                for m in range(len(mean)):
                    total += inverse[k, m] * (image[m, i] - mean[m])
            out[k, i] = total


@_compiled
def smooth(field, weights_z, weights_y, weights_x, along_z, along_y, out):
    """Write a separable symmetric filter of a float64 field, evaluated where it lies inside.

    Each `weights` holds the centre's weight and those at distance 1, 2, ... The field is wider than `out` by the
    reach of the filter on each side; `along_z` (wide in y and x) and `along_y` (wide in x) are scratch.
    """
    depth, height, width = field.shape
    n_z, n_y = out.shape[:2]
    _mix_rows(field.reshape(depth, height * width), weights_z, along_z.reshape(n_z, height * width))
    reach = len(weights_x) - 1
    for z in range(n_z):
        _mix_rows(along_z[z], weights_y, along_y)
        for y in range(n_y):
            row, mixed = along_y[y], out[z, y]
            for x in range(mixed.size):
                mixed[x] = weights_x[0] * row[x + reach]
            for j in range(1, reach + 1):
                weight = weights_x[j]
                for x in range(mixed.size):
                    mixed[x] += weight * (row[x + reach - j] + row[x + reach + j])


@_compiled
def _mix_rows(rows, weights, out):
    """Write the filter along the first axis of (n + 2 reach, m) rows into (n, m)."""
    reach = len(weights) - 1
    for i in range(len(out)):
        mixed, row = out[i], rows[i + reach]
        for x in range(mixed.size):
            mixed[x] = weights[0] * row[x]
        for j in range(1, reach + 1):
            before, after, weight = rows[i + reach - j], rows[i + reach + j], weights[j]
            for x in range(mixed.size):
                mixed[x] += weight * (before[x] + after[x])


@_compiled
def estimate(image, prior, sizes, sums, products, rho, eps, out):
    """Write the estimate of the shares of N voxels; see `softlabels.methods.unmix.unmix`.

    `image` is (M, N), whitened; `prior` (C, N) sums to one; `sizes` (C, N), `sums` (C, M, N) and `products`
    (M (M + 1) / 2, N) are the windowed sums of the purity v, of v I and of v I I' over all classes; `out` is (C, N).
    """
    n_classes, n_channels, n_voxels = sums.shape
    deviation, known = np.empty((n_classes, n_channels)), np.empty(n_classes, np.bool_)
    centre, residual = np.empty(n_channels), np.empty(n_channels)
    matrix, share = np.empty((n_channels, n_channels)), np.empty(n_classes)
    for i in range(n_voxels):
        weight, mass = 0.0, 0.0
        for c in range(n_classes):
            weight += sizes[c, i]
        for c in range(n_classes):
            known[c] = sizes[c, i] > 0 and sizes[c, i] >= LEAST_SHARE * weight
            if known[c]:
                mass += prior[c, i]
        if not mass > 0:
            for c in range(n_classes):
                out[c, i] = prior[c, i]
            continue
        _centre_means(sizes, sums, prior, known, mass, i, deviation, centre)
        _fill_covariance(sizes, sums, products, prior, deviation, weight, rho, eps, i, matrix)
        for m in range(n_channels):
            residual[m] = image[m, i] - centre[m]
        _solve(matrix, residual, eps)
        total, is_clipped = 0.0, False
        for c in range(n_classes):
            gain = 1.0
            for m in range(n_channels):
                gain += deviation[c, m] * residual[m]
            share[c] = prior[c, i] * gain
            if share[c] < 0 or share[c] > 1:
                is_clipped = True
                share[c] = min(max(share[c], 0.0), 1.0)
            total += share[c]
        for c in range(n_classes):
            out[c, i] = share[c] / total if is_clipped else share[c]


@_compiled
def _centre_means(sizes, sums, prior, known, mass, i, deviation, centre):
    """Write the mean of the known classes under the prior, and how far each class lies from it; 0 if unknown."""
    for m in range(len(centre)):
        centre[m] = 0.0
        for c in range(len(known)):
            if known[c]:
                deviation[c, m] = sums[c, m, i] / sizes[c, i]
                centre[m] += prior[c, i] * deviation[c, m]
        centre[m] /= mass
        for c in range(len(known)):
            deviation[c, m] = deviation[c, m] - centre[m] if known[c] else 0.0


@_compiled
def _fill_covariance(sizes, sums, products, prior, deviation, weight, rho, eps, i, matrix):
    """Write the lower triangle of B + rho W + eps; W is the pooled covariance within classes, B that between them."""
    pair = 0
    for a in range(len(matrix)):
        for b in range(a + 1):
            within, between = products[pair, i], 0.0
            for c in range(len(sizes)):
                if sizes[c, i] > 0:
                    within -= sums[c, a, i] * sums[c, b, i] / sizes[c, i]
                between += prior[c, i] * deviation[c, a] * deviation[c, b]
            matrix[a, b] = between + rho * within / weight
            pair += 1
        matrix[a, a] += eps


@_compiled
def _solve(matrix, x, eps):
    """Solve a symmetric system in place by Cholesky's method.

    No pivot of B + rho W + eps can be below eps, except by rounding; then it is eps.
    """
    n = len(x)
    for a in range(n):
        for b in range(a):
            total = matrix[a, b]
            for k in range(b):
                total -= matrix[a, k] * matrix[b, k]
            matrix[a, b] = total / matrix[b, b]
        pivot = matrix[a, a]
        for k in range(a):
            pivot -= matrix[a, k] * matrix[a, k]
        matrix[a, a] = np.sqrt(max(pivot, eps))
    for a in range(n):
        for k in range(a):
            x[a] -= matrix[a, k] * x[k]
        x[a] /= matrix[a, a]
    for a in range(n - 1, -1, -1):
        for k in range(a + 1, n):
            x[a] -= matrix[k, a] * x[k]
        x[a] /= matrix[a, a]
