"""How often the failure tests try: a bounded number of rounds in CI, all of them with `--fault-rounds full`."""

import random
import subprocess
from multiprocessing import get_context

import pytest


def pytest_addoption(parser):
    parser.addoption(
        "--fault-rounds", choices=["bounded", "full"], default="bounded", help="how often to try each fault"
    )


@pytest.fixture(scope="session")
def rounds(request):
    """Return a function that chooses between the bounded and the full number of rounds."""
    # Absent when pytest was not given this folder by name: then the option could not be registered.
    is_full = request.config.getoption("--fault-rounds", default="bounded") == "full"
    return lambda bounded, full: full if is_full else bounded


@pytest.fixture(scope="session")
def processes():
    """Return a multiprocessing context whose children start in milliseconds and share no thread with pytest."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["softlabels.store.store"])
    return context


@pytest.fixture
def rng(request):
    """Return a generator of its own for each test."""
    return random.Random(request.node.name)


@pytest.fixture
def small_disk(tmp_path):
    """Return a function that makes a disk of so many kB, or gives it another size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(kilobytes, *options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*options, f"size={kilobytes}k"]), "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no disk can be mounted here ({done.stderr.strip()}); the file size limit is tested instead")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True)
