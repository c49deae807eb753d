"""The memory that jobs took, from the benchmark files that Snakemake writes beside their logs."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from softlabels.inputs.sheet import Case
from softlabels.pipeline.cost import n_maps, prepared_voxels, shipped_rate
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.units import ALL_STAGES

#: What the benchmark files show of a job that does nothing: one Python with its compiled code.
PROCESS_MB = 150

_ENDING = ".benchmark.tsv"


def peak_memory(plan: Plan, case_of: dict[str, Case], logs: Path) -> dict[str, float]:
    """Return bytes per voxel and map by node id, the most that the benchmark files of single cases show.

    Parameters
    ----------
    plan : Plan
        Whose nodes.
    case_of : dict
        Case id to case.
    logs : Path
        The workflow's folder of logs.
    """
    found: dict[str, float] = defaultdict(float)
    for path in logs.glob(f"*/*{_ENDING}"):
        node_id, case = path.name.removesuffix(_ENDING), case_of.get(path.parent.name)
        if case is None or node_id not in (*plan.nodes, ALL_STAGES):
            continue
        if node_id == ALL_STAGES:
            # The peak of a job of all stages is that of the node which needs most.
            node_id = max(plan.nodes, key=lambda node: shipped_rate(plan, node).memory_bytes * n_maps(plan, node))
        if (peak_mb := _peak_mb(path)) is not None:
            voxel_maps = prepared_voxels(plan, case) * n_maps(plan, node_id)
            found[node_id] = max(found[node_id], (peak_mb - PROCESS_MB) * 1e6 / voxel_maps)
    return dict(found)


def _peak_mb(path: Path) -> float | None:
    """Return the peak memory in a benchmark file, None if it was too short to be measured."""
    header, row = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[:2])
    peak_mb = dict(zip(header, row, strict=True))["max_rss"]
    return None if peak_mb == "NA" else float(peak_mb)
