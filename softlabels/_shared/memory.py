"""How much memory the jobs of this machine may take."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path

#: Of the memory that is free, the part that is counted on: other programs grow, too.
_SHARE = 0.8


@cache
def free_memory_mb(limit: Path = Path("/sys/fs/cgroup/memory.max")) -> float:
    """Return how much of the memory that is free can be counted on, within the limit of a container.

    The answer stays the same while a process runs.

    Parameters
    ----------
    limit : Path
        The file in which Linux states the limit of a container.
    """
    # Only the planning of a run asks.
    import psutil

    free = psutil.virtual_memory().available
    # No container, or one without a limit, which says "max".
    with suppress(OSError, ValueError):
        free = min(free, int(limit.read_text()))
    return _SHARE * free / 1e6
