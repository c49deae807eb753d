"""Scores of a prediction: overlap and distances of its hard labels, its probabilities against labels and soft truth."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from softlabels.evaluation.scores import AMBIGUOUS, score
from softlabels.grid import Grid
from softlabels.preprocess.resample import resample


@dataclass(frozen=True)
class Metric:
    """A score of a case.

    Parameters
    ----------
    title : str
        For table and picture.
    better : {"lower", "higher", "zero"}
    unit : {"%", "points"}
        Whether a difference is shown relative to the baseline, or as it is, in hundredths.
    """

    title: str
    better: Literal["lower", "higher", "zero"]
    unit: Literal["%", "points"] = "%"

    def loss(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return values of which the lower is better."""
        return -values if self.better == "higher" else np.abs(values) if self.better == "zero" else values


#: Every score, in the order of the table. Of "truth": against the true soft label; of "label": against the hard one.
METRICS = {
    "brier_truth": Metric("Brier, truth", "lower"),
    "brier_truth_ambiguous": Metric("Brier, truth, ambiguous", "lower"),
    "bits_truth": Metric("bits, truth", "lower"),
    "bits_truth_ambiguous": Metric("bits, truth, ambiguous", "lower"),
    "mae_truth": Metric("MAE, truth", "lower"),
    "ece_truth": Metric("ECE, truth", "lower"),
    "ece_truth_ambiguous": Metric("ECE, truth, ambiguous", "lower"),
    "brier_label": Metric("Brier, label", "lower"),
    "brier_label_ambiguous": Metric("Brier, label, ambiguous", "lower"),
    "bits_label": Metric("bits, label", "lower"),
    "ece_label": Metric("ECE, label", "lower"),
    "ece_label_ambiguous": Metric("ECE, label, ambiguous", "lower"),
    "dice": Metric("Dice", "higher", "points"),
    "dice_fine": Metric("Dice, finer labels", "higher", "points"),
    "hd95_mm": Metric("HD95, mm", "lower"),
    "assd_mm": Metric("ASSD, mm", "lower"),
    "volume_bias": Metric("volume, hard", "zero", "points"),
    "volume_bias_truth": Metric("volume, shares", "zero", "points"),
}


@dataclass(frozen=True)
class FineLabels:
    """Hard labels on a grid that is finer than that of the predictions.

    Parameters
    ----------
    masks : (C, D, H, W) bool array
    valid : (D, H, W) bool array
        False at the ignore label.
    grid : Grid
        Of both.
    """

    masks: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    grid: Grid


def hard_masks(probabilities: NDArray[np.floating], is_overlapping: bool) -> NDArray[np.bool_]:
    """Return the masks that probabilities stand for: of the largest class, or of each region above a half.

    Examples
    --------
    >>> hard_masks(np.array([[0.6, 0.2], [0.4, 0.8]]), False).astype(int).tolist()
    [[1, 0], [0, 1]]
    """
    if is_overlapping:
        return probabilities > 0.5
    largest = probabilities.argmax(axis=0)
    return np.stack([largest == c for c in range(len(probabilities))])


def dice_of(predicted: NDArray[np.bool_], masks: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the Dice of each class, (C,): NaN where it is in neither, 0 where in one of them only.

    Examples
    --------
    >>> dice_of(np.array([[1, 1, 0], [0, 0, 0]], bool), np.array([[1, 0, 0], [0, 0, 0]], bool)).round(3).tolist()
    [0.667, nan]
    """
    flat = [one.reshape(len(one), -1) for one in (predicted, masks)]
    both = (flat[0] & flat[1]).sum(axis=1)
    size = flat[0].sum(axis=1) + flat[1].sum(axis=1)
    return 2 * both / np.where(size > 0, size, np.nan)


def mean_dice(
    probabilities: NDArray[np.floating], masks: NDArray[np.bool_], valid: NDArray[np.bool_], *, is_overlapping: bool
) -> float:
    """Return the mean Dice over classes (C, ...) of the valid voxels, the background of exclusive ones left out.

    Examples
    --------
    >>> shares, masks = np.array([[0.9, 0.2, 0.2], [0.1, 0.8, 0.8]]), np.array([[1, 0, 0], [0, 1, 0]], bool)
    >>> mean_dice(shares, masks, np.array([True, True, False]), is_overlapping=False)
    1.0
    """
    first = 0 if is_overlapping else 1
    predicted = hard_masks(probabilities, is_overlapping) & valid
    return _mean(dice_of(predicted[first:], (masks & valid)[first:]))


def distances_mm(
    predicted: NDArray[np.bool_], masks: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return HD95 and ASSD of each class in mm, (C,) each, by MONAI.

    HD95 is the larger of the two directed 95th percentiles. A class that only one of the two has counts the diagonal of
    the volume; MONAI would leave such a case out, which rewards a network that misses it. NaN where neither has it.
    """
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_distance import compute_average_surface_distance

    ours, known = (torch.from_numpy(one[None].astype(np.float32)) for one in (predicted, masks))
    sides = tuple(float(side) for side in spacing)
    there = [one.reshape(len(one), -1).any(axis=1) for one in (predicted, masks)]
    both, one_only = there[0] & there[1], there[0] ^ there[1]
    diagonal = float(np.linalg.norm(np.array(masks.shape[1:]) * sides))
    found = []
    for measure in (
        partial(compute_hausdorff_distance, percentile=95),
        partial(compute_average_surface_distance, symmetric=True),
    ):
        values = np.full(len(masks), np.nan)
        if both.any():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # MONAI calls what it has deprecated itself
                values[both] = measure(ours, known, include_background=True, spacing=sides).numpy()[0][both]
        values[one_only] = diagonal
        found.append(values)
    return found[0], found[1]


def volume_bias(predicted: NDArray[np.generic], true: NDArray[np.generic]) -> float:
    """Return by how much the volume of each class (C, ...) is too large, relative to the true one; mean over classes.

    Examples
    --------
    >>> volume_bias(np.array([[1, 1, 1]]), np.array([[1, 1, 0]]))
    0.5
    """
    axes = tuple(range(1, true.ndim))
    volume, known = (one.sum(axis=axes, dtype=np.float64) for one in (predicted, true))
    return _mean(volume / np.where(known > 0, known, np.nan) - 1)


def case_scores(
    probabilities: NDArray[np.float32],
    masks: NDArray[np.bool_],
    grid: Grid,
    *,
    is_overlapping: bool,
    truth: NDArray[np.float32] | None = None,
    fine: FineLabels | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> dict[str, float]:
    """Return every score of a case that can be computed, by the names in `METRICS`.

    Parameters
    ----------
    probabilities : (C, D, H, W) float32 array
        The background first where classes exclude each other.
    masks : (C, D, H, W) bool array
        The hard label.
    grid : Grid
    is_overlapping : bool
        Whether each class is a problem of its own; scores are then means over classes.
    truth : (C, D, H, W) float32 array, optional
        The true soft label.
    fine : FineLabels, optional
        Probabilities are interpolated linearly to their grid.
    valid : (D, H, W) bool array, optional
        False at the ignore label; nothing is counted there.
    """
    counted = np.ones(grid.shape, bool) if valid is None else valid
    first = 0 if is_overlapping else 1
    predicted = hard_masks(probabilities, is_overlapping) & counted
    label, found = masks & counted, predicted[first:]
    hd95, assd = distances_mm(found, label[first:], grid.spacing)
    scores = {
        "dice": _mean(dice_of(found, label[first:])),
        "hd95_mm": _mean(hd95),
        "assd_mm": _mean(assd),
        "volume_bias": volume_bias(found, label[first:]),
    }
    onehot = label.astype(np.float32)
    if not is_overlapping:
        onehot[0] += ~counted  # a distribution there too, though it is not counted
    sets = {"label": counted}
    if truth is not None:
        low, high = AMBIGUOUS
        doubtful = counted & ((truth > low) & (truth < high)).any(axis=0)
        sets["label_ambiguous"] = doubtful
        scores |= _probability_scores(
            probabilities, truth, {"truth": counted, "truth_ambiguous": doubtful}, is_overlapping
        )
        scores["volume_bias_truth"] = volume_bias(probabilities[first:] * counted, truth[first:] * counted)
    scores |= _probability_scores(probabilities, onehot, sets, is_overlapping)
    if fine is not None:
        finer = np.stack([resample(one, grid, fine.grid, "linear") for one in probabilities])
        scores["dice_fine"] = mean_dice(finer, fine.masks, fine.valid, is_overlapping=is_overlapping)
    return {name: value for name, value in scores.items() if name in METRICS}


def label_brier(
    soft_label: NDArray[np.float32], truth: NDArray[np.float32], valid: NDArray[np.bool_], *, is_overlapping: bool
) -> float:
    """Return the Brier score of a soft label itself against the truth, over the valid voxels.

    Both are probabilities (C, D, H, W). The nearer a label is to the truth, the less it has.
    """
    return _probability_scores(soft_label, truth, {"truth": valid}, is_overlapping)["brier_truth"]


def _probability_scores(
    probabilities: NDArray[np.float32],
    reference: NDArray[np.float32],
    voxels: Mapping[str, NDArray[np.bool_]],
    is_overlapping: bool,
) -> dict[str, float]:
    """Return Brier, MAE, bits and ECE over sets of voxels, `<score>_<set>`; means over regions that overlap."""
    sums, _ = score(probabilities, reference, list(voxels.values()), is_overlapping=is_overlapping)
    found: dict[str, float] = {}
    for name, one in zip(voxels, sums, strict=True):
        s = one.scores()
        found |= {f"brier_{name}": s.brier, f"mae_{name}": s.mae, f"bits_{name}": s.cross_entropy}
        found[f"ece_{name}"] = s.calibration
    return found


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is known; NaN if nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
