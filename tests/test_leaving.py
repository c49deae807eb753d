"""``python -m softlabels`` ends without taking its memory apart, and loses nothing by it."""

import subprocess
import sys

import pytest

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
