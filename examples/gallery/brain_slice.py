"""An axial slice of the ICBM152 brain in the nilearn wheel: image, hard labels and true tissue probabilities."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel
import numpy as np

SPACING = (1.0, 1.0, 1.0)
CLASSES = ("background", "grey matter", "white matter")


def brain_slice(z: int = 95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the T1 image (1, H, W), the hard labels (1, H, W) and the probability of each class (3, 1, H, W)."""
    folder = Path(importlib.util.find_spec("nilearn").origin).parent / "datasets" / "data"
    names = [folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz" for kind in ("t1", "gm", "wm")]
    image, grey, white = (np.float32(nibabel.load(name).dataobj[:, ::-1, z].T[None]) for name in names)
    total = np.maximum(grey + white, 255)
    grey, white = grey / total, white / total
    truth = np.stack([1 - grey - white, grey, white])
    return image, truth.argmax(axis=0).astype(np.uint8), truth
