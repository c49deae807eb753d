"""What Snakemake schedules: a unit is one case or a batch of cases, a step is one node of the plan or all in turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

#: Folder of the batches, in the results folder and in the folder of logs.
FOLDER = "batches"

#: The step that takes its cases through all stages.
ALL_STAGES = "stages"


def make_units(case_ids: Sequence[str], cases_per_job: int) -> dict[str, list[str]]:
    """Return the units of a cohort: unit name to its case ids, in the sheet's order.

    Examples
    --------
    >>> make_units(["a", "b", "c"], 1)
    {'a': ['a'], 'b': ['b'], 'c': ['c']}
    >>> make_units(["a", "b", "c"], 2)
    {'batches/00000': ['a', 'b'], 'batches/00001': ['c']}
    """
    if cases_per_job == 1:
        return {case_id: [case_id] for case_id in case_ids}
    starts = range(0, len(case_ids), cases_per_job)
    return {f"{FOLDER}/{n:05d}": list(case_ids[start : start + cases_per_job]) for n, start in enumerate(starts)}


def make_steps(node_ids: Iterable[str], stages_per_job: str) -> dict[str, list[str]]:
    """Return what the jobs of a unit do: step name to its nodes, upstream first.

    Examples
    --------
    >>> make_steps(["prepare-1", "target-2"], "one")
    {'prepare-1': ['prepare-1'], 'target-2': ['target-2']}
    >>> make_steps(["prepare-1", "target-2"], "all")
    {'stages': ['prepare-1', 'target-2']}
    """
    return {ALL_STAGES: list(node_ids)} if stages_per_job == "all" else {node: [node] for node in node_ids}
