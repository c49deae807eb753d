"""The rules: which jobs a study is, what changes them, and what they ask of a cluster."""

import os
import re
import shutil

import pytest
import yaml
from helpers import ROOT, made_data
from helpers.made_study import jobs, planned, snakemake

#: A network by its name without the digest.
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
    """Give the project after a run of one training."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".snakemake"))
    network = planned(snakemake(folder, "--dry-run"))[NETWORK]
    snakemake(folder, network)
    assert (folder / network).exists()
    return folder


def trainings(finished, **changes):
    """Return the networks that are trained in a study with changes."""
    study = yaml.safe_load((finished / "study.yaml").read_text()) | changes
    (finished / "changed.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return [name for name in planned(snakemake(finished, "--dry-run", study="changed.yaml")) if name.endswith(".pt")]


def test_a_network_that_is_there_is_not_trained_again(finished):
    found = trainings(finished)
    assert len(found) == 15 and NETWORK not in found


def test_other_rows_lengths_targets_and_statistics_train_nothing_again(finished):
    study = yaml.safe_load((finished / "study.yaml").read_text())
    study["softlabels"]["targets"]["svls"] = {"method": "svls"}
    rows = {"hard": {"target": "geols"}, "soft": {"target": "soft"}, "new": {"target": "svls"}}
    training = study["training"] | {"steps": [2, 5], "workers": 1, "save_every_s": 5.0}
    others = {"rows": rows, "bootstrap": {"draws": 200}, "training": training, "softlabels": study["softlabels"]}
    found = trainings(finished, **others)
    # Those of the new row too, though the index is written again.
    assert len(found) == 3 * 8 - 1 and NETWORK not in found and NETWORK.replace("soft", "new") in found


@pytest.mark.parametrize("change", ["target", "parameter", "training", "seed of the folds"])
def test_what_a_training_depends_on_trains_it_again(finished, change):
    study = yaml.safe_load((finished / "study.yaml").read_text())
    assert study["softlabels"]["targets"]["soft"] == {"method": "gaussian"}
    if change == "target":
        study["rows"]["soft"] = {"target": "geols"}
    elif change == "parameter":
        study["softlabels"]["targets"]["soft"]["sigma_mm"] = 0.7
    elif change == "training":
        study["training"]["network"]["width"] = 3
    else:
        study["folds"] = {"seed": 1}
    assert NETWORK in trainings(finished, **study)


@pytest.mark.parametrize("name", ["case1_t1.nii.gz", "case0_seg.raw"])
def test_a_file_that_changes_trains_again(finished, name):
    file = finished / name
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    try:
        assert NETWORK in trainings(finished)
    finally:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_study_that_goes_back_trains_nothing_again(finished):
    network = {"width": 3, "levels": 2}
    training = yaml.safe_load((finished / "study.yaml").read_text())["training"] | {"network": network}
    study = yaml.safe_load((finished / "study.yaml").read_text()) | {"training": training}
    (finished / "wide.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    wide = planned(snakemake(finished, "--dry-run", study="wide.yaml"))[NETWORK]
    snakemake(finished, wide, study="wide.yaml")
    assert NETWORK not in trainings(finished) and NETWORK not in trainings(finished, training=training)


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
