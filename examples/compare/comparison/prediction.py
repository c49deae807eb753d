"""Probabilities of whole cases from a network that sees patches."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader

from softlabels.loader import SoftLabelDataset
from softlabels.training.patches import stitch

from .objective import Objective
from .study import Training


def predicted(
    network: nn.Module,
    objective: Objective,
    index: str,
    target: str,
    case: str,
    settings: Training,
    device: torch.device,
) -> NDArray[np.float32]:
    """Return the probabilities (C, D, H, W) of a case: the mean of overlapping patches.

    Parameters
    ----------
    index, target : str
        Where image and grid come from; the target's values are not used.
    settings : Training
        `patch_size`, `overlap` and `batch_size`.
    """
    size = settings.patch_size
    overlap = [n // 2 for n in size] if settings.overlap is None else settings.overlap
    dataset = SoftLabelDataset(index, target=target, mode="grid", cases=[case], patch_size=size, overlap=overlap)
    patches, origins = [], []
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for batch in DataLoader(dataset, batch_size=settings.batch_size):
            found = objective.probabilities(network(batch["image"].to(device))).cpu().numpy()
            patches += list(found.reshape(*found.shape[:2], *(1,) * (3 - len(size)), *size))
            origins += batch["origin"].tolist()
    network.train(was_training)
    return stitch(patches, origins, dataset.shape_of(case))
