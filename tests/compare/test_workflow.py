"""The rules: which jobs a study is, what changes them, and what they ask of a cluster."""

import os
import re
import shutil

import pytest
import yaml
from helpers import ROOT, made_data
from helpers.made_study import jobs, snakemake

NETWORK = "compare/networks/soft/seed0_fold0_steps2.pt"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Give a folder with four made cases and a study of them."""
    folder = tmp_path_factory.mktemp("project")
    targets = {"onehot": {"method": "onehot"}, "soft": {"method": "gaussian"}, "geols": {"method": "geols"}}
    config = made_data.write_cohort(folder, n_cases=4, targets=targets, pictures=False)
    (folder / "config.yaml").unlink()
    # A label in two files: only the second one changes with its voxels.
    made_data.write_volume(folder / "case0_seg.mhd", made_data.tissue(0)[1])
    sheet = folder / "cases.tsv"
    sheet.write_text(sheet.read_text().replace("case0_seg.nii.gz", "case0_seg.mhd"))
    study = {
        "name": "made",
        "results": "compare",
        "softlabels": config | {"stages_per_job": "all", "cases_per_job": 2},
        "baseline": "hard",
        "rows": {
            "hard": {"target": "onehot"},
            "soft": {"target": "soft"},
            "later": {"after": "hard", "temperature": 2.0},
        },
        "seeds": [0, 1],
        "training": {"steps": [2, 3], "patch_size": [4, 8, 8], "network": {"width": 2, "levels": 2}},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return folder


def test_a_study_is_a_job_for_each_training_and_for_each_row_and_fold(project):
    shown = snakemake(project, "--dry-run")
    expected = {"stages": 2, "index": 1, "train": 2 * 2 * 2 * 2, "score": 2 * 2, "comparison": 1, "all": 1}
    assert jobs(shown) == expected | {"total": sum(expected.values())}, shown[-3000:]


@pytest.fixture(scope="module")
def finished(project, tmp_path_factory):
    """Give the project after a run of one training, the others pretended."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".snakemake"))
    snakemake(folder, NETWORK)
    assert (folder / NETWORK).exists()
    return folder


def changed(finished, **changes):
    """Return the jobs of the finished training in a study with changes."""
    study = yaml.safe_load((finished / "study.yaml").read_text()) | changes
    (finished / "changed.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return jobs(snakemake(finished, NETWORK, "--dry-run", study="changed.yaml"))


def test_other_rows_lengths_targets_and_statistics_train_nothing_again(finished):
    study = yaml.safe_load((finished / "study.yaml").read_text())
    study["softlabels"]["targets"]["svls"] = {"method": "svls"}
    rows = {"hard": {"target": "geols"}, "soft": {"target": "soft"}, "new": {"target": "svls"}}
    training = study["training"] | {"steps": [2, 5]}
    others = {"rows": rows, "bootstrap": {"draws": 200}, "training": training, "softlabels": study["softlabels"]}
    assert "train" not in changed(finished, **others)


@pytest.mark.parametrize("change", ["target", "training"])
def test_what_a_training_depends_on_trains_it_again(finished, change):
    rows = {"hard": {"target": "onehot"}, "soft": {"target": "geols"}}
    training = {"steps": [2, 3], "patch_size": [4, 8, 8], "network": {"width": 3, "levels": 2}}
    assert changed(finished, **({"rows": rows} if change == "target" else {"training": training}))["train"] == 1


@pytest.mark.parametrize("name", ["case1_t1.nii.gz", "case0_seg.raw"])
def test_a_file_that_changes_trains_again(finished, name):
    assert "train" not in changed(finished)
    file = finished / name
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    try:
        assert changed(finished)["train"] == 1
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_on_slurm_networks_go_to_the_partition_with_gpus(project, tmp_path):
    study = yaml.safe_load((project / "study.yaml").read_text())
    study["training"]["device"] = "cuda"
    (project / "cuda.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    profile = ROOT / "workflow" / "profiles" / "slurm"
    shown = snakemake(project, "--profile", str(profile), "--dry-run", study="cuda.yaml")
    assert jobs(shown) == {
        "stages": 2,
        "index": 1,
        "train_cuda": 16,
        "score_cuda": 4,
        "comparison": 1,
        "all": 1,
        "total": 25,
    }, shown[-3000:]
    for rule in ("train_cuda", "score_cuda"):
        (asked,) = set(re.findall(rf"rule {rule}:\n(?: .*\n)*? +resources: (.*)\n", shown))
        assert "slurm_partition=gpu" in asked and "gpu=1" in asked and "mem_mb=32000" in asked
    (asked,) = set(re.findall(r"rule stages:\n(?: .*\n)*? +resources: (.*)\n", shown))
    assert "slurm_partition=cpu" in asked


def test_a_faulty_study_ends_before_any_job(project):
    study = yaml.safe_load((project / "study.yaml").read_text()) | {"baseline": "nothing"}
    (project / "faulty.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    shown = snakemake(project, "--dry-run", study="faulty.yaml", fails=True)
    assert "baseline: got 'nothing', expected one of hard, soft, later" in shown
