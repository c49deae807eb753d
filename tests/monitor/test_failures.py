"""Jobs without a result: those that recorded why, and those that were killed before they could."""

import os
from pathlib import Path

import pytest
from helpers import made_data

from softlabels.config import load_config, parse_config
from softlabels.errors import DeviceFaultError, InputError
from softlabels.monitor.failures import FailedJob, failed_jobs, local_jobs
from softlabels.monitor.slurm import last_words, parse_queue
from softlabels.pipeline.failure import Failure, failure_path
from softlabels.pipeline.job_files import JobFiles
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.receipts import Receipt, receipt_path
from softlabels.pipeline.units import make_steps, make_units

PLAN = make_plan(parse_config(made_data.CONFIG | {"targets": {"geols": {"method": "geols"}}}))
PREPARE, SEEDS, DISTANCE, TARGET = PLAN.nodes
ONE_STEP_A_JOB, ALL_IN_ONE = make_steps(PLAN.nodes, "one"), make_steps(PLAN.nodes, "all")
CASES = ("a", "b", "c", "d")


def leave_log(folder: Path, unit: str, step: str, text: str = "10:00 reading\n") -> str:
    path = folder / "logs" / unit / f"{step}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def leave_failure(folder: Path, case: str, node: str, error: BaseException) -> None:
    Failure.of(case, node, error).write(folder / "results")


def leave_words_of_slurm(folder: Path, rule: str, wildcards: str, name: str, line: str, at: int = 1000) -> None:
    path = folder / "logs" / "slurm" / f"rule_{rule}" / wildcards / f"{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"Building DAG\nslurmstepd: error: {line}\n")
    os.utime(path, (at, at))


def found(folder: Path, done=(), *, size: int = 1, steps=ONE_STEP_A_JOB, is_active=lambda unit, step: False):
    units = make_units(CASES, size)
    return failed_jobs(PLAN, units, steps, set(done), folder / "results", folder / "logs", is_active)


def shown(folder: Path, done=(), **options) -> list[tuple[str, str, str]]:
    return [(job.name, job.step, job.why) for job in found(folder, done, **options)]


def test_recorded_failure_is_shown_with_its_log(tmp_path):
    log = leave_log(tmp_path, "a", PREPARE, "10:00 whatever the log says\n")
    leave_log(tmp_path, "b", PREPARE)
    leave_failure(tmp_path, "a", PREPARE, InputError("case a, label: truncated.\n Copy it again"))
    expected = FailedJob("a", PREPARE, "case a, label: truncated. Copy it again", log, is_of_case=True)
    assert found(tmp_path, {("b", PREPARE)}) == [expected]


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (ValueError("a bug"), "ValueError: a bug"),
        (MemoryError(), "MemoryError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (SystemExit("softlabels: ended by SIGTERM"), "softlabels: ended by SIGTERM"),
    ],
)
def test_kind_of_an_error_is_named_unless_its_message_was_written_for_people(tmp_path, error, why):
    leave_failure(tmp_path, "a", PREPARE, error)
    assert shown(tmp_path) == [("a", PREPARE, why)]


def test_job_that_recorded_nothing_is_running_or_was_killed_and_its_log_is_quoted(tmp_path):
    done = {("a", PREPARE), ("a", SEEDS)}
    leave_log(tmp_path, "a", DISTANCE, "10:00 a: 1 of 4 distance maps done\n\n")
    leave_log(tmp_path, "b", PREPARE, "")
    (killed, empty) = found(tmp_path, done)
    assert "killed" in killed.why and killed.why.endswith("its log ends: 10:00 a: 1 of 4 distance maps done")
    assert empty.why.endswith("its log ends: (empty)")


def test_long_log_is_not_read_to_find_its_last_line(tmp_path):
    leave_log(tmp_path, "a", PREPARE, "x" * 100_000 + "\nsoftlabels: error\n")
    assert found(tmp_path)[0].why.endswith("its log ends: softlabels: error")


def test_job_that_slurm_ended_is_shown_with_what_slurm_says_of_the_last_try(tmp_path):
    leave_log(tmp_path, "batches/00000", PREPARE)
    of_job = ("prepare", f"batches_00000_{PREPARE}")
    leave_words_of_slurm(tmp_path, *of_job, "7", "*** JOB 7 ON n1 CANCELLED AT 12:00 DUE TO TIME LIMIT ***", at=2000)
    leave_words_of_slurm(tmp_path, *of_job, "6", "Exceeded job memory limit", at=1000)
    why = "ended by Slurm: JOB 7 ON n1 CANCELLED AT 12:00 DUE TO TIME LIMIT"
    assert shown(tmp_path, size=4) == [("batches/00000", PREPARE, why)]
    # A job that was told to end, before it was killed, recorded that; Slurm knows why.
    leave_failure(tmp_path, "b", PREPARE, SystemExit("softlabels: ended by SIGTERM"))
    assert shown(tmp_path, {("a", PREPARE)}, size=4) == [("batches/00000", PREPARE, why)]


def test_only_the_end_of_a_long_log_of_slurm_is_read_and_one_that_is_gone_says_nothing(tmp_path):
    folder = tmp_path / "slurm" / "rule_prepare" / f"a_{PREPARE}"
    folder.mkdir(parents=True)
    early, late = "slurmstepd: error: oom early\n", "slurmstepd: error: Exceeded job memory limit\n"
    (folder / "1.log").write_text(early + "x\n" * 2**20 + late)
    assert last_words(tmp_path, "a", PREPARE) == "Exceeded job memory limit"
    (folder / "2.log").symlink_to("deleted while the folder was listed")
    assert last_words(tmp_path, "a", PREPARE) is None


def test_own_reason_of_a_job_counts_more_than_what_slurm_said_of_an_earlier_try(tmp_path):
    leave_log(tmp_path, "a", PREPARE)
    leave_words_of_slurm(tmp_path, "prepare", f"a_{PREPARE}", "3", "Exceeded job memory limit")
    leave_failure(tmp_path, "a", PREPARE, InputError("truncated"))
    assert shown(tmp_path) == [("a", PREPARE, "truncated")]


def test_job_in_the_queue_is_no_failure(tmp_path):
    for case in "ab":
        leave_log(tmp_path, case, PREPARE)
    leave_failure(tmp_path, "a", PREPARE, InputError("failed the first time"))
    assert shown(tmp_path, is_active=lambda unit, step: step == PREPARE and unit in "ab") == []


def test_what_belongs_to_another_configuration_is_ignored(tmp_path):
    leave_log(tmp_path, "a", "distance-00000000")
    leave_failure(tmp_path, "a", "distance-00000000", InputError("bad"))
    leave_log(tmp_path, "e", PREPARE)
    leave_failure(tmp_path, "e", PREPARE, InputError("bad"))
    leave_log(tmp_path, "slurm", PREPARE)
    leave_log(tmp_path, "batches/00000", PREPARE)
    leave_log(tmp_path, "a", "stages")
    assert found(tmp_path) == []


def test_bad_case_of_a_batch_is_named_and_the_others_are_not(tmp_path):
    leave_log(tmp_path, "batches/00000", PREPARE)
    leave_log(tmp_path, "batches/00000", SEEDS)
    leave_failure(tmp_path, "b", PREPARE, InputError("truncated"))
    done = {("a", PREPARE), ("a", SEEDS)}
    assert shown(tmp_path, done, size=2) == [("b", PREPARE, "truncated")]


def test_fault_of_the_machine_explains_why_the_rest_of_its_batch_was_not_tried(tmp_path):
    leave_log(tmp_path, "batches/00000", PREPARE)
    leave_failure(tmp_path, "b", PREPARE, MemoryError())
    assert shown(tmp_path, {("a", PREPARE)}, size=4) == [("batches/00000", PREPARE, "MemoryError")]


def test_case_in_which_the_device_failed_is_named_and_the_rest_of_its_batch_was_not_tried(tmp_path):
    leave_log(tmp_path, "batches/00000", PREPARE)
    leave_failure(tmp_path, "b", PREPARE, DeviceFaultError("stopped"))
    assert shown(tmp_path, {("a", PREPARE)}, size=4) == [("b", PREPARE, "stopped")]


def test_case_that_was_repaired_since_is_no_failure(tmp_path):
    leave_log(tmp_path, "batches/00000", PREPARE)
    leave_failure(tmp_path, "b", PREPARE, InputError("bad"))
    assert shown(tmp_path, {(case, PREPARE) for case in CASES}, size=4) == []


def test_killed_batch_is_shown_as_a_whole_beside_the_cases_that_failed_before(tmp_path):
    leave_log(tmp_path, "batches/00000", PREPARE, "10:00 reading\n")
    leave_failure(tmp_path, "a", PREPARE, InputError("bad"))
    first, second = shown(tmp_path, size=4)
    assert first == ("a", PREPARE, "bad") and second[:2] == ("batches/00000", PREPARE) and "killed" in second[2]


def test_job_of_all_stages_says_which_of_them_failed(tmp_path):
    for case in "abc":
        leave_log(tmp_path, case, "stages")
    leave_failure(tmp_path, "a", SEEDS, InputError("none"))
    leave_words_of_slurm(tmp_path, "stages", "b", "7", "Exceeded job memory limit")
    active = ("c", "stages")
    jobs = shown(tmp_path, {("a", PREPARE)}, steps=ALL_IN_ONE, is_active=lambda unit, step: (unit, step) == active)
    assert jobs == [("a", SEEDS, "none"), ("b", "stages", "ended by Slurm: Exceeded job memory limit")]


def test_damaged_record_is_shown_as_such(tmp_path):
    path = failure_path(tmp_path / "results", "a", PREPARE)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    (job,) = found(tmp_path)
    assert job.name == "a" and "damaged" in job.why and str(path) in job.why


def test_queue_names_jobs_of_all_stages():
    line = "RUNNING|None|/p|rule_stages_wildcards_batches_00001\nPENDING|Priority|/p|rule_stages_wildcards_case_7\n"
    queued = parse_queue(line, Path("/p"))
    assert queued == {("batches/00001", "stages"): "RUNNING", ("case_7", "stages"): "Priority"}


# The command


def leave_receipt(folder: Path, case: str, node: str, at: int) -> None:
    path = receipt_path(folder / "results", case, node)
    Receipt(case, node, node.split("-")[0], "0" * 64, "0" * 64, "/store", "computed", 2.0).write(path)
    os.utime(path, (at, at))


def cohort_of_batches(folder: Path) -> dict[tuple[str, str], str]:
    """A project of 5 cases in batches of 2: the second runs, the last waits, prepare is done but for case1."""
    made_data.write_cohort(folder, n_cases=5, cases_per_job=2, targets={"geols": {"method": "geols"}})
    for number in (0, 2, 3, 4):
        leave_receipt(folder, f"case{number}", PREPARE, 1000 + number)
    leave_receipt(folder, "case0", SEEDS, 1010)
    leave_receipt(folder, "case2", SEEDS, 1011)
    leave_log(folder, "batches/00000", PREPARE)
    leave_failure(folder, "case1", PREPARE, InputError("bad"))
    return {("batches/00001", SEEDS): "RUNNING", ("batches/00002", SEEDS): "Priority"}


def test_command_counts_cases_that_run_wait_and_failed(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from softlabels.cli.commands import app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    queued = cohort_of_batches(tmp_path)
    monkeypatch.setattr("softlabels.monitor.failures.queued_jobs", lambda folder: queued)
    said = CliRunner().invoke(app, ["status"]).output
    head = [cell.strip() for cell in next(line for line in said.splitlines() if "node" in line).split("┃")]
    rows = [[cell.strip() for cell in line.split("│")] for line in said.splitlines() if line.startswith("│")]
    shown = {
        row[1].split("-")[0]: {name: row[head.index(name)] for name in ("done", "running", "waiting", "failed")}
        for row in rows
    }
    assert shown["prepare"] == {"done": "4/5", "running": "0", "waiting": "0", "failed": "1"}
    assert shown["seeds"] == {"done": "2/5", "running": "1", "waiting": "1", "failed": "0"}
    assert "failed: case1 prepare-" in said and ": bad (log: logs/batches/00000/prepare-" in said
    assert "nothing runs" not in said
    monkeypatch.setenv("COLUMNS", "80")
    narrow = CliRunner().invoke(app, ["status"]).output
    assert all(any(line.startswith(f"│ {node} ") for line in narrow.splitlines()) for node in PLAN.nodes)
    failure_path(Path("results"), "case1", PREPARE).unlink()
    assert "failed" not in CliRunner().invoke(app, ["status", "--logs", "none"]).output.splitlines()[2]


def test_command_says_when_nothing_runs_although_something_is_left(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from softlabels.cli.commands import app
    from softlabels.monitor import lock

    monkeypatch.chdir(tmp_path)
    cohort_of_batches(tmp_path)
    monkeypatch.setattr("softlabels.monitor.failures.queued_jobs", lambda folder: {})
    assert "nothing runs" not in CliRunner().invoke(app, ["status"]).output
    lock.release_stale_lock(tmp_path)
    assert "nothing runs" not in CliRunner().invoke(app, ["status"]).output
    lock._held.pop().close()
    said = CliRunner().invoke(app, ["status"]).output
    assert "14 results are left and nothing runs. Run the same snakemake" in said and "will be done at" not in said


def test_a_job_of_this_machine_that_has_begun_is_running_and_not_failed(tmp_path):
    leave_log(tmp_path, "a", PREPARE)
    leave_log(tmp_path, "b", SEEDS, "10:00 compiling kernels (once per machine)\n")
    leave_log(tmp_path, "c", PREPARE)
    leave_failure(tmp_path, "c", PREPARE, InputError("truncated"))
    leave_log(tmp_path, "d", PREPARE)
    done = {("b", PREPARE), ("d", PREPARE)}
    units = make_units(CASES, 1)
    running = local_jobs(units, ONE_STEP_A_JOB, done, tmp_path / "results", tmp_path / "logs")
    assert running == {("a", PREPARE): "RUNNING", ("b", SEEDS): "COMPILING"}
    (failed,) = found(tmp_path, done, is_active=lambda *job: job in running)
    assert (failed.name, failed.step, failed.is_of_case) == ("c", PREPARE, True)


def test_the_report_of_a_person_knows_what_runs_here_and_that_of_a_run_what_was_killed(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from softlabels.cli.commands import app
    from softlabels.monitor import lock

    monkeypatch.chdir(tmp_path)
    cohort_of_batches(tmp_path)
    failure_path(Path("results"), "case1", PREPARE).unlink()
    config = str(JobFiles().write(load_config("config.yaml").to_json()))
    lock.release_stale_lock(tmp_path)
    said = {}
    for name, options in {"person": [], "run": ["--job-config", config]}.items():
        assert CliRunner().invoke(app, ["report", *options]).exit_code == 0
        said[name] = Path("results", "report", "index.html").read_text()
    lock._held.pop().close()
    killed = "still running here, or killed"
    assert killed not in said["person"] and killed in said["run"]
