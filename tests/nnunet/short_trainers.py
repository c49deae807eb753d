"""Trainers of two short epochs; nnU-Net finds them by their names."""

import os
import shutil
import signal
from pathlib import Path

from softlabels.training.nnunet.trainer import nnUNetTrainerSoftLabels


class nnUNetTrainerSoftLabels_short(nnUNetTrainerSoftLabels):
    """It keeps the checkpoint of its first epoch, from which a killed training would go on."""

    epochs = 2
    iterations = 2

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


class nnUNetTrainerSoftLabels_interrupted(nnUNetTrainerSoftLabels_short_geols):
    """Soon after its start a worker is killed, or the store is moved away."""

    iterations = 60  # more batches than are queued

    def on_train_epoch_start(self):
        super().on_train_epoch_start()
        if os.environ["INTERRUPTED_BY"] == "kill":
            os.kill(self._workers[0].pid, signal.SIGKILL)
        else:
            store = self.soft_labels.index.parents[1] / "store"
            store.rename(store.with_name("moved"))
