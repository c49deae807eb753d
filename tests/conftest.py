"""Fixtures that every test file shares."""

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real labelled volumes, or skip when this machine does not have it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real volumes at {SHARED_DATA}")
    return SHARED_DATA
