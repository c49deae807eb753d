"""The memory that jobs took, from the benchmark files that Snakemake writes beside their logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from softlabels.inputs.sheet import Case
from softlabels.monitor.status import file_names
from softlabels.pipeline.cost import estimate_job, prepared_voxels
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.units import ALL_STAGES

#: What the benchmark files show of a job that does nothing: one Python with its compiled code.
PROCESS_MB = 150

_ENDING = ".benchmark.tsv"


def peak_memory(
    plan: Plan, case_of: Mapping[str, Case], units: Mapping[str, Sequence[str]], logs: Path
) -> dict[str, float]:
    """Return bytes per voxel of the volume by node id, as the benchmark file of the largest job shows it.

    Parameters
    ----------
    plan : Plan
        Whose nodes.
    case_of : mapping
        Case id to case.
    units : mapping
        Unit to its cases (`softlabels.pipeline.units`). The peak of a batch is that of its largest case.
    logs : Path
        The workflow's folder of logs.
    """
    largest: dict[str, tuple[int, float]] = {}
    for unit, cases in units.items():
        for name in file_names(logs / unit):
            node_id = name.removesuffix(_ENDING)
            if not name.endswith(_ENDING) or node_id not in (*plan.nodes, ALL_STAGES):
                continue
            if node_id == ALL_STAGES:
                node_id = _largest_node(plan, case_of[cases[0]])
            if (peak_mb := _peak_mb(logs / unit / name)) is not None:
                voxels = max(prepared_voxels(plan, case_of[case]) for case in cases)
                # What a process takes whatever its case is small beside a large one only.
                largest[node_id] = max(largest.get(node_id, (0, 0.0)), (voxels, peak_mb))
    return {node: max(0.0, peak_mb - PROCESS_MB) * 1e6 / voxels for node, (voxels, peak_mb) in largest.items()}


def _largest_node(plan: Plan, case: Case) -> str:
    """Return the node with the largest peak: that of a job of all stages."""
    return max(plan.nodes, key=lambda node: estimate_job(plan, node, case).memory_mb)


def _peak_mb(path: Path) -> float | None:
    """Return the peak memory in a benchmark file; None if the job was too short for one, or the file is damaged."""
    try:
        header, row = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[:2])
        return float(dict(zip(header, row, strict=True))["max_rss"])
    except (OSError, KeyError, ValueError):
        # Snakemake writes "NA" of a job that ended before it was looked at. Estimates do without it, as without a file.
        return None
