"""The example of a study that uses softlabels as a module: prefix, overrides, a section of its configuration."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, made_data

#: What Snakemake asks conda before it plans.
CONDA = """#!/bin/sh
case "$*" in
  "info --json") echo '{"conda_version": "24.9.0", "conda_prefix": "/opt/conda", "platform": "linux-64"}' ;;
  *channel_priority*) echo '{"get": {"channel_priority": "strict"}}' ;;
  *) echo "conda 24.9.0" ;;
esac
"""


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-P", "-m", *command],
        cwd=folder,
        env=os.environ | environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("a {b} Müller's") / "study"
    made_data.write_cohort(folder.parent / "cohort", n_cases=1)
    shutil.copytree(ROOT / "examples" / "module", folder)
    for path in (folder.parent / "cohort").iterdir():
        if path.suffix in (".gz", ".tsv"):
            shutil.copy(path, folder)
    config = yaml.safe_load((folder / "study.yaml").read_text())
    config["softlabels"]["targets"] = {"svls": {"method": "svls"}}
    (folder / "study.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    # The rules of the study may import from the folder of their scripts; those of softlabels import nothing from there.
    (folder / "scripts" / "sibling.py").touch()
    script = folder / "scripts" / "count_splits.py"
    script.write_text("import sibling\n" + script.read_text())
    return folder


def test_example_runs_with_its_own_rules_below_its_prefix(study):
    done = run(study, "softlabels", "run", "--cores", "2")
    assert done.returncode == 0, done.stdout
    index = json.loads((study / "soft_labels" / "results" / "index.json").read_text())
    assert list(index["targets"]) == ["svls"]
    assert (study / "tables" / "splits.tsv").read_text() == "split\tcases\nval\t1\n"
    assert (study / "soft_labels" / "results" / "case0" / "montage.png").exists()
    assert (study / "soft_labels" / "logs" / "case0" / "stages.log").exists()
    assert (study / "store" / "v1").is_dir() and not (study / "results").exists()
    again = run(study, "snakemake", "--cores", "1")
    assert "Nothing to be done" in again.stdout, again.stdout


def test_override_of_threads_holds_for_the_rule_of_the_module(study):
    done = run(study, "snakemake", "--cores", "8", "--dry-run", "--forceall", "--config", "threads_per_case=5")
    assert re.search(r"rule soft_stages:\n(?: .*\n)+?    threads: 5\n", done.stdout), done.stdout


def test_values_of_the_section_can_be_set_on_the_command_line(study):
    command = ("snakemake", "--cores", "1", "--dry-run", "--forceall", "--config")
    assert "rule soft_montage:" in run(study, *command, "name=other").stdout
    done = run(study, *command, "softlabels={pictures: false}")
    assert done.returncode == 0 and "rule soft_stages:" in done.stdout and "montage" not in done.stdout, done.stdout


def test_wrong_section_is_refused_in_its_own_words_and_dates_of_the_study_are_no_concern(study, tmp_path):
    shutil.copytree(study, tmp_path / "study", ignore=shutil.ignore_patterns(".snakemake"))
    file = tmp_path / "study" / "study.yaml"
    config = yaml.safe_load(file.read_text())
    file.write_text("begun: 2026-11-25\n" + yaml.safe_dump(config, sort_keys=False))
    assert run(tmp_path / "study", "snakemake", "--dry-run").returncode == 0
    config["softlabels"]["devise"] = "cpu"
    file.write_text(yaml.safe_dump(config, sort_keys=False))
    done = run(tmp_path / "study", "snakemake", "--dry-run")
    assert (
        done.returncode != 0 and "config of the module: 1 error" in done.stdout and "devise: unknown key" in done.stdout
    )


def test_dry_run_with_conda_finds_the_environments(study, tmp_path):
    conda = tmp_path / "conda"
    conda.write_text(CONDA)
    conda.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    command = ("snakemake", "--cores", "1", "--dry-run", "--forceall", "--sdm", "conda", "--")
    done = run(study, *command, "soft_labels/results/index.json", PATH=path)
    assert done.returncode == 0 and "rule soft_stages:" in done.stdout, done.stdout
    assert "pipeline.yaml will be created" in done.stdout
