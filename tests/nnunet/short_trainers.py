"""Trainers of two short epochs; nnU-Net finds them by their names."""

import shutil
from pathlib import Path

import torch

from softlabels.training.nnunet.trainer import nnUNetTrainerSoftLabels


class nnUNetTrainerSoftLabels_short(nnUNetTrainerSoftLabels):
    """It keeps the checkpoint of its first epoch, from which a killed training would go on."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cpu")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 2, 1

    def save_checkpoint(self, filename):
        super().save_checkpoint(filename)
        if self.current_epoch == 0:
            shutil.copy(filename, Path(self.output_folder) / "checkpoint_first.pth")


class nnUNetTrainerSoftLabels_unmirrored(nnUNetTrainerSoftLabels_short):
    def _open_soft_labels(self):
        choice = super()._open_soft_labels()
        self.soft_labels.augmentation = {**self.soft_labels.augmentation, "flip": False}
        return choice


class nnUNetTrainerSoftLabels_short_geols(nnUNetTrainerSoftLabels_short):
    soft_target = "geols"


class nnUNetTrainerSoftLabels_short_phi(nnUNetTrainerSoftLabels_short):
    soft_target = "phi"


class nnUNetTrainerSoftLabels_short_sing(nnUNetTrainerSoftLabels_short):
    soft_target = "sing"
