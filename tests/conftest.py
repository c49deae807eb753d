"""Fixtures that every test file shares."""

import os
from pathlib import Path

import pytest
from helpers import ROOT
from helpers.real_volumes import HOW, real_volumes

#: Where `make test` builds GeodisTK.
os.environ.setdefault("SOFTLABELS_GEODISTK_PYTHON", str(ROOT / ".venv-geodistk" / "bin" / "python"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real labelled volumes, or skip where this machine has none."""
    folder = real_volumes()
    if folder is None:
        pytest.skip(f"no real volumes. {HOW}")
    return folder
