"""What a report says of a cohort: the state, flags and figures of every case, from the sheet, receipts and failures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from softlabels.cohort.index import TargetDescription
from softlabels.pipeline.receipts import Receipt
from softlabels.pipeline.stages import STAGES
from softlabels.view.flags import Flag, case_flags, worst

State = Literal["failed", "unfinished", "complete"]
#: Quality figures that are shown for each target: what is read of QUALITY.json, title, format.
_TARGET_FIGURES = (
    ("disagreement", "differs from the label", "share"),
    ("entropy_mean", "entropy", "bits"),
    ("volume_bias", "volume bias", "bias"),
)


@dataclass(frozen=True)
class Problem:
    """Why one step of a case has no result."""

    step: str
    why: str
    log: str


@dataclass(frozen=True)
class Measure:
    """A figure that every case may have: a column and a strip of dots.

    Parameters
    ----------
    title : str
    target : str
        The target that it belongs to; empty for the case as a whole.
    format : {"share", "bits", "bias", "count", "seconds"}
        A bias is signed, and sorted by its size.
    """

    title: str
    target: str
    format: str


@dataclass(frozen=True)
class CaseSummary:
    """One case of the sheet.

    Parameters
    ----------
    id, split : str
    state : {"failed", "unfinished", "complete"}
    problems : tuple of Problem
    flags : tuple of Flag
    values : tuple of float or None
        One for each measure.
    remarks : tuple of str
        One for each measure: what the value is of, such as the class of the largest bias.
    """

    id: str
    split: str
    state: State
    problems: tuple[Problem, ...]
    flags: tuple[Flag, ...]
    values: tuple[float | None, ...]
    remarks: tuple[str, ...]

    @property
    def rank(self) -> int:
        """The place of the case by urgency: failed, by severity of its flags, nothing to say, unfinished."""
        if self.state == "failed":
            return 0
        severity = worst(self.flags)
        if severity is not None:
            return {"alarm": 1, "warning": 2, "note": 3}[severity]
        return 5 if self.state == "unfinished" else 4


@dataclass(frozen=True)
class NodeSummary:
    """One node of the plan over all cases; seconds are `Receipt.work_seconds` of computed results."""

    id: str
    target_names: str
    n_results: int
    n_computed: int
    n_reused: int
    median_seconds: float | None
    total_seconds: float
    n_flagged: int


@dataclass(frozen=True)
class Totals:
    """The whole cohort in figures."""

    n_cases: int
    n_complete: int
    n_failed: int
    n_results: int
    n_reused: int
    seconds: float
    n_exact_maps: int
    n_maps: int
    n_alarms: int


@dataclass(frozen=True)
class CohortSummary:
    """All figures of a cohort."""

    totals: Totals
    nodes: tuple[NodeSummary, ...]
    measures: tuple[Measure, ...]
    cases: tuple[CaseSummary, ...]


def summarise(
    cases: Mapping[str, str],
    receipts: Iterable[Receipt],
    targets: Mapping[str, TargetDescription],
    problems: Mapping[str, Sequence[Problem]] | None = None,
    n_nodes: int | None = None,
) -> CohortSummary:
    """Return the figures of a cohort, the most urgent cases first; equal receipts in any order give equal figures.

    Parameters
    ----------
    cases : mapping of str to str
        Every case of the sheet, with its split.
    receipts : iterable of Receipt
        One for each case x node that has a result.
    targets : mapping of str to TargetDescription
    problems : mapping of str to sequence of Problem, optional
        Why cases failed.
    n_nodes : int, optional
        Nodes that a complete case has; by default as many as any case has.
    """
    receipts = sorted(receipts, key=lambda receipt: (receipt.case, receipt.node))
    by_case: dict[str, dict[str, Receipt]] = defaultdict(dict)
    for receipt in receipts:
        by_case[receipt.case][receipt.node] = receipt
    if n_nodes is None:
        n_nodes = max(map(len, by_case.values()), default=0)
    measures = _measures(targets)
    names = {one.values[0]: one.name for target in targets.values() for one in target.classes if len(one.values) == 1}
    why = problems or {}
    summaries = [
        _case_summary(case, split, by_case.get(case, {}), targets, tuple(why.get(case, ())), n_nodes, names)
        for case, split in cases.items()
    ]
    summaries.sort(key=lambda case: (case.rank, case.id))
    return CohortSummary(_totals(summaries, receipts), _nodes(receipts, targets), measures, tuple(summaries))


def _measures(targets: Mapping[str, TargetDescription]) -> tuple[Measure, ...]:
    """Return the measures of a cohort, in the order of `_values`."""
    whole = (Measure("inexact maps", "", "count"), Measure("seed fallbacks", "", "count"))
    stored = [name for name, target in targets.items() if target.node is not None]
    of_targets = [Measure(title, name, unit) for name in stored for _, title, unit in _TARGET_FIGURES]
    return (*whole, *of_targets, Measure("work", "", "seconds"))


def _case_summary(
    case: str,
    split: str,
    own: Mapping[str, Receipt],
    targets: Mapping[str, TargetDescription],
    problems: tuple[Problem, ...],
    n_nodes: int,
    class_names: Mapping[int, str],
) -> CaseSummary:
    """Return the figures of one case."""
    values: list[tuple[float | None, str]] = [_count_inexact(own), _count_fallbacks(own)]
    for target in targets.values():
        if target.node is not None:
            quality = own[target.node].quality if target.node in own else {}
            values += [_figure(quality, name, target) for name, _, _ in _TARGET_FIGURES]
    computed = [receipt.work_seconds for receipt in own.values() if receipt.outcome == "computed"]
    values.append((sum(computed) if computed else None, ""))
    state: State = "failed" if problems else "complete" if len(own) >= n_nodes else "unfinished"
    return CaseSummary(
        id=case,
        split=split,
        state=state,
        problems=problems,
        flags=case_flags((flag for receipt in own.values() for flag in receipt.flags), class_names),
        values=tuple(value for value, _ in values),
        remarks=tuple(remark for _, remark in values),
    )


def _count_inexact(own: Mapping[str, Receipt]) -> tuple[float | None, str]:
    """Return how many distance maps are not certified exact; None without any."""
    maps = [one for receipt in own.values() for one in receipt.quality.get("maps", [])]
    return (len(maps) - _n_exact(maps) if maps else None), ""


def _count_fallbacks(own: Mapping[str, Receipt]) -> tuple[float | None, str]:
    """Return for how many classes another strategy had to find the seeds; None without any seeds."""
    seeds = [receipt.quality for receipt in own.values() if receipt.stage == "seeds"]
    classes = [one for quality in seeds for one in quality.get("classes", [])]
    return (sum(bool(one.get("fallback")) for one in classes) if classes else None), ""


def _figure(quality: Mapping[str, Any], name: str, target: TargetDescription) -> tuple[float | None, str]:
    """Return a quality figure of a target; of a list over classes, the largest, with the name of its class.

    Volumes are linear in the map, so their bias is that of the soft label, at the alpha of the loader. The other
    figures are those of the stored map.
    """
    value = quality.get(name)
    if not isinstance(value, list):
        return (None if value is None else float(value)), ""
    share = target.blend.value if target.blend.rule == "mix_onehot" and target.blend.value is not None else 1.0
    of_class = [(share * float(v), one.name) for v, one in zip(value, target.classes, strict=False) if v is not None]
    return max(of_class, key=lambda pair: abs(pair[0]), default=(None, ""))


def _totals(cases: Sequence[CaseSummary], receipts: Sequence[Receipt]) -> Totals:
    """Return the figures of the whole cohort."""
    maps = [distance for receipt in receipts for distance in receipt.quality.get("maps", [])]
    return Totals(
        n_cases=len(cases),
        n_complete=sum(case.state == "complete" for case in cases),
        n_failed=sum(case.state == "failed" for case in cases),
        n_results=len(receipts),
        n_reused=sum(receipt.outcome != "computed" for receipt in receipts),
        seconds=sum(receipt.work_seconds for receipt in receipts),
        n_exact_maps=_n_exact(maps),
        n_maps=len(maps),
        n_alarms=sum(worst(case.flags) == "alarm" for case in cases),
    )


def _nodes(receipts: Sequence[Receipt], targets: Mapping[str, TargetDescription]) -> tuple[NodeSummary, ...]:
    """Return the figures of each node, in the order of the stages."""
    order = {stage: position for position, stage in enumerate(STAGES)}
    stages = {receipt.node: order[receipt.stage] for receipt in receipts}
    by_node: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_node[receipt.node].append(receipt)
    names: dict[str | None, list[str]] = defaultdict(list)
    for name, target in targets.items():
        names[target.node].append(name)
    return tuple(
        _node_summary(node, ", ".join(names[node]), by_node[node])
        for node in sorted(stages, key=lambda node: (stages[node], node))
    )


def _node_summary(node: str, target_names: str, own: Sequence[Receipt]) -> NodeSummary:
    """Return the figures of one node."""
    seconds = [receipt.work_seconds for receipt in own if receipt.outcome == "computed"]
    return NodeSummary(
        id=node,
        target_names=target_names,
        n_results=len(own),
        n_computed=len(seconds),
        n_reused=len(own) - len(seconds),
        median_seconds=median(seconds) if seconds else None,
        total_seconds=sum(seconds),
        n_flagged=sum(bool(receipt.flags) for receipt in own),
    )


def _n_exact(maps: Iterable[Mapping[str, Any]]) -> int:
    """Return how many distance maps are certified exact."""
    return sum(bool(distance["certified"]) for distance in maps)
