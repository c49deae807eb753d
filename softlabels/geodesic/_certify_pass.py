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

#: Planes judged at once, and classes that share the costs of their steps: their copies stay in cache.
_SLAB, _MAX_CLASSES = 4, 4
_ALL_LANES = 2**LANES - 1
#: Steps to the neighbours of a vector: three in each of nine rows.
_N_STEPS = 27


def count_faults(
    problem: Problem, distance: NDArray[np.float32], n_threads: int | None = None
) -> list[tuple[int, int, int]]:
    """Return the numbers of violated, unattained and unreachable voxels of each map of `distance` (C, D, H, W)."""
    n_threads = n_threads or usable_cpus()
    states = np.zeros(distance.shape, np.uint8)
    judged: list[tuple[int, int, int]] = []
    for first in range(0, len(distance), _MAX_CLASSES):
        some = slice(first, first + _MAX_CLASSES)
        judged += judge_maps(problem, problem.seeds[some], distance[some], states[some], 0, problem.shape[0], n_threads)
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
    return judge_maps(problem, seeds[None], distance[None], state[None], lo, hi, n_threads)[0]


def judge_maps(
    problem: Problem,
    seeds: NDArray[np.bool_],
    distance: NDArray[np.float32],
    state: NDArray[np.uint8],
    lo: int,
    hi: int,
    n_threads: int | None = None,
) -> list[tuple[int, int, int]]:
    """Do for each of several maps (C, D, H, W) what `judge` does for one; the cost of a step is computed once for all.

    Memory: a slab of image and maps for each thread.
    """
    cost = kernel_cost(problem.cost, len(problem.image))
    slabs = [(z, min(z + _SLAB, hi)) for z in range(lo, hi, _SLAB)]
    with ThreadPoolExecutor(n_threads or usable_cpus()) as pool:
        counts = pool.map(lambda slab: _judge_slab(problem, cost, seeds, distance, state, *slab), slabs)
        total: NDArray[np.int64] = np.sum(list(counts), axis=0)
    return [(n_violated, n_unreachable, n_pending) for n_violated, n_unreachable, n_pending in total.tolist()]


def _judge_slab(
    problem: Problem,
    cost: KernelCost,
    seeds: NDArray[np.bool_],
    distance: NDArray[np.float32],
    state: NDArray[np.uint8],
    lo: int,
    hi: int,
) -> NDArray[np.int64]:
    """Judge a slab thin enough for the cache; return the violated, unreachable and pending voxels of each map, (C, 3).

    Seeds are judged here, all other voxels in the kernel.
    """
    layout = layout_of((hi - lo, *problem.shape[1:]), len(problem.image), 1)
    image = np.full(layout.n_channels * layout.volume, np.nan, np.float32)
    maps, far = np.full(len(distance) * layout.volume, np.inf, np.float32), np.full(layout.volume, np.inf, np.float32)
    voxels(far, layout)[0] = problem.far if problem.bound is None else problem.bound[lo:hi]
    with_margin = layout._replace(n_z=layout.n_z + 2, origin=layout.origin - layout.plane)
    outer = slice(max(lo - 1, 0), min(hi + 1, problem.shape[0]))
    inner = slice(outer.start - lo + 1, outer.stop - lo + 1)
    np.multiply(problem.image[:, outer], problem.cost.scale, out=voxels(image, with_margin)[:, inner])
    voxels(maps, with_margin)[:, inner] = distance[:, outer]
    # Copies, so that the kernel is compiled for one kind of arrays.
    is_seed, slab = np.array(seeds[:, lo:hi]), np.zeros_like(state[:, lo:hi], order="C")
    if problem.domain is not None:
        np.copyto(voxels(image, with_margin)[0, inner], np.float32(np.nan), where=~problem.domain[outer])
        is_seed &= problem.domain[lo:hi]
        np.copyto(slab, np.uint8(WALL), where=~problem.domain[lo:hi])
    counts = np.zeros((len(distance), 3), np.int64)
    _judge(maps, image, far, is_seed, slab, counts, layout, cost)
    state[:, lo:hi] = slab
    for count, values, seed in zip(counts, distance[:, lo:hi], is_seed, strict=True):
        at_seeds = values[seed]
        count[:2] += np.count_nonzero(at_seeds != 0), -np.count_nonzero(at_seeds == np.inf)
    return counts


@inlined
def _write_steps(image, at, steps, layout, cost):
    """Write the costs of the steps to the neighbours of a vector; those to a row follow each other."""
    straight, diagonal, side, corner = cost.along_z
    k = 0
    for plane in (-layout.plane, layout.plane):
        for row in (-layout.pitch, layout.pitch):
            k = _write_three(_steps(cost, side, corner, _gaps(cost, image, at, at + plane + row, layout)), steps, k)
        k = _write_three(_steps(cost, straight, diagonal, _gaps(cost, image, at, at + plane, layout)), steps, k)
    straight, diagonal = cost.along_y
    for row in (-layout.pitch, layout.pitch):
        k = _write_three(_steps(cost, straight, diagonal, _gaps(cost, image, at, at + row, layout)), steps, k)
    # In its own row the voxel meets itself: a step of no gain and, as its distance is not below itself, of no proof.
    _write_three(_steps(cost, np.float32(np.inf), cost.along_x, _gaps(cost, image, at, at, layout)), steps, k)


@inlined
def _write_three(three, steps, k):
    """Write the steps to three neighbours in a row; return where the next ones go."""
    store(steps, k, three[0])
    store(steps, k + LANES, three[1])
    store(steps, k + 2 * LANES, three[2])
    return k + 3 * LANES


@inlined
def _weigh(distance, there, steps, k, here, least, is_attained):
    """Return the two figures of `_neighbourhood` after three neighbours in a row, and where their steps end."""
    for_three = load(distance, there - 1), load(distance, there), load(distance, there + 1)
    three = load(steps, k), load(steps, k + LANES), load(steps, k + 2 * LANES)
    for other, step in zip(for_three, three):  # noqa: B905
        candidate = other + step
        least = minimum(candidate, least)
        is_attained = lane_or(is_attained, lane_and(candidate == here, other < here))
    return least, is_attained, k + 3 * LANES


@inlined
def _neighbourhood(distance, at, steps, layout):
    """Return the least candidate of 26 neighbours, and where one that is nearer to the seeds is tight."""
    here, least, is_attained, k = load(distance, at), broadcast(np.float32(np.inf)), no_lane(), 0
    for plane in (-layout.plane, layout.plane):
        for row in (-layout.pitch, layout.pitch):
            least, is_attained, k = _weigh(distance, at + plane + row, steps, k, here, least, is_attained)
        least, is_attained, k = _weigh(distance, at + plane, steps, k, here, least, is_attained)
    for row in (-layout.pitch, layout.pitch):
        least, is_attained, k = _weigh(distance, at + row, steps, k, here, least, is_attained)
    least, is_attained, k = _weigh(distance, at, steps, k, here, least, is_attained)
    return least, is_attained


@compiled
def _judge(distance, image, far, is_seed, state, counts, layout, cost):
    """Judge the packed slabs of maps; add the voxels, seeds aside, that are violated, all that are inf, the pending.

    `far` has for each voxel what its distance must be below, or else inf; `counts` is (C, 3).
    """
    steps, lanes = np.empty(_N_STEPS * LANES, np.float32), np.empty(LANES, np.float32)
    for z in range(layout.n_z):
        for y in range(layout.n_y):
            row = layout.origin + z * layout.plane + y * layout.pitch
            for x in range(0, layout.width, LANES):
                centre = load(image, row + x)
                is_open, has_steps = centre == centre, False
                for c in range(len(counts)):
                    is_inf = load(distance, c * layout.volume + row + x) == broadcast(np.float32(np.inf))
                    if lane_bits(is_open) == 0 and lane_bits(is_inf) == _ALL_LANES:
                        continue
                    if not has_steps:
                        _write_steps(image, row + x, steps, layout, cost)
                        has_steps = True
                    _judge_vector(
                        distance, is_open, far, is_seed[c, z, y], state[c, z, y], counts[c], steps, lanes, layout,
                        c * layout.volume + row + x, row + x, x,
                    )  # fmt: skip


@inlined
def _judge_vector(distance, is_open, far, is_seed, state, counts, steps, lanes, layout, at, at_far, x):
    """Judge the voxels x.. of a row, which are at `at` in the maps, and add to the counts of their map."""
    infinity = np.float32(np.inf)
    here, limit = load(distance, at), load(far, at_far)
    is_inf = here == broadcast(infinity)
    least, is_attained = _neighbourhood(distance, at, steps, layout)
    counts[1] += count_lanes(lane_and(is_inf, is_open))
    is_within = lane_and(broadcast(np.float32(0)) <= here, here < limit)
    is_proven = lane_and(lane_and(is_within, here <= least), is_attained)
    is_settled = lane_bits(lane_or(is_proven, lane_and(is_inf, limit <= least)))
    if is_settled != _ALL_LANES:
        attained, opened = lane_bits(is_attained), lane_bits(is_open)
        store(lanes, 0, least)
        for lane in range(min(LANES, layout.n_x - x)):
            value, bound, i = distance[at + lane], lanes[lane], x + lane
            if is_settled >> lane & 1 or is_seed[i]:
                continue
            if not opened >> lane & 1:
                counts[0] += value != infinity
                continue
            if bound >= far[at_far + lane]:
                bound = infinity
            is_near = value < far[at_far + lane] or value == infinity
            counts[0] += not (value >= 0 and value <= bound and is_near)
            if not (attained >> lane & 1 or value == infinity):
                state[i] = PENDING
                counts[2] += 1
