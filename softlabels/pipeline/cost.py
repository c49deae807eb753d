"""Estimates of the time, memory and disk that a job needs, from its voxels and from measured rates."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

from softlabels._shared.rate import Rate
from softlabels.errors import InputError
from softlabels.inputs.sheet import Case
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.stages import STAGES
from softlabels.pipeline.units import make_steps

if TYPE_CHECKING:
    from softlabels.pipeline.receipts import Receipt


@dataclass(frozen=True)
class Cost:
    """The cost of one job.

    Parameters
    ----------
    seconds : float
        CPU time of all threads, without the start of the process and the compilation of kernels.
    memory_mb : int
        Peak memory of the whole job.
    disk_mb : float
        Size of its entry in the store.
    """

    seconds: float
    memory_mb: int
    disk_mb: float


#: Where the rates of stages, strategies and methods were measured: on real volumes of 0.2 to 9 million voxels.
MEASURED_ON = "a shared x86-64 machine, 2026-11"
#: The factor by which a time may be longer or shorter than estimated, by shipped rates and by rates measured here.
SPREAD, MEASURED_SPREAD = 2.0, 1.5
#: CPU seconds for every result, however small: reading, publishing and its share of the imports of its process.
START_SECONDS = 0.03
#: CPU seconds of a process until its work begins.
JOB_START_SECONDS = 0.4
#: Work that makes a job worth its start, and the most cases that may share one.
JOB_SECONDS, MOST_CASES_PER_JOB = 60, 64
#: Threads of a job for which nothing else is known, and the most that a job is given because there are few.
JOB_THREADS, MOST_JOB_THREADS = 2, 4
#: Two Snakemakes and one Python with its compiled code, whatever the case.
BASE_MEMORY_MB = 660
#: Of a case whose header cannot be read; its job will say what is wrong with it.
UNKNOWN_VOXELS = 20_000_000


@dataclass(frozen=True)
class NodeForecast:
    """What is left to do of one node, and its cost.

    Parameters
    ----------
    node, stage : str
    n_done, n_stored, n_to_do : int
        Cases with a receipt, further cases whose entry is in the store, and the rest.
    cost : Cost
        Of the rest, all cases together.
    is_measured : bool
        Whether the cost was measured in this project, not before the release.
    """

    node: str
    stage: str
    n_done: int
    n_stored: int
    n_to_do: int
    cost: Cost
    is_measured: bool

    @property
    def spread(self) -> float:
        """The factor by which the time may be longer or shorter."""
        return MEASURED_SPREAD if self.is_measured else SPREAD


def estimate_job(plan: Plan, node_id: str, case: Case, rates: dict[str, Rate] | None = None) -> Cost:
    """Return the cost of one case x node.

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
    voxels = prepared_voxels(plan, case)
    voxel_maps = voxels * n_maps(plan, node_id)
    memory_mb = BASE_MEMORY_MB + (rate.volume_bytes * voxels + rate.memory_bytes * voxel_maps) / 1e6
    seconds = START_SECONDS + (rate.volume_us * voxels + rate.us * voxel_maps) / 1e6
    disk_mb = rate.disk_bytes * voxel_maps / 1e6 if plan.nodes[node_id].is_kept else 0.0
    return Cost(seconds, math.ceil(memory_mb / 100) * 100, disk_mb)


def planned_seconds(plan: Plan, case_of: Mapping[str, Case], works: Iterable[tuple[str, str]]) -> float:
    """Return the time that some work, of (case id, node id), was expected to take by the shipped rates.

    As the sum of `estimate_job`, but of 40,000 results in a tenth of a second.
    """
    voxels = {case_id: prepared_voxels(plan, case) for case_id, case in case_of.items()}
    of_node: dict[str, list[int]] = defaultdict(list)
    for case_id, node_id in works:
        of_node[node_id].append(voxels[case_id])
    planned = 0.0
    for node_id, sizes in of_node.items():
        rate = shipped_rate(plan, node_id)
        us = rate.volume_us + rate.us * n_maps(plan, node_id)
        planned += START_SECONDS * len(sizes) + us * sum(sizes) / 1e6
    return planned


def shipped_rate(plan: Plan, node_id: str) -> Rate:
    """Return the rate of a node as measured before the release. Content matters too, see `SPREAD`."""
    node = plan.nodes[node_id]
    return STAGES[node.stage].cost(node, plan.nodes)


def measured_rates(
    plan: Plan,
    case_of: Mapping[str, Case],
    receipts: Mapping[tuple[str, str], Receipt],
    peak_memory: Mapping[str, float] | None = None,
) -> dict[str, Rate]:
    """Return rates by node id from the times in receipts, and from the memory that jobs were seen to take.

    Parameters
    ----------
    plan : Plan
        Whose nodes.
    case_of : dict
        Case id to case.
    receipts : dict
        (case id, node id) to receipt; those that computed something give a time.
    peak_memory : mapping, optional
        Node id to bytes per voxel of the volume (`softlabels.monitor.benchmarks`); the shipped ones by default.
    """
    seconds: dict[str, float] = defaultdict(float)
    voxel_maps: dict[str, float] = defaultdict(float)
    n_jobs: Counter[str] = Counter()
    for (case_id, node_id), receipt in receipts.items():
        if receipt.outcome == "computed":
            n_jobs[node_id] += 1
            seconds[node_id] += receipt.work_seconds
            voxel_maps[node_id] += prepared_voxels(plan, case_of[case_id]) * n_maps(plan, node_id)
    rates = {}
    for node_id in seconds:
        rate = shipped_rate(plan, node_id)
        if node_id in (peak_memory or {}):
            rate = replace(rate, memory_bytes=0.0, volume_bytes=(peak_memory or {})[node_id])
        us = 1e6 * max(0.0, seconds[node_id] - START_SECONDS * n_jobs[node_id]) / voxel_maps[node_id]
        rates[node_id] = replace(rate, us=us, volume_us=0.0)
    return rates


def n_maps(plan: Plan, node_id: str) -> int:
    """Return how many maps of the image's size a node makes."""
    node = plan.nodes[node_id]
    return STAGES[node.stage].n_maps(node, plan.nodes)


def prepared_voxels(plan: Plan, case: Case) -> int:
    """Return the voxels of a prepared image; a crop is not foreseen, so this is the most it can have."""
    spacing = plan.nodes[plan.prepare].params["spacing"]
    return _prepared_voxels(case.images[0], case.spacing, None if spacing == "native" else tuple(spacing))


@cache
def _prepared_voxels(path: str, own: tuple[float, float, float] | None, spacing: tuple[float, ...] | None) -> int:
    """Return the voxels of one image file on its own grid (of spacing `own`, if the file does not say), or another."""
    from softlabels.inputs.volume import read_header

    try:
        header = read_header(path, own)
    except InputError:
        return UNKNOWN_VOXELS
    voxels = math.prod(header.size_xyz)
    if spacing is None:
        return voxels
    return math.ceil(voxels * math.prod(header.spacing_xyz) / math.prod(spacing))


def forecast(
    plan: Plan,
    cases: list[Case],
    *,
    done: set[tuple[str, str]],
    stored: set[tuple[str, str]],
    rates: dict[str, Rate] | None = None,
) -> list[NodeForecast]:
    """Return the forecast of each node, in the order of the plan.

    Parameters
    ----------
    plan, cases
        What is asked for.
    done, stored : set of (case id, node id)
        What has a receipt, and what the store holds besides.
    rates : dict, optional
        As in `estimate_job`.
    """
    rows = []
    wanted: dict[str, set[str]] = {}
    for node_id, node in reversed(plan.nodes.items()):
        if node.is_kept:
            open_cases = [case for case in cases if (case.id, node_id) not in done]
        else:
            # It is computed whenever something that reads it is.
            readers = [other for other in plan.nodes if node_id in plan.nodes[other].inputs.values()]
            open_cases = [case for case in cases if any(case.id in wanted[reader] for reader in readers)]
        to_do = [case for case in open_cases if (case.id, node_id) not in stored]
        wanted[node_id] = {case.id for case in to_do}
        rows.append(
            NodeForecast(
                node=node_id,
                stage=node.stage,
                n_done=len(cases) - len(open_cases),
                n_stored=len(open_cases) - len(to_do),
                n_to_do=len(to_do),
                cost=total(estimate_job(plan, node_id, case, rates) for case in to_do),
                is_measured=node_id in (rates or {}),
            )
        )
    return rows[::-1]


def suggested_cases_per_job(
    plan: Plan,
    cases: list[Case],
    rates: dict[str, Rate] | None = None,
    stages_per_job: str = "one",
    n_cpus: int = 4,
) -> int:
    """Return how many cases should share a job: enough for `JOB_SECONDS` of work, in parts of the cohort of one size.

    A job takes a second to start on one machine and several on a cluster, whatever it does then; and beyond some
    thousand jobs Snakemake takes minutes to plan them. Several parts, as many as there are CPUs and at most four, let
    jobs run at once, also those of a small cohort.

    Parameters
    ----------
    plan, cases, rates
        As in `estimate_job`; a sample of the cases is used.
    stages_per_job : str
        As in the configuration: a job that takes a case through all stages works longer.
    n_cpus : int
        Of the machine.
    """
    sample = cases[:: max(1, len(cases) // 20)]
    if not sample:
        return 1
    work = total(estimate_job(plan, node_id, case, rates) for node_id in plan.nodes for case in sample)
    enough = math.ceil(JOB_SECONDS * len(sample) * len(make_steps(plan.nodes, stages_per_job)) / work.seconds)
    n_parts = min(n_cpus, 4)
    n_jobs = math.ceil(len(cases) / min(enough, MOST_CASES_PER_JOB))
    return math.ceil(len(cases) / (math.ceil(n_jobs / n_parts) * n_parts))


def local_threads(memory_mb: float, n_jobs: int, n_cpus: int, machine_mb: float) -> int:
    """Return how many threads a job uses on a machine that runs several at once.

    Cases do not wait for each other, and steps of a case that only one thread can work on leave other cores to other
    cases. So a job uses one thread, but more where there are fewer jobs than cores, and as many as its share of the
    memory: then what is planned for jobs that run at once fits into it, unless one needs more alone.

    Parameters
    ----------
    memory_mb : float
        Of the job.
    n_jobs : int
        That could run at once.
    n_cpus : int
        Of the run.
    machine_mb : float
        Memory that all jobs together may take.

    Examples
    --------
    >>> local_threads(1200, 50, 8, 16000), local_threads(1200, 1, 8, 16000), local_threads(3000, 50, 8, 16000)
    (1, 4, 2)
    >>> local_threads(20000, 50, 8, 16000)  # alone
    8
    """
    for_memory = math.ceil(memory_mb * n_cpus / machine_mb)
    return max(1, min(n_cpus, max(for_memory, min(n_cpus // n_jobs, MOST_JOB_THREADS))))


def time_limit_min(seconds: float) -> int:
    """Return the time limit to ask for, in minutes: four times the estimate and ten for a slow file system.

    Examples
    --------
    >>> time_limit_min(30), time_limit_min(3600)
    (12, 250)
    """
    return 10 + math.ceil(4 * seconds / 60)


def duration(seconds: float) -> str:
    """Return a time as a person says it.

    Examples
    --------
    >>> duration(3.21), duration(250), duration(9000)
    ('3.2 s', '4.2 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def between(parts: Iterable[tuple[float, float]]) -> str:
    """Return the sum of estimated times with its uncertainty, from (seconds, spread) of each part.

    Examples
    --------
    >>> between([(100, 2.0), (200, 1.0)])
    '5.0 min (4.2 min to 6.7 min)'
    """
    parts = list(parts)
    low, high = sum(seconds / spread for seconds, spread in parts), sum(seconds * spread for seconds, spread in parts)
    return f"{duration(sum(seconds for seconds, _ in parts))} ({duration(low)} to {duration(high)})"


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
