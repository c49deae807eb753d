"""What is known of one case: where each result came from, what changed since, and why one is missing."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import made_data
from helpers.made_project import Project
from typer.testing import CliRunner

from softlabels.cli.commands import app
from softlabels.errors import InputError
from softlabels.monitor.explain import explain_case


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch, n_cases=1, targets={"svls": {"method": "svls"}})


def explained(project):
    return explain_case(project.cases[0], project.plan, project.results, project.store)


def test_results_are_explained_by_their_entries(project):
    project.run_all()
    prepare, target = explained(project)
    assert (prepare.node.stage, target.node.stage) == ("prepare", "target")
    assert prepare.state == target.state == "computed" and prepare.store == project.store.path
    assert prepare.result.entry.provenance["case"] == "case0" and prepare.changed == target.changed == ()


def test_file_that_changed_since_it_was_read_is_named(project):
    project.run_all()
    os.utime("case0_seg.nii.gz", (0, 0))
    prepare, target = explained(project)
    assert prepare.changed == (f"label: {project.cases[0].label} changed since it was read",) and not target.changed
    said = CliRunner().invoke(app, ["explain", "case0"]).output
    assert "changed    label: " in said and "case0_seg.nii.gz changed since it was read; snakemake will read it" in said
    said = CliRunner().invoke(app, ["status"]).output
    assert "files of 1 case changed since they were read: case0. Run snakemake again" in said
    said = CliRunner().invoke(app, ["plan"]).output
    assert "files of 1 case changed since they were read" in said and " 0 results done" in said


def test_node_that_failed_says_why_and_one_that_was_not_tried_says_so(project):
    prepare, target = project.plan.nodes.values()
    project.run(project.cases[0], prepare)
    made_data.write_volume(Path("case0_seg.nii.gz"), made_data.tissue()[1] + np.uint8(7))
    assert "missing" in explained(project)[1].state
    project.store.discard(explained(project)[0].result.receipt.key)
    with pytest.raises(InputError, match="case0: no result"):
        explained(project)
    with pytest.raises(InputError):
        project.run(project.cases[0], target)
    with pytest.raises(InputError):
        project.run(project.cases[0], prepare)


def test_recorded_failure_explains_what_is_missing(project, monkeypatch):
    prepare, target = project.plan.nodes.values()
    project.run(project.cases[0], prepare)
    monkeypatch.setattr("softlabels.pipeline.stages.target.Target.compute", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        project.run(project.cases[0], target)
    assert explained(project)[1].state == "failed: ZeroDivisionError: division by zero"
