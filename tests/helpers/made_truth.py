"""A project whose true soft labels are known: smooth shapes on fine voxels, averaged to coarse ones by `coarsen`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import ndimage

from helpers import made_data
from helpers.made_data import write_volume
from softlabels.classes import LabelSet, class_masks
from softlabels.cli.commands import app
from softlabels.inputs.volume import read_volume
from softlabels.methods.gaussian import gaussian_map
from softlabels.view.export import write_nifti

SHAPE, SPACING = (4, 40, 48), (2.0, 0.5, 0.5)
#: Coarse voxels have sides of 2, 1, 1 mm.
BLOCK = ("1", "2", "2")
FEW = ["gaussian", "unmix", "svls"]


def fine_case(seed: int, quantiles: Sequence[float] = (0.6,)) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (float32) and labels 0, 1, ... (uint8): smooth shapes, one in another, of clear intensities."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=SHAPE), (1, 3, 3))
    labels = np.sum([smooth > np.quantile(smooth, q) for q in quantiles], axis=0, dtype=np.uint8)
    return (100.0 * labels + rng.normal(0, 4, SHAPE)).astype(np.float32), labels


def write_fine_project(folder: Path, n_cases: int = 3, quantiles: Sequence[float] = (0.6,), **changes: Any) -> None:
    """Write a project of fine cases, with their labels."""
    rows = ["case\timage:T1\tlabel"]
    for number in range(n_cases):
        image, labels = fine_case(number, quantiles)
        write_volume(folder / f"t1_{number}.nii.gz", image, SPACING)
        write_volume(folder / f"seg_{number}.nii.gz", labels, SPACING)
        rows.append(f"case{number}\tt1_{number}.nii.gz\tseg_{number}.nii.gz")
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    config = {
        "channels": ["T1"],
        "labels": {"background": 0, "tissue": 1},
        "targets": {"soft": {"method": "gaussian"}},
        "tune": {"methods": FEW},
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def run(*arguments: str) -> None:
    """Run a command of softlabels in this process; an error is raised."""
    app(list(arguments), standalone_mode=False)


def write_coarse_project(folder: Path, n_cases: int = 3, **changes: Any) -> Path:
    """Write a project of coarse cases with references, and return its folder."""
    fine = folder / "fine"
    fine.mkdir(parents=True)
    write_fine_project(fine, n_cases, **changes)
    with chdir(fine):
        run("coarsen", "../coarse", "--block", *BLOCK)
    return folder / "coarse"


def add_references(folder: Path) -> None:
    """Give each case of `made_data.write_cohort` a reference: its label, blurred."""
    labels = LabelSet.parse(made_data.CONFIG["labels"])
    head, *rows = (folder / "cases.tsv").read_text().splitlines()
    for number, row in enumerate(rows):
        case = row.split("\t")[0]
        volume = read_volume(folder / f"{case}_seg.nii.gz", role="label")
        soft = gaussian_map(class_masks(volume.values, labels.classes), volume.grid.spacing, sigma_mm=1.5)
        write_nifti(soft / soft.sum(axis=0), volume.grid, folder / f"{case}_soft.nii.gz")
        rows[number] = f"{row}\t{case}_soft.nii.gz"
    (folder / "cases.tsv").write_text("\n".join([f"{head}\treference", *rows]) + "\n")
