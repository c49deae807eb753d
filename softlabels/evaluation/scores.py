"""How far a soft label is from a soft reference, over sets of voxels; pure.

Classes exclude each other, or are regions that overlap. Each region is then a problem of its own with two classes,
inside and outside, and a score is the mean over regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import checked_spacing

#: Raise it when a score changes: `softlabels tune` computes its scores again.
VERSION = "1"
#: A voxel is ambiguous if the reference gives any class a share between these.
AMBIGUOUS = (0.05, 0.95)
#: Width of the boundary band on each side, in smallest voxel sides.
BAND_SIDES = 2.0
N_BINS = 20
#: Probabilities below this count as this in the cross-entropy, which is infinite for a hard label that is wrong.
_FLOOR = 1e-3
#: Voxels handled at a time.
_SLAB = 1 << 17


@dataclass(frozen=True)
class Scores:
    """How far a soft label is from a soft reference, over one set of voxels; 0 is best, except where said.

    Attributes
    ----------
    n_voxels : int
        How many voxels were counted.
    brier : float
        Mean over voxels of the sum over classes of (q - r)^2; 0..2.
    mae : float
        Mean over voxels of half the sum over classes of ``|q - r|``, the total variation; 0..1.
    cross_entropy : float
        Mean over voxels of -sum_c r log2 max(q, 0.001), in bits. Best is the entropy of the reference, not 0.
    calibration : float
        Expected calibration error: over classes and 20 bins of q, the mean of ``|mean q - mean r|``, weighted by
        voxels.
    brier_calibration, brier_refinement : float
        The Brier score in two parts, over the same bins: what shifting each bin of a class by its mean error would
        remove, and the variance of the error within bins, which only another forecast removes. They sum to `brier`
        exactly (Murphy, 1973, with the variance of q - r in place of that of r, as q is not constant in a bin).
    entropy : float
        Mean entropy of the soft label itself in bits, how vague it is; best is that of the reference.
    """

    n_voxels: int
    brier: float
    mae: float
    cross_entropy: float
    calibration: float
    brier_calibration: float
    brier_refinement: float
    entropy: float


class ScoreSums:
    """Running sums of the scores over a set of voxels.

    Parameters
    ----------
    n_classes : int
        Inside and outside of each region count as two.
    n_problems : int
        Of how many distributions the classes are.
    """

    def __init__(self, n_classes: int, n_problems: int = 1) -> None:
        self.n_problems = n_problems
        self.n_voxels, self.mae, self.surprise, self.vagueness = 0, 0.0, 0.0, 0.0
        #: For each bin of each class: number of values, sum of q, of r, and of (q - r)^2.
        self.bins = np.zeros((4, n_classes * N_BINS))

    def add(self, soft: NDArray[np.float32], truth: NDArray[np.float32]) -> None:
        """Add voxels: two (C, n) arrays, both of one distribution for each problem."""
        gap = soft - truth
        self.n_voxels += soft.shape[1]
        self.mae += 0.5 * float(np.abs(gap).sum(dtype=np.float64))
        self.surprise -= float((truth * np.log2(np.maximum(soft, np.float32(_FLOOR)))).sum(dtype=np.float64))
        self.vagueness -= float((soft * np.log2(np.where(soft > 0, soft, 1))).sum(dtype=np.float64))
        place = np.minimum((soft * N_BINS).astype(np.int64), N_BINS - 1) + N_BINS * np.arange(len(soft))[:, None]
        for line, weights in zip(self.bins, (None, soft.ravel(), truth.ravel(), (gap * gap).ravel()), strict=True):
            line += np.bincount(place.ravel(), weights, minlength=len(line))

    def scores(self) -> Scores:
        """Return the means; NaN where no voxel was counted."""
        n = self.n_voxels * self.n_problems or np.nan
        count, forecast, truth, squares = self.bins
        values = count.sum() or np.nan
        error = forecast - truth
        calibration = float((error**2 / np.where(count > 0, count, 1)).sum())
        return Scores(
            self.n_voxels,
            brier=float(squares.sum()) / n,
            mae=self.mae / n,
            cross_entropy=self.surprise / n,
            calibration=float(np.abs(error).sum() / values),
            brier_calibration=calibration / n,
            brier_refinement=(float(squares.sum()) - calibration) / n,
            entropy=self.vagueness / n,
        )

    def reliability(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return mean forecast, mean truth (NaN if empty) and share of values of each bin, all classes together."""
        count, forecast, truth, _ = self.bins.reshape(4, -1, N_BINS).sum(axis=1)
        filled = np.where(count > 0, count, np.nan)
        return forecast / filled, truth / filled, count / (count.sum() or 1)


@dataclass(frozen=True)
class VoxelSets:
    """The voxels of a case that scores are taken over.

    Attributes
    ----------
    everywhere, ambiguous, boundary : (D, H, W) bool arrays
        All that count; those of them that the reference gives a class between 5 and 95 %; those near a boundary.
    """

    everywhere: NDArray[np.bool_]
    ambiguous: NDArray[np.bool_]
    boundary: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        reference: NDArray[np.floating],
        included: NDArray[np.bool_] | None,
        spacing: Sequence[float],
        *,
        is_overlapping: bool = False,
    ) -> VoxelSets:
        """Return the sets of a reference (C, D, H, W); all voxels are included by default.

        Raises
        ------
        InputError
            If no voxel is included.
        """
        everywhere = np.ones(reference.shape[1:], bool) if included is None else included
        if not everywhere.any():
            raise InputError("scores: no voxel to count; widen `include`")
        low, high = AMBIGUOUS
        ambiguous = everywhere & ((reference > low) & (reference < high)).any(axis=0)
        # Where regions overlap, each set of them is a label of its own, so that a boundary of any region is one.
        weights = 2 ** np.arange(len(reference)) if is_overlapping else None
        largest = reference.argmax(axis=0) if weights is None else np.tensordot(weights, reference > 0.5, axes=1)
        band = boundary_band(largest, spacing, BAND_SIDES * min(spacing))
        return cls(everywhere, ambiguous, everywhere & band)


def boundary_band(labels: NDArray[np.integer], spacing: Sequence[float], width_mm: float) -> NDArray[np.bool_]:
    """Return which voxels are near a boundary between labels.

    Parameters
    ----------
    labels : (D, H, W) integer array
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    width_mm : float
        How far from the nearest voxel, itself included, that shares a face with another label, centre to centre.

    Returns
    -------
    (D, H, W) bool array
        All False where there is one label only.

    Examples
    --------
    >>> boundary_band(np.array([[[0, 0, 0, 0, 1, 1]]]), (1, 1, 1), 1.0).astype(int).tolist()
    [[[0, 0, 1, 1, 1, 1]]]
    """
    from scipy import ndimage

    is_edge = np.zeros(labels.shape, bool)
    for axis in range(3):
        differs = np.diff(labels, axis=axis) != 0
        for side in (slice(None, -1), slice(1, None)):
            part = [slice(None)] * 3
            part[axis] = side
            is_edge[tuple(part)] |= differs
    if not is_edge.any():
        return is_edge
    distance = ndimage.distance_transform_edt(~is_edge, sampling=checked_spacing(spacing))
    # A distance of exactly the width may be rounded.
    return np.asarray(distance <= width_mm * (1 + 1e-6))


def score(
    soft: NDArray[np.floating],
    reference: NDArray[np.floating],
    voxels: Sequence[NDArray[np.bool_]],
    *,
    is_overlapping: bool = False,
) -> tuple[list[ScoreSums], float]:
    """Return the sums of the scores over several sets of voxels.

    Parameters
    ----------
    soft, reference : (C, D, H, W) float arrays
        Probabilities. The soft label is divided by its sum over classes; a sum of 0 becomes the uniform distribution.
        Not modified.
    voxels : sequence of (D, H, W) bool arrays
    is_overlapping : bool
        Whether each class is a region of its own; nothing is divided then.

    Returns
    -------
    sums : list of ScoreSums
        One per set.
    deviation : float
        Largest distance of a sum of the soft label from 1; 0 for regions.
    """
    n_problems = len(reference) if is_overlapping else 1
    sums = [ScoreSums(2 * n_problems if is_overlapping else len(reference), n_problems) for _ in voxels]
    flat = [one.ravel() for one in voxels]
    deviation = 0.0
    for part, share, truth, total in _slabs(soft, reference, is_overlapping):
        deviation = max(deviation, float(np.abs(total - 1).max()))
        for one, of_set in zip(sums, flat, strict=True):
            counted = of_set[part]
            one.add(share[:, counted], truth[:, counted])
    return sums, deviation


def squared_error(
    soft: NDArray[np.floating], reference: NDArray[np.floating], *, is_overlapping: bool = False
) -> NDArray[np.float32]:
    """Return the sum over classes of (q - r)^2 at each voxel, (D, H, W): what `score` takes the mean of.

    Examples
    --------
    >>> soft, reference = np.float32([[[[1.0, 1.0]]], [[[0.0, 1.0]]]]), np.full((2, 1, 1, 2), 0.5, np.float32)
    >>> squared_error(soft, reference).tolist()
    [[[0.5, 0.0]]]
    >>> squared_error(soft, reference, is_overlapping=True).tolist()
    [[[0.5, 0.5]]]
    """
    n_problems = np.float32(len(reference) if is_overlapping else 1)
    found = np.empty(reference[0].size, np.float32)
    for part, share, truth, _ in _slabs(soft, reference, is_overlapping):
        found[part] = ((share - truth) ** 2).sum(axis=0) / n_problems
    return found.reshape(reference.shape[1:])


def checked_probabilities(values: NDArray[np.floating], shape: tuple[int, ...], what: str) -> None:
    """Raise InputError if an array is no map of probabilities of that shape."""
    if values.ndim != 4 or values.shape != shape:
        raise InputError(f"{what}: got shape {values.shape}, expected {shape} (classes, then z, y, x)")
    low, high = float(values.min()), float(values.max())
    # A comparison with NaN is false.
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(f"{what}: got values from {low:.4g} to {high:.4g}, expected probabilities in [0, 1]")


_Slab = tuple[slice, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _slabs(soft: NDArray[np.floating], reference: NDArray[np.floating], is_overlapping: bool) -> Iterator[_Slab]:
    """Yield the place of some voxels, the soft label divided by its sum, the reference, and the sum.

    Of regions, inside and outside of each in turn; their sum is 1.
    """
    n_classes = len(reference)
    q, r = soft.reshape(n_classes, -1), reference.reshape(n_classes, -1)
    for start in range(0, q.shape[1], _SLAB):
        part = slice(start, start + _SLAB)
        share, truth = q[:, part].astype(np.float32), r[:, part].astype(np.float32)
        if is_overlapping:
            yield part, _two_sided(share), _two_sided(truth), np.ones(share.shape[1], np.float32)
            continue
        total = share.sum(axis=0)
        share = np.where(total > 0, share / np.where(total > 0, total, 1), np.float32(1 / n_classes))
        yield part, share, truth, total


def _two_sided(regions: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of outside and inside of each region, (2 C, n), of those of inside, (C, n)."""
    return np.stack([1 - regions, regions], axis=1).reshape(2 * len(regions), -1)
