"""The workflow end to end on a small cohort: what runs, what runs again, what happens to a bad case."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import ROOT, made_data
from helpers.made_truth import write_coarse_project
from helpers.run_snakemake import snakemake

from softlabels.config import load_config
from softlabels.pipeline.job_files import read_job_file
from softlabels.pipeline.node import nodes_from_json
from softlabels.pipeline.receipts import Receipt
from softlabels.store import Store


def change_config(folder: Path, change) -> None:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def outcomes(folder: Path) -> dict[str, set[str]]:
    """Return, by stage, the outcomes that receipts of the last run state."""
    found = {}
    for path in (folder / "results").glob("*/*-*.json"):
        receipt = Receipt.read(path)
        found.setdefault(receipt.stage, set()).add(receipt.outcome)
    return found


def published(folder: Path) -> dict[str, tuple[str, str]]:
    """Return key and manifest digest of what each receipt names."""
    found = {path: Receipt.read(path) for path in (folder / "results").glob("*/*-*.json")}
    return {str(path.relative_to(folder)): (receipt.key, receipt.manifest) for path, receipt in found.items()}


def digests(folder: Path) -> set[tuple[str, str]]:
    store = Store(folder / "store")
    return {(entry.key, entry.manifest_digest) for entry in map(store.find, store.keys())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A cohort of two cases that has been run once; tests must not change it."""
    folder = tmp_path_factory.mktemp("project")
    made_data.write_cohort(folder)
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout
    return folder


def test_run_leaves_index_receipts_links_and_pictures(finished):
    index = json.loads((finished / "results" / "index.json").read_text())
    assert [case["id"] for case in index["cases"]] == ["case0", "case1"]
    assert index["targets"]["hard"]["node"] is None and set(index["cases"][0]["targets"]) == {"geols", "sing"}
    assert (finished / "results" / "case0" / "montage.png").stat().st_size > 10_000
    assert (finished / "results" / "case0" / "geols-distance.zarr" / "zarr.json").exists()
    for receipt in (finished / "results" / "case0").glob("*-*.json"):
        assert receipt.with_suffix(".zarr").resolve().joinpath("zarr.json").is_file()


def test_every_distance_is_certified_exact(finished):
    for path in (finished / "results").glob("*/distance-*.json"):
        receipt = Receipt.read(path)
        assert receipt.quality["certified"] and all(m["certified"] for m in receipt.quality["maps"])


def test_second_run_does_nothing(finished):
    done = snakemake(finished)
    assert done.returncode == 0 and "Nothing to be done" in done.stdout


def test_another_project_on_the_same_store_computes_nothing_and_agrees(finished, tmp_path):
    made_data.write_cohort(tmp_path, store=str(finished / "store"))
    before = digests(finished)
    assert snakemake(tmp_path).returncode == 0
    assert set().union(*outcomes(tmp_path).values()) == {"reused"}
    assert digests(finished) == before


def test_load_time_parameter_computes_nothing(finished, tmp_path):
    made_data.write_cohort(tmp_path, store=str(finished / "store"))
    change_config(tmp_path, lambda c: c["targets"]["geols"].update(alpha=0.4))
    assert snakemake(tmp_path).returncode == 0
    assert set().union(*outcomes(tmp_path).values()) == {"reused"}
    index = json.loads((tmp_path / "results" / "index.json").read_text())
    assert index["targets"]["geols"]["blend"]["alpha"] == 0.4


def test_another_split_writes_the_index_again_and_runs_no_job(tmp_path):
    made_data.write_cohort(tmp_path, targets={"svls": {"method": "svls"}}, pictures=False)
    assert snakemake(tmp_path).returncode == 0
    sheet = tmp_path / "cases.tsv"
    first, *rows = sheet.read_text().splitlines()
    rows = ["\t".join([*row.split("\t")[:-1], f"fold{i}"]) for i, row in enumerate(rows)]
    sheet.write_text("\n".join([first, *rows]) + "\n")
    # A machine whose clock is an hour ahead wrote the receipts of one case.
    for receipt in (tmp_path / "results" / "case0").glob("*.json"):
        os.utime(receipt, (time.time() + 3600,) * 2)
    assert "in the future" not in snakemake(tmp_path, "--dry-run").stdout
    assert receipt.stat().st_mtime > time.time() + 3000
    done = snakemake(tmp_path)
    assert "receipts were dated in the future" in done.stdout
    assert done.returncode == 0 and "rule prepare" not in done.stdout and "rule target" not in done.stdout
    index = json.loads((tmp_path / "results" / "index.json").read_text())
    assert [case["split"] for case in index["cases"]] == [f"fold{i}" for i in range(len(rows))]


def test_changed_seeds_recompute_all_but_prepare(finished, tmp_path):
    made_data.write_cohort(tmp_path, store=str(finished / "store"))
    only = {"geols": {"method": "geols", "seeds": {"strategy": "erosion"}}}
    change_config(tmp_path, lambda c: c.update(targets=only, pictures=False))
    assert snakemake(tmp_path).returncode == 0
    found = outcomes(tmp_path)
    assert found.pop("prepare") == {"reused"} and set(found) == {"seeds", "distance", "target"}
    assert all(outcome == {"computed"} for outcome in found.values())


def test_bad_case_fails_alone_with_one_line_that_says_what_to_do(tmp_path):
    made_data.write_cohort(tmp_path, n_cases=2, pictures=False)
    damaged = tmp_path / "case0_t1.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:-500])
    done = snakemake(tmp_path)
    assert done.returncode != 0
    (log,) = (tmp_path / "logs" / "case0").glob("prepare-*.log")
    assert "case0" in log.read_text()
    line = re.search(r"^failed: case0 prepare-.*case0_t1.nii.gz.* \(log: (.*)\)$", done.stdout, re.MULTILINE)
    assert line and tmp_path / line[1] == log and line.start() < done.stdout.index("Error in rule prepare")
    assert max(map(len, done.stdout.splitlines())) < 600 and line[0] in softlabels(tmp_path, "status").stdout
    assert not list((tmp_path / "results").glob("case0/*.json"))
    assert len(list((tmp_path / "results").glob("case1/target-*.json"))) == 2
    partial = softlabels(tmp_path, "index", "--allow-missing")
    assert partial.returncode == 0 and "1 case, 1 omitted" in partial.stdout
    # Without an index there is a report all the same: that is when it is needed most.
    page = (tmp_path / "results" / "report" / "index.html").read_text()
    assert "results/report/index.html" in done.stdout
    assert "1 failed" in page and "case0_t1.nii.gz: truncated" in page and str(log.relative_to(tmp_path)) in page


def test_the_report_of_snakemake_carries_the_pictures_of_batches_and_the_cohort_page(tmp_path):
    made_data.write_cohort(
        tmp_path, n_cases=2, cases_per_job=2, stages_per_job="all", targets={"svls": {"method": "svls"}}
    )
    assert snakemake(tmp_path).returncode == 0
    results = tmp_path / "results"
    for case in ("case0", "case1"):
        assert (results / "batches/00000/pictures" / f"{case}.png").resolve() == (
            results / case / "montage.png"
        ).resolve()
        assert (results / case / "thumbnail.png").stat().st_size > 100
    done = snakemake(tmp_path, "--report", "report.zip")
    assert done.returncode == 0, done.stdout
    names = zipfile.ZipFile(tmp_path / "report.zip").namelist()
    assert {"case0.png", "case1.png", "index.html"} <= {Path(name).name for name in names if "data/" in name}


def test_all_stages_in_one_job_leave_the_same_entries_and_receipts(finished, tmp_path):
    made_data.write_cohort(tmp_path, stages_per_job="all")
    done = snakemake(tmp_path)
    assert done.returncode == 0, done.stdout
    assert published(tmp_path) == published(finished)
    jobs = {path.name for path in (tmp_path / "logs" / "case0").iterdir()}
    assert jobs == {"stages.log", "stages.benchmark.tsv", "montage.log"}
    assert "Nothing to be done" in snakemake(tmp_path).stdout
    for receipt in (tmp_path / "results").glob("case0/seeds-*.json"):
        receipt.write_text("{")
    assert softlabels(tmp_path, "verify", "--discard").returncode == 0
    assert snakemake(tmp_path).returncode == 0
    assert outcomes(tmp_path)["seeds"] == {"computed", "reused"} and published(tmp_path) == published(finished)


def test_bad_case_among_jobs_of_all_stages_keeps_what_is_good_of_it(tmp_path):
    made_data.write_cohort(tmp_path, stages_per_job="all", pictures=False)
    raters = {"method": "multi_rater"}
    change_config(tmp_path, lambda c: c["targets"].update(raters=raters))
    (tmp_path / "case0_t1.nii.gz").write_bytes(b"no image")
    done = snakemake(tmp_path)
    assert done.returncode != 0
    said, results = softlabels(tmp_path, "status").stdout, tmp_path / "results"
    assert "failed: case0 prepare-" in said
    assert "failed: case1 target-" in said and "Add columns 'label:<rater>'" in said
    assert not list(results.glob("case0/*.json")) and not list(results.glob("*/stages.json"))
    assert len(list(results.glob("case1/target-*.json"))) == 2
    change_config(tmp_path, lambda c: c["targets"].pop("raters"))
    assert snakemake(tmp_path, "--until", "stages").returncode != 0
    assert (results / "case1" / "stages.json").exists() and outcomes(tmp_path)["target"] == {"reused"}


def test_what_is_not_kept_is_never_written_and_the_targets_are_the_same_after_a_kill_too(finished, tmp_path):
    made_data.write_cohort(tmp_path, n_cases=1, keep="targets", pictures=False)
    shown = snakemake(tmp_path, "--dry-run").stdout
    assert "rule stages" in shown and not re.search("rule (prepare|seeds|distance|target)", shown)
    command = [sys.executable, "-P", "-m", "snakemake", "--cores", "2"]
    run = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    while run.poll() is None and not any(Store(tmp_path / "store").keys()):
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert snakemake(tmp_path, "--dry-run").returncode == 0 and any((tmp_path / ".snakemake" / "locks").iterdir())
    done = snakemake(tmp_path)
    assert done.returncode == 0 and "The last run here was killed" in done.stdout, done.stdout
    kept = {path: address for path, address in published(tmp_path).items() if address[1]}
    everything = {path: address for path, address in published(finished).items() if "case0" in path}
    assert kept == {path: address for path, address in everything.items() if re.search("prepare-|target-", path)}
    assert digests(tmp_path) == set(kept.values()) and Store(tmp_path / "store").verify(deep=True) == []
    assert "Nothing to be done" in snakemake(tmp_path, "--dry-run").stdout
    report = (tmp_path / "results" / "report" / "index.html").read_text()
    assert "5 of 5 distance maps are certified exact" in report
    change_config(tmp_path, lambda c: c.update(keep="all", stages_per_job="all"))
    assert snakemake(tmp_path).returncode == 0
    assert published(tmp_path) == everything and outcomes(tmp_path)["target"] == {"reused"}


def softlabels(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "softlabels", *arguments]
    return subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)


def test_status_and_explain_say_what_is_done_and_why(finished):
    status = softlabels(finished, "status")
    assert status.returncode == 0 and "2/2" in status.stdout
    explained = softlabels(finished, "explain", "case1")
    assert explained.returncode == 0 and "the bytes of the case's files" in explained.stdout
    unknown = softlabels(finished, "explain", "case7")
    assert unknown.returncode == 1 and "Did you mean case" in unknown.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["verify", "--store", "stroe"], "store stroe: no such folder"),
        (["du", "--store", "stroe"], "store stroe: no such folder"),
        (["gc", "--days", "-1"], "Invalid value"),
        (["check", "--threads", "0"], "Invalid value"),
        (["status", "--limit", "-1"], "Invalid value"),
        (["init", "new", "--brats-labels", "2023"], "without --brats"),
        (["export", "case0", "--output", "config.yaml/x"], "config.yaml/x: Not a directory. Check path"),
        (["index", "--output", "config.yaml/index.json"], "config.yaml/index.json: cannot be written (File exists)"),
    ],
)
def test_a_mistaken_argument_is_refused_and_no_all_clear_given(finished, arguments, says):
    done = softlabels(finished, *arguments)
    assert done.returncode != 0 and says in done.stdout and "Traceback" not in done.stdout
    assert not (finished / "new").exists()


def test_export_keeps_geometry(finished, tmp_path):
    import SimpleITK as sitk

    done = softlabels(finished, "export", "case0", "--output", str(tmp_path))
    assert done.returncode == 0, done.stdout
    source = sitk.ReadImage(str(finished / "case0_seg.nii.gz"))
    exported = sitk.ReadImage(str(tmp_path / "case0_labels.nii.gz"))
    assert exported.GetSpacing() == source.GetSpacing()
    np.testing.assert_allclose(exported.GetOrigin(), source.GetOrigin())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(exported), sitk.GetArrayFromImage(source))


@pytest.mark.parametrize("bad", ["../x", "$(touch X)", "a b", "-rf", "x" * 300])
def test_hostile_case_id_is_refused_before_anything_runs(tmp_path, bad):
    made_data.write_cohort(tmp_path, n_cases=1)
    sheet = tmp_path / "cases.tsv"
    sheet.write_text(sheet.read_text().replace("case0\t", f"{bad}\t"))
    before = sorted(tmp_path.rglob("*"))
    done = softlabels(tmp_path, "status")
    assert done.returncode == 1 and "case id" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_config_stops_the_workflow_with_its_faults(tmp_path):
    made_data.write_cohort(tmp_path, n_cases=1)
    change_config(tmp_path, lambda c: c.update(devise="cpu", engine="geodistk"))
    done = snakemake(tmp_path, "--dry-run")
    assert done.returncode != 0 and "devise: unknown key. Did you mean 'device'?" in done.stdout
    assert "engine geodistk has metric 'harmonic' only" in done.stdout


def test_an_older_file_in_the_place_of_an_input_is_read_anew_also_by_targets_that_read_it_themselves(tmp_path):
    targets = {"fine": {"method": "partial_volume"}, "svls": {"method": "svls"}}
    made_data.write_cohort(tmp_path, n_cases=1, targets=targets, pictures=False)
    for name in ("random", "queue", "yaml", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the folder of the project')")
    assert snakemake(tmp_path).returncode == 0
    before = published(tmp_path)
    shown = snakemake(tmp_path, "--dry-run", "--forceall").stdout
    reads = {"rule prepare": 1, "rule target": 1}  # of two targets
    assert {rule: len(re.findall(rf"{rule}:\n    input:.*case0_seg.nii.gz", shown)) for rule in reads} == reads
    label = made_data.write_volume(tmp_path / "case0_seg.nii.gz", np.roll(made_data.tissue()[1], 1, axis=0))
    os.utime(label, (10**9, 10**9))
    done = snakemake(tmp_path)
    assert done.returncode == 0 and "Params have changed" in done.stdout
    after = published(tmp_path)
    assert set(before) == set(after) and not any(before[path] == after[path] for path in before)
    assert "Nothing to be done" in snakemake(tmp_path).stdout


def test_rules_of_all_stages_pass_nodes_and_algorithm_versions_to_their_jobs(finished):
    shown = snakemake(finished, "--dry-run", "--forceall", "--printshellcmds").stdout
    for stage in ("prepare", "seeds", "distance", "target"):
        jobs = re.findall(rf"^rule {stage}:\n(?: .*\n)+.* --nodes (\S+) --receipt", shown, re.MULTILINE)
        nodes = [node for job in jobs for node in nodes_from_json(read_job_file(finished / job))]
        assert nodes and all(node.stage == stage and node.algorithm for node in nodes)


def test_commands_do_not_grow_with_cases_and_a_dry_run_writes_no_job_file(tmp_path):
    made_data.write_cohort(tmp_path, n_cases=1, cases_per_job=64, stages_per_job="all", pictures=True)
    header, row = (tmp_path / "cases.tsv").read_text().splitlines()
    folder = tmp_path / "a_folder_with_a_long_name"
    rows = [row.replace("case0", f"case{i}", 1).replace("\tcase0", f"\t{folder}/case{i}") for i in range(64)]
    (tmp_path / "cases.tsv").write_text("\n".join([header, *rows]) + "\n")
    folder.mkdir()
    for i in range(64):
        for name in ("t1", "seg"):
            (folder / f"case{i}_{name}.nii.gz").symlink_to(tmp_path / f"case0_{name}.nii.gz")
    done = snakemake(tmp_path, "--dry-run", "--printshellcmds")
    commands = re.findall(r"python -P -m softlabels \w+ .*", done.stdout)
    assert done.returncode == 0 and len(commands) == 4 and max(map(len, commands)) < 600, done.stdout
    assert not (tmp_path / ".snakemake" / "softlabels").exists()


def test_reading_the_snakefile_imports_nothing_heavy():
    heavy = "{'torch', 'numba', 'scipy', 'zarr', 'SimpleITK', 'skimage', 'matplotlib', 'dask'}"
    modules = ", ".join(f"softlabels.{name}" for name in ("pipeline.cost", "pipeline.upkeep", "monitor.lock"))
    code = f"import sys, {modules}; print({heavy} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True, check=True)
    assert found.stdout.strip() == "set()"


def test_braces_in_the_path_of_an_image_are_no_wildcards(tmp_path):
    folder = tmp_path / "run {a}"
    folder.mkdir()
    made_data.write_cohort(folder, n_cases=1)
    sheet = (folder / "cases.tsv").read_text()
    (folder / "cases.tsv").write_text(sheet.replace("\tcase0", f"\t{folder}/case0"))
    done = snakemake(folder, "--dry-run")
    assert done.returncode == 0 and "prepare" in done.stdout, done.stdout


def test_tune_runs_as_jobs_and_a_second_time_does_nothing(tmp_path):
    folder = write_coarse_project(tmp_path, 2, tune={"methods": ["gaussian", "svls"]})
    done = snakemake(folder, "tune")
    assert done.returncode == 0, done.stdout
    assert load_config(folder / "results" / "tune" / "config.yaml").targets["tuned"].name in ("gaussian", "svls")
    assert "2 cases" in (folder / "results" / "tune" / "tune.txt").read_text()
    again = snakemake(folder, "tune")
    assert again.returncode == 0 and "Nothing to be done" in again.stdout
    plan = snakemake(folder, "--dry-run")
    assert "rule target" in plan.stdout and "rule tune" not in plan.stdout
