"""Full disks at every place that is written to beside the store, and places that are not there at all."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT, made_data

from softlabels.config import load_config
from softlabels.errors import StoreError
from softlabels.inputs.sheet import read_sheet
from softlabels.monitor.run import check_snakemake_cache
from softlabels.pipeline.batch import make_jobs, run_batch
from softlabels.pipeline.plan import make_plan
from softlabels.store import Store

TARGETS = {"svls": {"method": "svls"}}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")


def _project(folder, monkeypatch, results):
    """Write a project of one case whose results are elsewhere; return its jobs and the path of their receipt."""
    made_data.write_cohort(folder, n_cases=1, targets=TARGETS, pictures=False, results=str(results))
    monkeypatch.chdir(folder)
    config = load_config("config.yaml")
    cases, nodes = read_sheet(config.cases, config.channels), list(make_plan(config).nodes.values())
    return make_jobs(cases, nodes, Store(config.store), results), results / "case0" / "stages.json"


@needs_root
def test_a_full_disk_of_results_ends_the_job_with_path_and_remedy_and_leaves_nothing(tmp_path, small_disk, monkeypatch):
    disk = small_disk(64)
    filler = disk / "filler"
    jobs, receipt = _project(tmp_path / "project", monkeypatch, disk / "results")
    with pytest.raises(OSError, match="No space"), open(filler, "wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()
    with pytest.raises(StoreError, match="disk is full|free space") as caught:
        run_batch(jobs, receipt)
    assert str(disk) in str(caught.value) and "\n" not in str(caught.value)
    left = [path for path in disk.rglob("*") if path.is_file() and path != filler]
    assert all(path.suffix in (".json", ".failed") and path.stat().st_size for path in left), left
    filler.unlink()
    assert run_batch(jobs, receipt).is_complete


def _stage_in(tmp_path, monkeypatch, environment):
    """Run all stages of a case in a process with this environment; return it when it has ended."""
    made_data.write_cohort(tmp_path, n_cases=1, targets=TARGETS, pictures=False, stages_per_job="all")
    code = (
        "from pathlib import Path; from softlabels.config import load_config; from softlabels.store import Store;"
        "from softlabels.pipeline.plan import make_plan; from softlabels.inputs.sheet import read_sheet;"
        "from softlabels.pipeline.batch import make_jobs, run_batch; c = load_config('config.yaml');"
        "cases = read_sheet(c.cases, c.channels); nodes = list(make_plan(c).nodes.values());"
        "print(run_batch(make_jobs(cases, nodes, Store(c.store), Path(c.results)), Path('r.json')).is_complete)"
    )
    return subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


@needs_root
def test_a_full_disk_of_compiled_kernels_costs_time_but_no_result(tmp_path, small_disk, monkeypatch):
    cache = small_disk(4)
    done = _stage_in(tmp_path / "project", monkeypatch, {"NUMBA_CACHE_DIR": str(cache)})
    assert done.returncode == 0 and done.stdout.strip() == "True", done.stderr
    assert [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size == 0] == []


def test_no_job_needs_a_temporary_folder(tmp_path, monkeypatch):
    nowhere = str(tmp_path / "nowhere")
    done = _stage_in(tmp_path / "project", monkeypatch, {"TMPDIR": nowhere, "TEMP": nowhere, "TMP": nowhere})
    assert done.returncode == 0 and done.stdout.strip() == "True", done.stderr


@needs_root
def test_a_full_cache_of_snakemake_is_one_line(small_disk, monkeypatch):
    disk = small_disk(4)
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    monkeypatch.setattr("snakemake.common.APPDIRS", None)
    with pytest.raises(StoreError, match="Snakemake's cache cannot be written; XDG_CACHE_HOME names another") as caught:
        check_snakemake_cache()
    assert str(disk) in str(caught.value) and "disk is full" in str(caught.value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk.parent / "cache"))
    monkeypatch.setattr("snakemake.common.APPDIRS", None)
    check_snakemake_cache()
