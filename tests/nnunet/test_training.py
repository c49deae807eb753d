"""From a raw data set to a prediction, by nnU-Net's own commands."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("nnunetv2", reason="make test-nnunet runs these tests")

TRAIN = "nnunetv2.run.run_training:run_training_entry"
PREDICT = "nnunetv2.inference.predict_from_raw_data:predict_entry_point"


def train(nnunet, number, configuration, trainer, *options, prepare=True, **variables):
    """Run nnUNetv2_train and return what it printed."""
    if prepare:
        nnunet.prepare(number, configuration)
    return nnunet.run(TRAIN, str(number), configuration, "0", "-tr", trainer, "-device", "cpu", *options, **variables)


def losses(printed, name):
    return [float(value) for value in re.findall(rf"{name} (-?[0-9.]+)", printed)]


CASES = [
    (1, "3d_fullres", "short_geols", {"SOFTLABELS_ALPHA": "0.3"}),
    (1, "2d", "short_phi", {}),
    (2, "3d_fullres", "short_sing", {}),
    (2, "2d", "unmirrored", {"SOFTLABELS_TARGET": "blurred"}),
    (3, "3d_fullres", "short_geols", {}),
]


@pytest.mark.parametrize(("number", "configuration", "suffix", "variables"), CASES)
def test_a_training_runs_validates_and_predicts(nnunet, trainers, number, configuration, suffix, variables):
    trainer = f"nnUNetTrainerSoftLabels_{suffix}"
    printed = train(nnunet, number, configuration, trainer, **variables)
    target = variables.get("SOFTLABELS_TARGET") or suffix.removeprefix("short_")
    assert f"SoftLabels('{target}'" in printed
    assert "4 cases checked" in printed
    found = losses(printed, "train_loss")
    assert len(found) == 2
    assert np.isfinite(found).all()
    assert len(losses(printed, "val_loss")) == 2
    assert "Mean Validation Dice" in printed
    fold = nnunet.fold(number, configuration, trainer)
    record = json.loads((fold / "softlabels.json").read_text())
    overrides = {"alpha": 0.3} if variables.get("SOFTLABELS_ALPHA") else {}
    assert record == {"index": str(nnunet.index(number, configuration)), "target": target, "overrides": overrides}
    if target == "phi":
        weights = re.findall(r"region weight ([0-9.]+), boundary weight ([0-9.]+)", printed)
        assert weights == [("1", "0"), ("0.99", "0.01")]
    axes = torch.load(fold / "checkpoint_final.pth", weights_only=False)["inference_allowed_mirroring_axes"]
    assert axes == (None if suffix == "unmirrored" else tuple(range(3 if configuration != "2d" else 2)))
    # Inference knows nothing of soft labels: no variable, no index.
    out = nnunet.root / f"predicted_{number}_{configuration}"
    images = nnunet.raw / nnunet.dataset(number) / "imagesTs"
    arguments = ["-d", str(number), "-c", configuration, "-f", "0", "-tr", trainer, "-device", "cpu"]
    nnunet.run(PREDICT, "-i", str(images), "-o", str(out), *arguments, "-npp", "1", "-nps", "1", "--disable_tta")
    predicted = sitk.ReadImage(str(out / "t0.nii.gz"))
    image = sitk.ReadImage(str(images / "t0_0000.nii.gz"))
    assert predicted.GetSize() == image.GetSize()
    assert set(np.unique(sitk.GetArrayFromImage(predicted))) <= {0, 1, 2}


def test_a_training_goes_on_and_is_validated_without_variables_or_index(nnunet, trainers):
    number, configuration, suffix, variables = CASES[0]
    trainer = f"nnUNetTrainerSoftLabels_{suffix}"
    fold = nnunet.fold(number, configuration, trainer)
    if not (fold / "checkpoint_final.pth").exists():  # this test runs alone
        train(nnunet, number, configuration, trainer, **variables)
    # as if the run had been killed in its second epoch
    (fold / "checkpoint_final.pth").unlink()
    shutil.copy(fold / "checkpoint_first.pth", fold / "checkpoint_latest.pth")
    shutil.rmtree(fold / "validation")
    printed = train(nnunet, number, configuration, trainer, "--c")
    assert "'alpha': 0.3" in printed
    assert re.findall(r"Epoch (\d+)", printed) == ["1"]
    assert (fold / "checkpoint_final.pth").exists()
    project = nnunet.index(number, configuration).parents[1]
    project.rename(project.with_name("aside"))
    try:
        assert "Mean Validation Dice" in train(nnunet, number, configuration, trainer, "--val", prepare=False)
        options = ["-tr", "nnUNetTrainerSoftLabels", "-device", "cpu"]
        assert "index: none at" in nnunet.fails(TRAIN, str(number), configuration, "0", *options)
    finally:
        project.with_name("aside").rename(project)


def test_an_index_of_another_data_set_ends_before_training_with_one_clear_error(nnunet, trainers):
    nnunet.prepare(1, "3d_fullres")
    nnunet.prepare(3, "3d_fullres")
    variables = {"SOFTLABELS_INDEX": str(nnunet.index(1, "3d_fullres")), "SOFTLABELS_TARGET": "geols"}
    options = ["-tr", "nnUNetTrainerSoftLabels", "-device", "cpu"]
    error = nnunet.fails(TRAIN, "3", "3d_fullres", "0", *options, **variables)
    assert re.search(r"case c\d: \d+ of \d+ voxels of nnU-Net's segmentation are not as when", error)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("kill", r"WorkerError: data loading: 1 of 2 background workers was killed \(SIGKILL\)\. .*nnUNet_n_proc_DA"),
        ("move", r"FormatError: case c\d, target 'geols', entry \w{12}: .*whole store \S+ is missing: it was removed"),
    ],
)
def test_a_training_whose_workers_end_says_why(nnunet, trainers, by, expected):
    nnunet.prepare(1, "3d_fullres")
    store = nnunet.index(1, "3d_fullres").parents[1] / "store"
    options = ["-tr", "nnUNetTrainerSoftLabels_interrupted", "-device", "cpu"]
    try:
        assert re.search(expected, nnunet.fails(TRAIN, "1", "3d_fullres", "0", *options, INTERRUPTED_BY=by))
    finally:
        if by == "move":
            store.with_name("moved").rename(store)
