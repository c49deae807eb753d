"""Where the results of one case came from, and what would cause them to be computed again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from softlabels.errors import FormatError, InputError, NotKeptError
from softlabels.inputs.sheet import Case
from softlabels.pipeline.failure import Failure, failure_path
from softlabels.pipeline.node import Node
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import Receipt, StoredResult, find_result, receipt_path
from softlabels.store import Store


@dataclass(frozen=True)
class Explanation:
    """What is known of one case x node.

    Parameters
    ----------
    node : Node
    state : str
        "computed" or "reused", with "not kept" where the result was not written; or why there is no result.
    result : StoredResult or None
        The receipt and its entry.
    not_kept : Receipt or None
        The receipt of a result that was not kept.
    changed : tuple of str
        A line for each file of the case that is not as it was read.
    """

    node: Node
    state: str
    result: StoredResult | None = None
    not_kept: Receipt | None = None
    changed: tuple[str, ...] = ()

    @property
    def store(self) -> Path | None:
        """The store that holds the entry; it may be another than the configuration's."""
        return self.result.entry.path.parents[2] if self.result else None


def explain_case(case: Case, plan: Plan, results: Path, store: Store) -> list[Explanation]:
    """Return the explanation of each node of one case, in the order of the plan.

    Raises
    ------
    InputError
        If no result of the case exists.
    """
    found = [_explained(case, node, results, store) for node in plan.nodes.values()]
    if all(one.result is None and one.not_kept is None for one in found):
        raise InputError(f"case {case.id}: no result in {results} that is still in the store. Run snakemake")
    return found


def _explained(case: Case, node: Node, results: Path, store: Store) -> Explanation:
    """Return the explanation of one node."""
    try:
        result = find_result(results, case.id, node.id, store)
    except NotKeptError:
        receipt = Receipt.read(receipt_path(results, case.id, node.id))
        return Explanation(node, f"{receipt.outcome}, not kept", not_kept=receipt)
    except (FormatError, InputError) as error:
        return Explanation(node, _failure(case, node, results) or str(error))
    changed = tuple(result.receipt.changed_files(case))
    return Explanation(node, result.receipt.outcome, result, changed=changed)


def _failure(case: Case, node: Node, results: Path) -> str | None:
    """Return why the last attempt at a node failed, if that is recorded."""
    try:
        return f"failed: {Failure.read(failure_path(results, case.id, node.id)).why}"
    except FormatError:
        return None
