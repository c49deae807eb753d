"""Several cases in one job: what fails alone, what ends the job, and what is tried again."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import DeviceError, DeviceFaultError, FormatError, InputError, StoreError
from softlabels.inputs.sheet import Case
from softlabels.pipeline import batch
from softlabels.pipeline.failure import device_failure, record_failure
from softlabels.pipeline.memory import CaseMemory
from softlabels.pipeline.node import Node
from softlabels.pipeline.receipts import BatchReceipt
from softlabels.pipeline.units import ALL_STAGES, make_units
from softlabels.pipeline.upkeep import damaged_receipts, forget_cases, forget_incomplete, forget_receipts

PREPARE = Node("prepare", "1", {})
SEEDS = Node("seeds", "1", {}, {"prepare": PREPARE.id})


@dataclass
class FakeJob:
    case: Case
    node: Node
    results: Path
    memory: CaseMemory = field(default_factory=CaseMemory)

    @property
    def receipt_path(self):
        return self.results / self.case.id / f"{self.node.id}.json"

    def is_ready(self):
        return all((self.results / self.case.id / f"{node}.json").exists() for node in self.node.inputs.values())


def jobs(results: Path, node: Node = PREPARE, names: str = "abc") -> list[FakeJob]:
    return [FakeJob(Case(name, (name,), name), node, results) for name in names]


def leave_receipt(job: FakeJob) -> None:
    job.receipt_path.parent.mkdir(parents=True, exist_ok=True)
    job.receipt_path.write_text("{}")


def failing(case_id: str, error: Exception):
    def run(job):
        if job.case.id == case_id:
            raise error
        leave_receipt(job)

    return run


@pytest.fixture
def run_batch(monkeypatch):
    """Run a batch with something else in the place of the stages."""

    def run(jobs, path, run_job):
        monkeypatch.setattr(batch, "run_job", run_job)
        return batch.run_batch(jobs, path)

    return run


@settings(max_examples=30, derandomize=True)
@given(st.integers(0, 40), st.integers(1, 12))
def test_units_hold_every_case_once_and_in_order(n, size):
    cases = [f"case{i}" for i in range(n)]
    units = make_units(cases, size)
    assert [case for members in units.values() for case in members] == cases
    assert all(1 <= len(members) <= size for members in units.values())


@pytest.mark.parametrize("error", [InputError("truncated"), FormatError("damaged"), ValueError("a bug")])
def test_bad_case_fails_alone(tmp_path, error, run_batch):
    path = tmp_path / "batches" / "00000" / f"{PREPARE.id}.json"
    receipt = run_batch(jobs(tmp_path), path, failing("b", error))
    assert BatchReceipt.read(path) == receipt and not receipt.is_complete
    assert list(receipt.failed) == ["b"] and str(error) in receipt.failed["b"]
    assert [job.receipt_path.exists() for job in jobs(tmp_path)] == [True, False, True]


def test_case_that_failed_earlier_waits(tmp_path, run_batch):
    for job in jobs(tmp_path, PREPARE, "ac"):
        leave_receipt(job)
    receipt = run_batch(jobs(tmp_path, SEEDS), tmp_path / "batches/00000/prepare-01234567.json", leave_receipt)
    assert receipt.waiting == ["b"] and not receipt.failed
    assert [job.receipt_path.exists() for job in jobs(tmp_path, SEEDS)] == [True, False, True]


@pytest.mark.parametrize("error", [DeviceError("no GPU"), StoreError("disk full"), MemoryError()])
def test_fault_of_the_machine_ends_the_job_at_once(tmp_path, error, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    with pytest.raises(type(error)):
        run_batch(jobs(tmp_path), path, failing("b", error))
    assert not path.exists() and not jobs(tmp_path)[2].receipt_path.exists()


def stopping_the_device(*case_ids: str):
    """Return a run_job, which records failures as the real one does, and the cases that it began, of one process."""
    began: list[str] = []

    def run(job):
        began.append(job.case.id)
        if any(case in case_ids for case in began):
            is_first = job.case.id in case_ids and not any(case in case_ids for case in began[:-1])
            error = DeviceFaultError("stopped") if is_first else DeviceError("CUDA does not work any more")
            record_failure(job.results, job.case.id, job.node.id, error)
            raise error
        leave_receipt(job)

    return run, began


def test_case_that_stops_the_device_is_tried_last_in_a_new_process_and_then_fails_alone(tmp_path, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    run, began = stopping_the_device("b")
    with pytest.raises(DeviceFaultError):
        run_batch(jobs(tmp_path, names="abcd"), path, run)
    assert began == ["a", "b"] and not path.exists()
    run, began = stopping_the_device("b")
    receipt = run_batch(jobs(tmp_path, names="abcd"), path, run)
    assert began == ["a", "c", "d", "b"]
    assert receipt.failed == {"b": "stopped"}
    assert all(job.receipt_path.exists() for job in jobs(tmp_path, names="acd"))
    run, began = stopping_the_device()
    assert run_batch(jobs(tmp_path, names="abcd"), path, run).is_complete


def test_fault_that_was_the_device_s_own_leaves_no_case_behind(tmp_path, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    with pytest.raises(DeviceFaultError):
        run_batch(jobs(tmp_path), path, stopping_the_device("a")[0])
    run, began = stopping_the_device()
    assert run_batch(jobs(tmp_path), path, run).is_complete and began == ["b", "c", "a"]


def test_two_cases_that_stop_the_device_do_not_hold_up_the_rest(tmp_path, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    attempts = []
    for _ in range(2):
        run, began = stopping_the_device("a", "b")
        with pytest.raises(DeviceFaultError):
            run_batch(jobs(tmp_path), path, run)
        attempts.append("".join(began))
    run, began = stopping_the_device("a", "b")
    receipt = run_batch(jobs(tmp_path), path, run)
    assert [*attempts, "".join(began)] == ["a", "b", "cab"]
    assert receipt.failed == {"a": "stopped", "b": "CUDA does not work any more"}


def test_machine_without_a_device_is_not_the_fault_of_a_case_that_stopped_one(tmp_path, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    record_failure(tmp_path, "b", PREPARE.id, DeviceFaultError("stopped"))
    with pytest.raises(DeviceError, match="no driver"):
        run_batch(jobs(tmp_path), path, failing("b", DeviceError("no driver")))
    record_failure(tmp_path, "b", PREPARE.id, DeviceFaultError("stopped"))
    with pytest.raises(DeviceError, match="no driver"):
        run_batch(jobs(tmp_path), path, failing("a", DeviceError("no driver")))
    assert device_failure(tmp_path, "b", PREPARE.id).why == "stopped"


def test_want_of_memory_inside_a_reader_ends_the_job_too(tmp_path, run_batch):
    error = InputError("not enough memory")
    error.__cause__ = MemoryError()
    with pytest.raises(InputError, match="memory"):
        run_batch(jobs(tmp_path), tmp_path / "batches/00000/prepare-01234567.json", failing("b", error))


def test_batch_in_which_nothing_is_done_is_a_failed_job(tmp_path, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    with pytest.raises(InputError, match="all 1 cases failed.*b: truncated"):
        run_batch(jobs(tmp_path, names="b"), path, failing("b", InputError("truncated")))
    assert not path.exists()


def chains(results: Path, names: str = "ab") -> list[FakeJob]:
    """All stages of one case, then of the next."""
    return [job for name in names for node in (PREPARE, SEEDS) for job in jobs(results, node, name)]


def test_case_that_fails_at_its_first_stage_takes_no_part_in_the_others(tmp_path, run_batch):
    path = tmp_path / "batches" / "00000" / f"{ALL_STAGES}.json"
    receipt = run_batch(chains(tmp_path), path, failing("a", InputError("truncated")))
    assert receipt.nodes == [PREPARE.id, SEEDS.id] and receipt.cases == ["a", "b"]
    assert receipt.failed == {"a": "truncated"} and receipt.waiting == []
    assert [job.receipt_path.exists() for job in chains(tmp_path)] == [False, False, True, True]
    assert forget_incomplete(tmp_path) == 1 and not path.exists()


def test_single_case_whose_last_stage_fails_keeps_the_others_and_is_a_failed_job(tmp_path, run_batch):
    def run(job):
        if job.node is SEEDS:
            raise InputError("no seeds")
        leave_receipt(job)

    path = tmp_path / "a" / f"{ALL_STAGES}.json"
    with pytest.raises(InputError, match="all 1 cases failed, 0 .*a: no seeds"):
        run_batch(chains(tmp_path, "a"), path, run)
    assert not path.exists() and [job.receipt_path.exists() for job in chains(tmp_path, "a")] == [True, False]


def test_job_of_all_stages_is_forgotten_with_any_of_its_nodes(tmp_path, run_batch):
    path = tmp_path / "a" / f"{ALL_STAGES}.json"
    run_batch(chains(tmp_path, "a"), path, leave_receipt)
    forget_cases(tmp_path, {("b", SEEDS.id)})
    assert path.exists()
    forget_cases(tmp_path, {("a", SEEDS.id)})
    assert not path.exists()


def test_old_receipt_does_not_survive_a_failure(tmp_path, run_batch):
    for job in jobs(tmp_path):
        leave_receipt(job)
    run_batch(jobs(tmp_path), tmp_path / "batches/00000/prepare-01234567.json", failing("b", InputError("truncated")))
    assert not jobs(tmp_path)[1].receipt_path.exists()


def test_only_incomplete_batches_are_forgotten(tmp_path, run_batch):
    good, bad = tmp_path / "batches/00000/prepare-01234567.json", tmp_path / "batches/00001/prepare-01234567.json"
    run_batch(jobs(tmp_path, names="ab"), good, leave_receipt)
    run_batch(jobs(tmp_path, names="cd"), bad, failing("c", InputError("truncated")))
    assert forget_incomplete(tmp_path) == 1
    assert good.exists() and not bad.exists()


def test_batch_that_lacks_the_receipt_of_a_case_is_incomplete_where_that_is_asked(tmp_path, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    run_batch(jobs(tmp_path), path, leave_receipt)
    assert forget_incomplete(tmp_path, require_all=True) == 0
    jobs(tmp_path)[1].receipt_path.unlink()
    assert forget_incomplete(tmp_path) == 0 and path.exists()
    assert forget_incomplete(tmp_path, require_all=True) == 1 and not path.exists()


def test_receipts_stay_while_a_job_is_at_work_for_the_second_time(tmp_path, run_batch):
    """A job that a killed controller left behind, and its successor, read each other's receipts."""

    def run(job):
        assert all(other.receipt_path.exists() for other in chains(tmp_path))
        leave_receipt(job)

    for job in chains(tmp_path):
        leave_receipt(job)
    receipt = run_batch(chains(tmp_path), tmp_path / "batches/00000/stages.json", run)
    assert receipt.is_complete


def test_batch_is_forgotten_with_any_of_its_cases(tmp_path, run_batch):
    path = tmp_path / "batches/00000/prepare-01234567.json"
    run_batch(jobs(tmp_path), path, leave_receipt)
    forget_cases(tmp_path, {("b", "another-node"), ("z", PREPARE.id)})
    assert path.exists()
    forget_cases(tmp_path, {("b", PREPARE.id)})
    assert not path.exists()


def test_any_changed_byte_of_a_batch_receipt_is_noticed_and_forgotten(tmp_path):
    path = tmp_path / "batches/00000/prepare-0a1b2c3d.json"
    BatchReceipt(["prepare-0a1b2c3d"], ["a", "b"], {"b": "InputError: truncated"}).write(path)
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
        with pytest.raises(FormatError, match="damaged. Run 'softlabels verify --discard'"):
            BatchReceipt.read(path)
    (tmp_path / "index.json").write_text('{"format": "softlabels-index", "version": 1}')
    assert set(damaged_receipts(tmp_path)) == {path, tmp_path / "index.json"}
    assert forget_receipts(tmp_path, set()) == 2 and damaged_receipts(tmp_path) == {}
