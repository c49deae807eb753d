"""`device: cuda` on a real Slurm; its node gpu1, and no other, has an emulated driver (`cuda_on_cpu/`)."""

import json
import re

import pytest
from helpers import emulated_cuda
from helpers.slurm_project import Project, make_project, show_jobs

from softlabels.pipeline.receipts import Receipt
from softlabels.store import Store

GEOLS = {"targets": {"geols": {"method": "geols"}}, "pictures": False}
STAGES = ["prepare", "seeds", "distance", "target"]


@pytest.fixture(scope="module")
def driver(tmp_path_factory, home):
    return emulated_cuda.build_driver(tmp_path_factory.mktemp("cuda_on_cpu"))


def entries(project: Project) -> dict[tuple[str, str], object]:
    """Return what the receipts name, by (case, stage)."""
    receipts = [Receipt.read(path) for path in (project.folder / "results").glob("case*/*-*.json")]
    store = Store(project.folder / "store")
    return {(receipt.case, receipt.stage): store.find(receipt.key) for receipt in receipts}


def distance_logs(project: Project) -> list[str]:
    return [path.read_text() for path in sorted((project.folder / "logs").glob("batches/*/distance-*.log"))]


def test_device_cuda_goes_to_the_gpu_partition_in_batches_of_16(tmp_path, home):
    project = make_project(tmp_path / "project", home, n_cases=17, device="cuda", **GEOLS)
    assert project.run("--dry-run", "--printshellcmds") == 0
    said = project.said()
    asked = [part for part in said.split("\nrule ") if part.startswith("distance_cuda:")]
    assert len(asked) == 2 and all("gpu=1" in part and "slurm_partition=gpu" in part for part in asked)
    assert all("slurm_partition=cpu" in part for part in said.split("\nrule ") if part.startswith("prepare:"))


@pytest.fixture(scope="module")
def without_driver(tmp_path_factory, home, driver):
    """A cohort whose distances were sent to a node without a GPU."""
    folder = tmp_path_factory.mktemp("project")
    project = make_project(folder, home, n_cases=4, driver=driver, device="cuda", cases_per_job=3, **GEOLS)
    wrong = ("--set-resources", "distance_cuda:slurm_partition=cpu", "distance_cuda:gpu=0")
    assert project.run(*wrong) == 1
    return project


def test_job_without_a_device_says_so_is_retried_and_publishes_nothing(without_driver):
    jobs = [job for job in show_jobs(without_driver) if "_distance_cuda_" in job.what]
    assert [(job.state, job.partition, job.has_gpu) for job in jobs] == [("FAILED", "cpu", False)] * 6
    assert without_driver.published() == sorted(["prepare", "seeds"] * 4)
    assert without_driver.receipts() == sorted(["prepare", "seeds"] * 4)
    for log in distance_logs(without_driver):
        # The reason is the first line, after the time.
        first = r"\S+ \S+ failed: case\d distance-[0-9a-f]{8}: device 'cuda': no CUDA driver answers"
        assert re.match(first, log), log
        assert "run where an NVIDIA GPU with its driver is (on Slurm: ask for one), or use device 'cpu'" in log
    status = without_driver.softlabels("status").stdout
    assert status.count("no CUDA driver answers") == 2 and "batches/00001 distance-" in status


@pytest.fixture(scope="module")
def with_bad_case(without_driver):
    """The same cohort on the right node, after the seeds of one case were damaged on disk."""
    seeds = entries(without_driver)["case1", "seeds"]
    shard = next(path for path in seeds.zarr_path.glob("seeds/c/**/*") if path.is_file())
    shard.chmod(0o600)
    shard.write_bytes(bytes(byte ^ 0xFF for byte in shard.read_bytes()))
    n_before = len(without_driver.jobs())
    assert without_driver.run() == 1
    return without_driver, n_before


def test_batch_shares_a_process_and_a_context_in_which_a_bad_case_fails_alone(with_bad_case):
    project, n_before = with_bad_case
    jobs = [job for job in show_jobs(project, n_before) if "_distance_cuda_" in job.what]
    assert [(job.state, job.partition, job.has_gpu) for job in jobs] == [("COMPLETED", "gpu", True)] * 2
    made = {case: entry.provenance for (case, stage), entry in entries(project).items() if stage == "distance"}
    assert set(made) == {"case0", "case2", "case3"} and {one["device"] for one in made.values()} == {"cuda"}
    assert made["case0"]["slurm_job"] == made["case2"]["slurm_job"] != made["case3"]["slurm_job"]
    first, second = distance_logs(project)
    assert first.count("cuda_on_cpu: context made") == second.count("cuda_on_cpu: context made") == 1
    assert "case1 distance-" in first and "2 cases done, 1 failed" in first and "1 cases done, 0 failed" in second
    status = project.softlabels("status").stdout
    assert status.count("failed:") == 1 and "case1 distance-" in status and "damaged" in status


@pytest.fixture(scope="module")
def finished(with_bad_case):
    """The same cohort, repaired and finished with the same command."""
    project, _ = with_bad_case
    assert project.softlabels("verify", "--deep", "--discard").returncode == 0
    n_before = len(project.jobs())
    assert project.run() == 0, project.said()
    show_jobs(project, n_before)
    assert project.published() == sorted(STAGES * 4)
    return project


def test_entries_are_those_of_the_cpu(tmp_path, home, finished):
    on_cpu = make_project(tmp_path / "project", home, n_cases=4, cases_per_job=4, **GEOLS)
    assert on_cpu.run() == 0, on_cpu.said()
    digests = [{at: (e.key, e.manifest_digest) for at, e in entries(p).items()} for p in (finished, on_cpu)]
    assert digests[0] == digests[1] and len(digests[0]) == 16
    indexes = [json.loads((p.folder / "results" / "index.json").read_text())["cases"] for p in (finished, on_cpu)]
    assert indexes[0] == indexes[1]
