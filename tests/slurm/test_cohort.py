"""A cohort on a real Slurm, as typed in the README."""

from helpers.slurm_project import AS_TYPED, make_project, show_jobs


def test_cohort_runs_on_cpu_and_gpu_nodes(tmp_path, home):
    project = make_project(tmp_path / "project", home, n_cases=2, targets={"geols": {"method": "geols"}})
    on_gpu = ("--set-resources", "distance:slurm_partition=gpu", "distance:gpu=1")
    assert project.run(*on_gpu, command=AS_TYPED) == 0, project.said()
    jobs = show_jobs(project)
    assert {job.state for job in jobs} == {"COMPLETED"}
    for job in jobs:
        is_distance = "_distance" in job.what
        assert job.partition == ("gpu" if is_distance else "cpu")
        assert job.has_gpu == is_distance
    assert project.published() == sorted(["prepare", "seeds", "distance", "target"] * 2)
    assert (project.folder / "results" / "index.json").exists()
    assert (project.folder / "results" / "case1" / "montage.png").exists()
    status = project.softlabels("status")
    assert status.returncode == 0 and status.stdout.count("2/2") == 4 and "failed" not in status.stdout
    assert project.run("--dry-run") == 0 and "Nothing to be done" in project.said()
