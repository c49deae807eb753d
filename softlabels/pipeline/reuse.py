"""Which results a store holds already, which follows from the bytes of the input files alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from softlabels.errors import FormatError
from softlabels.pipeline.receipts import Receipt, receipt_path
from softlabels.pipeline.stages import STAGES

if TYPE_CHECKING:
    from softlabels.inputs.sheet import Case
    from softlabels.pipeline.plan import Plan
    from softlabels.store.store import Store


def case_keys(plan: Plan, case_id: str, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the key of every node of a case, by node id.

    Parameters
    ----------
    plan : Plan
    case_id : str
    digests : mapping of str to str
        Role to the digest of each file of the case.
    """
    keys: dict[str, str] = {}
    for node_id, node in plan.nodes.items():
        inputs = {role: keys[upstream] for role, upstream in node.inputs.items()} or digests
        keys[node_id] = STAGES[node.stage].key(node, case_id, inputs)
    return keys


def verified_receipt(plan: Plan, case: Case, results: Path) -> Receipt | None:
    """Return the receipt of a case whose files a run has read and verified as this plan would, or None.

    No file is opened: that they have not changed since follows from size and time, as Snakemake and `status` decide it.
    """
    node = plan.nodes[plan.prepare]
    try:
        receipt = Receipt.read(receipt_path(results, case.id, node.id))
    except FormatError:
        return None
    return receipt if receipt.checks == node.checks_digest and not receipt.changed_files(case) else None


def stored_nodes(plan: Plan, case: Case, store: Store) -> set[str]:
    """Return the ids of the nodes of a case whose entries are in the store.

    The files of the case are read to the end, and nothing is computed.

    Raises
    ------
    InputError
        If a file of the case is not what it should be.
    """
    from softlabels.inputs.case import read_case

    digests = read_case(case, **plan.nodes[plan.prepare].checks).digests
    return {node for node, key in case_keys(plan, case.id, digests).items() if store.find(key) is not None}
