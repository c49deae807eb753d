"""The workflow as a module of a larger one, and configurations that Snakemake passes on."""

import json
import os
import re

import pytest
import yaml
from helpers import made_data
from helpers.run_snakemake import snakemake

MODULE = """
from softlabels.monitor.deployment import workflow_folder

configfile: "study.yaml"

module soft:
    snakefile: workflow_folder() / "Snakefile"
    config: config["softlabels"]

use rule * from soft as soft_*

rule study:
    default_target: True
    input: rules.soft_all.input
    output: "n_cases.txt"
    shell: "python -c 'import json; print(len(json.load(open(\\"results/index.json\\"))[\\"cases\\"]))' > {output}"
"""


def test_workflow_is_a_module_of_a_larger_one_with_a_config_of_its_own(tmp_path):
    config = made_data.write_cohort(tmp_path, targets={"svls": {"method": "svls"}}, pictures=False)
    (tmp_path / "config.yaml").unlink()
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({"name": "study", "softlabels": config}, sort_keys=False))
    (tmp_path / "Snakefile").write_text(MODULE)
    done = snakemake(tmp_path)
    assert done.returncode == 0 and (tmp_path / "n_cases.txt").read_text().strip() == "2", done.stdout


def test_the_file_named_is_the_configuration_and_nothing_of_config_yaml_is_mixed_in(tmp_path):
    config = made_data.write_cohort(tmp_path, n_cases=1, targets={"geols": {"method": "geols"}}, pictures=False)
    mine = config | {"targets": {"svls": {"method": "svls"}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(mine, sort_keys=False))
    done = snakemake(tmp_path, "--configfile", "mine.yaml")
    assert done.returncode == 0, done.stdout
    index = json.loads((tmp_path / "results" / "index.json").read_text())
    assert list(index["targets"]) == ["svls"]


def test_values_of_the_command_line_are_read_as_those_of_a_file(tmp_path):
    made_data.write_cohort(tmp_path, n_cases=1)
    done = snakemake(tmp_path, "--dry-run", "--config", "pictures=false", "store=other_1", "cases_per_job=2")
    assert done.returncode == 0 and "montage" not in done.stdout, done.stdout


def test_duplicate_key_of_a_config_file_is_refused_by_the_workflow(tmp_path):
    made_data.write_cohort(tmp_path, n_cases=1)
    with open(tmp_path / "config.yaml", "a") as file:
        file.write("pictures: true\npictures: false\n")
    done = snakemake(tmp_path, "--dry-run")
    assert done.returncode != 0 and "config.yaml: " in done.stdout and "pictures" in done.stdout


@pytest.mark.parametrize(
    ("n_cases", "options", "n_threads"),
    [
        (1, [], 2),
        (5, [], 1),
        (5, ["--set-threads", "stages=2"], 2),
        (5, ["--config", "device=cuda", "cases_per_job=1"], 2),
    ],
)
def test_a_job_uses_one_core_if_there_are_others_for_the_rest(tmp_path, n_cases, options, n_threads):
    made_data.write_cohort(
        tmp_path, n_cases=n_cases, targets={"geols": {"method": "geols"}}, stages_per_job="all", pictures=False
    )
    # Two cores, of the helper.
    done = snakemake(tmp_path, "--dry-run", "--printshellcmds", *options)
    commands = re.findall(r"softlabels stage .*--threads (\d+)", done.stdout)
    assert commands == [str(n_threads)] * n_cases, done.stdout


def test_jobs_that_need_much_memory_use_more_cores_so_that_fewer_run_at_once(tmp_path, monkeypatch):
    made_data.write_cohort(tmp_path, n_cases=3, targets={"svls": {"method": "svls"}}, pictures=False)
    (tmp_path / "site").mkdir()
    code = "import psutil, types\npsutil.virtual_memory = lambda: types.SimpleNamespace(available={})\n"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    threads = []
    for free in (1_000_000_000, 9_000_000_000):
        (tmp_path / "site" / "sitecustomize.py").write_text(code.format(free))
        done = snakemake(tmp_path, "--dry-run", "--printshellcmds")
        threads.append(set(re.findall(r"softlabels stage .*--threads (\d+)", done.stdout)))
    assert threads == [{"2"}, {"1"}]


def test_a_job_that_is_tried_again_shares_the_memory_with_fewer_others(tmp_path, monkeypatch):
    made_data.write_cohort(
        tmp_path, n_cases=3, targets={"svls": {"method": "svls"}}, stages_per_job="all", pictures=False
    )
    (tmp_path / "case1_seg.nii.gz").write_bytes(b"no image")
    (tmp_path / "site").mkdir()
    code = "import psutil, types\npsutil.virtual_memory = lambda: types.SimpleNamespace(available=2_500_000_000)\n"
    (tmp_path / "site" / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=os.pathsep)
    done = snakemake(tmp_path, "--printshellcmds", "--retries", "1", "--keep-going")
    threads = re.findall(r"softlabels stage .*--receipt results/(\w+)/.*--threads (\d+)", done.stdout)
    assert sorted(set(threads)) == [("case0", "1"), ("case1", "1"), ("case1", "2"), ("case2", "1")], done.stdout
