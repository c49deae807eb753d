"""How much memory the jobs of this machine may take."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

#: Of the memory that is free, the part that is counted on: other programs grow, too.
_SHARE = 0.8


class _Files(NamedTuple):
    """Where a version of Linux's control groups states the limit of a group, its use, and what of that it can drop."""

    limit: str
    used: str
    droppable: str


_VERSION_1 = _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Files("memory.max", "memory.current", "inactive_file")


@cache
def free_memory_mb(own: Path = Path("/proc/self/cgroup"), groups: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how much of the memory that is free can be counted on, within the limits of a container or allocation.

    The answer stays the same while a process runs.

    Parameters
    ----------
    own : Path
        The file in which Linux names the control groups of this process.
    groups : Path
        The folder of all groups.
    """
    # Only the planning of a run asks.
    import psutil

    free = psutil.virtual_memory().available
    for group, files in _own_groups(own, groups):
        # No limit there, which version 2 states as "max".
        with suppress(OSError, ValueError):
            free = min(free, int((group / files.limit).read_text()) - _used(group, files))
    return max(1.0, _SHARE * free / 1e6)


def _own_groups(own: Path, groups: Path) -> Iterator[tuple[Path, _Files]]:
    """Yield the control groups that limit the memory of this process: its own and all that it is part of."""
    lines: list[str] = []
    with suppress(OSError):
        lines = own.read_text().splitlines()
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, files = (groups / "memory", _VERSION_1) if controllers else (groups, _VERSION_2)
        group = top / name.lstrip("/")
        yield from ((folder, files) for folder in (group, *group.parents) if folder.is_relative_to(top))


def _used(group: Path, files: _Files) -> int:
    """Return the bytes that a group uses, without the content of files that it would drop; 0 if it does not say."""
    used = 0
    with suppress(OSError, ValueError):
        used = int((group / files.used).read_text())
        statistics = dict(line.split(" ", 1) for line in (group / "memory.stat").read_text().splitlines())
        used -= int(statistics.get(files.droppable, 0))
    return used
