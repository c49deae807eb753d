"""nnU-Net's augmented sample with and without the soft label: its own loader and transforms, with the same draws."""

from __future__ import annotations

import random
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from loader_peers import Arrays, save_nnunet

HEADS = [(0,), (1,), (2,), (4,)]
#: Of nnU-Net's 3D augmentation: rotations about each axis, and the resolutions of deep supervision.
ROTATION = (-np.pi / 6, np.pi / 6)
SCALES = [[0.5**level] * 3 for level in range(5)]
STOCK = "nnU-Net, image and hard label"
SOFT = "nnUNetTrainerSoftLabels, image, hard and soft label"


def augmented_loaders(index: Path, arrays: Arrays, size: int, folder: Path) -> dict[str, Any]:
    """Return nnU-Net's loader of batches of one augmented sample, on hard labels alone and with the soft label."""
    from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
    from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from softlabels.training.nnunet.dataset import WithSoftLabels
    from softlabels.training.nnunet.soft_labels import SoftLabels
    from softlabels.training.nnunet.transforms import with_soft_label

    save_nnunet(arrays["image"], arrays["labels"][None].astype(np.int8), size, folder, "glioma")
    hard = nnUNetDatasetBlosc2(str(folder), ["glioma"])
    soft_labels = SoftLabels(index, "geols", heads=HEADS, has_softmax=True)
    patch = (size,) * 3
    initial = get_patch_size(patch, ROTATION, ROTATION, ROTATION, (0.85, 1.25))
    labels = SimpleNamespace(all_labels=[value for (value,) in HEADS], has_ignore_label=False)

    def loader(dataset: Any, transforms: Any) -> Any:
        options = {"oversample_foreground_percent": 0.0, "transforms": transforms}
        return nnUNetDataLoader(dataset, 1, initial, patch, labels, **options)

    def stock() -> Any:
        return nnUNetTrainer.get_training_transforms(
            np.array(patch), ROTATION, SCALES, (0, 1, 2), False, use_mask_for_norm=[False] * len(arrays["image"])
        )

    with_soft = with_soft_label(stock(), soft_labels.pad_value, soft_labels.augmentation)
    return {STOCK: loader(hard, stock()), SOFT: loader(WithSoftLabels(hard, soft_labels), with_soft)}


def augmented_times(loaders: dict[str, Any], repeats: int) -> dict[str, float]:
    """Return the mean CPU ms of a sample of each loader, which draw the same patches and augmentations in turn."""
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for number in range(repeats + 1):
        for name, loader in loaders.items():
            random.seed(number)
            np.random.seed(number)  # noqa: NPY002 (nnU-Net draws from numpy's global generator)
            torch.manual_seed(number)
            started = time.process_time()
            sample = loader.generate_train_batch()
            times[name].append(1e3 * (time.process_time() - started))
            del sample
    return {name: float(np.mean(own[1:])) for name, own in times.items()}  # the first round fills caches
