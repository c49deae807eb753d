"""Which results a store holds already, told from the bytes of the input files alone."""

from __future__ import annotations

from softlabels.inputs.case import read_case
from softlabels.inputs.sheet import Case
from softlabels.pipeline.plan import Plan
from softlabels.store import Store, entry_key


def find_hits(plan: Plan, case: Case, store: Store) -> set[str]:
    """Return the ids of the nodes of a case whose entries are in the store.

    All keys follow from the digests of the case's files, so its files are read to the end and nothing is computed.

    Raises
    ------
    InputError
        If a file of the case is not what it should be.
    """
    digests = read_case(case, **plan.nodes[plan.prepare].checks).digests
    keys: dict[str, str] = {}
    for node_id, node in plan.nodes.items():
        inputs = {role: keys[upstream] for role, upstream in node.inputs.items()} or digests
        keys[node_id] = entry_key(
            stage=node.stage, algorithm=node.algorithm, params=node.key_params(case.id), inputs=inputs
        )
    return {node_id for node_id, key in keys.items() if store.find(key) is not None}
