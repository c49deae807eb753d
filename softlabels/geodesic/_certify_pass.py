"""The two passes of the certificate over one map: judge each voxel by its 26 neighbours, then flood the plateaus.

It works on its own copy of the map, slab by slab, and shares with the engine only the step costs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

from softlabels.geodesic._cpu_kernels import _gaps, _part, _step, _steps, kernel_cost
from softlabels.geodesic._cpu_layout import layout_of, voxels
from softlabels.geodesic._simd import (
    LANES,
    broadcast,
    count_lanes,
    lane_and,
    lane_bits,
    lane_or,
    load,
    minimum,
    no_lane,
    store,
)
from softlabels.geodesic.metric import OFFSETS

#: Planes judged at once: their copy stays in cache.
_SLAB = 8
_ALL_LANES = 2**LANES - 1
_inlined = numba.njit(forceinline=True, error_model="numpy")


def count_faults(problem, seeds, distance, n_threads) -> tuple[int, int, int]:
    """Return the numbers of violated, unattained and unreachable voxels of one map (D, H, W)."""
    n_z = problem.shape[0]
    cost = kernel_cost(problem.cost, len(problem.image))
    is_pending = np.zeros(problem.shape, np.bool_)
    slabs = [(lo, min(lo + _SLAB, n_z)) for lo in range(0, n_z, _SLAB)]
    with ThreadPoolExecutor(n_threads) as pool:
        counts = pool.map(lambda slab: _judge_slab(problem, cost, seeds, distance, is_pending, *slab), slabs)
        n_violated, n_unreachable = np.sum(list(counts), axis=0).tolist()
    pending = np.flatnonzero(is_pending)
    is_wall = np.zeros((1, 1, 1), bool) if problem.domain is None else ~problem.domain
    n_attained = 0
    if pending.size:
        n_attained = _flood(
            distance,
            problem.image,
            problem.cost.scale,
            is_wall,
            is_pending,
            pending,
            OFFSETS,
            problem.cost.lengths,
            cost,
        )
    return n_violated, len(pending) - n_attained, n_unreachable


def _judge_slab(problem, cost, seeds, distance, is_pending, lo, hi):
    """Judge planes lo..hi-1: mark what only a flood can settle in `is_pending`; return violated and unreachable."""
    layout = layout_of((hi - lo, *problem.shape[1:]), len(problem.image), 1)
    image = np.full(layout.n_channels * layout.volume, np.nan, np.float32)
    map_ = np.full(layout.volume, np.inf, np.float32)
    with_margin = layout._replace(n_z=layout.n_z + 2, origin=layout.origin - layout.plane)
    outer = slice(max(lo - 1, 0), min(hi + 1, problem.shape[0]))
    inner = slice(outer.start - lo + 1, outer.stop - lo + 1)
    np.multiply(problem.image[:, outer], problem.cost.scale, out=voxels(image, with_margin)[:, inner])
    voxels(map_, with_margin)[0, inner] = distance[outer]
    is_seed = seeds[lo:hi]
    if problem.domain is not None:
        np.copyto(voxels(image, with_margin)[0, inner], np.float32(np.nan), where=~problem.domain[outer])
        is_seed = is_seed & problem.domain[lo:hi]
    n_violated, n_unreachable = _judge(map_, image, is_seed, is_pending[lo:hi], layout, cost, problem.cap)
    at_seeds = distance[lo:hi][is_seed]
    n_lost = np.count_nonzero(at_seeds == np.inf)
    return n_violated + np.count_nonzero(at_seeds != 0), n_unreachable - n_lost


@_inlined
def _weigh(distance, there, steps, here, least, is_attained):
    """Return `least` and `is_attained` after three neighbours in a row."""
    before, straight, after = load(distance, there - 1), load(distance, there), load(distance, there + 1)
    to_before, to_straight, to_after = before + steps[0], straight + steps[1], after + steps[2]
    least = minimum(to_before, minimum(to_straight, minimum(to_after, least)))
    is_attained = lane_or(is_attained, lane_and(before < here, to_before == here))
    is_attained = lane_or(is_attained, lane_and(straight < here, to_straight == here))
    return least, lane_or(is_attained, lane_and(after < here, to_after == here))


@_inlined
def _neighbourhood(distance, image, at, layout, cost):
    """Return the least candidate of the 26 neighbours, and where one nearer to the seeds accounts for the voxel."""
    here, least, is_attained = load(distance, at), broadcast(np.float32(np.inf)), no_lane()
    straight, diagonal, side, corner = cost.along_z
    for plane in (-layout.plane, layout.plane):
        for row in (-layout.pitch, layout.pitch):
            steps = _steps(cost, side, corner, _gaps(cost, image, at, at + plane + row, layout))
            least, is_attained = _weigh(distance, at + plane + row, steps, here, least, is_attained)
        steps = _steps(cost, straight, diagonal, _gaps(cost, image, at, at + plane, layout))
        least, is_attained = _weigh(distance, at + plane, steps, here, least, is_attained)
    straight, diagonal = cost.along_y
    for row in (-layout.pitch, layout.pitch):
        steps = _steps(cost, straight, diagonal, _gaps(cost, image, at, at + row, layout))
        least, is_attained = _weigh(distance, at + row, steps, here, least, is_attained)
    # In its own row the voxel meets itself: a step of no gain and, as its distance is not below itself, of no proof.
    steps = _steps(cost, np.float32(np.inf), cost.along_x, _gaps(cost, image, at, at, layout))
    return _weigh(distance, at, steps, here, least, is_attained)


@numba.njit(nogil=True, error_model="numpy", cache=True)
def _judge(distance, image, is_seed, is_pending, layout, cost, cap):
    """Judge a packed slab; return the voxels, seeds aside, that are violated, and all that are inf."""
    zero, cap_or_largest = np.float32(0), min(cap, np.float32(np.finfo(np.float32).max))
    infinity = np.float32(np.inf)
    lanes = np.empty(2 * LANES, np.float32)
    n_violated, n_unreachable = 0, 0
    for z in range(layout.n_z):
        for y in range(layout.n_y):
            row = layout.origin + z * layout.plane + y * layout.pitch
            for x in range(0, layout.width, LANES):
                here = load(distance, row + x)
                centre = load(image, row + x)
                least, is_attained = _neighbourhood(distance, image, row + x, layout, cost)
                is_inf = here == broadcast(infinity)
                n_unreachable += count_lanes(lane_and(is_inf, centre == centre))
                is_within = lane_and(broadcast(zero) <= here, here <= broadcast(cap))
                is_proven = lane_and(lane_and(is_within, here <= least), is_attained)
                is_settled = lane_bits(lane_or(is_proven, lane_and(is_inf, broadcast(cap_or_largest) < least)))
                if is_settled == _ALL_LANES:
                    continue
                attained = lane_bits(is_attained)
                store(lanes, 0, least)
                for lane in range(LANES):
                    value, bound, i = distance[row + x + lane], lanes[lane], x + lane
                    if is_settled >> lane & 1 or (i < layout.n_x and is_seed[z, y, i]):
                        continue
                    if np.isnan(image[row + i]):
                        n_violated += value != infinity
                        continue
                    if bound > cap_or_largest:
                        bound = infinity
                    n_violated += not (value >= 0 and value <= bound and (value <= cap or value == infinity))
                    if not (attained >> lane & 1 or value == infinity):
                        is_pending[z, y, i] = True
    return n_violated, n_unreachable


@_inlined
def _is_level(distance, image, scale, at, to, length, cost):
    """Return whether the step between two voxels of equal distance gains nothing."""
    if distance[to] != distance[at]:
        return False
    gap = _part(cost, scale * image[0][at] - scale * image[0][to])
    for channel in range(1, image.shape[0]):
        gap = gap + _part(cost, scale * image[channel][at] - scale * image[channel][to])
    return distance[at] + _step(cost, length, gap) == distance[at]


@numba.njit(nogil=True, error_model="numpy", cache=True)
def _flood(distance, image, scale, is_wall, is_pending, pending, offsets, lengths, cost):
    """Settle the pending voxels that a plateau joins to attained ones; return how many."""
    n_z, n_y, n_x = distance.shape
    has_walls = is_wall.size == distance.size
    stack = np.empty(pending.size, np.int64)
    size, n_attained = 0, 0
    for i in range(2 * pending.size):
        is_start = i < pending.size
        if is_start:
            voxel = pending[i]
        elif size == 0:
            break
        else:
            size -= 1
            n_attained += 1
            voxel = stack[size]
        at = voxel // (n_y * n_x), voxel // n_x % n_y, voxel % n_x
        for k in range(offsets.shape[0]):
            to = at[0] + offsets[k, 0], at[1] + offsets[k, 1], at[2] + offsets[k, 2]
            if not (0 <= to[0] < n_z and 0 <= to[1] < n_y and 0 <= to[2] < n_x):
                continue
            if is_pending[to] == is_start or (has_walls and is_wall[to]):
                continue
            length = lengths[abs(offsets[k, 0]), abs(offsets[k, 1]), abs(offsets[k, 2])]
            if not _is_level(distance, image, scale, at, to, length, cost):
                continue
            newly = voxel if is_start else (to[0] * n_y + to[1]) * n_x + to[2]
            is_pending[at if is_start else to] = False
            stack[size] = newly
            size += 1
            if is_start:
                break
    return n_attained
