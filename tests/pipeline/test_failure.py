"""What a job leaves when it ends without a result, and what happens to that when it is tried again."""

from pathlib import Path

import numpy as np
import pytest
from helpers import made_data
from helpers.made_project import Project

from softlabels.errors import DeviceError, FormatError, InputError, StoreError
from softlabels.pipeline.batch import run_batch
from softlabels.pipeline.failure import Failure, cause_of, failure_path
from softlabels.pipeline.stages import PREPARE, SEEDS, Job


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch, targets={"geols": {"method": "geols"}})


def record(project, case="case0", stage="prepare"):
    node = next(node for node in project.plan.nodes if node.startswith(stage))
    return failure_path(project.results, case, node)


def spoil(path="case0_seg.nii.gz"):
    """Put labels that are not declared in the place of good ones; return how to undo it."""
    good = Path(path).read_bytes()
    made_data.write_volume(Path(path), made_data.tissue()[1] + np.uint8(7))
    return lambda: Path(path).write_bytes(good)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (InputError("truncated"), "case"),
        (FormatError("damaged"), "case"),
        (ValueError("a bug"), "case"),
        (DeviceError("no GPU"), "machine"),
        (StoreError("disk full"), "machine"),
        (PermissionError("no right"), "machine"),
        (MemoryError(), "machine"),
        (KeyboardInterrupt(), "ended"),
        (SystemExit("SIGTERM"), "ended"),
    ],
)
def test_cause_of_an_error(error, cause):
    assert cause_of(error) == cause


def test_want_of_memory_inside_a_reader_is_the_machines():
    error = InputError("not enough memory")
    error.__cause__ = MemoryError()
    assert cause_of(error) == "machine"


def test_failure_is_recorded_until_the_job_succeeds(project):
    case, node = project.cases[0], project.plan.nodes[project.plan.prepare]
    restore = spoil()
    with pytest.raises(InputError):
        project.run(case, node)
    failure = Failure.read(record(project))
    assert (failure.case, failure.node, failure.cause) == ("case0", node.id, "case")
    assert "labels that are not declared" in failure.why and "\n" not in failure.why
    restore()
    assert project.run(case, node).outcome == "computed" and not record(project).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit("ended by SIGTERM")])
def test_job_that_is_ended_from_outside_records_that(project, monkeypatch, error):
    def end(*_):
        raise error

    monkeypatch.setattr(type(PREPARE), "compute", end)
    with pytest.raises(type(error)):
        project.run(project.cases[0], project.plan.nodes[project.plan.prepare])
    assert Failure.read(record(project)).cause == "ended"
    assert list(project.store.keys()) == []


def test_failure_that_cannot_be_recorded_does_not_hide_the_error(project, monkeypatch, caplog):
    def refuse(*_):
        raise StoreError("disk full")

    monkeypatch.setattr("softlabels.pipeline.failure.write_atomically", refuse)
    spoil()
    with pytest.raises(InputError, match="not declared"):
        project.run(project.cases[0], project.plan.nodes[project.plan.prepare])
    assert "its failure is not recorded: disk full" in caplog.text


def jobs(project):
    nodes = project.plan.nodes.values()
    return [Job(case, node, project.store, project.results) for case in project.cases for node in nodes]


def test_batch_records_the_failures_of_its_cases_and_forgets_them_when_it_begins_again(project, monkeypatch):
    restore = spoil("case1_seg.nii.gz")
    receipt = run_batch(jobs(project), project.results / "batches" / "00000" / "stages.json")
    assert receipt.failed == {"case1": Failure.read(record(project, "case1")).why}
    assert [path.name for path in project.results.glob("*/*.failed")] == [record(project, "case1").name]
    restore()

    def killed(*_):
        raise SystemExit("killed before the second case")

    with monkeypatch.context() as patched:
        patched.setattr(type(SEEDS), "open", killed)
        with pytest.raises(SystemExit):
            run_batch(jobs(project), project.results / "batches" / "00000" / "stages.json")
    assert not record(project, "case1").exists() and record(project, "case0", "seeds").exists()
    assert run_batch(jobs(project), project.results / "batches" / "00000" / "stages.json").is_complete
    assert not list(project.results.glob("*/*.failed"))


def test_any_changed_byte_of_a_record_is_noticed(tmp_path):
    Failure("a", "seeds-0a1b2c3d", "case", "truncated").write(tmp_path)
    path = failure_path(tmp_path, "a", "seeds-0a1b2c3d")
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(FormatError, match="damaged"):
            Failure.read(path)
