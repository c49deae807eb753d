"""Soft labels of a few classes a voxel: the form in which a hundred classes cost what a handful costs.

At nearly every voxel only a few of many classes have a share. A sparse label holds these: the numbers of K classes and
their shares, and perhaps a floor that every class has. Blending it is exact: a mixture with the hard label adds one
class at most, and label smoothing adds a constant.
"""

from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from softlabels.blend import Blend
from softlabels.calibration import shifted
from softlabels.errors import InputError

Array = TypeVar("Array")


class SparseLabel(NamedTuple, Generic[Array]):
    """A distribution over classes at each voxel, by its few classes with a share; of numpy arrays or torch tensors.

    The share of class c is ``floor + sum_k shares[k] [classes[k] = c]``.

    Parameters
    ----------
    classes : (K, ...) array of integers
        Numbers of classes, from 0. Of the slots in use, no two of a voxel have the same class.
    shares : (K, ...) array of floats
        The share of each; 0 for a slot that is not in use, whose class has no meaning.
    floor : (F,) array of floats
        What every class has besides. F is 0 where there is no such share, else 1, so that the shape alone shows it.

    Notes
    -----
    A batch has the batch's axis first: (B, K, ...), (B, K, ...), (B, F). PyTorch's own collation makes it.

    Examples
    --------
    >>> label = SparseLabel(np.array([[2, 0], [1, 0]]), np.float32([[0.75, 1], [0.25, 0]]), NO_FLOOR)
    >>> to_dense(label, 3).tolist()
    [[0.0, 1.0], [0.25, 0.0], [0.75, 0.0]]
    """

    classes: Array
    shares: Array
    floor: Array

    def to(self, device: Any, *, non_blocking: bool = False) -> SparseLabel[Any]:
        """Return the label of torch tensors on a device, as `torch.Tensor.to` does."""
        return SparseLabel(*(cast("Any", part).to(device, non_blocking=non_blocking) for part in self))


#: Of a label that has no floor.
NO_FLOOR = np.zeros(0, np.float32)


def class_dtype(n_classes: int) -> np.dtype[np.unsignedinteger]:
    """Return the smallest dtype that holds the number of each of n classes: uint8 or uint16."""
    if n_classes > 2**16:
        raise InputError(f"sparse label: got {n_classes} classes, expected at most {2**16}")
    return np.dtype(np.uint8 if n_classes <= 2**8 else np.uint16)


def to_dense(
    label: SparseLabel[NDArray[Any]], n_classes: int, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return the share of every class.

    Parameters
    ----------
    label : SparseLabel of (K, ...) arrays
        Not modified.
    n_classes : int
        C, above all numbers of classes.
    out : (C, ...) ndarray of float32, optional
        Where to write the shares.

    Returns
    -------
    (C, ...) ndarray of float32
        `out`, or newly allocated.

    Notes
    -----
    Without a floor only the voxels with a share are written: the rest of a new array is pages that the system gives out
    as zeros.
    """
    shape = label.shares.shape[1:]
    n_voxels = int(np.prod(shape))
    if out is not None and not out.flags.c_contiguous:
        out[...] = to_dense(label, n_classes)
        return out
    if out is None:
        out = np.zeros((n_classes, *shape), np.float32)
    else:
        out.fill(0)
    if label.floor.size:
        out += label.floor
    flat = out.reshape(-1)
    for classes, shares in zip(label.classes, label.shares, strict=True):
        used = np.flatnonzero(shares)
        where = classes.reshape(-1)[used].astype(np.int64)
        where *= n_voxels
        where += used
        flat[where] += shares.reshape(-1)[used]
    return out


def one_class(label: SparseLabel[NDArray[Any]], number: int) -> NDArray[np.float32]:
    """Return the (...) share of one class, without those of the others."""
    share: NDArray[np.float32] = np.where(label.classes == number, label.shares, np.float32(0)).sum(axis=0)
    return share + label.floor if label.floor.size else share


def blended(
    blend: Blend, hard: NDArray[np.integer], n_classes: int, stored: SparseLabel[NDArray[Any]] | None = None
) -> SparseLabel[NDArray[Any]]:
    """Return the soft label of hard labels and a stored map, as `Blend.soft_label` gives it, in sparse form.

    Parameters
    ----------
    blend : Blend
    hard : (...) ndarray of integers
        The number of each voxel's class, -1 for none; from `softlabels.classes.class_numbers`. Not modified.
    n_classes : int
    stored : SparseLabel of (K, ...) arrays, optional
        The map of the store; required where `blend.needs_stored`, and refused elsewhere. Not modified.

    Returns
    -------
    SparseLabel
        Of K classes a voxel; of K + 1 after mix_onehot, whose last slot has the hard label's class where the map lacks
        it; of one class after onehot and label_smoothing, which has a floor.

    Raises
    ------
    InputError
        If the result is not sparse: a signed map, or a calibration of smoothed labels.

    Examples
    --------
    >>> stored = SparseLabel(np.array([[2], [1]]), np.float32([[0.75], [0.25]]), NO_FLOOR)
    >>> mixed = blended(Blend("mix_onehot", 0.5), np.array([0]), 3, stored)
    >>> mixed.classes.tolist(), mixed.shares.tolist()
    ([[2], [1], [0]], [[0.375], [0.125], [0.5]])
    """
    if blend.needs_stored != (stored is not None):
        raise InputError(
            f"blend rule {blend.rule!r}: stored map {'missing' if stored is None else 'given, but not used'}"
        )
    if blend.rule == "signed_margin" or (blend.rule == "label_smoothing" and blend.calibration is not None):
        what = "a calibration of smoothed labels" if blend.calibration else "a signed map"
        raise InputError(f"blend rule {blend.rule!r}: {what} has a value for every class. Use the dense soft label")
    label = _of_rule(blend, hard, n_classes, stored)
    if blend.calibration is None:
        return label
    offsets = np.asarray(blend.calibration.offsets, np.float32)[label.classes.astype(np.intp)]
    return label._replace(shares=shifted(np.asarray(label.shares), blend.calibration.slope, offsets))


def _of_rule(
    blend: Blend, hard: NDArray[np.integer], n_classes: int, stored: SparseLabel[NDArray[Any]] | None
) -> SparseLabel[NDArray[Any]]:
    """Return what the rule gives, with the operations of the dense form in the same order: the same bits."""
    share, rest = np.float32(blend.value or 0.0), np.float32(1.0 - (blend.value or 0.0))
    if stored is None:
        own = np.maximum(hard, 0)[None].astype(class_dtype(n_classes))
        shares = (hard >= 0)[None].astype(np.float32)
        if blend.rule == "onehot":
            return SparseLabel(own, shares, NO_FLOOR)
        return SparseLabel(own, shares * rest, np.array([share * np.float32(1.0 / n_classes)], np.float32))
    if blend.rule == "none":
        return stored
    return _mixed(stored, hard, share, rest)


def _mixed(
    stored: SparseLabel[NDArray[Any]], hard: NDArray[np.integer], share: np.float32, rest: np.float32
) -> SparseLabel[NDArray[Any]]:
    """Return ``share`` of a map and ``rest`` of the hard label."""
    n_slots, shape = len(stored.shares), hard.shape
    classes = np.empty((n_slots + 1, hard.size), stored.classes.dtype)
    shares = np.empty((n_slots + 1, hard.size), np.float32)
    classes[:-1] = stored.classes.reshape(n_slots, -1)
    np.multiply(stored.shares.reshape(n_slots, -1), share, out=shares[:-1])
    classes[-1], shares[-1] = 0, 0
    # At most voxels the hard label's class is the largest one: the search ends at the first slot.
    left = np.flatnonzero(hard.reshape(-1) >= 0)
    own = hard.reshape(-1)[left].astype(classes.dtype)
    for slot_classes, slot_shares in zip(classes[:-1], shares[:-1], strict=True):
        is_here = slot_classes[left] == own
        slot_shares[left[is_here]] += rest
        left, own = left[~is_here], own[~is_here]
    classes[-1, left], shares[-1, left] = own, rest
    return SparseLabel(classes.reshape(-1, *shape), shares.reshape(-1, *shape), stored.floor)
