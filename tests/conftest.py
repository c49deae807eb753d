"""Fixtures that every test file shares."""

from pathlib import Path

import pytest
from helpers.real_volumes import HOW, real_volumes


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real labelled volumes, or skip where this machine has none."""
    folder = real_volumes()
    if folder is None:
        pytest.skip(f"no real volumes. {HOW}")
    return folder
