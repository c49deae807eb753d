"""How many CPUs this process may use."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use, at least 1: its affinity, and Slurm's share of it.

    macOS has no affinity: there it is every CPU of the machine.
    """
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(n_cpus, int(granted)) if granted.isdecimal() and int(granted) > 0 else n_cpus
