"""`softlabels run --profile slurm`: progress of batches, failures, Ctrl-C; nothing of the folder is imported."""

import re
import signal

import pytest
from helpers.slurm_project import BIN, make_project, wait_for

RUN = (str(BIN / "softlabels"), "run")
SVLS = {"targets": {"svls": {"method": "svls"}}, "pictures": False, "stages_per_job": "all"}


@pytest.fixture(scope="module")
def project(tmp_path_factory, home):
    """A batch with a bad case, in a folder with files that are named like modules of the standard library."""
    project = make_project(tmp_path_factory.mktemp("Müller's {study}"), home, n_cases=3, cases_per_job=2, **SVLS)
    for name in ("random", "queue", "yaml"):
        (project.folder / f"{name}.py").write_text("raise SystemExit('imported from the folder of the project')")
    image = project.folder / "case1_t1.nii.gz"
    image.rename(project.folder / "good.nii.gz")
    image.write_bytes((project.folder / "good.nii.gz").read_bytes()[:-400])
    return project


def test_progress_counts_cases_of_batches_and_the_bad_case_is_named(project):
    assert project.run(command=RUN) == 1, project.said()
    said = project.said()
    assert re.search(r"^\d\d:\d\d:\d\d  prepare 2/3, target 2/3, ", said, re.MULTILINE), said
    assert "1 of 3 cases failed\n" in said
    (line,) = set(re.findall(r"^failed: case1 prepare-.* \(log: .*\)$", said, re.MULTILINE))
    assert "truncated" in line and line in project.softlabels("status").stdout
    assert "Traceback" not in said and "python -P" not in said


def test_same_command_finishes_what_failed(project):
    (project.folder / "good.nii.gz").rename(project.folder / "case1_t1.nii.gz")
    assert project.run(command=RUN) == 0, project.said()
    assert "All results are complete" in project.said()
    assert project.receipts() == ["prepare"] * 3 + ["target"] * 3


def test_ctrl_c_cancels_the_jobs_and_keeps_the_project_ready_to_resume(tmp_path, home):
    project = make_project(tmp_path, home, n_cases=1, **SVLS)
    (project.folder / "pause").touch()
    running = project.start(command=RUN)
    wait_for("the job is about to publish", lambda: project.held() == 1)
    running.send_signal(signal.SIGINT)
    assert running.wait(120) != 0
    assert "Stopped. Finished results are kept" in project.said() and "Traceback" not in project.said()
    assert [job.state for job in project.jobs()] == ["CANCELLED"] and project.published() == []
    (project.folder / "pause").unlink()
    assert project.run(command=RUN) == 0, project.said()
