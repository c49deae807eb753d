"""A tiny raw data set for nnU-Net: bright nested blobs on an anisotropic grid, with a black rim that it crops off."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SPACING = (2.0, 1.0, 1.1)  # mm, (z, y, x)
LABELS = {"background": 0, "edema": 1, "necrosis": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}
IGNORED = {"background": 0, "edema": 1, "necrosis": 2, "ignore": 3}
#: Case to size (z, y, x).
SHAPES = {"c0": (24, 40, 38), "c1": (22, 42, 40), "c2": (24, 38, 44), "c3": (26, 40, 40), "c4": (24, 44, 40)}


def volumes(identifier: str, labels: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return image (2, D, H, W) and labels (D, H, W) of a case."""
    shape, seed = SHAPES[identifier], int(identifier[1:])
    rng = np.random.default_rng(seed)
    centre = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    distance = np.sqrt(sum(((i - c) * s) ** 2 for i, c, s in zip(np.indices(shape), centre, SPACING, strict=True)))
    seg = np.where(distance < 5, 2, np.where(distance < 11, 1, 0)).astype(np.uint8)
    if "ignore" in labels:
        seg[:, :8] = labels["ignore"]
    image = 100.0 * (seg % 3) + 50 + rng.normal(0, 15, (2, *shape))
    image[:, :, :3] = image[:, :, :, -2:] = 0
    return image.astype(np.float32), seg


def write_raw(root: Path, name: str, labels: dict) -> Path:
    """Write `root/<name>` as nnU-Net wants a raw data set."""
    folder = root / name
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / part).mkdir(parents=True)
    for identifier in SHAPES:
        image, seg = volumes(identifier, labels)
        for channel, values in enumerate(image):
            _write(folder / "imagesTr" / f"{identifier}_{channel:04d}.nii.gz", values)
        _write(folder / "labelsTr" / f"{identifier}.nii.gz", seg)
    for channel, values in enumerate(volumes("c0", labels)[0]):
        _write(folder / "imagesTs" / f"t0_{channel:04d}.nii.gz", values)
    description = {
        "channel_names": {"0": "MR", "1": "MR2"},
        "labels": labels,
        "numTraining": len(SHAPES),
        "file_ending": ".nii.gz",
    }
    if any(isinstance(value, list) for value in labels.values()):
        description["regions_class_order"] = [1, 2]
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def _write(path: Path, values: np.ndarray) -> None:
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING[::-1])
    sitk.WriteImage(image, str(path))
