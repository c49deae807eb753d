"""`softlabels run` on a small cohort: what it shows in a terminal and in a log, and what it says of a bad case."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import made_data

CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def softlabels(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "softlabels", *arguments]
    return subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)


def in_terminal(folder: Path, *arguments: str) -> tuple[int, str]:
    """Return exit code and output of a command that is typed in a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", COLUMNS="150", LINES="40")
        os.execv(sys.executable, [sys.executable, "-m", "softlabels", *arguments])
    said = b""
    while True:
        try:
            data = os.read(terminal, 1 << 16)
        except OSError:
            break
        if not data:
            break
        said += data
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, CONTROL.sub("", said.decode(errors="replace")).replace("\r", "")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    made_data.write_cohort(
        folder, n_cases=3, targets={"svls": {"method": "svls"}}, pictures=False, cases_per_job=2, stages_per_job="all"
    )
    good = folder / "case1_t1.nii.gz"
    good.rename(folder / "good.nii.gz")
    good.write_bytes((folder / "good.nii.gz").read_bytes()[:-400])
    return folder


@pytest.fixture(scope="module")
def with_bad_case(project) -> tuple[int, str]:
    return in_terminal(project, "run", "--cores", "2")


def test_terminal_shows_bars_of_cases_and_at_the_end_what_failed_why_and_where_its_log_is(project, with_bad_case):
    code, said = with_bad_case
    assert code == 1, said
    last = said[said.rindex("3 cases · ") :]
    assert re.search(r"^prepare +\S+ +2/3$", last, re.MULTILINE)
    assert re.search(r"^target +\S+ +2/3$", last, re.MULTILINE)
    assert "1 of 3 cases failed\n" in last
    (line,) = re.findall(r"^failed: case1 prepare-.*$", last, re.MULTILINE)
    assert "truncated" in line and "copy the file again" in line
    assert (project / re.search(r"\(log: (.*)\)$", line)[1]).exists()
    assert line in softlabels(project, "status").stdout
    assert "failed: index: " in last and "softlabels index --allow-missing" in last
    for noise in ("Traceback", "CalledProcessError", "python -P", "set -euo"):
        assert noise not in said


def test_log_shows_lines_and_the_same_command_finishes_what_failed(project, with_bad_case):
    (project / "good.nii.gz").rename(project / "case1_t1.nii.gz")
    done = softlabels(project.parent, "run", "-C", project.name, "--cores", "2")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d\d:\d\d:\d\d  prepare 3/3, target 3/3, other jobs 3/3$", done.stdout, re.MULTILINE)
    assert re.search(r"^All results are complete \(.*\)\. Train on results/index.json; ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout
    index = json.loads((project / "results" / "index.json").read_text())
    assert [case["id"] for case in index["cases"]] == ["case0", "case1", "case2"]
    again = softlabels(project, "run")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout and "All results are complete" in again.stdout


def test_dry_run_is_that_of_snakemake(project, with_bad_case):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "--forceall"]
    expected = subprocess.run(command, cwd=project, text=True, capture_output=True, check=True).stdout
    done = softlabels(project, "run", "--cores", "1", "--dry-run", "--forceall")
    lines = re.compile(r"^(?:rule|localrule|total| +input:| +output:).*$", re.MULTILINE)
    jobs = [lines.findall(text) for text in (expected, done.stdout)]
    assert done.returncode == 0 and len(jobs[0]) > 8 and jobs[0] == jobs[1]


@pytest.mark.parametrize(
    "arguments", [("-C", "{folder}", "status"), ("status", "-C", "{folder}"), ("status", "--directory", "{folder}")]
)
def test_every_command_works_from_anywhere(project, with_bad_case, arguments):
    done = softlabels(project.parent, *(word.format(folder=project.name) for word in arguments))
    assert done.returncode == 0 and "3 cases" in done.stdout


def test_folder_that_is_not_there_is_named(tmp_path):
    done = softlabels(tmp_path, "status", "-C", "nowhere")
    assert done.returncode == 1 and "softlabels: -C nowhere: No such file or directory. Name the folder" in done.stdout
