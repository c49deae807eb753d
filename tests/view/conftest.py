"""What the tests of pictures and exports share."""

import pytest
from helpers.made_cohort import SHAPES
from helpers.made_entries import make_entries


@pytest.fixture(scope="package")
def case(tmp_path_factory):
    """Return a case with all targets; GeoLS has seeds and a distance. Tests must not change it."""
    return make_entries(tmp_path_factory.mktemp("cohort"), "large", SHAPES["large"])
