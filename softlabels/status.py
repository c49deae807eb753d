"""What is done, from where and why: read from receipts, so it works while jobs run and afterwards."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from softlabels.cases import Case
from softlabels.errors import FormatError, InputError
from softlabels.plan import Plan
from softlabels.receipts import Receipt
from softlabels.store import Store


def read_receipts(plan: Plan, cases: list[Case], results: Path) -> dict[tuple[str, str], Receipt]:
    """Return the receipts that exist, by (case id, node id)."""
    found = {}
    for case in cases:
        for node in plan.nodes:
            path = results / case.id / f"{node}.json"
            if path.exists():
                found[case.id, node] = Receipt.read(path)
    return found


def summarise(plan: Plan, cases: list[Case], results: Path) -> list[dict]:
    """Return one row per node: how many cases are done, computed or reused, and their seconds."""
    receipts = read_receipts(plan, cases, results)
    rows = []
    for node_id, node in plan.nodes.items():
        done = [receipt for (_, found), receipt in receipts.items() if found == node_id]
        outcomes = Counter(receipt.outcome for receipt in done)
        rows.append(
            {
                "node": node_id,
                "stage": node.stage,
                "targets": [
                    name for name, target in plan.targets.items() if target and node_id in plan.upstream(target)
                ],
                "done": len(done),
                "of": len(cases),
                "computed": outcomes["computed"],
                "reused": outcomes["reused"],
                "flagged": sum(bool(receipt.flags) for receipt in done),
                "seconds": sum(receipt.seconds for receipt in done),
            }
        )
    return rows


def failures(plan: Plan, cases: list[Case], results: Path, logs: Path) -> list[dict]:
    """Return the jobs that left a log but no receipt: they failed, or are running now."""
    found = []
    for case in cases:
        for node in plan.nodes:
            log = logs / case.id / f"{node}.log"
            if log.exists() and not (results / case.id / f"{node}.json").exists():
                lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
                found.append({"case": case.id, "node": node, "log": str(log), "last_line": lines[-1] if lines else ""})
    return found


def explain_case(case_id: str, plan: Plan, results: Path) -> list[dict]:
    """Return, for each node of one case, where its entry came from and what would change it.

    Raises
    ------
    InputError
        If no receipt of the case exists.
    """
    rows = []
    for node_id, node in plan.nodes.items():
        row = {"node": node_id, "stage": node.stage, "algorithm": node.algorithm, "params": node.params}
        try:
            receipt = Receipt.read(results / case_id / f"{node_id}.json")
            entry = Store(receipt.store).find(receipt.key)
        except FormatError as error:
            rows.append(row | {"state": str(error)})
            continue
        if entry is None:
            rows.append(row | {"state": f"entry {receipt.key[:12]} is gone from {receipt.store}. Run snakemake again"})
            continue
        rows.append(row | {"state": receipt.outcome, "receipt": receipt, "provenance": entry.provenance})
    if all("receipt" not in row for row in rows):
        raise InputError(f"case {case_id}: no result in {results}. Known cases have a folder there")
    return rows
