"""Label arrays: exact integers, in the smallest type that holds them."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from softlabels.errors import InputError

_SCALED_TOLERANCE = 1e-6
_TYPES = (np.uint8, np.uint16, np.int32)


def as_labels(values: np.ndarray, what: str, *, is_scaled: bool = False) -> np.ndarray:
    """Return `values` as uint8, uint16 or int32, whichever is the first to hold them all.

    Parameters
    ----------
    values : array
        Labels of any real type.
    what : str
        Named in errors.
    is_scaled : bool
        The values come from a header's slope and intercept, which are rounded themselves: a relative error of
        1e-6 is then allowed. Otherwise floats must be exact integers.

    Raises
    ------
    InputError
        A value is not an integer, not finite, or beyond int32.

    Examples
    --------
    >>> as_labels(np.array([0.0, 2035.0]), "label").dtype
    dtype('uint16')
    """
    if values.dtype.kind == "f":
        rounded = np.rint(values)
        allowed = _SCALED_TOLERANCE * np.maximum(1.0, np.abs(rounded)) if is_scaled else 0.0
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(values - rounded) <= allowed)
        if wrong.any():
            index, n_wrong = _first(wrong), int(wrong.sum())
            raise InputError(
                f"{what}: {n_wrong} of {values.size} voxels are not integers, the first is {values[index]} at "
                f"(z, y, x) = {index}; expected integer labels: threshold probabilities, resample labels with nearest "
                "neighbour"
            )
        values = rounded
    low, high = values.min(), values.max()
    for dtype in _TYPES:
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return values.astype(dtype, copy=False)
    raise InputError(f"{what}: got labels {low}..{high}, expected them within int32")


def label_counts(labels: np.ndarray) -> dict[int, int]:
    """Return the number of voxels of each label that occurs, in ascending order.

    Examples
    --------
    >>> label_counts(np.array([0, 3, 3], np.uint8))
    {0: 1, 3: 2}
    """
    if labels.dtype.kind == "u" and labels.dtype.itemsize <= 2:
        n_values = int(labels.max()) + 1
        counts = np.zeros(n_values, np.int64)
        for part in labels:
            counts += np.bincount(part.ravel(), minlength=n_values)
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    values, counts = np.unique(labels, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}


def undeclared(counts: dict[int, int], label_values: Collection[int], ignore_label: int | None) -> dict[int, int]:
    """Return the counts of those labels that are neither declared nor the ignore label."""
    return {v: n for v, n in counts.items() if v not in label_values and v != ignore_label}


def _first(mask: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first True."""
    return tuple(int(i) for i in np.unravel_index(int(mask.argmax()), mask.shape))
