"""``python -m softlabels`` ends without taking its memory apart, and loses nothing by it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from softlabels import __version__

AT_THE_END = """
import atexit, runpy, sys, threading, time
atexit.register(print, "registered")
def slow():
    time.sleep(2)
    print("thread")
threading.Thread(target=slow).start()
sys.argv = ["softlabels", *sys.argv[1:]]
runpy.run_module("softlabels", run_name="__main__")
"""


def ended(*arguments, **settings):
    command = [sys.executable, "-c", AT_THE_END, *arguments]
    return subprocess.run(command, capture_output=True, text=True, **settings)


def test_threads_end_what_is_registered_is_called_and_all_output_is_written():
    done = ended("--version")
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.splitlines() == [f"softlabels {__version__}", "thread", "registered"]


@pytest.mark.parametrize(("arguments", "code"), [(["nonsense"], 2), (["status"], 1)])
def test_a_command_that_fails_keeps_its_code_and_message(tmp_path, arguments, code):
    done = ended(*arguments, cwd=tmp_path)
    assert done.returncode == code and done.stderr and done.stdout.split() == ["thread", "registered"]


def module(*arguments, **settings):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, *arguments, "--version"]
    return subprocess.run(command, env=environment | {"PYTHONPATH": str(ROOT)}, text=True, **settings)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_output_that_cannot_be_written_is_pythons_own_error_and_no_traceback_of_ours():
    with open("/dev/full", "w") as full:
        done = module("-m", "softlabels", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 120 and "No space left" in done.stderr and "__main__" not in done.stderr


def test_a_closed_output_is_no_error():
    done = module("-m", "softlabels", preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("watcher", [("cProfile",), ("trace", "--count", "--summary", "--missing")])
def test_a_profiler_or_tracer_writes_its_figures(tmp_path, watcher):
    arguments = [*watcher, "-C", str(tmp_path), "--module"] if watcher[0] == "trace" else [*watcher, "-m"]
    done = module("-m", *arguments, "softlabels", stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path)
    assert done.returncode == 0 and ("function calls" in done.stdout or "lines   cov%" in done.stdout)
