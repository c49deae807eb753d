"""The errors of background workers reach the process that trains, and signals are explained."""

import multiprocessing
import re
import signal

import pytest

from softlabels.errors import FormatError
from softlabels.training.nnunet.workers import Failures, WorkerError, killed_error


def _fail(failures, error):
    with failures.recorded("c7"):
        raise error


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FormatError("case c7, target: truncated"), FormatError("case c7, target: truncated")),
        (FileNotFoundError(2, "No such file", "c7.b2nd"), WorkerError("case c7: FileNotFoundError: ")),
    ],
)
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_the_error_of_another_process_is_known_here(method, error, expected, capfd, monkeypatch):
    context = multiprocessing.get_context(method)
    # As where it is the start method of all processes, which batchgenerators takes.
    monkeypatch.setattr(multiprocessing, "SimpleQueue", context.SimpleQueue)
    failures = Failures()
    worker = context.Process(target=_fail, args=(failures, error))
    worker.start()
    worker.join()
    assert worker.exitcode == 1
    assert type(error).__name__ in capfd.readouterr().err  # it passed on
    found = failures.first()
    assert type(found) is type(expected)
    assert str(found).startswith(str(expected))
    assert failures.first() is None


def test_reading_without_an_error_records_none():
    failures = Failures()
    with failures.recorded("c7"):
        pass
    assert failures.first() is None


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        ([-signal.SIGKILL, None, 0], r"1 of 3 background workers was killed \(SIGKILL\).*nnUNet_n_proc_DA below 12"),
        ([-signal.SIGKILL, -signal.SIGKILL, -signal.SIGTERM], r"2 of 3 background workers were killed \(SIGKILL\)"),
        (
            [-signal.SIGTERM, -signal.SIGTERM, 0],
            r"2 of 3 .* were killed \(SIGTERM\)\. Something outside of the training",
        ),
        ([-signal.SIGBUS, 0], r"\(SIGBUS\)\. Usually /dev/shm is full: .*--shm-size"),
        ([-signal.SIGSEGV, -signal.SIGTERM], r"1 of 2 .*\(SIGSEGV\)\. A compiled library crashed: .*FAULTHANDLER"),
        ([-signal.SIGSEGV, -signal.SIGABRT], r"2 of 2 .*\(SIGABRT, SIGSEGV\)\. A compiled (?!.*A compiled)"),
        ([-signal.SIGHUP, None], r"1 of 2 .*\(SIGHUP\)\. Another process sent SIGHUP\."),
        ([-40], r"1 of 1 .*\(signal 40\)\. Another process sent signal 40\."),
    ],
)
def test_signals_are_explained(codes, expected):
    error = killed_error(codes, 12)
    assert error is not None
    assert re.search(expected, str(error))


@pytest.mark.parametrize("number", [one for one in signal.Signals if one != signal.SIGKILL])
def test_only_sigkill_means_that_memory_has_run_out(number):
    assert "memory has run out" not in str(killed_error([-number], 12))


def test_workers_that_ended_by_themselves_were_not_killed():
    assert killed_error([0, 1, None], 12) is None
    # A transform failed in one worker, and batchgenerators ended the other, which did not react.
    assert killed_error([1, -signal.SIGTERM, 0], 12) is None
    assert killed_error([], 12) is None
