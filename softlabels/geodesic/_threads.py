"""How work on the CPU is shared out."""

from __future__ import annotations

import itertools
import os


def usable_threads() -> int:
    """Return the CPUs that this process may use: affinity, and Slurm's share of it."""
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(n_cpus, int(granted)) if granted.isdigit() and int(granted) > 0 else n_cpus


def slabs_of(n: int, n_slabs: int) -> list[tuple[int, int]]:
    """Return the bounds (lo, hi) of up to `n_slabs` slabs of near equal size, none of them empty."""
    n_slabs = max(1, min(n_slabs, n))
    return list(itertools.pairwise(n * k // n_slabs for k in range(n_slabs + 1)))
