"""The arrays of one patch: read from the store into memory that is used again, padded outside of the volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from softlabels.cohort.case import CaseTarget, PreparedCase
from softlabels.sparse import SparseLabel
from softlabels.training.buffers import SAMPLES
from softlabels.training.patches import patch_windows

#: Arrays of a sample by name; those of a sparse soft label together.
Volumes = dict[str, NDArray[Any] | SparseLabel[NDArray[Any]]]


#: How a sample has its soft labels.
Form = Literal["dense", "sparse", "stored"]


class PatchReader:
    """Reads one patch of a case.

    Parameters
    ----------
    case : PreparedCase
    origin, size : 3 ints
        Of the patch, (z, y, x); the origin may be negative.
    is_pooled : bool
        Take the arrays from `SAMPLES`; for patches that all have one size.
    """

    def __init__(self, case: PreparedCase, origin: Sequence[int], size: Sequence[int], *, is_pooled: bool) -> None:
        self.case, self.size = case, tuple(size)
        self.window, self._place = patch_windows(origin, size, case.shape)
        self._empty = SAMPLES.empty if is_pooled else np.empty
        self.labels = case.labels(self.window)

    def image(self, pad: float) -> NDArray[np.float32]:
        """Return the intensities, (M, d, h, w)."""
        read = self.case.image
        return self._filled((len(self.case.channels),), np.float32, pad, lambda out: read(self.window, out))

    def hard_labels(self, dtype: DTypeLike) -> NDArray[Any]:
        """Return the label values, (d, h, w)."""
        return self._filled((), dtype, 0, lambda out: np.copyto(out, self.labels, casting="unsafe"))

    def valid(self) -> NDArray[np.bool_]:
        """Return where a loss may look, (d, h, w)."""
        if self.case.ignore_label is None:
            return self.inside()
        valid = self.case.valid(self.window, self.labels)
        return self._filled((), np.bool_, False, lambda out: np.copyto(out, valid))

    def inside(self) -> NDArray[np.bool_]:
        """Return what is inside of the volume, (d, h, w)."""
        return self._filled((), np.bool_, False, lambda out: out.fill(True))

    def soft_label(self, target: CaseTarget) -> NDArray[np.float32]:
        """Return the blended soft label, (C, d, h, w)."""
        described, read = target.description, target.soft_label
        n_classes = len(described.classes)
        return self._filled(
            (n_classes,), np.float32, described.pad_value, lambda out: read(self.window, self.labels, out)
        )

    def sparse_label(self, target: CaseTarget) -> SparseLabel[NDArray[Any]]:
        """Return the blended soft label by its few classes a voxel, (K, d, h, w), with one K for all cases.

        Outside of the volume, the class of the pad value has all of the mass that a floor leaves.
        """
        described = target.description
        label = target.sparse_label(self.window, self.labels)
        n_slots = described.n_slots or len(label.shares)
        pad = [float(described.pad_value.index(1.0)), *[0.0] * (n_slots - 1)]
        # PyTorch computes with few of the unsigned types.
        dtype = np.uint8 if label.classes.dtype == np.uint8 else np.int32

        def write(values: NDArray[Any]) -> Callable[[NDArray[Any]], object]:
            def to(out: NDArray[Any]) -> None:
                out[: len(values)], out[len(values) :] = values, 0

            return to

        classes = self._filled((n_slots,), dtype, pad, write(label.classes))
        mass = 1.0 - len(described.classes) * float(label.floor.sum())
        shares = self._filled((n_slots,), np.float32, [mass, *pad[1:]], write(label.shares))
        return SparseLabel(classes, shares, label.floor)

    def stored_map(self, target: CaseTarget) -> NDArray[Any]:
        """Return the map as it is in the store, (C, d, h, w); 0 outside of the volume."""
        dtype, read = target.stored_map.encoded_dtype, target.encoded
        return self._filled((len(target.classes),), dtype, 0, lambda out: read(self.window, out))

    def _filled(
        self,
        lead: tuple[int, ...],
        dtype: DTypeLike,
        pad: float | Sequence[float],
        write: Callable[[NDArray[Any]], object],
    ) -> NDArray[Any]:
        """Return an array whose part in the volume was written by `write`, and `pad` around it."""
        patch = self._empty((*lead, *self.size), dtype)
        region: tuple[Any, ...] = (..., *self._place)
        part: NDArray[Any] = patch[region]
        if part.shape != patch.shape:
            patch[...] = np.reshape(pad, (-1, 1, 1, 1)) if np.ndim(pad) else pad
        write(part)
        return patch


def read_volumes(reader: PatchReader, targets: Mapping[str, CaseTarget], *, image_pad: float, form: Form) -> Volumes:
    """Return the arrays of a sample by name.

    Parameters
    ----------
    reader : PatchReader
    targets : mapping of str to CaseTarget
        What to append to "soft_label" or "stored_map" for each target: nothing, or "_" and its name.
    image_pad : float
        Intensity outside of the volume.
    form : {"dense", "sparse", "stored"}
        Of the soft labels: all classes; the few of each voxel; or, for `DeviceBlend`, labels and maps as in the store.
    """
    volumes: Volumes = {"image": reader.image(image_pad), "valid": reader.valid()}
    if form != "stored":
        volumes["labels"] = reader.hard_labels(np.int64)
        read = reader.soft_label if form == "dense" else reader.sparse_label
        return volumes | {f"soft_label{suffix}": read(target) for suffix, target in targets.items()}
    # PyTorch computes with few of the unsigned types.
    volumes["labels"] = reader.hard_labels(np.uint8 if reader.labels.dtype == np.uint8 else np.int32)
    volumes["inside"] = reader.inside()
    stored = {suffix: target for suffix, target in targets.items() if target.description.blend.needs_stored}
    return volumes | {f"stored_map{suffix}": reader.stored_map(target) for suffix, target in stored.items()}
