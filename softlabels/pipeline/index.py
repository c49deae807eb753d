"""index.json: case to entries, and how a loader turns an entry into a target; the one file a trainer opens."""

from __future__ import annotations

import os
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels._shared.plain_json import sealed_json
from softlabels.config import Config
from softlabels.errors import FormatError, InputError
from softlabels.inputs.sheet import Case
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import Receipt

INDEX_VERSION = 1


def build_index(config: Config, plan: Plan, cases: list[Case], folder: Path, *, allow_missing: bool = False) -> dict:
    """Return the index of all cases from their receipts.

    Parameters
    ----------
    config, plan, cases
        What was run.
    folder : Path
        Where the index will lie; the store's path in it is relative to this folder.
    allow_missing : bool
        Leave out cases with a missing receipt instead of raising.

    Raises
    ------
    InputError
        If receipts are missing and `allow_missing` is False, or if no case is complete; names the cases.
    """
    results = Path(config.results)
    found, missing = [], []
    for case in cases:
        try:
            found.append(_case_entry(case, plan, results))
        except FormatError:
            missing.append(case.id)
    if not found or (missing and not allow_missing):
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise InputError(
            f"index: {len(missing)} of {len(cases)} cases have no result yet: {shown}. "
            "Run snakemake, or 'softlabels index --allow-missing' to train on the others"
        )
    # The ignore label is the top level's: a file has one, whatever classes a target makes of the rest.
    return {
        "format": "softlabels-index",
        "version": INDEX_VERSION,
        "store": os.path.relpath(config.store, folder),
        "channels": list(config.channels),
        "ignore_label": config.labels.get("ignore"),
        "targets": {name: describe_target(config, plan, name) for name in config.targets},
        "missing": missing,
        "cases": found,
    }


def write_index(content: dict, path: Path) -> None:
    """Write an index in one step, with a seal over its content: a reader sees the whole file or an error."""
    write_atomically(path, sealed_json(content))


def _case_entry(case: Case, plan: Plan, results: Path) -> dict:
    """Return what the index says of one case."""
    folder = results / case.id
    receipts = {node: Receipt.read(folder / f"{node}.json") for node in _needed(plan)}
    # Seeds and distances may have been collected; what was remarkable about them is told while it is known.
    others = [path for node in plan.nodes if node not in receipts and (path := folder / f"{node}.json").exists()]
    prepared = receipts[plan.prepare]
    return {
        "id": case.id,
        "split": case.split,
        "flags": sorted({flag for one in [*receipts.values(), *map(Receipt.read, others)] for flag in one.flags}),
        "prepare": _address(prepared),
        "targets": {name: _address(receipts[node]) for name, node in plan.targets.items() if node},
    }


def _needed(plan: Plan) -> list[str]:
    """Return the nodes whose receipts the index reads."""
    return [plan.prepare, *sorted({node for node in plan.targets.values() if node})]


def _address(receipt: Receipt) -> dict:
    """Return where an entry is and how to know that it is the right one."""
    return {"key": receipt.key, "manifest": receipt.manifest}


def describe_target(config: Config, plan: Plan, name: str) -> dict:
    """Return what a loader, a picture or an export must know of one target: its entry in the index."""
    target = config.targets[name]
    label_set = config.label_set(target)
    return {
        "node": plan.targets[name],
        "method": target.name,
        "variant": target.variant_name,
        "kind": target.kind,
        "classes": label_set.to_json(),
        "is_overlapping": label_set.is_overlapping,
        "blend": {"rule": target.blend, **target.blend_parameters()},
        "pad_value": list(target.pad_value(len(label_set.classes), label_set.background)),
        "augmentation": dict(target.augmentation),
    }
