"""Cases whose soft truth is known: tissue maps, and fine labels averaged to coarse voxels."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from softlabels.evaluation.rank import Scores, rank
from softlabels.methods.gaussian import gaussian_map


def read(path: Path) -> NDArray:
    """Return the voxels of an image file."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def tissue_shares() -> tuple[NDArray, NDArray]:
    """Return T1 of ICBM152 (1, D, H, W) and the shares of the rest, grey and white matter (3, D, H, W)."""
    found = importlib.util.find_spec("nilearn")
    folder = Path(found.submodule_search_locations[0]) / "datasets" / "data"
    t1, grey, white = (
        read(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz").astype(np.float32)
        for kind in ("t1", "gm", "wm")
    )
    return t1[None], np.stack([255 - grey - white, grey, white]) / np.float32(255)


def averaged(image: NDArray, labels: NDArray, block, start=(0, 0, 0)) -> tuple[NDArray, NDArray]:
    """Return an image and the share of each label value, averaged over blocks that begin at `start`."""
    shape = [(n - first) // side for n, first, side in zip(labels.shape, start, block, strict=True)]
    part = tuple(slice(a, a + n * b) for a, n, b in zip(start, shape, block, strict=True))

    def mean(volume):
        """Average one volume."""
        pairs = [size for pair in zip(shape, block, strict=True) for size in pair]
        return volume[part].reshape(pairs).mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float32)

    return np.stack([mean(one) for one in image]), np.stack([mean(labels == value) for value in np.unique(labels)])


def masks_of(shares: NDArray) -> NDArray[np.bool_]:
    """Return the hard label of soft shares: the first of the largest."""
    largest = shares.argmax(axis=0)
    return np.stack([largest == c for c in range(len(shares))])


def brier(soft: NDArray, shares: NDArray) -> Scores:
    """Return the scores of a soft label over all voxels."""
    (candidate,) = rank({"soft": np.clip(soft, 0, 1)}, shares)
    return candidate.everywhere


def best_gaussian(masks: NDArray, spacing, shares: NDArray) -> float:
    """Return the least Brier score of a Gaussian soft label, its width chosen by that score."""
    widths = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.85, 1.0)
    return min(brier(gaussian_map(masks, spacing, sigma_mm=sigma), shares).brier for sigma in widths)
