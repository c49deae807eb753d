"""What fails on a real Slurm is tried again: bad cases and ended jobs by the next run, too little memory with more."""

import subprocess

from helpers.slurm_project import make_project, show_jobs, wait_for

GEOLS = {"targets": {"geols": {"method": "geols"}}, "pictures": False}


def test_bad_case_in_a_batch_fails_alone_and_is_tried_again(tmp_path, home):
    project = make_project(tmp_path / "project", home, n_cases=4, cases_per_job=2, **GEOLS)
    image = project.folder / "case2_t1.nii.gz"
    whole = image.read_bytes()
    image.write_bytes(whole[:-400])
    assert project.run() == 1
    show_jobs(project)
    assert project.receipts() == sorted(["prepare", "seeds", "distance", "target"] * 3)
    assert not (project.folder / "results" / "case2" / "target.json").exists()
    status = project.softlabels("status").stdout
    assert status.count("failed:") == 1 and "case2 prepare-" in status and "truncated" in status
    assert "case2" in project.said().split("Error in rule index")[1]
    n_jobs = len(project.jobs())
    image.write_bytes(whole)
    assert project.run() == 0, project.said()
    assert project.published() == sorted(["prepare", "seeds", "distance", "target"] * 4)
    again = [job.what for job in project.jobs()[n_jobs:]]
    assert all("batches_00001" in what for what in again if "wildcards" in what)


def test_all_stages_in_one_job_keep_what_was_done_when_the_job_is_ended(tmp_path, home):
    project = make_project(tmp_path / "project", home, n_cases=2, stages_per_job="all", **GEOLS)
    (project.folder / "pause").write_text("seeds")
    process = project.start("--retries", "0")
    wait_for("both jobs are about to publish their seeds", lambda: project.held() == 2)
    assert [line for line in project.softlabels("status").stdout.splitlines() if "prepare-" in line and "2/2" in line]
    for job in project.jobs():
        subprocess.run(["scancel", job.id], check=True, timeout=30)
    assert process.wait(200) == 1, project.said()
    (project.folder / "pause").unlink()
    assert project.published() == ["prepare"] * 2
    status = project.softlabels("status").stdout
    assert status.count("failed: case") == 2 and "CANCELLED" in status and "logs/case0/stages.log" in status
    assert project.run() == 0, project.said()
    jobs = show_jobs(project)
    assert [job.state for job in jobs if "rule_stages" in job.what] == ["CANCELLED"] * 2 + ["COMPLETED"] * 2
    assert project.published() == sorted(["prepare", "seeds", "distance", "target"] * 2)


def test_job_over_its_memory_gets_more_in_a_new_job(tmp_path, home):
    project = make_project(tmp_path / "project", home, targets={"svls": {"method": "svls"}}, pictures=False)
    assert project.run("--set-resources", "prepare:mem_mb=120 if attempt == 1 else 1500") == 0, project.said()
    show_jobs(project)
    first, second = [job for job in project.jobs() if "_prepare" in job.what]
    assert (first.memory, second.memory) == ("120M", "1500M")
    assert first.state in ("FAILED", "OUT_OF_MEMORY", "CANCELLED") and second.state == "COMPLETED"
