"""The two passes of the certificate over one map."""

from __future__ import annotations

import numba
import numpy as np

from softlabels.geodesic import metric as _metric
from softlabels.geodesic._reference import edge_cost


def count_faults(problem, seeds, distance, n_threads) -> tuple[int, int, int]:
    """Return the numbers of violated, unattained and unreachable voxels of one map (D, H, W)."""
    cost = problem.cost
    domain = np.ones(problem.shape, bool) if problem.domain is None else problem.domain
    return _count(
        distance, problem.image * cost.scale, seeds, domain, _metric.OFFSETS, cost.lengths,
        cost.form, cost.keep, cost.lamb, problem.cap,
    )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _count(distance, scaled, seeds, domain, offsets, lengths, form, keep, lamb, cap):
    """Count voxel by voxel; plateaus are flood-filled from the voxels with a strictly nearer tight neighbour."""
    n_z, n_y, n_x = distance.shape
    is_attained = np.zeros(distance.shape, np.bool_)
    stack = np.empty(distance.size, np.int64)
    size, n_violated, n_unreachable = 0, 0, 0
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                here = distance[z, y, x]
                if not domain[z, y, x]:
                    n_violated += here != np.inf
                    continue
                if seeds[z, y, x]:
                    n_violated += here != 0.0
                    is_attained[z, y, x] = True
                else:
                    n_unreachable += here == np.inf
                    least = np.float32(np.inf)
                    for k in range(offsets.shape[0]):
                        qz, qy, qx = z + offsets[k, 0], y + offsets[k, 1], x + offsets[k, 2]
                        if not (0 <= qz < n_z and 0 <= qy < n_y and 0 <= qx < n_x) or not domain[qz, qy, qx]:
                            continue
                        length = lengths[abs(offsets[k, 0]), abs(offsets[k, 1]), abs(offsets[k, 2])]
                        step = edge_cost(scaled, (z, y, x), (qz, qy, qx), length, form, keep, lamb)
                        candidate = distance[qz, qy, qx] + step
                        if candidate <= cap and candidate < least:
                            least = candidate
                        if candidate == here and distance[qz, qy, qx] < here:
                            is_attained[z, y, x] = True
                    n_violated += not (here >= 0.0 and here <= least and (here <= cap or here == np.inf))
                if is_attained[z, y, x]:
                    stack[size] = (z * n_y + y) * n_x + x
                    size += 1
    while size > 0:
        size -= 1
        voxel = stack[size]
        z, y, x = voxel // (n_y * n_x), voxel // n_x % n_y, voxel % n_x
        for k in range(offsets.shape[0]):
            qz, qy, qx = z + offsets[k, 0], y + offsets[k, 1], x + offsets[k, 2]
            if not (0 <= qz < n_z and 0 <= qy < n_y and 0 <= qx < n_x) or not domain[qz, qy, qx]:
                continue
            if is_attained[qz, qy, qx] or distance[qz, qy, qx] != distance[z, y, x]:
                continue
            length = lengths[abs(offsets[k, 0]), abs(offsets[k, 1]), abs(offsets[k, 2])]
            step = edge_cost(scaled, (z, y, x), (qz, qy, qx), length, form, keep, lamb)
            if distance[z, y, x] + step == distance[qz, qy, qx]:
                is_attained[qz, qy, qx] = True
                stack[size] = (qz * n_y + qy) * n_x + qx
                size += 1
    n_unattained = 0
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                here = distance[z, y, x]
                n_unattained += domain[z, y, x] and not is_attained[z, y, x] and here != np.inf
    return n_violated, n_unattained, n_unreachable
