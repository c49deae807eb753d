"""The CPU engine: sweeps over slabs on several threads, until a round changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import bounding_box
from softlabels._shared.cpus import usable_cpus
from softlabels.geodesic._cpu_kernels import KernelCost, kernel_cost
from softlabels.geodesic._cpu_layout import FIRST, Layout, layout_of, mark_below, pack, unpack
from softlabels.geodesic._cpu_sweeps import N_DIRECTIONS, TICKS_PER_PLANE, mark_known, sweep_unit
from softlabels.geodesic._problem import Problem, Solution
from softlabels.geodesic._simd import LANES
from softlabels.geodesic._threads import slabs_of

#: Units per thread, and rows of a unit: few units, since what crosses a border waits for the next round, but enough to
#: share the work out when a thread is held up.
_UNITS_PER_THREAD, _MIN_ROWS = 2, 16
#: Classes solved at once, which share the cost of each step. Four in one go take a fifth less than two and two.
_MAX_CLASSES = 4


def solve_on_cpu(
    problem: Problem, n_threads: int | None = None, initial: NDArray[np.float32] | None = None
) -> Solution:
    """Return the maps (C, D, H, W), the rounds of sweeps made and the row segments visited.

    `initial` (C, D, H, W) holds distances that paths are known to attain, inf elsewhere, to go on from.
    """
    if problem.domain is not None:
        return _solve_in_box(problem, problem.domain, n_threads or usable_cpus(), initial)
    return _solve(problem, n_threads or usable_cpus(), initial)


def _solve_in_box(
    problem: Problem, domain: NDArray[np.bool_], n_threads: int, initial: NDArray[np.float32] | None
) -> Solution:
    """Solve the bounding box of the domain."""
    distance = np.full(problem.seeds.shape, np.inf, np.float32)
    box = bounding_box(domain)
    if box is None:
        return Solution(distance, 0, 0)
    cropped = (slice(None), *box)
    bound = None if problem.bound is None else problem.bound[box]
    part = replace(problem, image=problem.image[cropped], seeds=problem.seeds[cropped], domain=domain[box], bound=bound)
    distance[cropped], n_rounds, n_visits = _solve(part, n_threads, None if initial is None else initial[cropped])
    return Solution(distance, n_rounds, n_visits)


def _solve(problem: Problem, n_threads: int, initial: NDArray[np.float32] | None) -> Solution:
    """Pack, sweep and unpack."""
    layout = layout_of(problem.shape, len(problem.image), len(problem.seeds))
    far = problem.far
    n_rounds = n_visits = 0
    with ThreadPoolExecutor(n_threads) as pool:
        image, distance = _packed(problem, layout, far, initial, pool, n_threads)
        cost = kernel_cost(problem.cost, layout.n_channels)
        for classes in _batches(_have_starts(problem.seeds, initial)):
            maps = distance[classes.start * layout.volume : classes.stop * layout.volume]
            batch = layout._replace(classes=tuple(range(len(classes))))
            rounds, visits = _iterate(maps, image, batch, cost, far, pool, n_threads)
            n_rounds, n_visits = max(n_rounds, rounds), n_visits + visits
    del image
    return Solution(unpack(distance, layout, far), n_rounds, n_visits)


def _packed(
    problem: Problem,
    layout: Layout,
    far: np.float32 | NDArray[np.float32],
    initial: NDArray[np.float32] | None,
    pool: ThreadPoolExecutor,
    n_threads: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the buffers of the scaled image and of the maps before the first sweep."""
    image = np.empty(layout.n_channels * layout.volume, np.float32)
    distance = np.empty(len(layout.classes) * layout.volume, np.float32)
    slabs = slabs_of(layout.n_z, 2 * n_threads)
    list(pool.map(lambda slab: pack(problem, layout, far, image, distance, initial, *slab), slabs))
    return image, distance


def _iterate(
    distance: NDArray[np.float32],
    image: NDArray[np.float32],
    layout: Layout,
    cost: KernelCost,
    far: np.float32 | NDArray[np.float32],
    pool: ThreadPoolExecutor,
    n_threads: int,
) -> tuple[int, int]:
    """Sweep packed maps in place to their fixpoint; return the rounds made and the segments visited."""
    stamps = np.zeros((layout.n_z + 2, layout.n_y + 2, layout.n_segments + 2), np.int32)
    rows = np.zeros((layout.n_z + 2, layout.n_y + 2), np.int32)
    units = slabs_of(layout.n_y, min(_UNITS_PER_THREAD * n_threads, layout.n_y // _MIN_ROWS) if n_threads > 1 else 1)
    seen = np.zeros((len(units), N_DIRECTIONS, layout.n_z), np.int32)
    slabs = slabs_of(layout.n_z, n_threads)
    if isinstance(far, np.ndarray):
        mark_below(distance, stamps, rows, layout, far)
    else:
        list(pool.map(lambda slab: mark_known(distance, stamps, rows, layout, far, *slab), slabs))
    now, outside, total_visits = FIRST + 1, 0, 0

    def work(queue: Iterator[int]) -> tuple[int, int]:
        steps = np.empty(layout.segment + 2 * LANES, np.float32)
        n_visits = n_changed = 0
        for k in queue:
            visits, changed = sweep_unit(
                distance, image, stamps, rows, seen[k], steps, layout, cost, *units[k], now, outside
            )
            n_visits, n_changed = n_visits + visits, n_changed + changed
        return n_visits, n_changed

    n_rounds = 0
    while True:
        n_rounds += 1
        queue = iter(range(len(units)))
        results = list(pool.map(work, [queue] * n_threads))
        total_visits += sum(visits for visits, _ in results)
        if not any(changed for _, changed in results):
            return n_rounds, total_visits
        now, outside = now + TICKS_PER_PLANE * layout.n_z, now - 1


def _have_starts(seeds: NDArray[np.bool_], initial: NDArray[np.float32] | None) -> list[bool]:
    """Return for each class whether it has a seed or a distance to go on from; the others stay inf."""
    if initial is None:
        return [bool(one.any()) for one in seeds]
    return [bool(one.any() or np.isfinite(known).any()) for one, known in zip(seeds, initial, strict=True)]


def _batches(have_starts: list[bool]) -> list[range]:
    """Return the classes with starts in groups of neighbours, of near equal size, none above _MAX_CLASSES."""
    found = []
    for has_starts, group in itertools.groupby(range(len(have_starts)), have_starts.__getitem__):
        first, *others = group
        n_classes = 1 + len(others)
        slabs = slabs_of(n_classes, -(-n_classes // _MAX_CLASSES)) if has_starts else []
        found += [range(first + lo, first + hi) for lo, hi in slabs]
    return found
