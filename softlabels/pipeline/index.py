"""From the receipts of a project to its index.json: case to entries, and what each target is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from softlabels._shared.counts import some_of
from softlabels._shared.files import relative_path
from softlabels.classes import LabelSet
from softlabels.cohort.case_table import CaseTable, EntryAddress, IndexedCase
from softlabels.cohort.index import Index, TargetDescription
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.config import Config
from softlabels.errors import FormatError, InputError
from softlabels.grid import Grid
from softlabels.inputs.sheet import Case
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import Receipt


def build_index(config: Config, plan: Plan, cases: list[Case], folder: Path, *, allow_missing: bool = False) -> Index:
    """Return the index of all cases from their receipts.

    Parameters
    ----------
    config, plan, cases
        What was run.
    folder : Path
        Where the index will be; the store's path in it is relative to this folder.
    allow_missing : bool
        Leave out cases with a missing receipt instead of raising.

    Raises
    ------
    InputError
        If receipts are missing and `allow_missing` is False, or if no case is complete; names the cases.
    """
    results = Path(config.results)
    missing: list[str] = []
    n_kept: dict[str, int] = {}

    def finished() -> Iterator[IndexedCase]:
        """Yield what the index says of each finished case; note the missing ones, and what sparse targets keep."""
        for case in cases:
            try:
                receipts = _receipts(case, plan, results)
                indexed = _indexed_case(case, plan, results, receipts)
            except FormatError:
                missing.append(case.id)
                continue
            for node, receipt in receipts.items():
                if "sparse" in receipt.quality:
                    n_kept[node] = max(receipt.quality["sparse"]["n_kept"], n_kept.get(node, 0))
            yield indexed

    complete = CaseTable.of(finished())
    if not complete or (missing and not allow_missing):
        raise InputError(
            f"index: {len(missing)} of {len(cases)} cases have no result yet: {some_of(missing)}. "
            "Run snakemake, or 'softlabels index --allow-missing' to train on the others"
        )
    return Index(
        store=relative_path(config.store, folder),
        channels=tuple(config.channels),
        ignore_label=LabelSet.parse(config.labels).ignore,
        targets={
            name: replace(describe_target(config, plan, name), n_kept=n_kept.get(node or ""))
            for name, node in plan.targets.items()
        },
        missing=tuple(missing),
        cases=complete,
    )


def describe_target(config: Config, plan: Plan, name: str) -> TargetDescription:
    """Return what a loader, a picture or an export must know of one target."""
    target = config.targets[name]
    label_set = config.label_set(target)
    return TargetDescription(
        node=plan.targets[name],
        method=target.name,
        variant=target.variant_name,
        kind=target.kind,
        classes=label_set.classes,
        is_overlapping=label_set.is_overlapping,
        blend=target.blend_of(label_set),
        pad_value=target.pad_value(len(label_set.classes), label_set.background),
        augmentation=target.augmentation,
    )


def _receipts(case: Case, plan: Plan, results: Path) -> dict[str, Receipt]:
    """Return the receipts of a case that the index is made of, by node."""
    return {node: Receipt.read(results / case.id / f"{node}.json") for node in _needed(plan)}


def _indexed_case(case: Case, plan: Plan, results: Path, receipts: Mapping[str, Receipt]) -> IndexedCase:
    """Return what the index says of one case."""
    folder = results / case.id
    # Seeds and distances may have been collected; their flags are kept while their receipts are there.
    others = [path for node in plan.nodes if node not in receipts and (path := folder / f"{node}.json").exists()]
    flags = {flag for receipt in [*receipts.values(), *map(Receipt.read, others)] for flag in receipt.flags}
    return IndexedCase(
        id=case.id,
        split=case.split,
        flags=tuple(sorted(flags)),
        prepare=_address(receipts[plan.prepare]),
        targets={name: _address(receipts[node]) for name, node in plan.targets.items() if node},
        labels=LabelBlocks.from_json(labels) if (labels := receipts[plan.prepare].labels) else None,
        grid=Grid.from_json(grid) if (grid := receipts[plan.prepare].grid) else None,
    )


def _needed(plan: Plan) -> list[str]:
    """Return the nodes whose receipts the index reads."""
    return [plan.prepare, *sorted({node for node in plan.targets.values() if node})]


def _address(receipt: Receipt) -> EntryAddress:
    """Return where an entry is and how to know that it is the right one; FormatError if it was not kept."""
    if receipt.manifest is None:
        raise FormatError(f"case {receipt.case}, {receipt.node}: was not kept. Run snakemake again")
    return EntryAddress(receipt.key, receipt.manifest)
