"""From a case's receipts to its store entries: what pictures, exports and reports look at."""

from __future__ import annotations

from pathlib import Path

from softlabels.config import Config
from softlabels.errors import InputError
from softlabels.index import describe_target
from softlabels.inspect import TargetEntries
from softlabels.plan import Plan
from softlabels.receipts import Receipt
from softlabels.store import Store


def entry_of(config: Config, case_id: str, node_id: str):
    """Return the store entry of one case x node.

    Raises
    ------
    InputError
        If the entry is no longer in the store.
    FormatError
        If there is no receipt yet, or receipt or entry are damaged.
    """
    receipt = Receipt.read(Path(config.results) / case_id / f"{node_id}.json")
    entry = Store(receipt.store).find(receipt.key, receipt.manifest)
    if entry is None:
        raise InputError(
            f"case {case_id}, {node_id}: entry {receipt.key[:12]} is gone from {receipt.store}. "
            "Delete the receipt and run snakemake again"
        )
    return entry


def case_entries(config: Config, plan: Plan, case_id: str) -> tuple[object, dict[str, TargetEntries]]:
    """Return the prepare entry of a case, and for each target its description and the entries on its way."""
    targets = {}
    for name, target_id in plan.targets.items():
        way = {plan.nodes[node].stage: node for node in plan.upstream(target_id)} if target_id else {}
        found = {stage: entry_of(config, case_id, way[stage]) for stage in ("seeds", "distance") if stage in way}
        entry = entry_of(config, case_id, target_id) if target_id else None
        targets[name] = TargetEntries(describe_target(config, plan, name), entry, **found)
    return entry_of(config, case_id, plan.prepare), targets


def describe_node(config: Config, plan: Plan, case_id: str, node_id: str) -> tuple[object, str, dict | None]:
    """Return a node's entry, its stage, and the description of the first target that uses it.

    Raises
    ------
    InputError
        If the plan has no such node; the message lists those it has.
    """
    if node_id not in plan.nodes:
        raise InputError(f"node {node_id!r}: not in the plan, which has {', '.join(plan.nodes)}")
    users = (name for name, target in plan.targets.items() if target and node_id in plan.upstream(target))
    described = describe_target(config, plan, next(users)) if node_id != plan.prepare else None
    return entry_of(config, case_id, node_id), plan.nodes[node_id].stage, described
