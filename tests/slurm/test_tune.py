"""`snakemake --profile slurm tune`: a job for each case and one that chooses; a second run has nothing to do."""

from helpers.made_truth import add_references
from helpers.slurm_project import AS_TYPED, make_project, show_jobs

TUNE = {"tune": {"methods": ["gaussian", "svls"]}, "pictures": False, "stages_per_job": "all"}


def test_cases_are_scored_in_jobs_and_the_choice_is_one_of_them(tmp_path, home):
    project = make_project(tmp_path / "project", home, n_cases=3, targets={"svls": {"method": "svls"}}, **TUNE)
    add_references(project.folder)
    assert project.run("tune") == 0, project.said()
    jobs = show_jobs(project)
    assert [job.state for job in jobs] == ["COMPLETED"] * 4 and {job.partition for job in jobs} == {"cpu"}
    text = (project.folder / "results" / "tune" / "tune.txt").read_text()
    assert text.startswith("Chosen: gaussian") and "on 3 cases" in text
    assert project.run("tune", command=AS_TYPED) == 0 and len(project.jobs()) == 4
    assert "Nothing to be done" in project.said()
