"""The metadata of an installed package that need not exist."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def made_distribution(site: Path, name: str, methods: Mapping[str, str]) -> Path:
    """Write metadata as pip does for version 1.0 of a package with these entry points, and return the folder."""
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{method} = {value}" for method, value in methods.items()]
    (folder / "entry_points.txt").write_text("\n".join(["[softlabels.methods]", *lines, ""]))
    return site
