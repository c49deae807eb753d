"""nnU-Net finds the trainers that were installed, and those in a folder of nnUNet_extTrainer."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("nnunetv2", reason="make test-nnunet runs these tests")

import nnunetv2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities import find_class_by_name

from softlabels.training.nnunet.__main__ import main
from softlabels.training.nnunet.trainer import nnUNetTrainerSoftLabels
from softlabels.training.nnunet.trainers_file import FILE_NAME, trainers_folder


def test_installed_trainers_are_found_by_name_until_they_are_uninstalled():
    folder = Path(nnunetv2.__path__[0]) / "training" / "nnUNetTrainer"
    assert trainers_folder() == folder
    main(["install", "--target", "geols"])
    try:
        for name, target in (("nnUNetTrainerSoftLabels", None), ("nnUNetTrainerSoftLabels_geols", "geols")):
            found = find_class_by_name.recursive_find_python_class(str(folder), name, "nnunetv2.training.nnUNetTrainer")
            assert issubclass(found, nnUNetTrainer)
            assert found.soft_target == target
    finally:
        main(["uninstall"])
    assert not (folder / FILE_NAME).exists()


def test_trainers_in_a_folder_of_their_own_are_found_by_name(tmp_path):
    if not hasattr(find_class_by_name, "temporarily_cleanup_imports_from_path"):
        pytest.skip("nnUNet_extTrainer came with nnunetv2 2.8")
    main(["install", "--folder", str(tmp_path), "--target", "sing"])
    found = find_class_by_name.recursive_find_python_class(
        str(tmp_path),
        "nnUNetTrainerSoftLabels_sing",
        None,
        base_folder=str(tmp_path),
        cleanup_imports_from_base_folder=True,
    )
    assert issubclass(found, nnUNetTrainerSoftLabels)
    assert found.soft_target == "sing"
