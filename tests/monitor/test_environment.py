"""The environment of Snakemake and its jobs: UTF-8 in any locale, and no modules from the folder of the project."""

import os
import subprocess
import sys

import pytest
from helpers import made_data

from softlabels.monitor.environment import python_path

#: Locales in which Python cannot name `Müller`, unless its UTF-8 mode is on.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def run(*command, cwd, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", *command],
        cwd=cwd,
        env=os.environ | environment,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )


RESTART = """
import os, sys
from softlabels.monitor.environment import is_utf8, restart_in_utf8
print(is_utf8(), flush=True)
restart_in_utf8("told", sys.argv[1:])
print("not restarted")
"""
TOLD = "import sys; print(sys.flags.utf8_mode, sys.flags.safe_path, sys.argv[1:])"


@pytest.fixture
def told(tmp_path):
    """A module that prints what it was started with."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "told.py").write_text(TOLD)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path / "modules"), os.environ.get("PYTHONPATH", "")])}


def test_process_of_an_ascii_locale_starts_again_in_utf8_with_the_same_arguments(tmp_path, told):
    arguments = ["Müller/ä b", "--", "*", ""]
    done = run("-c", RESTART, *arguments, cwd=tmp_path, **ASCII, **told)
    assert done.returncode == 0 and done.stdout == f"False\n1 True {arguments}\n"


@pytest.mark.parametrize("environment", [{"PYTHONUTF8": "1"}, {"LC_ALL": "C.UTF-8"}, {"LC_ALL": "C"}])
def test_process_that_uses_utf8_goes_on(tmp_path, told, environment):
    done = run("-c", RESTART, cwd=tmp_path, **environment, **told)
    assert done.returncode == 0 and done.stdout == "True\nnot restarted\n"


def test_no_process_is_restarted_twice(tmp_path, told):
    done = run("-c", RESTART, cwd=tmp_path, **ASCII, SOFTLABELS_RESTARTED="1", **told)
    assert done.stdout == "False\nnot restarted\n"


def test_workflow_and_commands_work_in_an_ascii_locale_with_paths_that_are_not(tmp_path):
    folder = tmp_path / "Müller 数据"
    folder.mkdir()
    made_data.write_cohort(folder, n_cases=1, targets={"svls": {"method": "svls"}}, pictures=False)
    (folder / "random.py").write_text("raise SystemExit('imported from the folder of the project')")
    assert "1 good" in run("-m", "softlabels", "check", cwd=folder, **ASCII).stdout
    done = run("-m", "snakemake", "--cores", "1", cwd=folder, NUMBA_DISABLE_JIT="1", **ASCII)
    assert done.returncode == 0 and (folder / "results" / "index.json").exists(), done.stdout


@pytest.mark.parametrize("given", ["", ":", "/x:", ":/x", "/x::/y"])
def test_an_empty_part_of_pythonpath_does_not_bring_the_folder_of_the_project_in(monkeypatch, given):
    monkeypatch.setenv("PYTHONPATH", given)
    parts = python_path("/first").split(os.pathsep)
    assert parts == ["/first", *(part for part in given.split(":") if part)]
