"""What fails on a real Slurm is tried again: a bad case of a batch by the next run, a job over its memory with more."""

from conftest import make_project, show_jobs

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


def test_job_over_its_memory_gets_more_in_a_new_job(tmp_path, home):
    project = make_project(tmp_path / "project", home, targets={"svls": {"method": "svls"}}, pictures=False)
    assert project.run("--set-resources", "prepare:mem_mb=120 if attempt == 1 else 1500") == 0, project.said()
    show_jobs(project)
    first, second = [job for job in project.jobs() if "_prepare" in job.what]
    assert (first.memory, second.memory) == ("120M", "1500M")
    assert first.state in ("FAILED", "OUT_OF_MEMORY", "CANCELLED") and second.state == "COMPLETED"
