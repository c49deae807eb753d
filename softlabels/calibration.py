"""Slope and class offsets after a probability: correction of an annotator's bias, at load time.

``p'_c ~ p_c^slope e^(offset_c)``, divided by the sum over classes. A slope below 1 makes a label vaguer, above 1
sharper; an offset above that of the others makes a class larger. Certainty stays: 0 remains 0 and 1 remains 1. An
overlapping region is a class beside its complement, whose offset is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.errors import InputError


@dataclass(frozen=True)
class Calibration:
    """A slope and an offset for each class, with whom they were fitted for.

    Parameters
    ----------
    slope : float
        > 0; 1 changes nothing.
    offsets : tuple of C floats
        One per class, in the order of the target's classes; all equal change nothing if classes exclude each other.
    fitted_for : str
        The annotator or protocol whose labels they correct. They do not apply to other annotators.

    Raises
    ------
    InputError
        If a number is out of range, or it is not said whom they were fitted for.

    Examples
    --------
    >>> wider = Calibration(1.0, (0.0, 0.7), "rater 2")
    >>> wider.applied(np.array([[0.5, 1.0], [0.5, 0.0]])).round(3).astype(str).tolist()
    [['0.332', '1.0'], ['0.668', '0.0']]
    """

    slope: float
    offsets: tuple[float, ...]
    fitted_for: str

    def __post_init__(self) -> None:
        if not (np.isfinite(self.slope) and self.slope > 0):
            raise InputError(f"calibrate: slope got {self.slope!r}, expected a finite number > 0")
        if not self.offsets or not np.isfinite(self.offsets).all():
            raise InputError(f"calibrate: offsets got {self.offsets!r}, expected a finite number for each class")
        if not self.fitted_for.strip():
            raise InputError("calibrate: fitted_for is empty; name the annotator or protocol that it was fitted for")

    def applied(self, soft_label: ArrayLike, *, is_overlapping: bool = False) -> NDArray[np.float32]:
        """Return a soft label, calibrated.

        Parameters
        ----------
        soft_label : (C, ...) float array
            Probabilities. Not modified. They need not sum to one.
        is_overlapping : bool
            Whether each class is a problem of its own.

        Returns
        -------
        (C, ...) float32 array
            Newly allocated. Over exclusive classes it sums to one; a voxel that is 0 in all of them stays so.

        Raises
        ------
        InputError
            If there is not one offset per class.
        """
        soft = np.asarray(soft_label, np.float32)
        if len(soft) != len(self.offsets):
            raise InputError(f"calibrate: got {len(self.offsets)} offsets for {len(soft)} classes")
        if is_overlapping:
            pairs = [
                (np.stack([one, 1 - one]), _column([b, 0.0], soft)) for one, b in zip(soft, self.offsets, strict=True)
            ]
            return np.stack([shifted(pair, self.slope, offsets)[0] for pair, offsets in pairs])
        return shifted(soft, self.slope, _column(self.offsets, soft))

    def to_json(self) -> dict[str, Any]:
        """Return the calibration as plain JSON values."""
        return {"slope": self.slope, "offsets": list(self.offsets), "fitted_for": self.fitted_for}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Calibration:
        """Return the calibration that `to_json` described."""
        return cls(float(content["slope"]), tuple(float(b) for b in content["offsets"]), str(content["fitted_for"]))


def shifted(soft: NDArray[np.float32], slope: float, offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``p^slope e^offset`` divided by its sum over the first axis, computed in logarithms; 0 where all are 0.

    Parameters
    ----------
    soft : (C, ...) float32 array
        Not modified.
    slope : float
    offsets : float32 array
        That broadcasts to the shape of `soft`.
    """
    with np.errstate(divide="ignore"):
        logits = np.log(soft)
    logits *= np.float32(slope)
    logits += offsets
    largest = logits.max(axis=0)
    logits -= np.where(np.isfinite(largest), largest, np.float32(0))
    found: NDArray[np.float32] = np.exp(logits, out=logits)
    total = found.sum(axis=0)
    found /= np.where(total > 0, total, np.float32(1))
    return found


def _column(offsets: Sequence[float], soft: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return offsets as an array that broadcasts over the voxels of a soft label."""
    return np.asarray(offsets, np.float32).reshape(-1, *[1] * (soft.ndim - 1))
