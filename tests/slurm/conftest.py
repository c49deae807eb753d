"""The home folder of the user whose projects run on the Slurm that run.sh started."""

import os
import subprocess
from pathlib import Path

import pytest
from helpers.slurm_project import BIN


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """The home of a user who has installed the profile with the command of the README."""
    if os.environ.get("SOFTLABELS_TEST_SLURM") != "1":
        pytest.skip("needs the Slurm that `make test-slurm` starts")
    home = tmp_path_factory.mktemp("home")
    command = [BIN / "softlabels", "init", "--profile", "slurm", "--partition", "cpu", "--gpu-partition", "gpu"]
    subprocess.run(command, env=os.environ | {"HOME": str(home)}, check=True, timeout=60)
    return home
