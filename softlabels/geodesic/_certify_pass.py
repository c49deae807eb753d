"""The certificate of maps: judge each voxel by its 26 neighbours, then settle the plateaus.

It works on its own copy of the map, slab by slab, and shares with the engine only the step costs.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.cpus import usable_cpus
from softlabels.geodesic._compile import compiled, inlined
from softlabels.geodesic._cpu_kernels import KernelCost, _gaps, _steps, kernel_cost
from softlabels.geodesic._cpu_layout import layout_of, voxels
from softlabels.geodesic._plateaus import PENDING, WALL, settle
from softlabels.geodesic._problem import Problem
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

#: Planes judged at once: their copy stays in cache.
_SLAB = 8
_ALL_LANES = 2**LANES - 1


def count_faults(
    problem: Problem, distance: NDArray[np.float32], n_threads: int | None = None
) -> list[tuple[int, int, int]]:
    """Return the numbers of violated, unattained and unreachable voxels of each map of `distance` (C, D, H, W)."""
    n_threads = n_threads or usable_cpus()
    states = np.zeros(distance.shape, np.uint8)
    judged = [
        judge(problem, *one, 0, problem.shape[0], n_threads)
        for one in zip(problem.seeds, distance, states, strict=True)
    ]
    n_pending = [pending for _, _, pending in judged]
    with ThreadPoolExecutor(n_threads) as pool:
        # A plateau is settled by one thread, and several classes have several.
        n_unattained = list(pool.map(lambda *one: settle(problem, *one), distance, states, n_pending))
    return [
        (violated, unattained, unreachable)
        for (violated, unreachable, _), unattained in zip(judged, n_unattained, strict=True)
    ]


def judge(
    problem: Problem,
    seeds: NDArray[np.bool_],
    distance: NDArray[np.float32],
    state: NDArray[np.uint8],
    lo: int,
    hi: int,
    n_threads: int | None = None,
) -> tuple[int, int, int]:
    """Judge planes lo..hi-1 and write their `state`; return the numbers of violated, unreachable and pending voxels."""
    cost = kernel_cost(problem.cost, len(problem.image))
    slabs = [(z, min(z + _SLAB, hi)) for z in range(lo, hi, _SLAB)]
    with ThreadPoolExecutor(n_threads or usable_cpus()) as pool:
        counts = pool.map(lambda slab: _judge_slab(problem, cost, seeds, distance, state, *slab), slabs)
        n_violated, n_unreachable, n_pending = np.sum(list(counts), axis=0).tolist()
    return n_violated, n_unreachable, n_pending


def _judge_slab(
    problem: Problem,
    cost: KernelCost,
    seeds: NDArray[np.bool_],
    distance: NDArray[np.float32],
    state: NDArray[np.uint8],
    lo: int,
    hi: int,
) -> tuple[int, int, int]:
    """Judge a slab thin enough for the cache; return the numbers of violated, unreachable and pending voxels."""
    layout = layout_of((hi - lo, *problem.shape[1:]), len(problem.image), 1)
    image = np.full(layout.n_channels * layout.volume, np.nan, np.float32)
    map_, far = np.full((2, layout.volume), np.inf, np.float32)
    voxels(far, layout)[0] = problem.far if problem.bound is None else problem.bound[lo:hi]
    with_margin = layout._replace(n_z=layout.n_z + 2, origin=layout.origin - layout.plane)
    outer = slice(max(lo - 1, 0), min(hi + 1, problem.shape[0]))
    inner = slice(outer.start - lo + 1, outer.stop - lo + 1)
    np.multiply(problem.image[:, outer], problem.cost.scale, out=voxels(image, with_margin)[:, inner])
    voxels(map_, with_margin)[0, inner] = distance[outer]
    is_seed = seeds[lo:hi]
    if problem.domain is not None:
        np.copyto(voxels(image, with_margin)[0, inner], np.float32(np.nan), where=~problem.domain[outer])
        is_seed = is_seed & problem.domain[lo:hi]
        np.copyto(state[lo:hi], np.uint8(WALL), where=~problem.domain[lo:hi])
    n_violated, n_unreachable, n_pending = _judge(map_, image, far, is_seed, state[lo:hi], layout, cost)
    at_seeds = distance[lo:hi][is_seed]
    n_lost = np.count_nonzero(at_seeds == np.inf)
    return n_violated + np.count_nonzero(at_seeds != 0), n_unreachable - n_lost, n_pending


@inlined
def _weigh(distance, there, steps, here, least, is_attained):
    """Return the two figures of `_neighbourhood` after three neighbours in a row."""
    for_three = load(distance, there - 1), load(distance, there), load(distance, there + 1)
    for other, step in zip(for_three, steps):  # noqa: B905
        candidate = other + step
        least = minimum(candidate, least)
        is_attained = lane_or(is_attained, lane_and(candidate == here, other < here))
    return least, is_attained


@inlined
def _neighbourhood(distance, image, at, layout, cost):
    """Return the least candidate of 26 neighbours, and where one that is nearer to the seeds is tight."""
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


@compiled
def _judge(distance, image, far, is_seed, state, layout, cost):
    """Judge a packed slab; return the voxels, seeds aside, that are violated, all that are inf, and the pending.

    `far` has for each voxel what its distance must be below, or else inf.
    """
    zero = np.float32(0)
    infinity = np.float32(np.inf)
    lanes = np.empty(2 * LANES, np.float32)
    n_violated, n_unreachable, n_pending = 0, 0, 0
    for z in range(layout.n_z):
        for y in range(layout.n_y):
            row = layout.origin + z * layout.plane + y * layout.pitch
            for x in range(0, layout.width, LANES):
                here = load(distance, row + x)
                centre = load(image, row + x)
                is_inf = here == broadcast(infinity)
                is_open = centre == centre
                if lane_bits(is_open) == 0 and lane_bits(is_inf) == _ALL_LANES:
                    continue
                least, is_attained = _neighbourhood(distance, image, row + x, layout, cost)
                n_unreachable += count_lanes(lane_and(is_inf, is_open))
                limit = load(far, row + x)
                is_within = lane_and(broadcast(zero) <= here, here < limit)
                is_proven = lane_and(lane_and(is_within, here <= least), is_attained)
                is_settled = lane_bits(lane_or(is_proven, lane_and(is_inf, limit <= least)))
                if is_settled == _ALL_LANES:
                    continue
                attained, opened = lane_bits(is_attained), lane_bits(is_open)
                store(lanes, 0, least)
                for lane in range(min(LANES, layout.n_x - x)):
                    value, bound, i = distance[row + x + lane], lanes[lane], x + lane
                    if is_settled >> lane & 1 or is_seed[z, y, i]:
                        continue
                    if not opened >> lane & 1:
                        n_violated += value != infinity
                        continue
                    if bound >= far[row + i]:
                        bound = infinity
                    is_near = value < far[row + i] or value == infinity
                    n_violated += not (value >= 0 and value <= bound and is_near)
                    if not (attained >> lane & 1 or value == infinity):
                        state[z, y, i] = PENDING
                        n_pending += 1
    return n_violated, n_unreachable, n_pending
