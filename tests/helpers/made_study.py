"""A small study of examples/compare, its workflow in a folder, and a temperature found by brute force."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from helpers import ROOT
from softlabels.evaluation.calibrate import RIDGE

COMPARE = ROOT / "examples" / "compare"
STUDY = {
    "name": "made",
    "baseline": "hard",
    "softlabels": {
        "channels": ["T1", "T2"],
        "labels": {"background": 0, "organ": 1, "tumour": [2, 4], "ignore": 9},
        "targets": {"onehot": {"method": "onehot"}, "soft": {"method": "gaussian"}},
    },
    "rows": {
        "hard": {"target": "onehot"},
        "soft": {"target": "soft"},
        "truth": {"target": "reference"},
        "later": {"after": "hard", "temperature": "fitted"},
    },
    "training": {"steps": [2, 4]},
}


def python(folder: Path, *command: str, fails: bool = False, **variables: str) -> str:
    """Run `python ...` in a folder and return what it printed.

    It sees no choice of a soft label in variables. That it fails, or not where `fails` says so, is an AssertionError
    with what it printed.
    """
    known = {name: value for name, value in os.environ.items() if not name.startswith("SOFTLABELS")}
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(COMPARE)]), "OMP_NUM_THREADS": "1", "nnUNet_def_n_proc": "1"}
    done = subprocess.run(
        [sys.executable, "-P", *command],
        cwd=folder,
        env=known | own | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert (done.returncode != 0) == fails, f"exit status {done.returncode}:\n{done.stdout[-6000:]}"
    return done.stdout


def snakemake(folder: Path, *options: str, study: str = "study.yaml", fails: bool = False, **variables: str) -> str:
    """Run the workflow on a study of a folder, as `python` does."""
    command = ["-m", "snakemake", "--snakefile", str(COMPARE / "Snakefile"), "--configfile", study]
    return python(folder, *command, "--cores", "2", *options, fails=fails, **variables)


def jobs(shown: str) -> dict[str, int]:
    """Return how many jobs of each rule a dry run has."""
    table = re.search(r"job +count\n-+ +-+\n((?:\w+ +\d+\n)+)", shown)
    return {name: int(count) for name, count in re.findall(r"(\w+) +(\d+)\n", table[1])} if table else {}


def planned(shown: str) -> dict[str, str]:
    """Return the networks and scores that a dry run would make: their paths by those without the digest."""
    found = re.findall(r"^ +output: (\S+)\.([0-9a-f]{12})\.(pt|tsv)$", shown, re.MULTILINE)
    return {f"{name}.{ending}": f"{name}.{digest}.{ending}" for name, digest, ending in found}


def best_temperature(cases: Sequence[tuple[NDArray, NDArray]]) -> float:
    """Return the temperature of least loss among many: what `fit_temperature` minimises, from its definition.

    Parameters
    ----------
    cases : sequence of pairs of (C, ...) arrays
        Probabilities of exclusive classes, and the truth.
    """

    def loss(log_temperature: float) -> float:
        """Return the mean of Brier scores relative to those at temperature 1, and the ridge."""
        scores = []
        for soft, truth in cases:
            shares = np.asarray(soft, np.float64) ** np.exp(-log_temperature)
            gaps = [shares / shares.sum(axis=0) - truth, soft / soft.sum(axis=0) - truth]
            scores.append((gaps[0] ** 2).sum() / (gaps[1] ** 2).sum())
        return float(np.mean(scores)) + RIDGE / len(cases) * log_temperature**2

    return float(np.exp(min(np.linspace(-3, 3, 1201), key=loss)))
