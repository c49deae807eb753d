"""What a report says of a cohort: figures of nodes and cases, collected from their receipts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from softlabels.cohort.index import TargetDescription
from softlabels.pipeline.receipts import Receipt
from softlabels.pipeline.stages import STAGES


@dataclass(frozen=True)
class Totals:
    """The whole cohort in figures."""

    n_cases: int
    n_results: int
    n_computed: int
    n_reused: int
    seconds: float
    n_exact_maps: int
    n_maps: int
    n_flagged: int


@dataclass(frozen=True)
class NodeSummary:
    """One node of the plan over all cases; seconds are those of computed results."""

    id: str
    target_names: str
    n_results: int
    n_computed: int
    n_reused: int
    median_seconds: float | None
    total_seconds: float
    n_flagged: int

    @property
    def label(self) -> str:
        """The node's id, with the targets that it makes."""
        return f"{self.id} ({self.target_names})" if self.target_names else self.id


@dataclass(frozen=True)
class Note:
    """One quality figure in words."""

    text: str
    is_warning: bool = False


@dataclass(frozen=True)
class Result:
    """One node of one case."""

    seconds: float
    is_computed: bool
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class CaseSummary:
    """One case: its result for each node (None where it is missing), and the address of its picture."""

    id: str
    picture: str | None
    results: tuple[Result | None, ...]
    flags: tuple[str, ...]


@dataclass(frozen=True)
class CaptionedFigure:
    """A figure by its address or data URI."""

    caption: str
    address: str


@dataclass(frozen=True)
class Report:
    """All that a report shows."""

    title: str
    totals: Totals
    nodes: tuple[NodeSummary, ...]
    cases: tuple[CaseSummary, ...]
    figures: tuple[CaptionedFigure, ...] = ()


def summarise(
    receipts: Iterable[Receipt],
    targets: Mapping[str, TargetDescription],
    *,
    title: str = "Soft labels",
    pictures: Mapping[str, str] | None = None,
    figures: Sequence[CaptionedFigure] = (),
) -> Report:
    """Return the content of a report; equal receipts in any order give equal content.

    Parameters
    ----------
    receipts : iterable of Receipt
        One per case x node.
    targets : mapping of str to TargetDescription
    title : str
    pictures : mapping of str to str, optional
        Case id to the address of its picture.
    figures : sequence of CaptionedFigure
    """
    receipts = sorted(receipts, key=lambda receipt: (receipt.case, receipt.node))
    nodes = tuple(_node_summary(node, names, receipts) for node, names in node_targets(receipts, targets).items())
    by_case: dict[str, dict[str, Receipt]] = defaultdict(dict)
    for receipt in receipts:
        by_case[receipt.case][receipt.node] = receipt
    cases = (_case_summary(case, own, nodes, (pictures or {}).get(case)) for case, own in by_case.items())
    return Report(title, _totals(receipts), nodes, tuple(cases), tuple(figures))


def node_targets(receipts: Iterable[Receipt], targets: Mapping[str, TargetDescription]) -> dict[str, str]:
    """Return the nodes in the order of the stages, each with the names of the targets that it makes."""
    order = {stage: position for position, stage in enumerate(STAGES)}
    stages = {receipt.node: order[receipt.stage] for receipt in receipts}
    names: dict[str | None, list[str]] = defaultdict(list)
    for name, target in targets.items():
        names[target.node].append(name)
    return {node: ", ".join(names[node]) for node in sorted(stages, key=lambda node: (stages[node], node))}


def _totals(receipts: Sequence[Receipt]) -> Totals:
    """Return the figures of the whole cohort."""
    n_computed = sum(receipt.outcome == "computed" for receipt in receipts)
    maps = [distance for receipt in receipts for distance in receipt.quality.get("maps", [])]
    return Totals(
        n_cases=len({receipt.case for receipt in receipts}),
        n_results=len(receipts),
        n_computed=n_computed,
        n_reused=len(receipts) - n_computed,
        seconds=sum(receipt.seconds for receipt in receipts),
        n_exact_maps=_n_exact(maps),
        n_maps=len(maps),
        n_flagged=len({receipt.case for receipt in receipts if receipt.flags}),
    )


def _node_summary(node: str, target_names: str, receipts: Sequence[Receipt]) -> NodeSummary:
    """Return the figures of one node."""
    own = [receipt for receipt in receipts if receipt.node == node]
    seconds = [receipt.seconds for receipt in own if receipt.outcome == "computed"]
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


def _case_summary(
    case: str, own: Mapping[str, Receipt], nodes: Sequence[NodeSummary], picture: str | None
) -> CaseSummary:
    """Return the figures of one case."""
    results = (
        Result(receipt.seconds, receipt.outcome == "computed", _notes(receipt.quality))
        if (receipt := own.get(node.id))
        else None
        for node in nodes
    )
    flags = sorted({flag for receipt in own.values() for flag in receipt.flags})
    return CaseSummary(case, picture, tuple(results), tuple(flags))


def _n_exact(maps: Iterable[Mapping[str, Any]]) -> int:
    """Return how many distance maps are certified exact."""
    return sum(bool(distance["certified"]) for distance in maps)


def _notes(quality: Mapping[str, Any]) -> tuple[Note, ...]:
    """Return the figures that matter most of one result."""
    notes = []
    if "maps" in quality:
        n_maps, n_exact = len(quality["maps"]), _n_exact(quality["maps"])
        notes.append(Note(f"{n_exact} of {n_maps} exact", is_warning=n_exact < n_maps))
    n_fallbacks = sum(bool(seeds.get("fallback")) for seeds in quality.get("classes", []))
    if n_fallbacks:
        notes.append(Note(f"{n_fallbacks} by fallback"))
    for figure, word in (("disagreement", "differs"), ("saturated", "saturated")):
        if quality.get(figure) is not None:
            notes.append(Note(f"{word} {quality[figure]:.2%}"))
    if quality.get("entropy_mean") is not None:
        notes.append(Note(f"{quality['entropy_mean']:.3f} bits"))
    return tuple(notes)
