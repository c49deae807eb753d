"""Results that are not kept: the same targets, fewer entries, and everything that follows from it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.made_project import Project
from pipeline.test_stages import ALL_METHODS

from softlabels.errors import InputError, NotKeptError
from softlabels.monitor.explain import explain_case
from softlabels.monitor.failures import failed_jobs
from softlabels.monitor.status import progress, read_receipts
from softlabels.pipeline.batch import make_jobs, run_batch
from softlabels.pipeline.cost import forecast
from softlabels.pipeline.job_files import JobFiles
from softlabels.pipeline.node import nodes_from_json, nodes_to_json
from softlabels.pipeline.receipts import BatchReceipt, Receipt
from softlabels.pipeline.stages import DISTANCE, SEEDS, STAGES, TARGET
from softlabels.pipeline.upkeep import absent_keys, forget_receipts, live_keys
from softlabels.view.entries import case_entries, finished_entries

GEODESIC = {
    "geols": {"method": "geols"},
    "sing": {"method": "sing"},
    "walker": {"method": "random_walker"},
}


def stages_in(store):
    return sorted(entry.attributes["stage"] for entry in map(store.find, store.keys()))


def addresses(receipts, stage="target"):
    return {work: (one.key, one.manifest) for work, one in receipts.items() if one.stage == stage}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The receipts of a run that keeps all, of every method."""
    with pytest.MonkeyPatch.context() as patch:
        return Project(tmp_path_factory.mktemp("all"), patch, n_cases=1, targets=ALL_METHODS).run_together(threads=2)


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch, targets=GEODESIC, keep="targets")


@pytest.mark.parametrize("keep", ["targets", ["seeds"], ["distance", "prepare"]])
def test_every_method_gives_the_same_entry_whatever_is_kept(tmp_path, monkeypatch, everything, keep):
    project = Project(tmp_path, monkeypatch, n_cases=1, targets=ALL_METHODS, keep=keep)
    receipts = project.run_together(threads=2)
    assert set(receipts) == set(everything)
    kept = {"prepare", "target"} | ({*keep} if isinstance(keep, list) else set())
    for work, one in receipts.items():
        all_kept = everything[work]
        assert (one.key, one.quality, one.flags) == (all_kept.key, all_kept.quality, all_kept.flags)
        assert one.manifest == (all_kept.manifest if one.stage in kept else None)
        assert one.upstream == all_kept.upstream and one.outcome == "computed"
    assert set(stages_in(project.store)) == kept
    assert project.store.verify(deep=True) == []


def test_the_index_is_the_same_and_has_the_flags_of_what_was_not_kept(tmp_path, monkeypatch):
    made = [Project(tmp_path / str(keep), monkeypatch, targets=GEODESIC, keep=keep) for keep in ("all", "targets")]
    indexes = []
    for project in made:
        monkeypatch.chdir(tmp_path / project.config.keep)
        project.run_together()
        indexes.append(project.index().to_bytes())
    assert indexes[0] == indexes[1]
    path = next(project.results.glob("case0/distance-*.json"))
    replace(Receipt.read(path), flags=["map T1:edema: not certified exact"]).write(path)
    assert "map T1:edema: not certified exact" in project.index().cases[0].flags


def test_what_has_been_computed_is_found_and_nothing_before_it_is_computed(project, tmp_path, monkeypatch):
    first = project.run_together()
    other = Project(tmp_path / "other", monkeypatch, targets=GEODESIC, keep="targets", store=str(project.store.path))
    for stage in (SEEDS, DISTANCE, TARGET):
        monkeypatch.setattr(type(stage), "compute", None)
    second = other.run_together()
    assert {one.outcome for one in second.values()} == {"reused"}
    assert addresses(first) == addresses(second)
    # The figures of what was never written are those in the provenance of the targets.
    for work, one in second.items():
        assert one.quality == first[work].quality and one.flags == first[work].flags
    assert any(one.quality.get("certified") for one in second.values())


def test_an_entry_that_the_store_has_is_read_and_not_computed_again(tmp_path, monkeypatch):
    before = Project(tmp_path, monkeypatch, targets={"geols": {"method": "geols"}})
    kept = before.run_together()
    store = str(before.store.path)
    softer = {"geols": {"method": "geols", "precision": "uint16"}}
    after = Project(tmp_path / "after", monkeypatch, targets=softer, keep="targets", store=store)
    for stage in (SEEDS, DISTANCE):
        monkeypatch.setattr(type(stage), "compute", None)
    receipts = after.run_together()
    distance = next(one for one in receipts.values() if one.stage == "distance")
    assert distance.outcome == "reused" and distance.quality["certified"] and not distance.is_kept
    assert distance.key in {one.key for one in kept.values()}
    history = after.store.find(next(iter(addresses(receipts).values()))[0]).provenance["history"]
    assert history["distance"]["quality"]["certified"] and history["seeds"]["quality"]["classes"]


def test_figures_of_the_whole_way_are_in_the_provenance_where_all_is_kept_too(everything, tmp_path, monkeypatch):
    project = Project(tmp_path, monkeypatch, n_cases=1, targets={"geols": {"method": "geols"}})
    receipts = {one.stage: one for one in project.run_together().values()}
    history = project.store.find(receipts["target"].key).provenance["history"]
    assert history == {
        stage: {"key": receipts[stage].key, "quality": receipts[stage].quality} for stage in ("seeds", "distance")
    }


def test_nothing_is_held_longer_than_it_is_read(project, monkeypatch):
    nodes = list(project.plan.nodes.values())
    jobs = make_jobs(project.cases[:1], nodes, project.store, project.results)
    held_at = {}

    def watching(job, sources, compute=TARGET.compute):
        result = compute(job, sources)
        held = {node.id for node in nodes if (one := job.memory.get(node.id)) and one._layers}
        held_at[job.node.id] = held
        return result

    monkeypatch.setattr(TARGET, "compute", watching, raising=False)
    run_batch(jobs, project.results / "stages.json")
    for target, held in held_at.items():
        assert {node for node in held if node.startswith("distance")} <= set(project.plan.upstream(target))
    assert all(job.memory.get(node.id)._layers == {} for job in jobs for node in nodes if job.memory.get(node.id))


def test_a_seed_stage_that_fails_is_named_and_takes_back_what_hangs_on_it(project, monkeypatch):
    project.run_together()
    before = project.receipts()
    for key, _ in addresses(before).values():
        project.store.discard(key)
    original = SEEDS.compute

    def broken(job, sources):
        if job.case.id == "case0" and job.node.params["strategy"] == "skeleton":
            raise InputError("no seeds today")
        return original(job, sources)

    monkeypatch.setattr(SEEDS, "compute", broken, raising=False)
    after = project.run_together()
    batch = BatchReceipt.read(project.results / "stages.json")
    assert batch.failed == {"case0": "no seeds today"} and batch.cases == ["case0", "case1"]
    lost = {work[1].partition("-")[0] for work in set(before) - set(after)}
    assert lost == {"seeds", "distance", "target"} and all(case == "case0" for case, _ in set(before) - set(after))
    (Path("logs") / "case0").mkdir(parents=True)
    (Path("logs") / "case0" / "stages.log").write_text("Traceback\n")
    units, steps = {"case0": ["case0"]}, {"stages": list(project.plan.nodes)}
    jobs = failed_jobs(project.plan, units, steps, set(after), project.results, Path("logs"))
    assert {(job.step.partition("-")[0], job.why) for job in jobs} == {("seeds", "no seeds today")}
    monkeypatch.undo()
    monkeypatch.chdir(project.store.path.parent)
    assert set(project.run_together()) == set(before)


def test_a_job_that_was_killed_before_its_targets_is_named_and_starts_over(project, monkeypatch):
    def killed(job, sources):
        raise SystemExit("killed")

    monkeypatch.setattr(TARGET, "compute", killed, raising=False)
    with pytest.raises(SystemExit):
        project.run_together()
    assert {one.stage for one in project.receipts().values()} == {"prepare"}
    assert stages_in(project.store) == ["prepare"]
    monkeypatch.undo()
    monkeypatch.chdir(project.store.path.parent)
    receipts = project.run_together()
    assert len(receipts) == 2 * len(project.plan.nodes) and project.store.verify(deep=True) == []


def test_status_explain_and_verify_follow(project):
    project.run_together()
    receipts = read_receipts(project.plan, project.cases, project.results)
    assert {(row.n_done, row.n_computed) for row in progress(project.plan, project.cases, receipts)} == {(2, 2)}
    states = {
        one.node.stage: one.state
        for one in explain_case(project.cases[0], project.plan, project.results, project.store)
    }
    assert states == {
        "prepare": "computed",
        "seeds": "computed, not kept",
        "distance": "computed, not kept",
        "target": "computed",
    }
    assert absent_keys(project.results, project.store, is_own=True) == set()
    assert forget_receipts(project.results, set()) == 0


def test_a_run_that_is_to_keep_more_has_that_left_to_do_and_does_it(project, tmp_path, monkeypatch):
    project.run_together()
    wider = Project(tmp_path, monkeypatch, targets=GEODESIC, keep="all")
    receipts = read_receipts(wider.plan, wider.cases, wider.results)
    assert {one.stage for one in receipts.values()} == {"prepare", "target"}
    monkeypatch.setattr(TARGET, "compute", None, raising=False)
    assert all(one.is_kept for one in wider.run_together().values())
    assert set(stages_in(wider.store)) == set(STAGES)


def test_a_plan_counts_what_is_not_kept_where_something_reads_it(project):
    plan, cases = project.plan, project.cases
    rows = {row.node: row for row in forecast(plan, cases, done=set(), stored=set())}
    assert {row.n_to_do for row in rows.values()} == {2}
    assert {row.stage for row in rows.values() if row.cost.disk_mb == 0} == {"seeds", "distance"}
    target = plan.targets["geols"]
    done = {(case.id, node) for case in cases for node in plan.nodes if (case.id, node) != ("case1", target)}
    left = {row.node: row.n_to_do for row in forecast(plan, cases, done=done, stored=set()) if row.n_to_do}
    assert left == dict.fromkeys(set(plan.upstream(target)) - {plan.prepare}, 1)


def test_what_a_job_is_told_is_unchanged_where_all_is_kept_and_brought_over_where_not(project):
    nodes = list(project.plan.nodes.values())
    assert nodes_from_json(nodes_to_json(nodes)) == nodes
    assert {node.stage for node in nodes if not node.is_kept} == {"seeds", "distance"}
    assert "is_kept" not in nodes_to_json([replace(node, is_kept=True) for node in nodes])


def softlabels(*arguments):
    command = [sys.executable, "-m", "softlabels", *arguments]
    return subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)


def test_what_is_not_kept_is_made_again_for_a_look_and_collected_after_it(tmp_path, monkeypatch):
    targets = {"geols": {"method": "geols"}, "svls": {"method": "svls"}}
    kept = {
        one.manifest
        for one in Project(tmp_path / "all", monkeypatch, n_cases=1, targets=targets).run_together().values()
    }
    project = Project(tmp_path, monkeypatch, n_cases=1, targets=targets, keep="targets")
    project.run_together()
    before = {path: path.read_bytes() for path in project.results.rglob("*.json")}
    shown = softlabels("show", "case0")
    assert shown.returncode == 0 and "not in the picture, because not kept: geols/seeds, geols/distance" in shown.stdout
    refused = softlabels("show", "case0", "--node", "geols/distance")
    assert refused.returncode == 1 and "was not kept" in refused.stdout and "--make" in refused.stdout
    assert "Traceback" not in refused.stdout
    refused = softlabels("export", "case0", "--intermediate")
    assert refused.returncode == 1 and "Add --make" in refused.stdout
    assert any("distance was not kept" in text for text in finished_entries(project.config, project.plan, "case0")[1])
    made = softlabels("show", "case0", "--node", "geols/distance", "--make")
    assert made.returncode == 0 and (project.results / "case0" / "geols-distance.png").exists(), made.stdout
    entries = case_entries(project.config, project.plan, "case0")
    assert entries.not_kept == () and np.isfinite(entries.targets["geols"].distance.read("distance")).all()
    assert {entry.manifest_digest for entry in map(project.store.find, project.store.keys())} == kept
    assert {path: path.read_bytes() for path in before} == before
    assert "computed again" not in softlabels("export", "case0", "--intermediate", "--make").stdout
    assert "0 entries" in softlabels("gc").stdout
    removed = softlabels("gc", "--days", "0", "--delete")
    assert removed.stdout.count("removed") == 2 and set(stages_in(project.store)) == {"prepare", "target"}


def test_intermediates_are_garbage_as_soon_as_keep_is_narrowed(tmp_path, monkeypatch):
    wide = Project(tmp_path, monkeypatch, targets=GEODESIC)
    wide.run_together()
    n_all = len(list(wide.store.keys()))
    assert "0 entries" in softlabels("gc", "--days", "0").stdout
    narrow = Project(tmp_path, monkeypatch, targets=GEODESIC, keep=["seeds"])
    n_distances = sum(node.stage == "distance" for node in narrow.plan.nodes.values()) * len(narrow.cases)
    assert f"{n_distances} entries" in softlabels("gc", "--days", "0").stdout
    assert all(one.is_kept for one in narrow.receipts().values())
    done = softlabels("gc", "--days", "0", "--delete")
    assert done.returncode == 0 and len(list(narrow.store.keys())) == n_all - n_distances
    assert {one.stage for one in narrow.receipts().values() if not one.is_kept} == {"distance"}
    assert softlabels("verify").returncode == 0
    assert live_keys([narrow.results]) == set(narrow.store.keys())
    assert not [link for link in narrow.results.rglob("*.zarr") if not link.exists()]


def test_another_project_that_keeps_a_distance_protects_it(tmp_path, monkeypatch):
    targets = {"geols": {"method": "geols"}}
    keeper = Project(tmp_path / "keeper", monkeypatch, targets=targets)
    keeper.run_together()
    other = Project(tmp_path / "other", monkeypatch, targets=targets, keep="targets", store=str(keeper.store.path))
    other.run_together()
    assert "0 entries" in softlabels("gc", "--days", "0").stdout


def test_a_result_that_was_not_kept_is_an_error_that_says_what_to_do(project):
    from softlabels.pipeline.receipts import find_result

    project.run_together()
    distance = next(node for node in project.plan.nodes if node.startswith("distance"))
    with pytest.raises(NotKeptError, match="case case0, distance-.*softlabels show case0 --make"):
        find_result(project.results, "case0", distance, project.store)


def test_the_command_of_a_job_takes_a_case_through_all_stages(project):
    nodes = JobFiles().write(nodes_to_json(project.plan.nodes.values()))
    cases = JobFiles().write(json.dumps([asdict(project.cases[0])]))
    told = ["--nodes", str(nodes), "--cases", str(cases), "--receipt", "results/case0/stages.json", "--store", "store"]
    done = softlabels("stage", *told, "--results", "results", "--threads", "2")
    assert done.returncode == 0, done.stdout
    assert "computed in" in done.stdout and "not kept" in done.stdout
    assert set(stages_in(project.store)) == {"prepare", "target"} and os.path.exists("results/case0/stages.json")
