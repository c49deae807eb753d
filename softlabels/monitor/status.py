"""How far a run is, and when the rest will be done: read from receipts, so it works while jobs run."""

from __future__ import annotations

import gc
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from softlabels.errors import FormatError
from softlabels.inputs.sheet import Case
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import Receipt

#: Threads that read small files: on a shared file system nearly all of the time is waiting.
N_READERS = 16
#: Items that a thread takes at a time.
_AT_ONCE = 32
#: Threads read where reading takes so many times its CPU time.
_WAITING = 2
#: The pace is that of the results of this many seconds before the last one.
PACE_SECONDS = 1800

T = TypeVar("T")
R = TypeVar("R")

#: (case id, node id): one job's work.
Work = tuple[str, str]


@dataclass(frozen=True)
class NodeProgress:
    """How far one node is.

    Parameters
    ----------
    node, stage : str
    targets : tuple of str
        The targets that need it.
    n_done, n_cases : int
        Cases with a result, and all cases.
    n_computed, n_reused : int
        How the results came about.
    n_flagged : int
        Results that a person should look at.
    seconds : float
        Work that the results took (`Receipt.work_seconds`), added up.
    """

    node: str
    stage: str
    targets: tuple[str, ...]
    n_done: int
    n_cases: int
    n_computed: int
    n_reused: int
    n_flagged: int
    seconds: float


def read_receipts(plan: Plan, cases: list[Case], results: Path) -> dict[Work, Receipt]:
    """Return the receipts that hold, by (case id, node id); FormatError if one is damaged.

    That of a result which is to be kept and was not is left out: it is to be computed again.
    """

    def of_case(case: Case) -> list[tuple[Work, Receipt]]:
        folder, found = os.path.join(results, case.id), []
        present = set(file_names(folder))
        for node_id, node in plan.nodes.items():
            if (name := f"{node_id}.json") not in present:
                continue
            path = os.path.join(folder, name)
            try:
                receipt = Receipt.read(path)
            except FormatError:
                # A job may have deleted it meanwhile.
                if os.path.lexists(path):
                    raise
                continue
            if receipt.is_kept or not node.is_kept:
                found.append(((case.id, node_id), receipt))
        return found

    with _without_collection():
        return dict(item for items in in_threads(of_case, cases) for item in items)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Look for no cyclic garbage, neither now nor later, among objects that stay and have no cycles.

    Looking through a million of them takes a quarter of the time of reading them, and is done again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if was_enabled:
            gc.enable()


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield function(item) in order, by threads if the first items were rather waited for than computed.

    One thread takes a third of the time for small files that are in the memory of the machine, since many threads wait
    for Python's lock. On a shared file system nearly all of the time is waiting for the server.

    Examples
    --------
    >>> list(in_threads(len, ["a", "bc"]))
    [1, 2]
    """
    listed = list(items)
    # A future for every item would cost as much as reading a receipt.
    first, *others = [listed[start : start + _AT_ONCE] for start in range(0, len(listed), _AT_ONCE)] or [[]]
    wall, cpu = time.perf_counter(), time.thread_time()
    done = [function(item) for item in first]
    is_waiting = time.perf_counter() - wall > _WAITING * (time.thread_time() - cpu)
    yield from done
    if not is_waiting:
        for chunk in others:
            yield from map(function, chunk)
        return
    with ThreadPoolExecutor(N_READERS) as pool:
        for done in pool.map(lambda chunk: [function(item) for item in chunk], others):
            yield from done


def file_names(folder: str | Path) -> list[str]:
    """Return the names of what is in a folder; none if it does not exist."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def changed_inputs(cases: list[Case], receipts: dict[Work, Receipt]) -> dict[str, list[str]]:
    """Return the cases whose files are not as they were read: case id to a line for each file.

    Cost: one `stat` for each file of a case that has a result.
    """

    def of_case(case: Case) -> tuple[str, list[str]]:
        return case.id, sorted({line for receipt in by_case.get(case.id, ()) for line in receipt.changed_files(case)})

    by_case: dict[str, list[Receipt]] = {}
    for (case_id, _), receipt in receipts.items():
        if receipt.files:
            by_case.setdefault(case_id, []).append(receipt)
    return {case_id: lines for case_id, lines in in_threads(of_case, cases) if lines}


def progress(plan: Plan, cases: list[Case], receipts: dict[Work, Receipt]) -> list[NodeProgress]:
    """Return the progress of each node, in the order of the plan."""
    of_node: dict[str, list[Receipt]] = {node: [] for node in plan.nodes}
    for (_, node), receipt in receipts.items():
        of_node[node].append(receipt)
    upstream = {name: plan.upstream(target) for name, target in plan.targets.items() if target}
    rows = []
    for node, done in of_node.items():
        outcomes = Counter(receipt.outcome for receipt in done)
        rows.append(
            NodeProgress(
                node=node,
                stage=plan.nodes[node].stage,
                targets=tuple(name for name, needed in upstream.items() if node in needed),
                n_done=len(done),
                n_cases=len(cases),
                n_computed=outcomes["computed"],
                n_reused=outcomes["reused"],
                n_flagged=sum(bool(receipt.flags) for receipt in done),
                seconds=sum(receipt.work_seconds for receipt in done),
            )
        )
    return rows


def seconds_left(plan: Plan, cases: list[Case], done_at: dict[Work, float], weights: dict[str, float]) -> float | None:
    """Return how long the rest will take at the pace of the last results, or None if that cannot be known.

    Parameters
    ----------
    plan, cases
        What is to be done.
    done_at : dict
        (case id, node id) to the time when its receipt was written, in seconds since the epoch.
    weights : dict
        Node id to the cost of one job of it, in any unit: the pace is weight per second of the clock, so it includes
        starts, queues and the number of jobs at once.

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
    window = {work: at for work, at in done_at.items() if at >= last - PACE_SECONDS}
    first = min(window.values())
    # What ended at `first` was made before the window began.
    made = sum(weights[node] for (_, node), at in window.items() if at > first)
    if made == 0:
        return None
    left = sum(weights[node] for node in plan.nodes for case in cases if (case.id, node) not in done_at)
    return left * (last - first) / made


def receipt_times(done: set[Work], results: Path) -> dict[Work, float]:
    """Return when each receipt was written, in seconds since the epoch; without those that a job has deleted since."""

    def at(work: Work) -> tuple[Work, float | None]:
        case_id, node_id = work
        try:
            return work, os.stat(os.path.join(results, case_id, f"{node_id}.json")).st_mtime
        except FileNotFoundError:
            return work, None

    return {work: time_s for work, time_s in in_threads(at, done) if time_s is not None}


def finished_at(seconds: float) -> str:
    """Return the time that is this many seconds from now, as a person says it."""
    form = "%H:%M" if seconds < 12 * 3600 else "%a %d %b %H:%M"
    return time.strftime(form, time.localtime(time.time() + seconds))
