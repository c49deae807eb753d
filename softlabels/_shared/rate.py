"""What a computation costs for each voxel of one map: measured, declared beside what it is the cost of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Cost per voxel of one map: a channel in prepare, a class in seeds and target, a channel x class in distance.

    Parameters
    ----------
    us : float
        Microseconds of wall time.
    memory_bytes, disk_bytes : float
        Bytes of peak memory, and of the entry.
    """

    us: float
    memory_bytes: float
    disk_bytes: float
