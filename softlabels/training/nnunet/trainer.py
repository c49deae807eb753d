"""nnU-Net's trainer on precomputed soft labels (nnunetv2 2.6 or newer).

Everything but the training target is nnU-Net's own: plans, network, sampling, augmentation, optimiser, validation,
checkpoints, inference. Neither validation nor inference reads a soft label.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA

from softlabels.losses import rebalanced_weights
from softlabels.training.nnunet.choice import Choice, chosen
from softlabels.training.nnunet.dataset import WithSoftLabels
from softlabels.training.nnunet.loss import SoftLabelLoss
from softlabels.training.nnunet.soft_labels import SoftLabels
from softlabels.training.nnunet.transforms import with_soft_label
from softlabels.training.nnunet.workers import Failures, killed_error

_DEFAULT_DEVICE = torch.device("cuda")  # nnU-Net's


class nnUNetTrainerSoftLabels(nnUNetTrainer):  # type: ignore[misc]  # nnU-Net is untyped
    """Train on the soft labels that `SOFTLABELS_INDEX` and `SOFTLABELS_TARGET` name; docs/nnunet.md.

    Attributes
    ----------
    soft_target : str or None
        The target of this class; None: the target of the variable, or the only one of the index.
    epochs, iterations : int or None
        Epochs of a training, and iterations of an epoch; None: nnU-Net's 1000 and 250.
    boundary_schedule : callable
        Epoch to (region weight, boundary weight), for level sets; see `softlabels.losses.schedules`.
    soft_labels : SoftLabels or None
        Read from training start on; None in validation and inference.
    """

    soft_target: str | None = None
    boundary_schedule: Callable[[int], tuple[float, float]] = staticmethod(rebalanced_weights)
    epochs: int | None = None
    iterations: int | None = None
    soft_labels: SoftLabels | None = None
    loss: Any
    _soft_loss: SoftLabelLoss
    _failures: Failures | None = None
    _workers: Sequence[BaseProcess] = ()

    # nnU-Net saves the arguments by these names, and makes a trainer of a checkpoint with them.
    def __init__(
        self, plans: Any, configuration: str, fold: int, dataset_json: Any, device: torch.device = _DEFAULT_DEVICE
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.epochs is not None:
            self.num_epochs = self.epochs
        if self.iterations is not None:
            self.num_iterations_per_epoch = self.iterations
            self.num_val_iterations_per_epoch = max(1, self.iterations // 5)  # 50 to 250, as in nnU-Net

    def run_training(self) -> None:
        """Train; an error of a background worker is raised here, where nnU-Net only says that a worker is gone."""
        try:
            super().run_training()
        except RuntimeError as error:
            cause = self._failures.first() if self._failures else None
            codes = [worker.exitcode for worker in self._workers]
            cause = cause or killed_error(codes, get_allowed_n_proc_DA())
            if cause is None:
                raise
            raise cause from error

    def on_train_start(self) -> None:
        """Find and check the soft labels before anything is trained, and take the loss that fits their kind."""
        if not self.was_initialized:
            self.initialize()
        choice = self._open_soft_labels()
        super().on_train_start()
        if self.local_rank == 0:
            choice.write(Path(self.output_folder))

    def on_train_epoch_start(self) -> None:
        """Set the weights of the boundary loss as well."""
        super().on_train_epoch_start()
        if self.soft_labels is not None and self.soft_labels.kind == "distance":
            weights = self.boundary_schedule(self.current_epoch)
            self._soft_loss.region_weight, self._soft_loss.boundary_weight = weights
            self.print_to_log_file(f"softlabels: region weight {weights[0]:.4g}, boundary weight {weights[1]:.4g}")

    def get_tr_and_val_datasets(self) -> tuple[WithSoftLabels, Any]:
        """Return the training cases with their soft labels, checked, and the validation cases as they are."""
        soft_labels = self._opened()
        train, validation = super().get_tr_and_val_datasets()
        with_labels = WithSoftLabels(train, soft_labels)
        with_labels.check(with_labels=self.local_rank == 0)
        self._failures = with_labels.failures
        self.print_to_log_file(f"softlabels: {soft_labels}, {len(train.identifiers)} cases checked")
        return with_labels, validation

    def get_training_transforms(self, *args: Any, **kwargs: Any) -> ComposeTransforms:
        """Return nnU-Net's transforms, which move the soft label with the image."""
        stock = super().get_training_transforms(*args, **kwargs)
        soft_labels = self._opened()
        return with_soft_label(stock, soft_labels.pad_value, soft_labels.augmentation)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:
        """Leave mirroring out, in inference too, where the target does not allow it."""
        rotation, dummy_2d, initial_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if self.soft_labels is not None and not self.soft_labels.augmentation["flip"]:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        return rotation, dummy_2d, initial_size, mirror_axes

    def get_dataloaders(self) -> tuple[Any, Any]:
        """Return nnU-Net's loaders; what they yield for training has the soft label behind the hard target."""
        self._opened()
        loaders = super().get_dataloaders()
        # batchgenerators forgets its processes when it ends them, and they are asked for their exit codes then.
        self._workers = [worker for loader in loaders for worker in getattr(loader, "_processes", [])]
        return loaders

    def _opened(self) -> SoftLabels:
        """Return the soft labels, opened by now."""
        if self.soft_labels is None:
            self._open_soft_labels()
        assert self.soft_labels is not None, "_open_soft_labels sets it"
        return self.soft_labels

    def _open_soft_labels(self) -> Choice:
        """Open the soft labels that were chosen, and put their loss in the place of nnU-Net's."""
        choice = chosen(
            os.environ,
            Path(self.preprocessed_dataset_folder),
            Path(self.output_folder),
            target=self.soft_target,
            is_continued=self.current_epoch > 0,
        )
        has_softmax = not self.label_manager.has_regions
        labels = self.label_manager.all_labels if has_softmax else self.label_manager.foreground_regions
        heads = [tuple(map(int, label)) if isinstance(label, tuple | list) else (int(label),) for label in labels]
        self.soft_labels = SoftLabels(
            Path(choice.index), choice.target, heads=heads, has_softmax=has_softmax, overrides=choice.overrides
        )
        self._soft_loss = SoftLabelLoss(
            self.soft_labels.kind,
            heads=heads,
            has_softmax=has_softmax,
            ignore_label=self.label_manager.ignore_label,
            batch_dice=self.configuration_manager.batch_dice,
        )
        is_deep = isinstance(self.loss, DeepSupervisionWrapper)
        weights = self.loss.weight_factors if is_deep else None
        if self.loss is not None:  # None before `initialize`, which then makes nnU-Net's; training start replaces it
            self.loss = DeepSupervisionWrapper(self._soft_loss, weights) if is_deep else self._soft_loss
        return choice
