"""The CPU engine: sweeps over slabs on several threads, until a round changes nothing."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from softlabels.geodesic._cpu_kernels import kernel_cost
from softlabels.geodesic._cpu_layout import layout_of, pack_image, pack_seeds, unpack
from softlabels.geodesic._cpu_sweeps import FIRST, N_DIRECTIONS, TICKS_PER_PLANE, mark_seeds, sweep_unit
from softlabels.geodesic._simd import LANES

#: Rows of a unit: few enough to share the work out, many enough that borders between units are rare.
_UNIT_ROWS = 32


def usable_threads() -> int:
    """Return the CPUs that this process may use: affinity, and Slurm's share of it."""
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(n_cpus, int(granted)) if granted.isdigit() and int(granted) > 0 else n_cpus


def solve(problem, n_threads=None):
    """Return the maps (C, D, H, W), the rounds of sweeps made and the row segments visited."""
    layout = layout_of(problem.shape, len(problem.image), len(problem.seeds))
    bound = np.float32(np.inf) if problem.cap == np.inf else np.nextafter(problem.cap, np.float32(np.inf))
    image = pack_image(problem, layout)
    distance = pack_seeds(problem, layout, bound)
    n_rounds, n_visits = _iterate(distance, image, layout, kernel_cost(problem.cost, layout.n_channels), n_threads)
    del image
    return unpack(distance, layout, bound), n_rounds, n_visits


def _iterate(distance, image, layout, cost, n_threads):
    """Sweep the packed maps in place to their fixpoint; return the rounds made and the segments visited."""
    stamps = np.zeros((layout.n_z + 2, layout.n_y + 2, layout.n_segments + 2), np.int32)
    rows = np.zeros((layout.n_z + 2, layout.n_y + 2), np.int32)
    units = _units(layout.n_y)
    seen = np.zeros((len(units), N_DIRECTIONS, layout.n_z), np.int32)
    mark_seeds(distance, stamps, rows, layout, 0, layout.n_z)
    now, outside, n_rounds, total_visits = FIRST + 1, 0, 0, 0

    def work(queue):
        steps = np.empty(layout.segment + 2 * LANES, np.float32)
        n_visits = n_changed = 0
        for k in queue:
            visits, changed = sweep_unit(
                distance, image, stamps, rows, seen[k], steps, layout, cost, *units[k], now, outside
            )
            n_visits, n_changed = n_visits + visits, n_changed + changed
        return n_visits, n_changed

    n_threads = min(n_threads or usable_threads(), len(units))
    with ThreadPoolExecutor(n_threads) as pool:
        while True:
            queue = iter(range(len(units)))
            results = [future.result() for future in [pool.submit(work, queue) for _ in range(n_threads)]]
            total_visits += sum(visits for visits, _ in results)
            n_rounds += 1
            if not any(changed for _, changed in results):
                return n_rounds, total_visits
            now, outside = now + TICKS_PER_PLANE * layout.n_z, now - 1


def _units(n_y: int) -> list[tuple[int, int]]:
    """Return the bounds (lo, hi) of slabs of rows."""
    n_units = max(1, round(n_y / _UNIT_ROWS))
    edges = [n_y * k // n_units for k in range(n_units + 1)]
    return list(itertools.pairwise(edges))
