"""Where real labelled volumes are: the one place that knows; tests skip and benchmarks say so where there are none."""

from __future__ import annotations

import os
from pathlib import Path

from helpers import ROOT

VARIABLE = "SOFTLABELS_TEST_DATA"
HOW = f"Set {VARIABLE} to a folder of them"


def real_volumes() -> Path | None:
    """Return the folder that SOFTLABELS_TEST_DATA names, else `shared/data` beside the checkout, else None."""
    named = os.environ.get(VARIABLE)
    if named and not Path(named).is_dir():
        raise NotADirectoryError(f"{VARIABLE}: got {named!r}, expected a folder of real volumes")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None
