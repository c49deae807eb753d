"""Laws of the way through receipts: it leads where the index leads, and says what is missing."""

import subprocess
import sys

import numpy as np
import pytest
from helpers.made_project import Project

from softlabels.cohort.case import IndexedCohort
from softlabels.errors import FormatError, InputError
from softlabels.view.entries import case_entries, node_entry


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return a finished project of two cases, and its index."""
    project = Project(tmp_path, monkeypatch)
    project.run_all()
    project.index().write(project.results / "index.json")
    return project


def test_receipts_and_the_index_lead_to_the_same_case_and_targets(project):
    cohort = IndexedCohort.open(project.results / "index.json")
    for case in cohort.index.cases:
        by_receipts = case_entries(project.config, project.plan, case.id)
        assert set(by_receipts.targets) == set(cohort.index.targets)
        for name, entries in by_receipts.targets.items():
            by_index, target = cohort.target(case, name), entries.target
            assert target.description == by_index.description and target.name == by_index.name
            assert target.case.entry.manifest_digest == by_index.case.entry.manifest_digest
            assert target.case.ignore_label == by_index.case.ignore_label
            np.testing.assert_array_equal(target.soft_label(), by_index.soft_label())


def test_a_target_comes_with_what_it_was_computed_from(project):
    targets = case_entries(project.config, project.plan, "case0").targets
    assert list(targets) == ["geols", "sing", "hard"]
    for name in ("geols", "sing"):
        layers = (targets[name].seeds.layers, targets[name].distance.layers, targets[name].target.entry.layers)
        assert layers == (("seeds",), ("distance",), ("target",))
    assert targets["hard"].seeds is targets["hard"].distance is targets["hard"].target.entry is None


def test_every_node_is_found_with_the_first_target_that_uses_it(project):
    for node_id, planned in project.plan.nodes.items():
        found = node_entry(project.config, project.plan, "case1", node_id)
        assert (found.case.id, found.stage) == ("case1", planned.stage)
        assert found.name in ("geols", "sing") and found.description.method == found.name
        assert node_id in project.plan.upstream(project.plan.targets[found.name])
    with pytest.raises(InputError, match="node 'nope': not in the plan. Did you mean prepare"):
        node_entry(project.config, project.plan, "case1", "nope")


def test_what_is_missing_is_said_with_the_remedy(project):
    next(project.results.glob("case0/seeds-*.json")).unlink()
    with pytest.raises(FormatError, match="seeds-.*json: missing. Run snakemake again"):
        case_entries(project.config, project.plan, "case0")
    entry = case_entries(project.config, project.plan, "case1").targets["sing"].target.entry
    project.store.discard(entry.key)
    with pytest.raises(InputError, match=f"case case1, target-.*: entry {entry.key[:12]} is not in store"):
        case_entries(project.config, project.plan, "case1")


def test_entries_and_exports_need_no_drawing_library():
    script = "import sys, softlabels.view.entries, softlabels.view.export; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
