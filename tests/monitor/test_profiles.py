"""The Slurm profile: what it asks, and how it gets to a user."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, made_data

from softlabels.errors import InputError
from softlabels.monitor.profiles import install_profile

SHIPPED = ROOT / "workflow" / "profiles"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_installed_profile_has_the_sites_names(home):
    folder = install_profile("slurm", account="lab7", partition="short", gpu_partition="a100")
    assert folder == home / ".config" / "snakemake" / "slurm"
    profile = yaml.safe_load((folder / "config.yaml").read_text())
    assert profile["default-resources"]["slurm_account"] == "lab7"
    assert profile["default-resources"]["slurm_partition"] == "short"
    on_gpu = {rule: asked["slurm_partition"] for rule, asked in profile["set-resources"].items()}
    assert on_gpu == dict.fromkeys(["distance_cuda", "stages_cuda", "train_cuda", "score_cuda"], "a100")


def test_nothing_but_the_site_changes_in_a_copy(home):
    folder = install_profile("slurm")
    copied, shipped = (yaml.safe_load((p / "config.yaml").read_text()) for p in (folder, SHIPPED / "slurm"))
    assert copied == shipped


def test_a_users_own_profile_is_not_overwritten(home):
    install_profile("slurm")
    with pytest.raises(InputError, match="already exists. Edit it"):
        install_profile("slurm")


def test_unknown_profile_is_refused_with_the_known_ones(home):
    with pytest.raises(InputError, match="'default', 'slurm'"):
        install_profile("pbs")


@pytest.mark.parametrize("name", ["a b", "$(id)", "x\ny: z"])
def test_name_that_is_no_partition_is_refused(home, name):
    with pytest.raises(InputError, match="not the name"):
        install_profile("slurm", partition=name)
    assert not list(home.rglob("config.yaml"))


@pytest.mark.parametrize("option", ["account", "partition", "gpu_partition"])
def test_a_name_that_a_profile_has_no_place_for_is_refused(home, option):
    with pytest.raises(InputError, match="profile default: got the .* 'lab', but this profile is not for Slurm"):
        install_profile("default", **{option: "lab"})
    assert not list(home.rglob("config.yaml"))


def test_profiles_that_are_used_together_do_not_hide_each_others_resources():
    default, slurm = (yaml.safe_load((SHIPPED / name / "config.yaml").read_text()) for name in ("default", "slurm"))
    shared = {key for key in default if key in slurm and default[key] != slurm[key]}
    assert not shared and "default-resources" not in default


def asked_of_cuda_jobs(folder: Path, *more: str, rule: str = "distance_cuda", **changes: object) -> str:
    """Return the resources of a rule for GPUs in a dry run of a small cohort with the shipped profile."""
    made_data.write_cohort(folder, device="cuda", targets={"geols": {"method": "geols"}}, **changes)
    command = [sys.executable, "-m", "snakemake", "--profile", str(SHIPPED / "slurm"), "--dry-run", *more]
    said = subprocess.run(command, cwd=folder, text=True, capture_output=True, check=True).stdout
    return next(part for part in said.split("\nrule ") if part.startswith(f"{rule}:"))


def test_set_resources_belongs_into_the_profile_as_the_command_line_hides_its_gpu_partition(tmp_path):
    assert "slurm_partition=gpu, " in asked_of_cuda_jobs(tmp_path)
    hidden = asked_of_cuda_jobs(tmp_path, "--set-resources", "distance_cuda:mem_mb=16000")
    assert "mem_mb=16000" in hidden and "slurm_partition=cpu, " in hidden and "gpu=1" in hidden


def test_a_job_of_all_stages_that_computes_on_cuda_goes_to_the_gpu_partition(tmp_path):
    asked = asked_of_cuda_jobs(tmp_path, "--printshellcmds", rule="stages_cuda", keep="targets")
    assert "slurm_partition=gpu, " in asked and "gpu=1" in asked and "--device cuda" in asked


def test_no_rule_retries_inside_its_own_job():
    rules = (ROOT / "workflow" / "rules").glob("*.smk")
    assert not [path for path in rules if re.search(r"retries:\s*[1-9]", path.read_text())]
