"""The definition that every engine is compared with, bit for bit: Dijkstra's algorithm in float32, with a heap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from softlabels.geodesic import metric as _metric
from softlabels.geodesic._compile import compiled, inlined
from softlabels.geodesic._problem import Problem

_additive = inlined(_metric.additive)
_root = inlined(_metric.root)
_ratio = inlined(_metric.ratio)
_ADDITIVE, _ROOT = _metric.ADDITIVE, _metric.ROOT


def solve_reference(problem: Problem) -> NDArray[np.float32]:
    """Return the distances (C, D, H, W) by Dijkstra's algorithm: O(n log n), one thread."""
    cost = problem.cost
    scaled = problem.image * cost.scale
    domain = np.ones(problem.shape, bool) if problem.domain is None else problem.domain
    distance = np.empty(problem.seeds.shape, np.float32)
    for seeds, out in zip(problem.seeds, distance, strict=True):
        out[...] = _dijkstra(
            scaled, seeds, domain, _metric.OFFSETS, cost.lengths, cost.form, cost.keep, cost.lamb, problem.cap
        )
    return distance


@compiled
def edge_cost(scaled, p, q, length, form, keep, lamb):
    """Return the cost of the step between two voxels (z, y, x), given the length of their offset."""
    gap = np.float32(0.0)
    for channel in range(scaled.shape[0]):
        difference = scaled[channel, p[0], p[1], p[2]] - scaled[channel, q[0], q[1], q[2]]
        if form == _ADDITIVE:
            gap = gap + abs(difference)
        else:
            gap = gap + difference * difference
    if form == _ADDITIVE:
        return _additive(length, gap)
    if form == _ROOT:
        return _root(length, gap)
    if scaled.shape[0] == 1:
        gap = abs(scaled[0, p[0], p[1], p[2]] - scaled[0, q[0], q[1], q[2]])
    else:
        gap = np.sqrt(gap)
    return _ratio(length, gap, keep, lamb)


@compiled
def _dijkstra(scaled, seeds, domain, offsets, lengths, form, keep, lamb, cap):
    """Settle voxels in order of distance; `place` is a voxel's index in the heap, -1 before and -2 after."""
    n_z, n_y, n_x = seeds.shape
    distance = np.full(seeds.shape, np.float32(np.inf), np.float32)
    flat = distance.reshape(-1)
    heap = np.empty(seeds.size, np.int64)
    place = np.full(seeds.size, -1, np.int64)
    size = 0
    for z in range(n_z):
        for y in range(n_y):
            for x in range(n_x):
                if seeds[z, y, x] and domain[z, y, x]:
                    voxel = (z * n_y + y) * n_x + x
                    flat[voxel] = np.float32(0.0)
                    heap[size] = voxel
                    place[voxel] = size
                    size += 1
    while size > 0:
        voxel = heap[0]
        size -= 1
        place[voxel] = -2
        if size > 0:
            _sift_down(heap, place, flat, size, heap[size])
        z, y, x = voxel // (n_y * n_x), voxel // n_x % n_y, voxel % n_x
        for k in range(offsets.shape[0]):
            qz, qy, qx = z + offsets[k, 0], y + offsets[k, 1], x + offsets[k, 2]
            if not (0 <= qz < n_z and 0 <= qy < n_y and 0 <= qx < n_x) or not domain[qz, qy, qx]:
                continue
            length = lengths[abs(offsets[k, 0]), abs(offsets[k, 1]), abs(offsets[k, 2])]
            candidate = flat[voxel] + edge_cost(scaled, (z, y, x), (qz, qy, qx), length, form, keep, lamb)
            neighbour = (qz * n_y + qy) * n_x + qx
            if candidate < flat[neighbour] and candidate <= cap:
                flat[neighbour] = candidate
                if place[neighbour] == -1:
                    place[neighbour] = size
                    size += 1
                _sift_up(heap, place, flat, place[neighbour], neighbour)
    return distance


@compiled
def _sift_up(heap, place, key, hole, voxel):
    """Move `voxel` from `hole` towards the root until its parent is not further away."""
    while hole > 0:
        parent = (hole - 1) // 2
        if key[heap[parent]] <= key[voxel]:
            break
        heap[hole] = heap[parent]
        place[heap[hole]] = hole
        hole = parent
    heap[hole] = voxel
    place[voxel] = hole


@compiled
def _sift_down(heap, place, key, size, voxel):
    """Move `voxel` from the root towards the leaves until no child is nearer."""
    hole = 0
    while 2 * hole + 1 < size:
        child = 2 * hole + 1
        if child + 1 < size and key[heap[child + 1]] < key[heap[child]]:
            child += 1
        if key[voxel] <= key[heap[child]]:
            break
        heap[hole] = heap[child]
        place[heap[hole]] = hole
        hole = child
    heap[hole] = voxel
    place[voxel] = hole
