"""The lock of a killed Snakemake is removed, and nobody else's."""

import errno
import signal
import subprocess
import sys

import pytest

from softlabels.monitor import lock
from softlabels.monitor.lock import is_running_here, release_stale_lock

HOLD = """
import sys, time
from pathlib import Path
from softlabels.monitor.lock import release_stale_lock
folder = Path(sys.argv[1])
release_stale_lock(folder)
(folder / ".snakemake" / "locks").mkdir(exist_ok=True)
(folder / ".snakemake" / "locks" / "0.input.lock").touch()
print("holds", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def let_go():
    yield
    while lock._held:
        lock._held.pop().close()


@pytest.fixture
def living(tmp_path):
    """A process that runs and holds Snakemake's lock on a project."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def locks(folder) -> list:
    return list((folder / ".snakemake" / "locks").glob("*.lock"))


def test_lock_of_a_living_process_stays(tmp_path, living):
    assert not release_stale_lock(tmp_path) and len(locks(tmp_path)) == 1


def test_lock_of_a_killed_process_is_removed(tmp_path, living):
    living.send_signal(signal.SIGKILL)
    living.wait()
    assert release_stale_lock(tmp_path) and locks(tmp_path) == []


def test_life_of_a_process_is_seen_without_touching_it(tmp_path, living, monkeypatch):
    assert is_running_here(tmp_path) is True and len(locks(tmp_path)) == 1
    living.kill()
    living.wait()
    assert is_running_here(tmp_path) is False and len(locks(tmp_path)) == 1
    monkeypatch.setattr("platform.node", lambda: "another-login-node")
    assert is_running_here(tmp_path) is None and is_running_here(tmp_path / "never") is None


def test_lock_from_another_host_stays(tmp_path, living, monkeypatch):
    living.kill()
    living.wait()
    monkeypatch.setattr("platform.node", lambda: "another-login-node")
    assert not release_stale_lock(tmp_path) and len(locks(tmp_path)) == 1


def test_lock_of_an_unknown_owner_stays(tmp_path):
    (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
    (tmp_path / ".snakemake" / "locks" / "0.input.lock").touch()
    assert not release_stale_lock(tmp_path) and len(locks(tmp_path)) == 1


def test_file_system_without_kernel_locks_changes_nothing(tmp_path, living, monkeypatch):
    living.kill()
    living.wait()

    def refuse(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    assert not release_stale_lock(tmp_path) and len(locks(tmp_path)) == 1


def test_second_process_beside_a_living_one_keeps_the_lock_alive(tmp_path, living):
    release_stale_lock(tmp_path)
    living.kill()
    living.wait()
    # This process runs the project too, so the locks may be its own: a third one must leave them.
    code = "import sys; from pathlib import Path; from softlabels.monitor.lock import release_stale_lock as r; "
    third = subprocess.run(
        [sys.executable, "-c", code + "print(r(Path(sys.argv[1])))", str(tmp_path)], capture_output=True
    )
    assert third.stdout == b"False\n" and len(locks(tmp_path)) == 1
