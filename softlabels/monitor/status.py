"""What is done, from where and why, and when the rest will be: read from receipts, so it works while jobs run."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from softlabels.errors import FormatError, InputError
from softlabels.inputs.sheet import Case
from softlabels.monitor.slurm import last_words
from softlabels.pipeline.batch import ENDED, SUMMARY
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import Receipt, find_result
from softlabels.pipeline.units import ALL_STAGES, FOLDER
from softlabels.store import Store

#: Files are read by so many threads: on a shared file system nearly all of the time is waiting.
_READERS = 16
BATCH_IS_THROUGH = SUMMARY.split(":")[0]
_FAULT = re.compile(r"^(softlabels: |\w*(Error|Exception|Interrupt)\b)")
_FAULT_IN_BATCH = re.compile(r"(?P<case>\S+) (?P<node>\w+-[0-9a-f]{8}) failed: (?P<why>.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Failure:
    """A job that ended without a result.

    Parameters
    ----------
    case, node : str
        Which job; the case is a batch if the whole batch ended, the node is `stages` if a job of all stages did.
    why : str
        The line that says so, or what is known if the job was killed before it could.
    log : str
        Path of its log.
    """

    case: str
    node: str
    why: str
    log: str


def read_receipts(plan: Plan, cases: list[Case], results: Path) -> dict[tuple[str, str], Receipt]:
    """Return the receipts that exist, by (case id, node id)."""

    def of_case(case: Case) -> list[tuple[tuple[str, str], Receipt]]:
        found = []
        for node in plan.nodes:
            path = results / case.id / f"{node}.json"
            try:
                found.append(((case.id, node), Receipt.read(path)))
            except FormatError:
                if path.exists():
                    raise
        return found

    with ThreadPoolExecutor(_READERS) as pool:
        return dict(item for items in pool.map(of_case, cases) for item in items)


def summarise(plan: Plan, cases: list[Case], receipts: dict[tuple[str, str], Receipt]) -> list[dict]:
    """Return one row per node: how many cases are done, computed or reused, and their seconds."""
    of_node = {node: [] for node in plan.nodes}
    for (_, node), receipt in receipts.items():
        of_node[node].append(receipt)
    rows = []
    for node_id, done in of_node.items():
        outcomes = Counter(receipt.outcome for receipt in done)
        rows.append(
            {
                "node": node_id,
                "stage": plan.nodes[node_id].stage,
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


def failures(
    plan: Plan,
    done: set[tuple[str, str]],
    logs: Path,
    is_active: Callable[[str, str], bool] = lambda unit, node: False,
    units: dict[str, list[str]] | None = None,
) -> list[Failure]:
    """Return the jobs that left a log but no result and are not active now.

    Parameters
    ----------
    plan : Plan
        Logs of other nodes are ignored.
    done : set of (case id, node id)
        The jobs with a receipt.
    logs : Path
        Where the workflow's logs lie.
    is_active : callable
        Whether a (unit, step) waits or runs now.
    units : dict, optional
        Unit to its cases; logs of others, such as batches of another size, are ignored. None: every log counts.
    """
    folders = [path for path in sorted(logs.glob("*")) if path.is_dir() and path.name not in (FOLDER, "slurm")]
    folders += sorted((logs / FOLDER).glob("*"))

    def is_open(case: str, node: str) -> bool:
        return node in plan.nodes and (case, node) not in done

    found = []
    for folder in folders:
        unit = str(folder.relative_to(logs))
        for log in sorted(folder.glob("*.log")):
            node = log.stem
            cases, nodes = (
                [unit] if units is None else units.get(unit, []),
                plan.nodes if node == ALL_STAGES else [node],
            )
            if is_active(unit, node) or not any(is_open(*job) for job in product(cases, nodes)):
                continue
            text = log.read_text(encoding="utf-8", errors="replace")
            if unit.startswith(FOLDER) or node == ALL_STAGES:
                of_cases = [m for m in _FAULT_IN_BATCH.finditer(text) if is_open(m["case"], m["node"])]
                found += [Failure(m["case"], m["node"], m["why"], str(log)) for m in of_cases]
                if BATCH_IS_THROUGH in text:
                    continue
            found.append(Failure(unit, node, _why(text, lambda u=unit, n=node: last_words(logs, u, n)), str(log)))
    return found


def _why(text: str, ask_slurm: Callable[[], str | None]) -> str:
    """Return the line of a log that says why a job ended, or what Slurm says if the job was ended from outside."""
    lines = [line for line in text.splitlines() if line.strip()]
    said = [line.removeprefix("softlabels: ") for line in lines if _FAULT.match(line)]
    if said and said[-1] != ENDED:
        return said[-1]
    if reason := ask_slurm():
        return f"ended by Slurm: {reason}"
    if said:
        return said[-1]
    return f"still running here, or killed (memory, time limit, node); last said: {lines[-1] if lines else 'nothing'}"


def seconds_left(plan: Plan, cases: list[Case], done_at: dict[tuple[str, str], float], weights: dict[str, float]):
    """Return how long the rest will take at the pace of the last results, or None if nothing tells.

    Parameters
    ----------
    plan, cases
        What is to be done.
    done_at : dict
        (case id, node id) to the time when its receipt was written, in seconds since the epoch.
    weights : dict
        Node id to what one job of it takes, in any unit: the pace is weight per second of the clock, so that starts,
        queues and the number of jobs at once are all in it.

    Examples
    --------
    >>> from softlabels.config import parse_config
    >>> from softlabels.pipeline.plan import make_plan
    >>> labels = {"background": 0, "gm": 1}
    >>> plan = make_plan(parse_config({"channels": ["a"], "labels": labels, "targets": {"s": {"method": "svls"}}}))
    >>> cases = [Case(name, (name,), name) for name in "abcd"]
    >>> prepare, target = plan.nodes
    >>> done_at = {("a", prepare): 0.0, ("b", prepare): 10.0, ("c", prepare): 20.0}
    >>> seconds_left(plan, cases, done_at, {prepare: 1.0, target: 2.0})     # 2 in 20 s; 1 + 4 * 2 are left
    90.0
    """
    if len(done_at) < 2:
        return None
    last = max(done_at.values())
    window = {job: at for job, at in done_at.items() if at >= last - 1800}
    first = min(window.values())
    # What ended at `first` was made before the window began.
    made = sum(weights[node] for (_, node), at in window.items() if at > first)
    if made == 0:
        return None
    left = sum(weights[node] for node in plan.nodes for case in cases if (case.id, node) not in done_at)
    return left * (last - first) / made


def receipt_times(done: set[tuple[str, str]], results: Path) -> dict[tuple[str, str], float]:
    """Return when each receipt was written, in seconds since the epoch."""

    def at(job: tuple[str, str]) -> tuple[tuple[str, str], float]:
        return job, (results / job[0] / f"{job[1]}.json").stat().st_mtime

    with ThreadPoolExecutor(_READERS) as pool:
        return dict(pool.map(at, done))


def finished_at(seconds: float) -> str:
    """Return a time so many seconds from now, as a person says it."""
    form = "%H:%M" if seconds < 12 * 3600 else "%a %d %b %H:%M"
    return time.strftime(form, time.localtime(time.time() + seconds))


def explain_case(case_id: str, plan: Plan, results: Path, store: Store) -> list[dict]:
    """Return, for each node of one case, where its entry came from and what would change it.

    Raises
    ------
    InputError
        If no result of the case exists.
    """
    rows = []
    for node_id, node in plan.nodes.items():
        row = {"node": node_id, "stage": node.stage, "algorithm": node.algorithm, "params": node.params}
        try:
            found = find_result(results, case_id, node_id, store)
        except (FormatError, InputError) as error:
            rows.append(row | {"state": str(error)})
            continue
        receipt, entry = found.receipt, found.entry
        rows.append(
            row
            | {
                "state": receipt.outcome,
                "receipt": receipt,
                "provenance": entry.provenance,
                "store": entry.path.parents[2],
            }
        )
    if all("receipt" not in row for row in rows):
        raise InputError(f"case {case_id}: no result in {results} that is still in the store. Run snakemake")
    return rows
