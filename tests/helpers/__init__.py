"""What tests of several wings share: cohorts, image files, masks, an emulated GPU."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
