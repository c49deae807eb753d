"""Blending on the device that trains: the loader hands over bytes, and the GPU makes soft labels of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from softlabels.cohort.case import CaseTarget
from softlabels.cohort.index import TargetDescription
from softlabels.errors import InputError
from softlabels.store.encoding import Encoding, ScaleOffset


class DeviceBlend(torch.nn.Module):
    """Makes the soft label of a batch from hard labels and stored map, on the device where they are.

    The result has the bits of the loader's own blend, on every device: a stored integer and whether the voxel is in the
    class determine the value, so the loader's blend is computed once for each combination and looked up.

    Parameters
    ----------
    described : TargetDescription
        The target, with the blend to use.
    encoding : Encoding or None
        Of its stored map; None for a target that is derived from the labels alone.
    suffix : str
        What follows "stored_map" in the names of the batch: nothing, or "_" and the name of a further target.
    n_axes : int
        3 for volumes, 2 for slices.
    keys : mapping of str to str, optional
        Other names for parts of the batch, as in the data set.

    Raises
    ------
    InputError
        If the value of a class depends on the other classes (a calibrated target), or the map is stored as floats and
        is blended.

    Notes
    -----
    Memory on the device: 4 bytes for each voxel and class beside the result. `SoftLabelDataset.device_blend` makes one.

    Examples
    --------
    >>> from softlabels.blend import Blend
    >>> from softlabels.classes import LabelClass
    >>> classes = (LabelClass("background", (0,)), LabelClass("tumour", (1, 2)))
    >>> kinds = dict(node=None, method="geols", variant="paper", kind="probability", is_overlapping=False)
    >>> described = TargetDescription(
    ...     **kinds, classes=classes, blend=Blend("mix_onehot", 0.5), pad_value=(1.0, 0.0), augmentation={}
    ... )
    >>> blend = DeviceBlend(described, ScaleOffset("uint8", 0.0, 1.0))
    >>> labels, inside = torch.tensor([[[[0, 2, 0]]]]), torch.tensor([[[[True, True, False]]]])
    >>> stored = torch.tensor([[[[[255, 51, 7]]], [[[0, 204, 7]]]]], dtype=torch.uint8)
    >>> blend({"labels": labels, "inside": inside, "stored_map": stored})[0, :, 0, 0].tolist()
    [[1.0, 0.10000000149011612, 1.0], [0.0, 0.8999999761581421, 0.0]]
    """

    def __init__(
        self,
        described: TargetDescription,
        encoding: Encoding | None,
        suffix: str = "",
        *,
        n_axes: int = 3,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        if described.blend.calibration is not None:
            raise InputError(
                "blend_on_device: got a calibrated target, each class of which depends on all others. "
                "Leave blend_on_device out"
            )
        self.classes, self.n_axes = described.classes, n_axes
        self.has_map, parts = encoding is not None, ("labels", "inside", f"stored_map{suffix}")
        self.labels_name, self.inside_name, self.map_name = ((keys or {}).get(part, part) for part in parts)
        self._has_table = encoding is None or isinstance(encoding, ScaleOffset)
        if not self._has_table and described.blend.rule != "none":
            raise InputError(
                f"blend_on_device: got a map stored as {encoding} and the rule {described.blend.rule!r}, expected "
                "a map of integers or the rule 'none'. Leave blend_on_device out"
            )
        levels = encoding.levels if isinstance(encoding, ScaleOffset) else np.zeros(1, np.float32)
        self.register_buffer("table", torch.from_numpy(_table(described, levels)), persistent=False)
        self.register_buffer("pad_value", torch.tensor(described.pad_value, dtype=torch.float32), persistent=False)
        self.table: torch.Tensor
        self.pad_value: torch.Tensor

    def forward(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the soft label of a batch, or of a sample.

        Parameters
        ----------
        batch : mapping of str to tensor
            `labels` (..., d, h, w) integers, `inside` (..., d, h, w) bool, and `stored_map` (..., C, d, h, w) unless
            the target is derived from the labels; on any device.

        Returns
        -------
        (..., C, d, h, w) float32 tensor on the device of this module
        """
        labels, inside = self._moved(batch[self.labels_name]), self._moved(batch[self.inside_name])
        axis = labels.ndim - self.n_axes
        if self._has_table:
            index = self._index(labels, batch, axis)
            soft = self.table.index_select(0, index.reshape(-1)).reshape(index.shape)
        else:
            soft = self._moved(batch[self.map_name])
        pad = self.pad_value.reshape(-1, *[1] * self.n_axes)
        return torch.where(inside.unsqueeze(axis), soft, pad)

    def _index(self, labels: torch.Tensor, batch: Mapping[str, Any], axis: int) -> torch.Tensor:
        """Return where in the table the value of each voxel and class is, int32."""
        if not self.has_map:
            shape = (*labels.shape[:axis], len(self.classes), *labels.shape[axis:])
            index = torch.zeros(shape, dtype=torch.int32, device=labels.device)
        else:
            index = self._moved(batch[self.map_name]).to(torch.int32)
        n_levels = len(self.table) // 2
        for channel, one in enumerate(self.classes):
            of_class = index.select(axis, channel)
            for value in one.values:
                of_class += n_levels * (labels == value)
        return index

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor on the device of this module."""
        return tensor.to(self.table.device, non_blocking=True)


def _table(described: TargetDescription, levels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the blended value of each stored integer: first outside of the class, then inside."""
    masks = np.zeros((len(described.classes), 2, len(levels)), bool)
    masks[:, 1] = True
    stored = np.broadcast_to(levels, masks.shape) if described.blend.needs_stored else None
    blended = described.blend.soft_label(masks, stored, is_overlapping=described.is_overlapping)
    return np.ascontiguousarray(blended[0]).reshape(-1)


def map_encoding(target: CaseTarget) -> Encoding | None:
    """Return how the map of a target is stored; None if nothing is."""
    if target.entry is None:
        return None
    if target.stored_map.is_sparse:
        raise InputError(
            f"blend_on_device: target {target.name!r} is stored by the largest classes of each voxel. "
            "Leave blend_on_device out; sparse=True gives samples as small"
        )
    return target.stored_map.encoding
