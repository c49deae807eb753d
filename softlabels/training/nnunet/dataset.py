"""nnU-Net's own data set, with the soft label of each case behind the channels of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.training.buffers import SAMPLES
from softlabels.training.nnunet.soft_labels import SoftLabels
from softlabels.training.nnunet.workers import Failures


@dataclass(frozen=True)
class ImageWithSoftLabel:
    """An array (M + H, z, y, x) of image and soft label less its pad value, read where it is sliced.

    Parameters
    ----------
    image, segmentation : (M, z, y, x) and (1, z, y, x) arrays
        nnU-Net's own, not read yet.
    soft_labels : SoftLabels
    identifier : str
        Of the case.
    failures : Failures
        Where an error of reading is recorded.
    """

    image: Any
    segmentation: Any
    soft_labels: SoftLabels
    identifier: str
    failures: Failures

    dtype = np.dtype(np.float32)
    ndim = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and size."""
        n_channels, *size = self.image.shape
        return (n_channels + self.soft_labels.n_heads, *size)

    def __getitem__(self, region: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return all channels in a box, as nnU-Net's loader cuts it: ``[:, z0:z1, y0:y1, x0:x1]``."""
        with self.failures.recorded(self.identifier):
            return self._read(region)

    def _read(self, region: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return all channels in a box."""
        bounds = [part.indices(n)[:2] for part, n in zip(region[1:], self.shape[1:], strict=True)]
        labels = np.asarray(self.segmentation[region])[0]
        n_channels = self.image.shape[0]
        both = SAMPLES.empty((self.shape[0], *labels.shape), np.float32)
        _read_into(both[:n_channels], self.image, (slice(0, n_channels), *(slice(*pair) for pair in bounds)))
        soft = self.soft_labels.read(self.identifier, bounds, labels, out=both[n_channels:])
        for channel, pad_value in zip(soft, self.soft_labels.pad_value, strict=True):
            if pad_value:
                channel -= pad_value
        return both


class WithSoftLabels:
    """nnU-Net's data set, for its own loader.

    Parameters
    ----------
    dataset : nnUNetBaseDataset
        The training cases.
    soft_labels : SoftLabels

    Attributes
    ----------
    failures : Failures
        What the workers that read the cases failed with.
    """

    def __init__(self, dataset: Any, soft_labels: SoftLabels) -> None:
        self.dataset, self.soft_labels, self.failures = dataset, soft_labels, Failures()
        self.identifiers = dataset.identifiers

    def load_case(self, identifier: str) -> tuple[Any, ...]:
        """Return image with soft label, segmentation, segmentation of the previous stage, properties."""
        with self.failures.recorded(identifier):
            image, segmentation, *rest = self.dataset.load_case(identifier)
        joined = ImageWithSoftLabel(image, segmentation, self.soft_labels, identifier, self.failures)
        return joined, segmentation, *rest

    def __getitem__(self, identifier: str) -> tuple[Any, ...]:
        return self.load_case(identifier)

    def check(self, *, with_labels: bool) -> None:
        """Raise InputError unless the soft labels are of these very cases.

        Parameters
        ----------
        with_labels : bool
            Compare all voxels of the segmentations too, not the shapes alone.
        """
        self.soft_labels.check_cases(self.identifiers)
        for identifier in self.identifiers:
            image, segmentation, *_ = self.dataset.load_case(identifier)
            self.soft_labels.check_shape(identifier, tuple(map(int, image.shape[1:])))
            if with_labels:
                self.soft_labels.check_labels(identifier, np.asarray(segmentation[...])[0])


def _read_into(out: NDArray[np.float32], image: Any, region: tuple[slice, ...]) -> None:
    """Write a region of nnU-Net's array to `out`: at once where blosc2 can, which saves a copy of fresh memory."""
    read = getattr(image, "get_slice_numpy", None)
    if read is None or image.dtype != out.dtype:
        out[...] = image[region]
    else:
        read(out, ([part.start for part in region], [part.stop for part in region]))
