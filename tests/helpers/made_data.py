"""Small cohorts of image files whose content is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml

from softlabels.monitor.deployment import project_files

SHAPE = (12, 20, 16)
SPACING = (2.0, 1.0, 1.0)
CONFIG = {
    "cases": "cases.tsv",
    "store": "store",
    "results": "results",
    "channels": ["T1"],
    # Names out of alphabetical order: their order is that of the channels and must survive every hand-over.
    "labels": {"background": 0, "necrosis": 1, "edema": 2},
    "prepare": {"normalise": "zscore"},
    "targets": {"geols": {"method": "geols"}, "sing": {"method": "sing"}, "hard": {"method": "onehot"}},
}


def tissue(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (int16) and labels (uint8): a necrosis inside an edema inside background, with noise."""
    z, y, x = np.indices(SHAPE)
    radius = np.sqrt(((z - 6) * 2.0) ** 2 + (y - 10) ** 2 + (x - 8) ** 2)
    labels = np.zeros(SHAPE, np.uint8)
    labels[radius < 6] = 2
    labels[radius < 3] = 1
    noise = np.random.default_rng(seed).normal(0, 4, SHAPE)
    return (100 * labels + 20 + noise).astype(np.int16), labels


def write_volume(path: Path, values: np.ndarray, spacing=SPACING) -> Path:
    """Write a (D, H, W) array as an image file with its spacing in mm (z, y, x)."""
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(tuple(spacing)[::-1])
    sitk.WriteImage(image, str(path))
    return path


def write_cohort(folder: Path, n_cases: int = 2, **changes) -> dict:
    """Write a project as `softlabels init` does, with n cases, into a folder; return the configuration."""
    for name, content in project_files().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    rows = ["case\timage:T1\tlabel\tsplit"]
    for i in range(n_cases):
        image, labels = tissue(seed=i)
        write_volume(folder / f"case{i}_t1.nii.gz", image)
        write_volume(folder / f"case{i}_seg.nii.gz", labels)
        rows.append(f"case{i}\tcase{i}_t1.nii.gz\tcase{i}_seg.nii.gz\t{'val' if i == 0 else 'train'}")
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    config = CONFIG | changes
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return config
