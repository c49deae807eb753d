"""Progress as a person follows it: counts, failures with their log, the pace."""

import os
from pathlib import Path

import pytest
from helpers import made_data

from softlabels.config import parse_config
from softlabels.inputs.sheet import Case
from softlabels.monitor.slurm import parse_queue
from softlabels.monitor.status import failures, read_receipts, receipt_times, seconds_left, summarise
from softlabels.pipeline.batch import ENDED, SUMMARY
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.receipts import Receipt

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


@pytest.mark.parametrize("said", ["10:00 a: 1 of 4 distance maps done\n", f"softlabels: {ENDED}\n", ""])
def test_job_that_slurm_ended_is_shown_with_what_slurm_says_of_the_last_try(tmp_path, said):
    leave_log(tmp_path, "batches/00000", DISTANCE, said)
    of_slurm = tmp_path / "slurm" / "rule_distance_cuda" / f"batches_00000_{DISTANCE}"
    of_slurm.mkdir(parents=True)
    for name, at, line in [("7", 2000, "*** JOB 7 ON n1 CANCELLED AT 12:00 DUE TO TIME LIMIT ***"), ("6", 1000, "oom")]:
        (of_slurm / f"{name}.log").write_text(f"Building DAG\nslurmstepd: error: {line}\n")
        os.utime(of_slurm / f"{name}.log", (at, at))
    (found,) = failures(PLAN, set(), tmp_path)
    assert found.why == "ended by Slurm: JOB 7 ON n1 CANCELLED AT 12:00 DUE TO TIME LIMIT"


def test_own_reason_of_a_job_counts_more_than_what_slurm_said_of_an_earlier_try(tmp_path):
    leave_log(tmp_path, "a", DISTANCE, "softlabels: device 'cuda': no CUDA driver answers\n")
    leave_log(tmp_path, "slurm/rule_distance", f"a_{DISTANCE}/3", "slurmstepd: error: Exceeded job memory limit\n")
    assert failures(PLAN, set(), tmp_path)[0].why == "device 'cuda': no CUDA driver answers"


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


def test_job_of_all_stages_says_which_of_them_failed(tmp_path):
    leave_log(tmp_path, "a", "stages", f"10:00 a {SEEDS} failed: InputError: none\n10:00 {SUMMARY % (0, 1, 0)}\n")
    leave_log(tmp_path, "b", "stages", "10:00 b: 1 of 4 distance maps done\n")
    leave_log(tmp_path, "c", "stages", "10:00 reading\n")
    leave_log(tmp_path, "slurm/rule_stages", "b/7", "slurmstepd: error: Exceeded job memory limit\n")
    found = failures(PLAN, {("a", PREPARE)}, tmp_path, lambda unit, step: (unit, step) == ("c", "stages"))
    assert [(f.case, f.node, f.why) for f in found] == [
        ("a", SEEDS, "InputError: none"),
        ("b", "stages", "ended by Slurm: Exceeded job memory limit"),
    ]


def test_logs_of_units_that_are_no_more_or_that_are_done_are_ignored(tmp_path):
    for unit, node in [("batches/00001", SEEDS), ("a", "stages"), ("b", "stages"), ("c", SEEDS)]:
        leave_log(tmp_path, unit, node, "10:00 reading\n")
    done = {("a", node) for node in PLAN.nodes}
    assert {f.case for f in failures(PLAN, done, tmp_path)} == {"batches/00001", "b", "c"}
    assert {f.case for f in failures(PLAN, done, tmp_path, units={"a": ["a"], "b": ["b"]})} == {"b"}
    of_batch = failures(PLAN, done, tmp_path, units={"batches/00001": ["a", "c"]})
    assert [f.case for f in of_batch] == ["batches/00001"]
    assert failures(PLAN, done | {("c", SEEDS)}, tmp_path, units={"batches/00001": ["a", "c"]}) == []


def test_queue_names_jobs_of_all_stages():
    line = "RUNNING|None|/p|rule_stages_wildcards_batches_00001\nPENDING|Priority|/p|rule_stages_wildcards_case_7\n"
    found = parse_queue(line, Path("/p"))
    assert found == {("batches/00001", "stages"): "RUNNING", ("case_7", "stages"): "Priority"}


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


def cohort_of_batches(folder):
    """A project of 5 cases in batches of 2: the second runs, the last waits, prepare is done but for case1."""
    made_data.write_cohort(folder, n_cases=5, cases_per_job=2, targets={"geols": {"method": "geols"}})
    results, logs = folder / "results", folder / "logs"
    plan = make_plan(parse_config(made_data.CONFIG | {"targets": {"geols": {"method": "geols"}}}))
    prepare, seeds, *_ = plan.nodes
    for number in (0, 2, 3, 4):
        leave(results, f"case{number}", prepare, at=1000 + number)
    leave(results, "case0", seeds, at=1010)
    leave(results, "case2", seeds, at=1011)
    leave_log(logs, "batches/00000", prepare, f"case1 {prepare} failed: InputError: bad\n{SUMMARY % (1, 1, 0)}\n")
    return {("batches/00001", seeds): "RUNNING", ("batches/00002", seeds): "Priority"}


def test_command_counts_cases_that_run_wait_and_failed(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from softlabels.cli import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    queued = cohort_of_batches(tmp_path)
    monkeypatch.setattr("softlabels.monitor.slurm.queued_jobs", lambda folder: queued)
    said = CliRunner().invoke(app, ["status"]).output
    head = [cell.strip() for cell in next(line for line in said.splitlines() if "node" in line).split("┃")]
    rows = [[cell.strip() for cell in line.split("│")] for line in said.splitlines() if line.startswith("│")]
    shown = {
        row[1].split("-")[0]: {name: row[head.index(name)] for name in ("done", "running", "waiting", "failed")}
        for row in rows
    }
    assert shown["prepare"] == {"done": "4/5", "running": "0", "waiting": "0", "failed": "1"}
    assert shown["seeds"] == {"done": "2/5", "running": "1", "waiting": "1", "failed": "0"}
    assert "failed: case1 prepare-" in said and "nothing runs" not in said
    monkeypatch.setenv("COLUMNS", "80")
    narrow = CliRunner().invoke(app, ["status"]).output
    assert all(any(line.startswith(f"│ {node} ") for line in narrow.splitlines()) for node in PLAN.nodes)
    assert "failed" not in CliRunner().invoke(app, ["status", "--logs", "none"]).output.splitlines()[2]


def test_command_says_when_nothing_runs_although_something_is_left(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from softlabels.cli import app
    from softlabels.monitor import lock

    monkeypatch.chdir(tmp_path)
    cohort_of_batches(tmp_path)
    monkeypatch.setattr("softlabels.monitor.slurm.queued_jobs", lambda folder: {})
    assert "nothing runs" not in CliRunner().invoke(app, ["status"]).output
    lock.release_stale_lock(tmp_path / ".snakemake")
    assert "nothing runs" not in CliRunner().invoke(app, ["status"]).output
    lock._held.pop().close()
    said = CliRunner().invoke(app, ["status"]).output
    assert "14 results are left and nothing runs: the same snakemake" in said and "would be done at" not in said
