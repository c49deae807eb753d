"""Probabilities of whole cases from a trained nnU-Net, on the grid of their files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from numpy.typing import NDArray

from softlabels.cohort.index import Index

from .nnunet_data import CONFIGURATION, NnunetData
from .training import Run


class NnunetPrediction:
    """A trained nnU-Net as a function from a case to its probabilities: its own preprocessing, windows and mirroring.

    Parameters
    ----------
    run : Run
        Of the training.
    content : mapping
        What it wrote.
    """

    def __init__(self, run: Run, content: Mapping[str, Any]) -> None:
        assert run.nnunet is not None, "only such runs come here"
        self.data = NnunetData.from_json(run.nnunet)
        self.is_signed = Index.read(run.index).target(run.targets[0]).kind == "signed"
        plans, dataset = PlansManager(self.data.read_plans()), self.data.read_dataset()
        configuration = plans.get_configuration(CONFIGURATION)
        network = get_network_from_plans(
            configuration.network_arch_class_name,
            configuration.network_arch_init_kwargs,
            configuration.network_arch_init_kwargs_req_import,
            len(run.channels),
            plans.get_label_manager(dataset).num_segmentation_heads,
            allow_init=False,
            deep_supervision=False,
        )
        network.load_state_dict(dict(content["weights"]))
        device = torch.device(run.settings.device)
        self.predictor = nnUNetPredictor(perform_everything_on_device=device.type == "cuda", device=device)
        axes = content["mirror_axes"]
        self.predictor.manual_initialization(
            network.to(device),
            plans,
            configuration,
            [content["weights"]],
            dataset,
            "SeededTrainer",
            None if axes is None else tuple(axes),
        )
        self.reader = plans.image_reader_writer_class()

    def __call__(self, case: str) -> NDArray[np.float32]:
        """Return the probabilities (C, D, H, W) of a case; background and classes, or regions that overlap."""
        files = [
            str(self.data.raw / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
            for channel in range(len(self.data.channels))
        ]
        image, properties = self.reader.read_images(files)
        _, found = self.predictor.predict_single_npy_array(image, properties, save_or_return_probabilities=True)
        probabilities = np.asarray(found, np.float32)
        return _of_signed_map(probabilities) if self.is_signed else probabilities


def _of_signed_map(sigmoid: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (1 + tanh x) / 2 from nnU-Net's sigmoid of x: how this comparison reads a signed map.

    Examples
    --------
    >>> x = np.float32([-1.0, 0.0, 2.0])
    >>> bool(np.allclose(_of_signed_map(1 / (1 + np.exp(-x))), (1 + np.tanh(x)) / 2))
    True
    """
    inside, outside = sigmoid**2, (1 - sigmoid) ** 2
    return inside / (inside + outside)
