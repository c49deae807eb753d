"""The cascade: a network that sees the segmentation of the first stage trains on soft labels as any other."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("nnunetv2", reason="make test-nnunet runs these tests")

TRAIN = "nnunetv2.run.run_training:run_training_entry"
CONFIGURATION, TRAINER = "3d_cascade_fullres", "nnUNetTrainerSoftLabels_short_geols"


def add_cascade(nnunet) -> None:
    """Plan a cascade, which nnU-Net does by itself for large volumes only."""
    path = nnunet.preprocessed / nnunet.dataset(1) / "nnUNetPlans.json"
    plans = json.loads(path.read_text())
    low = {"inherits_from": "3d_fullres", "data_identifier": "nnUNetPlans_3d_lowres", "next_stage": CONFIGURATION}
    plans["configurations"] |= {
        "3d_lowres": low,
        CONFIGURATION: {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    }
    path.write_text(json.dumps(plans))


def write_first_stage(nnunet) -> None:
    """Write what the first stage would have predicted: the segmentation, moved by a voxel."""
    import blosc2

    folder = nnunet.fold(1, "3d_lowres", TRAINER).parent / "predicted_next_stage" / CONFIGURATION
    folder.mkdir(parents=True)
    for path in nnunet.data_folder(1, "3d_fullres").glob("*_seg.b2nd"):
        labels = np.maximum(np.asarray(blosc2.open(str(path))[0]), 0).astype(np.uint8)
        name = path.name.replace("_seg", "")
        blosc2.asarray(np.ascontiguousarray(np.roll(labels, 1, axis=2)), urlpath=str(folder / name))


def test_the_second_stage_of_a_cascade_trains_on_soft_labels(nnunet, trainers):
    nnunet.prepare(1, "3d_fullres")
    add_cascade(nnunet)
    write_first_stage(nnunet)
    options = ["-tr", TRAINER, "-device", "cpu"]
    printed = nnunet.run(TRAIN, "1", CONFIGURATION, "0", *options)
    assert "SoftLabels('geols'" in printed
    assert "4 cases checked" in printed
    assert printed.count("train_loss") == 2
    assert "nan" not in printed.lower().split("train_loss", 1)[1].split("mean validation dice")[0]
    assert "Mean Validation Dice" in printed
    record = json.loads((nnunet.fold(1, CONFIGURATION, TRAINER) / "softlabels.json").read_text())
    assert record["index"] == str(nnunet.index(1, "3d_fullres"))
