"""Validation on whole volumes: sliding windows, and scores against hard labels and against the soft label.

Needs softlabels[monai] for the surface distances. examples/train_unet.py and examples/train_lightning.py use it.
"""

import warnings

import numpy as np
import torch
from torch.utils.data import DataLoader

try:
    from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
except ImportError as error:
    raise ImportError("validation needs MONAI: pip install 'softlabels[monai]'") from error

from softlabels.loader import SoftLabelDataset, gaussian_weight, stitch_cases


def windows_and_volumes(index, patch_size, **options):
    """Return two data sets of the same cases: overlapping patches that cover each, and the whole volumes."""
    overlap = [n // 2 for n in patch_size]
    windows = SoftLabelDataset(index, mode="grid", patch_size=patch_size, overlap=overlap, **options)
    return windows, SoftLabelDataset(index, mode="whole", **options)


def probabilities_of(dataset, scores):
    """Return what the scores (..., C, d, h, w) of a network mean: probabilities in [0, 1] of each class."""
    if dataset.kind == "signed":
        return (1 + torch.tanh(scores)) / 2
    return torch.sigmoid(scores) if dataset.is_overlapping else torch.softmax(scores, dim=-4)


def soft_reference(dataset, soft_label):
    """Return a soft label as probabilities: a signed map in [-1, 1] becomes (1 + s) / 2."""
    return (1 + soft_label) / 2 if dataset.kind == "signed" else soft_label


@torch.no_grad()
def predictions(network, dataset, batch_size, device):
    """Yield case id, origin and probabilities of each patch, in the order of the data set."""
    network.eval()
    for batch in DataLoader(dataset, batch_size=batch_size):
        found = probabilities_of(dataset, network(batch["image"].to(device))).cpu().numpy()
        yield from zip(batch["case_id"], batch["origin"], found, strict=True)


def validate(network, windows, volumes, *, batch_size=1, device="cpu"):
    """Return the scores of each case by its id; `windows` and `volumes` are those of `windows_and_volumes`.

    brier and calibration compare probabilities with the soft label, voxel by voxel. dice, hd95 and assd (mm) compare
    the most likely class with the hard labels, by class.
    """
    predicted = predictions(network, windows, batch_size, device)
    stitched = stitch_cases(windows, predicted, gaussian_weight(windows.patch_size))
    found = {}
    for (case_id, probabilities), sample in zip(stitched, volumes, strict=True):
        valid = sample["valid"].numpy()
        reference = soft_reference(windows, sample["soft_label"].numpy())
        found[case_id] = {
            "brier": brier_score(probabilities, reference, valid),
            "calibration": calibration_error(probabilities, reference, valid),
            **scores_by_class(windows, probabilities, sample["labels"].numpy(), valid, sample["spacing"].tolist()),
        }
    return found


def brier_score(probabilities, reference, valid):
    """Return the mean over valid voxels of the squared difference, summed over classes: 0 is perfect."""
    return float(((probabilities - reference) ** 2).sum(axis=0)[valid].mean())


def calibration_error(probabilities, reference, valid, n_bins=10):
    """Return the expected calibration error against a soft reference: 0 is perfect.

    Voxels of all classes are put into bins by their predicted probability. In each bin, the mean prediction should be
    the mean of the reference; the error is the mean of the differences, weighted by the number of voxels. Voxels on
    which both agree to be certain (most of the background) are left out, as they would hide all others.
    """
    predicted, expected = probabilities[:, valid].ravel(), reference[:, valid].ravel()
    is_open = np.maximum(predicted, expected) > 0.01
    is_open &= np.minimum(predicted, expected) < 0.99
    if not is_open.any():
        return 0.0
    predicted, expected = predicted[is_open].astype(np.float64), expected[is_open]
    bins = np.minimum((predicted * n_bins).astype(int), n_bins - 1)
    difference = np.bincount(bins, predicted - expected, n_bins)
    return float(np.abs(difference).sum() / len(predicted))


def scores_by_class(dataset, probabilities, labels, valid, spacing):
    """Return Dice, HD95 and ASSD (mm) of each class but the background."""
    if dataset.is_overlapping or dataset.kind == "signed":
        predicted = probabilities > 0.5
    else:
        predicted = probabilities.argmax(axis=0) == np.arange(len(probabilities)).reshape(-1, 1, 1, 1)
    scores = {"dice": {}, "hd95": {}, "assd": {}}
    for one, volume in zip(dataset.classes, predicted & valid, strict=True):
        if one.values != (0,):
            found = _scores_of_class(volume, np.isin(labels, one.values) & valid, spacing)
            for name, value in zip(scores, found, strict=True):
                scores[name][one.name] = value
    return scores


def _scores_of_class(predicted, expected, spacing):
    """Return Dice, HD95 and ASSD: NaN where neither volume has the class, 0 and infinite where one has."""
    if not predicted.any() or not expected.any():
        return (np.nan,) * 3 if predicted.any() == expected.any() else (0.0, np.inf, np.inf)
    volumes = [torch.from_numpy(volume[None, None].astype(np.uint8)) for volume in (predicted, expected)]
    options = {"include_background": True, "spacing": spacing}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 uses an argument that it has deprecated itself
        return (
            float(compute_dice(*volumes, include_background=True)),
            float(compute_hausdorff_distance(*volumes, percentile=95, **options)),
            float(compute_average_surface_distance(*volumes, symmetric=True, **options)),
        )


def as_table(scores):
    """Return the scores as lines of text: a row for each case, and the mean of the finite values."""
    rows = {case_id: _columns(values) for case_id, values in scores.items()}
    names = list(next(iter(rows.values())))
    table = np.array([[row[name] for name in names] for row in rows.values()], float)
    finite = np.where(np.isfinite(table), table, np.nan)
    counts = np.isfinite(table).sum(axis=0)
    mean = np.divide(np.nansum(finite, axis=0), counts, out=np.full(len(names), np.nan), where=counts > 0)
    widths = [max(len(name), 7) for name in names]
    first = max(map(len, [*rows, "mean"]))
    lines = [" " * first + "".join(f"  {name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for case_id, values in [*zip(rows, table, strict=True), ("mean", mean)]:
        cells = "".join(f"  {value:>{width}.3f}" for value, width in zip(values, widths, strict=True))
        lines.append(f"{case_id:<{first}}{cells}")
    return "\n".join(lines)


def _columns(scores):
    """Return scores by the name of their column."""
    columns = {}
    for name, value in scores.items():
        columns |= {f"{name} {of}": one for of, one in value.items()} if isinstance(value, dict) else {name: value}
    return columns
