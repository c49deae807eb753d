"""What is done to the soft label between nnU-Net's loader and its loss (batchgeneratorsv2).

The loader crops, pads with 0 and casts images to float and segmentations to integers. So the soft label travels as
further channels of the image, less its pad value: there 0 means "outside of the volume", for the loader and for
interpolation alike. Within the transforms it is batchgeneratorsv2's `regression_target`: spatial transforms move it
with the image, all others leave it alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from softlabels.errors import InputError


class SplitSoftLabel(BasicTransform):  # type: ignore[misc]  # untyped
    """Take the last channels of the image as `regression_target`.

    Parameters
    ----------
    n_heads : int
        How many.
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Return the sample with both; the tensors are views of the one that came."""
        image = data_dict["image"]
        return {**data_dict, "image": image[: -self.n_heads], "regression_target": image[-self.n_heads :]}


class JoinSoftLabel(BasicTransform):  # type: ignore[misc]  # untyped
    """Put the soft label behind the channels of the segmentation, at each resolution of deep supervision.

    A voxel of a coarser resolution gets the mean of the voxels that it covers.

    Parameters
    ----------
    pad_value : sequence of float
        Of each channel; it was subtracted, and is added again.
    """

    def __init__(self, pad_value: Sequence[float] | NDArray[np.float32]) -> None:
        super().__init__()
        self.pad_value = torch.as_tensor(pad_value, dtype=torch.float32)

    def apply(self, data_dict: dict[str, Any], **params: Any) -> dict[str, Any]:
        """Return the sample with `segmentation` (N + H, ...) float32, or a list of them, and no other target."""
        soft = data_dict.get("regression_target")
        if soft is None:
            raise InputError(
                "soft label: a transform dropped `regression_target`. Transforms of your own must be "
                "ImageOnlyTransform or SegOnlyTransform, or implement _apply_to_regr_target"
            )
        soft += self.pad_value.reshape(-1, *[1] * (soft.ndim - 1))
        hard = data_dict["segmentation"]
        joined = [torch.cat([level.float(), _averaged(soft, level.shape[1:])]) for level in _as_list(hard)]
        rest = {name: value for name, value in data_dict.items() if name != "regression_target"}
        return {**rest, "segmentation": joined if isinstance(hard, list) else joined[0]}


def with_soft_label(
    stock: ComposeTransforms, pad_value: Sequence[float] | NDArray[np.float32], allowed: Mapping[str, bool]
) -> ComposeTransforms:
    """Return nnU-Net's training transforms, doing to the soft label what they do to the image.

    Parameters
    ----------
    stock : ComposeTransforms
        As nnU-Net's trainer builds them; spatial ones are changed where the target asks for it.
    pad_value : sequence of float
        Of each channel of the soft label.
    allowed : mapping of str to bool
        The target's contract: what is not allowed is switched off. The trainer itself switches mirroring off, because
        inference must know of it too.
    """
    for transform in stock.transforms:
        if isinstance(transform, SpatialTransform):
            for kind, attribute in (
                ("rescale", "p_scaling"),
                ("elastic", "p_elastic_deform"),
                ("rotation", "p_rotation"),
            ):
                if not allowed.get(kind, True):
                    setattr(transform, attribute, 0)
    return ComposeTransforms([SplitSoftLabel(len(pad_value)), *stock.transforms, JoinSoftLabel(pad_value)])


def _averaged(soft: Tensor, size: Sequence[int]) -> Tensor:
    """Return the means of a (H, ...) tensor over the blocks of a coarser grid."""
    return soft if soft.shape[1:] == tuple(size) else interpolate(soft[None], tuple(size), mode="area")[0]


def _as_list(levels: Any) -> list[Tensor]:
    """Return one tensor or a list of them as a list."""
    return levels if isinstance(levels, list) else [levels]
