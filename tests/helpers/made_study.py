"""A small study of examples/compare, and its workflow in a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from helpers import ROOT

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


def snakemake(folder: Path, *options: str) -> str:
    """Run the workflow in a folder and return what it printed."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(COMPARE / "Snakefile"), "--cores", "2", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout + done.stderr


def jobs(shown: str) -> dict[str, int]:
    """Return how many jobs of each rule a dry run has."""
    table = re.search(r"job +count\n-+ +-+\n((?:\w+ +\d+\n)+)", shown)
    return {name: int(count) for name, count in re.findall(r"(\w+) +(\d+)\n", table[1])} if table else {}
