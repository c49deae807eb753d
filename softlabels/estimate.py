"""What a job will take: time, memory and disk from its voxels, by costs that were measured."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from softlabels.cases import Case
from softlabels.errors import InputError
from softlabels.plan import Plan


@dataclass(frozen=True)
class Cost:
    """What one job takes.

    Parameters
    ----------
    seconds : float
        Wall time, without the start of a process.
    memory_mb : int
        Peak memory of the whole job.
    disk_mb : float
        What its entry takes in the store.
    """

    seconds: float
    memory_mb: int
    disk_mb: float


@dataclass(frozen=True)
class Rate:
    """Cost per voxel of one map: a channel in prepare, a class in seeds and target, a modality x class in distance.

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


#: Where `RATES` was measured (benchmarks/RESULTS.md, "Workflow scale").
MEASURED_ON = "2 cores of a virtual machine, numpy 2.4, 8 real cases"
#: Stages, and methods of the target stage whose cost differs from the others'.
RATES = {
    "prepare": Rate(0.30, 40, 3.0),
    "seeds": Rate(0.30, 30, 0.1),
    "distance": Rate(1.2, 40, 2.5),
    "target": Rate(0.30, 40, 1.0),
}
#: A measured time may be so many times longer or shorter than estimated.
SPREAD = 2.0
#: Two Snakemakes and one Python with its compiled code, whatever the case.
BASE_MEMORY_MB = 900
#: Of a case whose header cannot be read; its job will say what is wrong with it.
UNKNOWN_VOXELS = 20_000_000


def estimate_job(plan: Plan, node_id: str, case: Case, rates: dict[str, Rate] | None = None) -> Cost:
    """Return what one case x one node takes.

    Parameters
    ----------
    plan : Plan
        Holds the node and those it reads.
    node_id : str
        Which node.
    case : Case
        Only the header of its first image is read.
    rates : dict, optional
        Measured rates by node id (`measured_rates`), used before the shipped ones.
    """
    rate = (rates or {}).get(node_id) or shipped_rate(plan, node_id)
    voxel_maps = prepared_voxels(plan, case) * n_maps(plan, node_id)
    memory_mb = BASE_MEMORY_MB + rate.memory_bytes * voxel_maps / 1e6
    return Cost(rate.us * voxel_maps / 1e6, math.ceil(memory_mb / 100) * 100, rate.disk_bytes * voxel_maps / 1e6)


def shipped_rate(plan: Plan, node_id: str) -> Rate:
    """Return the shipped rate of a node: its method's own if there is one, else its stage's."""
    node = plan.nodes[node_id]
    return RATES.get(node.params.get("method"), RATES[node.stage])


def n_maps(plan: Plan, node_id: str) -> int:
    """Return how many maps of the image's size a node makes."""
    node = plan.nodes[node_id]
    n_channels = len(plan.nodes[plan.prepare].checks["channels"])
    if node.stage == "prepare":
        return n_channels
    if node.stage == "distance":
        n_images = 1 if node.params["modalities"] == "vector" else n_channels
        return n_images * n_maps(plan, node.inputs["seeds"])
    return len(node.params["classes"])


def prepared_voxels(plan: Plan, case: Case) -> int:
    """Return the voxels of a prepared image; a crop is not foreseen, so this is the most it can have."""
    return _prepared_voxels(case.images[0], plan.nodes[plan.prepare].params["spacing"])


@cache
def _prepared_voxels(path: str, spacing) -> int:
    """Return the voxels of one image file on its own grid, or at another spacing (z, y, x)."""
    from softlabels.intake.volume import read_header

    try:
        header = read_header(path)
    except InputError:
        return UNKNOWN_VOXELS
    voxels = math.prod(header.size_xyz)
    if spacing == "native":
        return voxels
    return math.ceil(voxels * math.prod(header.spacing_xyz) / math.prod(spacing))


def time_limit_min(seconds: float) -> int:
    """Return the time limit to ask for, in minutes: four times the estimate and ten for a slow file system.

    Examples
    --------
    >>> time_limit_min(30), time_limit_min(3600)
    (12, 250)
    """
    return 10 + math.ceil(4 * seconds / 60)


def total(costs: Iterable[Cost]) -> Cost:
    """Return times and disk added up, and the largest memory.

    Examples
    --------
    >>> total([Cost(1.0, 900, 2.0), Cost(2.0, 1200, 0.5)])
    Cost(seconds=3.0, memory_mb=1200, disk_mb=2.5)
    """
    costs = list(costs)
    memory_mb = max((cost.memory_mb for cost in costs), default=0)
    return Cost(sum(cost.seconds for cost in costs), memory_mb, sum(cost.disk_mb for cost in costs))
