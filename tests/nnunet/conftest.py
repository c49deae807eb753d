"""nnU-Net on a tiny raw data set: planned and preprocessed, with soft labels computed by the workflow.

Run by `make test-nnunet`, in an environment of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import ROOT
from helpers.made_raw_nnunet import IGNORED, LABELS, REGIONS, write_raw

#: Copied into nnU-Net, which imports it; pytest would look for doctests in it.
collect_ignore = ["short_trainers.py"]

#: Data set number to its name and labels, and to the targets of its projects.
DATASETS = {1: ("Labels", LABELS), 2: ("Regions", REGIONS), 3: ("Ignored", IGNORED)}
TARGETS = {
    1: {"geols": {"method": "geols"}, "phi": {"method": "level_set"}, "hard": {"method": "onehot"}},
    2: {"sing": {"method": "sing"}, "blurred": {"method": "gaussian"}},
    3: {"geols": {"method": "geols", "storage": "sparse"}},
}


class CommandError(Exception):
    """A command failed; what it printed."""


class NnunetFolders:
    """The three folders of nnU-Net, and commands that run on them."""

    def __init__(self, root: Path):
        self.root = root
        self.raw, self.preprocessed, self.results = (root / name for name in ("raw", "preprocessed", "results"))

    @property
    def environment(self) -> dict[str, str]:
        """What nnU-Net needs to be told; without any variable of softlabels."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SOFTLABELS")}
        own = {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": "1",
            "OMP_NUM_THREADS": "1",
        }
        return kept | own

    def dataset(self, number: int) -> str:
        return f"Dataset{number:03d}_{DATASETS[number][0]}"

    def prepare(self, number: int, configuration: str) -> None:
        """Plan and preprocess a data set, begin a project on its arrays and compute the soft labels; once each."""
        entry = "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:"
        plans = self.preprocessed / self.dataset(number) / "nnUNetPlans.json"
        if not plans.exists():
            write_raw(self.raw, self.dataset(number), DATASETS[number][1])
            self.run(f"{entry}plan_and_preprocess_entry", "-d", str(number), "-np", "1", "-npfp", "1", "--no_pp")
            _shrink_networks(plans)
        if not self.index(number, configuration).exists():
            self.run(f"{entry}preprocess_entry", "-d", str(number), "-np", "1", "-c", configuration)
            _compute_soft_labels(self, number, configuration)

    def data_folder(self, number: int, configuration: str) -> Path:
        return self.preprocessed / self.dataset(number) / f"nnUNetPlans_{configuration}"

    def index(self, number: int, configuration: str) -> Path:
        folder = self.data_folder(number, configuration)
        return folder.with_name(f"{folder.name}_softlabels") / "results" / "index.json"

    def fold(self, number: int, configuration: str, trainer: str) -> Path:
        return self.results / self.dataset(number) / f"{trainer}__nnUNetPlans__{configuration}" / "fold_0"

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> str:
        """Run `python -m ...` or nnU-Net's `module:function` and return what it printed."""
        module, _, function = command[0].partition(":")
        code = f"import sys; from {module} import {function}; sys.exit({function}())"
        start = ["-c", code] if function else ["-m", module]
        done = subprocess.run(
            [sys.executable, *start, *command[1:]],
            env=self.environment | variables,
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise CommandError(f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-6000:]}")
        return done.stdout

    def fails(self, *command: str, **variables: str) -> str:
        """Run nnU-Net's `module:function`, which must fail, and return the last line of its error."""
        with pytest.raises(CommandError) as caught:
            self.run(*command, **variables)
        return str(caught.value).strip().splitlines()[-1]


@pytest.fixture(scope="session")
def nnunet(tmp_path_factory) -> NnunetFolders:
    """Give the folders; `prepare` fills them with what a test asks for."""
    return NnunetFolders(tmp_path_factory.mktemp("nnunet"))


def _shrink_networks(path: Path) -> None:
    """Give every network few features, so that a CPU trains it in seconds."""
    plans = json.loads(path.read_text())
    for configuration in plans["configurations"].values():
        arguments = configuration.get("architecture", {}).get("arch_kwargs")
        if arguments:
            arguments["features_per_stage"] = [4 * 2**i for i in range(arguments["n_stages"])]
            arguments["n_conv_per_stage"] = [1] * arguments["n_stages"]
    path.write_text(json.dumps(plans))


def _compute_soft_labels(folders: NnunetFolders, number: int, configuration: str) -> None:
    """Do what docs/nnunet.md says: init, choose targets, run."""
    data = folders.data_folder(number, configuration)
    project = folders.index(number, configuration).parents[1]
    before = {path: path.stat().st_mtime_ns for path in data.iterdir()}
    folders.run("softlabels", "init", str(project), "--nnunet-preprocessed", str(data))
    config = yaml.safe_load((project / "config.yaml").read_text())
    config |= {"targets": TARGETS[number], "pictures": False, "cases_per_job": 8}
    (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    folders.run("snakemake", "--cores", "2", "results/index.json", "--quiet", "all", cwd=project)
    assert {path: path.stat().st_mtime_ns for path in data.iterdir()} == before


@pytest.fixture(scope="session")
def trainers(nnunet) -> None:
    """Install the trainer, and a trainer of two short epochs for each target, as a user would."""
    from softlabels.training.nnunet.trainers_file import FILE_NAME, trainers_folder

    names = sorted({name for targets in TARGETS.values() for name in targets})
    nnunet.run("softlabels.training.nnunet", "install", *[word for name in names for word in ("--target", name)])
    short = trainers_folder() / "softlabels_short_trainers.py"
    short.write_text((ROOT / "tests" / "nnunet" / "short_trainers.py").read_text())
    yield
    short.unlink()
    nnunet.run("softlabels.training.nnunet", "uninstall")
    assert not (trainers_folder() / FILE_NAME).exists()
