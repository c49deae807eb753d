"""Real volumes for the benchmarks, found by the rule of the tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.real_volumes import HOW, real_volumes


def needed_volumes() -> Path:
    """Return the folder of real volumes, or end the benchmark with what to do."""
    return real_volumes() or sys.exit(f"This benchmark needs real volumes. {HOW}")
