"""Progress as a person follows it: counts, changed inputs, the pace."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import made_data

from softlabels.config import parse_config
from softlabels.inputs.sheet import Case
from softlabels.monitor import status
from softlabels.monitor.status import changed_inputs, in_threads, progress, read_receipts, receipt_times, seconds_left
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.receipts import FileRecord, Receipt

PLAN = make_plan(parse_config(made_data.CONFIG | {"targets": {"geols": {"method": "geols"}}}))
PREPARE, SEEDS, DISTANCE, TARGET = PLAN.nodes
CASES = [Case(name, (name,), name) for name in "abcd"]


def leave(results, case: str, node: str, *, outcome: str = "computed", seconds: float = 2.0, flags=(), at=None):
    """Leave the receipt of one job, written at a time."""
    path = results / case / f"{node}.json"
    stage = node.split("-")[0]
    Receipt(case, node, stage, "0" * 64, "0" * 64, "/store", outcome, seconds, flags=list(flags)).write(path)
    if at is not None:
        os.utime(path, (at, at))


def test_counts_are_those_of_the_receipts(tmp_path):
    leave(tmp_path, "a", PREPARE)
    leave(tmp_path, "b", PREPARE, outcome="reused", seconds=0.5, flags=["empty_label"])
    leave(tmp_path, "a", SEEDS)
    leave(tmp_path, "a", "seeds-00000000")  # of an older configuration
    rows = progress(PLAN, CASES, read_receipts(PLAN, CASES, tmp_path))
    assert [row.n_done for row in rows] == [2, 1, 0, 0] and all(row.n_cases == 4 for row in rows)
    first = rows[0]
    assert (first.n_computed, first.n_reused, first.n_flagged, first.seconds) == (1, 1, 1, 2.5)
    assert (first.stage, first.targets) == ("prepare", ("geols",))


def test_damaged_receipt_is_an_error_and_not_an_open_job(tmp_path):
    from softlabels.errors import FormatError

    leave(tmp_path, "a", PREPARE)
    (tmp_path / "a" / f"{PREPARE}.json").write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        read_receipts(PLAN, CASES, tmp_path)


def test_the_end_follows_the_pace_of_the_clock_and_the_weight_of_the_rest(tmp_path):
    weights = dict.fromkeys(PLAN.nodes, 1.0) | {DISTANCE: 10.0}
    for i, case in enumerate("abcd"):
        leave(tmp_path, case, PREPARE, at=1000 + 5 * i)
    done = set(read_receipts(PLAN, CASES, tmp_path))
    # 3 units of weight in 15 s; to do: 4 x (1 + 10 + 1).
    assert seconds_left(PLAN, CASES, receipt_times(done, tmp_path), weights) == pytest.approx(48 * 5)


def test_a_receipt_that_a_job_has_deleted_since_has_no_time(tmp_path):
    leave(tmp_path, "a", PREPARE, at=1000)
    assert receipt_times({("a", PREPARE), ("b", PREPARE)}, tmp_path) == {("a", PREPARE): 1000}


def test_one_result_tells_no_pace(tmp_path):
    leave(tmp_path, "a", PREPARE, at=1000)
    done = set(read_receipts(PLAN, CASES, tmp_path))
    assert seconds_left(PLAN, CASES, receipt_times(done, tmp_path), dict.fromkeys(PLAN.nodes, 1.0)) is None


def test_results_of_an_earlier_day_do_not_slow_the_pace(tmp_path):
    leave(tmp_path, "a", PREPARE, at=1000)
    for i, case in enumerate("bcd"):
        leave(tmp_path, case, PREPARE, at=100_000 + 10 * i)
    done = set(read_receipts(PLAN, CASES, tmp_path))
    times = receipt_times(done, tmp_path)
    assert seconds_left(PLAN, CASES, times, dict.fromkeys(PLAN.nodes, 1.0)) == pytest.approx(12 * 10)


def test_cases_whose_files_changed_are_named_with_what_changed(tmp_path):
    cases = [Case(name, (str(tmp_path / f"{name}.nii"),), str(tmp_path / f"{name}_seg.nii")) for name in "abc"]
    receipts = {}
    for case in cases[:2]:
        for role, path in case.files():
            Path(path).write_text(role)
        states = {role: os.stat(path) for role, path in case.files()}
        files = {role: FileRecord("0" * 64, state.st_size, state.st_mtime_ns) for role, state in states.items()}
        receipts[case.id, PREPARE] = Receipt(
            case.id, PREPARE, "prepare", "0" * 64, "0" * 64, "/store", "computed", 1.0, files=files
        )
        receipts[case.id, SEEDS] = Receipt(case.id, SEEDS, "seeds", "0" * 64, "0" * 64, "/store", "computed", 1.0)
    assert changed_inputs(cases, receipts) == {}
    os.utime(cases[1].label, (0, 0))
    assert changed_inputs(cases, receipts) == {"b": [f"label: {cases[1].label} changed since it was read"]}


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 200])
@pytest.mark.parametrize(("cpu_seconds", "is_shared"), [(0.9, False), (0.1, True)])
def test_threads_read_what_is_waited_for_and_one_thread_what_is_computed(monkeypatch, n, cpu_seconds, is_shared):
    # The first items take a second, of which the CPU works for some.
    clocks = {"perf_counter": iter([0.0, 1.0]).__next__, "thread_time": iter([0.0, cpu_seconds]).__next__}
    monkeypatch.setattr(status, "time", SimpleNamespace(**clocks))
    used = set()

    def read(item):
        used.add(threading.current_thread())
        return -item

    assert list(in_threads(read, range(n))) == [-item for item in range(n)]
    assert (used > {threading.main_thread()}) == (is_shared and n > 32)
