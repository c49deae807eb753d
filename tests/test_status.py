"""Progress as a person follows it: counts, failures with their log, the pace."""

import os

import made_data
import pytest

from softlabels.batches import SUMMARY
from softlabels.cases import Case
from softlabels.config import parse_config
from softlabels.plan import make_plan
from softlabels.receipts import Receipt
from softlabels.status import failures, read_receipts, receipt_times, seconds_left, summarise

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


def leave_log(logs, unit: str, node: str, text: str):
    path = logs / unit / f"{node}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_counts_are_those_of_the_receipts(tmp_path):
    leave(tmp_path, "a", PREPARE)
    leave(tmp_path, "b", PREPARE, outcome="reused", seconds=0.5, flags=["empty_label"])
    leave(tmp_path, "a", SEEDS)
    leave(tmp_path, "a", "seeds-00000000")  # of an older configuration
    rows = summarise(PLAN, CASES, read_receipts(PLAN, CASES, tmp_path))
    first = rows[0] | {}
    assert [row["done"] for row in rows] == [2, 1, 0, 0] and all(row["of"] == 4 for row in rows)
    assert (first["computed"], first["reused"], first["flagged"], first["seconds"]) == (1, 1, 1, 2.5)
    assert first["targets"] == ["geols"]


def test_damaged_receipt_is_an_error_and_not_an_open_job(tmp_path):
    from softlabels.errors import FormatError

    leave(tmp_path, "a", PREPARE)
    (tmp_path / "a" / f"{PREPARE}.json").write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        read_receipts(PLAN, CASES, tmp_path)


def test_failure_shows_its_reason_and_its_log(tmp_path):
    said = "10:00 reading\nsoftlabels: case a, label: truncated. Copy it again\n  in case a, stage prepare\n"
    log = leave_log(tmp_path, "a", PREPARE, said)
    leave_log(tmp_path, "b", PREPARE, "done")
    found = failures(PLAN, {("b", PREPARE)}, tmp_path)
    assert [(f.case, f.node, f.why, f.log) for f in found] == [
        ("a", PREPARE, "case a, label: truncated. Copy it again", str(log))
    ]


def test_python_error_is_shown_by_its_last_line(tmp_path):
    leave_log(tmp_path, "a", PREPARE, "Traceback (most recent call last):\n  File\nValueError: a bug\n")
    assert failures(PLAN, set(), tmp_path)[0].why == "ValueError: a bug"


def test_job_that_says_nothing_of_its_end_is_running_or_was_killed(tmp_path):
    leave_log(tmp_path, "a", DISTANCE, "10:00 a: 1 of 4 distance maps done\n")
    (found,) = failures(PLAN, set(), tmp_path)
    assert "killed" in found.why and "1 of 4 distance maps" in found.why


def test_job_in_the_queue_is_no_failure(tmp_path):
    leave_log(tmp_path, "a", DISTANCE, "softlabels: failed the first time")
    assert failures(PLAN, set(), tmp_path, lambda unit, node: (unit, node) == ("a", DISTANCE)) == []


def test_log_of_another_configuration_is_ignored(tmp_path):
    leave_log(tmp_path, "a", "distance-00000000", "softlabels: bad")
    leave_log(tmp_path, "slurm", PREPARE, "softlabels: bad")
    assert failures(PLAN, set(), tmp_path) == []


def test_bad_case_of_a_batch_is_named_and_the_others_are_not(tmp_path):
    text = f"10:00 b {PREPARE} failed: InputError: truncated\n10:00 {SUMMARY % (1, 1, 0)}\n"
    leave_log(tmp_path, "batches/00000", PREPARE, text)
    leave_log(tmp_path, "batches/00000", SEEDS, f"10:01 {SUMMARY % (1, 0, 1)}\n")
    found = failures(PLAN, {("a", PREPARE)}, tmp_path)
    assert [(f.case, f.why) for f in found] == [("b", "InputError: truncated")]


def test_case_that_was_repaired_since_is_no_failure(tmp_path):
    leave_log(tmp_path, "batches/00000", PREPARE, f"b {PREPARE} failed: InputError: bad\n{SUMMARY % (1, 1, 0)}\n")
    assert failures(PLAN, {("b", PREPARE)}, tmp_path) == []


def test_killed_batch_is_shown_as_a_whole(tmp_path):
    leave_log(tmp_path, "batches/00000", DISTANCE, "10:00 a: 1 of 4 distance maps done\n")
    (found,) = failures(PLAN, set(), tmp_path)
    assert found.case == "batches/00000" and "killed" in found.why


def test_the_end_follows_the_pace_of_the_clock_and_the_weight_of_the_rest(tmp_path):
    weights = dict.fromkeys(PLAN.nodes, 1.0) | {DISTANCE: 10.0}
    for i, case in enumerate("abcd"):
        leave(tmp_path, case, PREPARE, at=1000 + 5 * i)
    done = set(read_receipts(PLAN, CASES, tmp_path))
    # 3 units of weight in 15 s; to do: 4 x (1 + 10 + 1).
    assert seconds_left(PLAN, CASES, receipt_times(done, tmp_path), weights) == pytest.approx(48 * 5)


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
