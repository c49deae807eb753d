"""A method and a seed strategy of another package: installed, listed, planned, run, stored and loaded as any other."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, made_data
from helpers.made_distribution import made_distribution
from helpers.made_truth import write_coarse_project

TARGETS = {
    "basins": {"method": "watershed", "alpha": 0.25},
    "walked": {"method": "random_walker", "seeds": {"strategy": "core", "depth_vox": 1.5}},
    "plain": {"method": "gaussian"},
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the package of tests/plugin, as pip installs it."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "tests" / "plugin", source, dirs_exist_ok=True)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return folder


def run(folder: Path, site: Path | None, *command: str, check: bool = True) -> str:
    """Return what a Python with the package on its path prints."""
    paths = [str(ROOT), *([str(site)] if site else [])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert not check or done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def project(site, tmp_path_factory) -> Path:
    """A cohort of one case that Snakemake has run with the package."""
    folder = tmp_path_factory.mktemp("project")
    made_data.write_cohort(folder, n_cases=1, targets=TARGETS, stages_per_job="all", pictures=False)
    run(folder, site, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--cores", "2")
    return folder


def test_it_is_listed_with_its_package(site, tmp_path):
    lines = run(tmp_path, site, "-m", "softlabels", "methods").splitlines()
    (line,) = [line for line in lines if line.startswith("watershed\t")]
    assert line.split("\t")[1:4] == ["watershed agreement", "", "image, seeds"]
    assert line.endswith("\tsoftlabels-watershed 0.3.1")
    assert next(line for line in lines if line.startswith("gaussian")).endswith("\tsoftlabels")
    (strategy,) = [x for x in run(tmp_path, site, "-m", "softlabels", "seeds").splitlines() if x.startswith("core\t")]
    assert strategy.endswith("\tsoftlabels-watershed 0.3.1")
    described = run(tmp_path, site, "-m", "softlabels", "methods", "watershed")
    assert "channel\t0 <= integer\t0\twhich channel of the image" in described


def test_it_is_planned_by_its_needs_and_keyed_by_package_and_version(site, tmp_path):
    made_data.write_cohort(tmp_path, n_cases=1, targets=TARGETS)
    code = """
import json
from softlabels.config import load_config
from softlabels.pipeline.plan import make_plan
plan = make_plan(load_config("config.yaml"))
chains = {name: [plan.nodes[n] for n in plan.upstream(node)] for name, node in plan.targets.items()}
print(json.dumps({name: [[node.stage, node.algorithm] for node in chain] for name, chain in chains.items()}))
"""
    chains = json.loads(run(tmp_path, site, "-c", code))
    seeds = ["seeds", "softlabels-watershed:2"]
    assert chains["basins"] == [["prepare", "1"], seeds, ["target", "softlabels-watershed:7"]]
    assert chains["walked"] == [["prepare", "1"], seeds, ["target", "1"]]
    assert chains["plain"] == [["prepare", "1"], ["target", "3"]]


def test_the_workflow_computes_and_stores_it(project):
    index = json.loads((project / "results" / "index.json").read_text())
    described = index["targets"]["basins"]
    assert described["blend"] == {"rule": "mix_onehot", "alpha": 0.25} and described["augmentation"]["elastic"] is False
    (case,) = index["cases"]
    entry = project / "store" / "v1" / case["targets"]["basins"]["key"][:2] / case["targets"]["basins"]["key"]
    provenance = json.loads((entry / "PROVENANCE.json").read_text())
    assert provenance["plugins"] == {"softlabels-watershed": "0.3.1"}
    assert provenance["algorithm"] == "softlabels-watershed:7"
    assert json.loads((entry / "QUALITY.json").read_text())["notes"]["n_basins"] == 3


def test_training_does_without_the_package(project):
    """The index holds all that a trainer needs; the package is for computing."""
    torch = pytest.importorskip("torch")
    from softlabels.loader import SoftLabelDataset

    data = SoftLabelDataset(project / "results" / "index.json", target="basins", patch_size=made_data.SHAPE)
    sample = data[0]
    soft = sample["soft_label"]
    torch.testing.assert_close(soft.sum(dim=0), torch.ones(soft.shape[1:]))
    assert set(np.unique(soft.numpy())) <= {0.0, 0.25, 0.75, 1.0}
    page = run(project, None, "-m", "softlabels", "status", check=False)
    assert "targets.basins.method: got 'watershed', which no installed package provides" in page


def test_its_faults_are_among_the_others(site, tmp_path):
    made_data.write_cohort(
        tmp_path,
        prepare={"domain": "nonzero"},
        targets={
            "a": {"method": "watershed"},
            "b": {"method": "watershed", "chanel": 1, "alpha": 2},
            "c": {"method": "watershd"},
        },
    )
    said = run(tmp_path, site, "-m", "softlabels", "check", check=False)
    for fault in (
        "targets.a: watershed knows no domain",
        "targets.b.alpha: got 2",
        "targets.b.chanel: unknown key. Did you mean 'channel'?",
        "targets.c.method: got 'watershd', which no installed package provides. Did you mean 'watershed'?",
    ):
        assert fault in said, said


def test_generated_files_are_the_same_with_the_package(site):
    assert "up to date" in run(ROOT, site, "-m", "softlabels", "reference", "--check")


def test_a_broken_package_is_named_where_it_is_used_and_harms_nothing_else(tmp_path):
    site = made_distribution(tmp_path / "site", "softlabels-broken", {"broken": "no_such_module:Thing"})
    reason = "method 'broken' of softlabels-broken 1.0 (no_such_module:Thing): cannot be imported (ModuleNotFoundError"
    made_data.write_cohort(tmp_path, n_cases=1, targets={"plain": {"method": "gaussian"}})
    assert "1 good" in run(tmp_path, site, "-m", "softlabels", "check")
    listed = run(tmp_path, site, "-m", "softlabels", "methods", check=False)
    assert "gaussian\t" in listed and reason in listed
    made_data.write_cohort(tmp_path, n_cases=1, targets={"plain": {"method": "gaussian"}, "bad": {"method": "broken"}})
    said = run(tmp_path, site, "-m", "softlabels", "check", check=False)
    assert reason in said and "1 error" in said


def test_tune_tries_it_with_its_grid(site, tmp_path):
    folder = write_coarse_project(tmp_path, 2, tune={})
    with (folder / "config.yaml").open("a") as config:
        config.write("tune: {methods: [watershed]}\n")
    printed = run(folder, site, "-m", "softlabels", "tune", "--threads", "1")
    rows = [line.split("\t") for line in (folder / "results" / "tune" / "tune.tsv").read_text().splitlines()]
    (row,) = [row for row in rows if row[0] == "watershed"]
    assert row[1] in ("alpha 0.1", "alpha 0.3") and float(row[4]) > 0 and "watershed" in printed
    scored = (folder / "results" / "tune" / "scores" / "case0.jsonl").read_text()
    assert scored.count('"method":"watershed"') == 2
    # Without the package the configuration says which method is missing.
    assert "nothing installed provides" in run(folder, None, "-m", "softlabels", "tune", check=False)
