"""What a computation costs for each voxel: measured, declared beside what it is the cost of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """Cost per voxel of one map: a channel in prepare, a class in seeds and target, a channel x class in distance.

    Parameters
    ----------
    us : float
        Microseconds of CPU time, of all threads.
    memory_bytes, disk_bytes : float
        Bytes of peak memory, and of the entry.
    volume_us, volume_bytes : float
        Microseconds of CPU time, and bytes of peak memory, per voxel of the volume, however many maps there are.
    """

    us: float
    memory_bytes: float
    disk_bytes: float
    volume_us: float = 0.0
    volume_bytes: float = 0.0
