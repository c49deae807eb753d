"""Snakemake, run as a user would."""

import subprocess
import sys
from pathlib import Path


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run it in a folder and return what it printed, errors included."""
    command = [sys.executable, "-P", "-m", "snakemake", "--cores", "2", *arguments]
    return subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300)
