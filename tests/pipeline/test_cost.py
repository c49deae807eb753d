"""What a plan says: it follows voxels, classes and channels, and learns from what was run."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import made_data
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.cpus import usable_cpus
from softlabels.config import load_config, parse_config
from softlabels.inputs.sheet import Case
from softlabels.monitor import benchmarks
from softlabels.monitor.benchmarks import peak_memory
from softlabels.pipeline import cost
from softlabels.pipeline.cost import (
    estimate_job,
    forecast,
    local_threads,
    measured_rates,
    n_maps,
    prepared_voxels,
    suggested_cases_per_job,
)
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.receipts import Receipt


def plan_of(channels=("T1",), **changes):
    content = made_data.CONFIG | {"channels": list(channels)} | changes
    return make_plan(parse_config(content))


@pytest.fixture
def case(tmp_path) -> Case:
    image, labels = made_data.tissue()
    for name, values in (("image", image), ("label", labels)):
        made_data.write_volume(tmp_path / f"{name}.nii.gz", values)
    return Case("case0", (str(tmp_path / "image.nii.gz"),), str(tmp_path / "label.nii.gz"))


def node(plan, stage: str) -> str:
    return next(n for n in plan.nodes if n.startswith(stage))


def receipt(case_id: str, node_id: str, seconds: float, outcome: str = "computed") -> Receipt:
    stage = node_id.split("-")[0]
    return Receipt(case_id, node_id, stage, "0" * 64, "0" * 64, "/store", outcome, seconds)


def test_voxels_are_those_of_the_header(case):
    assert prepared_voxels(plan_of(), case) == np.prod(made_data.SHAPE)


def test_voxels_follow_the_spacing_that_is_asked_for(case):
    plan = plan_of(prepare={"spacing": [1.0, 0.5, 0.5]})  # from (2, 1, 1): twice as many along each axis
    assert prepared_voxels(plan, case) == 8 * np.prod(made_data.SHAPE)


def test_case_that_cannot_be_read_is_planned_as_a_large_one(tmp_path):
    lost = Case("lost", (str(tmp_path / "absent.nii.gz"),), "absent.nii.gz")
    assert prepared_voxels(plan_of(), lost) == cost.UNKNOWN_VOXELS


def test_maps_are_counted_by_stage():
    plan = plan_of(["T1", "T2"], targets={"geols": {"method": "geols"}})
    assert [n_maps(plan, node(plan, stage)) for stage in ("prepare", "seeds", "distance", "target")] == [2, 3, 6, 3]
    vector = plan_of(["T1", "T2"], targets={"geols": {"method": "geols", "distance": {"modalities": "vector"}}})
    assert n_maps(vector, node(vector, "distance")) == 3


def test_cost_grows_with_voxels_in_every_respect(case, monkeypatch):
    plan = plan_of()
    small = estimate_job(plan, node(plan, "distance"), case)
    monkeypatch.setattr(cost, "prepared_voxels", lambda plan, case: 40_000_000)
    large = estimate_job(plan, node(plan, "distance"), case)
    assert large.seconds > small.seconds and large.memory_mb > small.memory_mb and large.disk_mb > small.disk_mb
    assert small.memory_mb >= cost.BASE_MEMORY_MB


def test_measured_times_replace_the_shipped_ones(case):
    plan = plan_of()
    distance = node(plan, "distance")
    receipts = {("case0", distance): receipt("case0", distance, 50.0)}
    rates = measured_rates(plan, {"case0": case}, receipts)
    assert set(rates) == {distance}
    assert estimate_job(plan, distance, case, rates).seconds == pytest.approx(50.0 + cost.START_SECONDS, rel=0.02)


def test_reused_results_tell_no_time(case):
    plan = plan_of()
    prepare = node(plan, "prepare")
    assert measured_rates(plan, {"case0": case}, {("case0", prepare): receipt("case0", prepare, 0.01, "reused")}) == {}


def test_memory_is_learnt_from_snakemakes_benchmark_files(case, tmp_path):
    plan = plan_of()
    prepare = node(plan, "prepare")
    folder = tmp_path / "logs" / "case0"
    folder.mkdir(parents=True)
    (folder / f"{prepare}.benchmark.tsv").write_text(f"s\tmax_rss\n1.0\t{benchmarks.PROCESS_MB + 384}\n")
    (folder / "prepare-00000000.benchmark.tsv").write_text("s\tmax_rss\n1.0\t9999\n")
    found = peak_memory(plan, {"case0": case}, {"case0": ["case0"]}, tmp_path / "logs")
    assert found == {prepare: pytest.approx(384e6 / np.prod(made_data.SHAPE))}
    receipts = {("case0", prepare): receipt("case0", prepare, 1.0)}
    planned = estimate_job(plan, prepare, case, measured_rates(plan, {"case0": case}, receipts, found))
    assert planned.memory_mb == pytest.approx(cost.BASE_MEMORY_MB + 384, abs=100)


@pytest.mark.parametrize("content", ["", "s\tmax_rss\n", "s\tmax_rss\n1.0\n", "s\n1.0\n", "s\tmax_rss\n1.0\tNA\n"])
def test_a_benchmark_file_without_memory_teaches_nothing(case, tmp_path, content):
    plan = plan_of()
    folder = tmp_path / "logs" / "case0"
    folder.mkdir(parents=True)
    (folder / f"{node(plan, 'prepare')}.benchmark.tsv").write_text(content)
    assert peak_memory(plan, {"case0": case}, {"case0": ["case0"]}, tmp_path / "logs") == {}


def test_memory_of_a_job_of_all_stages_is_that_of_its_largest(case, tmp_path):
    plan = plan_of(targets={"geols": {"method": "geols"}})
    folder = tmp_path / "logs" / "case0"
    folder.mkdir(parents=True)
    (folder / "stages.benchmark.tsv").write_text(f"s\tmax_rss\n1.0\t{benchmarks.PROCESS_MB + 384}\n")
    found = peak_memory(plan, {"case0": case}, {"case0": ["case0"]}, tmp_path / "logs")
    largest = max(plan.nodes, key=lambda one: estimate_job(plan, one, case).memory_mb)
    assert found == {largest: pytest.approx(384e6 / np.prod(made_data.SHAPE))}


def test_memory_of_a_batch_is_that_of_its_largest_case_and_the_largest_batch_counts(case, tmp_path):
    plan = plan_of(targets={"svls": {"method": "svls"}})
    image, labels = (np.concatenate([values] * 2) for values in made_data.tissue())
    twice = [
        str(made_data.write_volume(tmp_path / f"twice_{i}.nii.gz", part)) for i, part in enumerate((image, labels))
    ]
    case_of = {"small": case, "large": Case("large", (twice[0],), twice[1]), "other": case}
    units = {"batches/00000": ["small", "large"], "batches/00001": ["other"]}
    prepare = plan.prepare
    for unit, more in zip(units, (500, 90), strict=True):
        folder = tmp_path / "logs" / unit
        folder.mkdir(parents=True)
        text = f"s\tmax_rss\n1.0\t{benchmarks.PROCESS_MB + more}\n"
        (folder / f"{prepare}.benchmark.tsv").write_text(text)
    found = peak_memory(plan, case_of, units, tmp_path / "logs")
    assert found == {prepare: pytest.approx(500e6 / (2 * np.prod(made_data.SHAPE)))}


def test_rates_are_learnt_from_cpu_time_where_it_was_measured(case):
    plan = plan_of()
    distance = node(plan, "distance")
    made = replace(receipt("case0", distance, 80.0), cpu_seconds=40.0)
    rates = measured_rates(plan, {"case0": case}, {("case0", distance): made})
    assert estimate_job(plan, distance, case, rates).seconds == pytest.approx(40.0, rel=0.02)


def test_what_was_planned_is_the_sum_of_the_estimates(case):
    plan = plan_of()
    cases = {name: Case(name, case.images, case.label) for name in "abc"}
    works = [("a", node(plan, "distance")), ("b", node(plan, "distance")), ("c", plan.prepare)]
    expected = sum(estimate_job(plan, node_id, cases[name]).seconds for name, node_id in works)
    assert cost.planned_seconds(plan, cases, works) == pytest.approx(expected)


def test_plan_counts_done_hits_and_the_rest(case):
    plan = plan_of(targets={"svls": {"method": "svls"}})
    cases = [Case(name, case.images, case.label) for name in "abcd"]
    prepare, target = plan.nodes
    rows = forecast(plan, cases, done={("a", prepare), ("b", prepare), ("a", target)}, stored={("c", prepare)})
    assert [(row.n_done, row.n_stored, row.n_to_do) for row in rows] == [(2, 1, 1), (1, 0, 3)]
    one = estimate_job(plan, target, cases[0])
    assert rows[1].cost.seconds == pytest.approx(3 * one.seconds) and rows[1].cost.memory_mb == one.memory_mb


def test_short_jobs_are_to_be_shared_and_long_ones_not(case, monkeypatch):
    plan = plan_of()
    cases = [Case(f"case{i}", case.images, case.label) for i in range(200)]
    assert [suggested_cases_per_job(plan, cases[:n]) for n in (0, 3, 8, 40, 200)] == [1, 1, 2, 10, 50]
    assert [suggested_cases_per_job(plan, cases[:n], n_cpus=64) for n in (8, 40)] == [2, 10]
    assert [suggested_cases_per_job(plan, cases[:n], n_cpus=2) for n in (0, 3, 8, 40, 150)] == [1, 2, 4, 20, 38]
    assert [suggested_cases_per_job(plan, cases[:n], n_cpus=1) for n in (0, 3, 8, 40)] == [1, 3, 8, 40]
    # As many jobs as there are cores, or several times as many: 160 for 10,000 cases.
    assert suggested_cases_per_job(plan, cases * 50) == 63 < cost.MOST_CASES_PER_JOB
    seconds = [estimate_job(plan, node_id, case).seconds for node_id in plan.nodes]
    monkeypatch.setattr(cost, "JOB_SECONDS", 9.9 * np.mean(seconds))
    assert suggested_cases_per_job(plan, cases) == 10
    assert suggested_cases_per_job(plan, cases, stages_per_job="all") == 2
    monkeypatch.setattr(cost, "prepared_voxels", lambda plan, case: 2_000_000_000)
    assert suggested_cases_per_job(plan, cases) == 1


@settings(deadline=None, derandomize=True)
@given(
    memory_mb=st.lists(st.integers(100, 20_000), min_size=1, max_size=40),
    n_cpus=st.integers(1, 64),
    machine_mb=st.integers(2_000, 500_000),
)
def test_jobs_that_run_at_once_fit_into_the_memory_and_use_all_cores(memory_mb, n_cpus, machine_mb):
    threads = [local_threads(mb, len(memory_mb), n_cpus, machine_mb) for mb in memory_mb]
    assert all(1 <= n <= n_cpus for n in threads)
    # As Snakemake does: jobs are started while their threads are free.
    n_free, used_mb, n_running = n_cpus, 0.0, 0
    for n, mb in zip(threads, memory_mb, strict=True):
        if n <= n_free:
            n_free, used_mb, n_running = n_free - n, used_mb + mb, n_running + 1
    assert used_mb <= machine_mb or n_running == 1
    if len(memory_mb) >= n_cpus and max(memory_mb) * n_cpus <= machine_mb:
        assert threads == [1] * len(memory_mb)
    if len(memory_mb) == 1:
        assert threads[0] >= min(n_cpus, 4)


def test_init_lets_short_jobs_share_a_process(case, tmp_path):
    data, project = tmp_path / "data", tmp_path / "project"
    for folder, source, tail in (("imagesTr", case.images[0], "_0000"), ("labelsTr", case.label, "")):
        (data / folder).mkdir(parents=True)
        for i in range(12):
            shutil.copy(source, data / folder / f"case{i}{tail}.nii.gz")
    content = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "necrosis": 1, "edema": 2}}
    (data / "dataset.json").write_text(json.dumps(content | {"numTraining": 12, "file_ending": ".nii.gz"}))
    command = [sys.executable, "-m", "softlabels"]
    subprocess.run([*command, "init", project, "--nnunet", data], check=True, capture_output=True)
    shared = 12 // min(usable_cpus(), 4)
    assert load_config(project / "config.yaml").batch_size == shared
    text = (project / "config.yaml").read_text()
    (project / "config.yaml").write_text(text.replace(f"cases_per_job: {shared}", ""))
    said = subprocess.run([*command, "plan"], cwd=project, check=True, capture_output=True, text=True).stdout
    assert f"Set cases_per_job: {shared} in config.yaml" in said


def test_hits_are_found_from_the_bytes_of_the_files_alone(tmp_path, monkeypatch):
    from softlabels.inputs.sheet import read_sheet
    from softlabels.pipeline.job import run_job
    from softlabels.pipeline.reuse import stored_nodes
    from softlabels.pipeline.stages import Job
    from softlabels.store import Store

    monkeypatch.chdir(tmp_path)
    made_data.write_cohort(tmp_path, n_cases=1)
    seeds = {"strategy": "random"}
    plan = plan_of(targets={"svls": {"method": "svls"}, "geols": {"method": "geols", "seeds": seeds}})
    case, store = read_sheet("cases.tsv", ["T1"])[0], Store("store")
    assert stored_nodes(plan, case, store) == set()
    done = [n for n in plan.nodes if not n.startswith("distance") and plan.nodes[n].params.get("method") != "geols"]
    for node_id in done:
        run_job(Job(case, plan.nodes[node_id], store, Path("results")))
    assert stored_nodes(plan, case, store) == set(done)
