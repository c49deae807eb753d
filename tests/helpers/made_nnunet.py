"""A data folder as nnU-Net's preprocessing leaves it, written without nnU-Net."""

import json
import pickle
from pathlib import Path

import blosc2
import numpy as np

LABELS = {"background": 0, "tumour": 2, "organ": 1}
REGIONS = {"background": 0, "whole": [1, 2], "core": 2}
SHAPES = {"a": (6, 20, 18), "b": (5, 17, 21), "c": (6, 16, 16)}


def arrays(identifier: str) -> tuple[np.ndarray, np.ndarray]:
    """Return image (2, D, H, W) and segmentation (1, D, H, W) with -1 outside of the nonzero region."""
    shape = SHAPES[identifier]
    rng = np.random.default_rng(ord(identifier[0]))
    seg = np.zeros((1, *shape), np.int8)
    seg[0, 1:-1, 3:12, 4:12] = 1
    seg[0, 2:-2, 5:9, 6:10] = 2
    seg[0, :, :2] = -1
    image = (rng.normal(size=(2, *shape)) + seg).astype(np.float32)
    return image, seg


def write_array(path: Path, values: np.ndarray, **cparams) -> None:
    blosc2.asarray(
        values, urlpath=str(path), chunks=(1, *values.shape[1:]), blocks=(1, 2, *values.shape[2:]), cparams=cparams
    )


def write_preprocessed(root: Path, labels: dict = LABELS, splits: list | None = None) -> Path:
    """Write `root/Dataset001_Made` with plans for 3D and 2D, and return it."""
    dataset = root / "Dataset001_Made"
    for name in ("nnUNetPlans_3d_fullres", "nnUNetPlans_2d"):
        (dataset / name).mkdir(parents=True)
        for identifier in SHAPES:
            image, seg = arrays(identifier)
            write_array(dataset / name / f"{identifier}.b2nd", image)
            write_array(dataset / name / f"{identifier}_seg.b2nd", seg)
            # The reader's spacing is (z, y, x) = (1, 3, 1); the plan moves the second axis to the front.
            properties = {"spacing": [1.0, 3.0, 1.0], "class_locations": {1: np.argwhere(seg == 1)}}
            (dataset / name / f"{identifier}.pkl").write_bytes(pickle.dumps(properties))
    plans = {
        "transpose_forward": [1, 0, 2],
        "configurations": {
            "2d": {"data_identifier": "nnUNetPlans_2d", "spacing": [0.8, 0.9]},
            "3d_fullres": {"data_identifier": "nnUNetPlans_3d_fullres", "spacing": [3.0, 0.8, 0.9]},
            "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
        },
    }
    (dataset / "nnUNetPlans.json").write_text(json.dumps(plans))
    description = {
        "channel_names": {"0": "T1", "1": "T2 w"},
        "labels": labels,
        "numTraining": 3,
        "file_ending": ".nrrd",
    }
    (dataset / "dataset.json").write_text(json.dumps(description))
    if splits is not None:
        (dataset / "splits_final.json").write_text(json.dumps(splits))
    return dataset
