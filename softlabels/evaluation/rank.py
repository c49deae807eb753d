"""Which soft label is nearest to a soft truth: scores of candidates against probability maps or the mean of raters.

A method's own figures cannot say whether its label is right. Where a true soft reference exists (tissue probability
maps, the mean of several raters, a finer label averaged to the grid) each candidate made of the hard label is a
forecast of it and is scored as one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError

#: A voxel is ambiguous if the reference gives any class a share between these.
_AMBIGUOUS = (0.05, 0.95)
#: Probabilities below this count as this in the cross-entropy, which is infinite for a hard label that is wrong.
_FLOOR = 1e-3
_N_BINS = 20
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
    """

    n_voxels: int
    brier: float
    mae: float
    cross_entropy: float
    calibration: float


@dataclass(frozen=True)
class ScoredCandidate:
    """One soft label with its scores over all voxels and over the ambiguous ones, and its reliability.

    Attributes
    ----------
    name : str
    everywhere, ambiguous : Scores
    sum_deviation : float
        Largest distance of the sum over classes from 1, before it was divided out for scoring.
    forecast, observed, share : (20,) float64 arrays
        Reliability over all classes and ambiguous voxels: mean of q and of r in each bin of q (NaN in an empty bin),
        and the bin's share of values.
    """

    name: str
    everywhere: Scores
    ambiguous: Scores
    sum_deviation: float
    forecast: NDArray[np.float64]
    observed: NDArray[np.float64]
    share: NDArray[np.float64]


def rank(
    candidates: Mapping[str, NDArray[np.floating]],
    reference: NDArray[np.floating],
    *,
    include: NDArray[np.bool_] | None = None,
) -> list[ScoredCandidate]:
    """Return the candidates, nearest to the reference first.

    Parameters
    ----------
    candidates : mapping of str to (C, D, H, W) float array
        Soft labels as probabilities, after the blend. `as_probability` makes them of signed maps. Not modified. They
        are divided by their sum over classes (a sum of 0 becomes the uniform distribution), for a score must not depend
        on a hidden weight; the deviation is reported.
    reference : (C, D, H, W) float array
        The true soft label, in [0, 1], summing to one. Not modified.
    include : (D, H, W) bool array, optional
        Voxels to count; by default all.

    Returns
    -------
    list of ScoredCandidate
        Sorted by the Brier score over all voxels, which only the truth minimises. Scores over the ambiguous voxels (any
        class between 5 and 95 % in the reference) say where the differences come from; alone they would reward a label
        that is vague everywhere.

    Raises
    ------
    InputError
        If shapes differ, a value is not a probability, or the reference does not sum to one within 0.01.

    Examples
    --------
    >>> truth = np.float32([[[[1, 0.5]]], [[[0, 0.5]]]])
    >>> hard, half = np.float32([[[[1, 1]]], [[[0, 0]]]]), np.float32([[[[1, 0.75]]], [[[0, 0.25]]]])
    >>> [(c.name, c.everywhere.brier, c.ambiguous.mae) for c in rank({"hard": hard, "half": half}, truth)]
    [('half', 0.0625, 0.25), ('hard', 0.25, 0.5)]
    """
    reference = np.asarray(reference)
    _check(reference, reference.shape, "reference")
    off = np.abs(reference.sum(axis=0, dtype=np.float64) - 1).max()
    if off > 0.01:
        raise InputError(f"reference: got sums over classes up to {off:.3g} away from 1, expected a distribution")
    included = np.ones(reference.shape[1:], bool) if include is None else include
    if not included.any():
        raise InputError("rank: no voxel to count; widen `include`")
    low, high = _AMBIGUOUS
    doubtful = included & ((reference > low) & (reference < high)).any(axis=0)
    ranked = []
    for name, soft in candidates.items():
        soft = np.asarray(soft)
        _check(soft, reference.shape, f"candidate {name}")
        ranked.append(_scored(name, soft, reference, included, doubtful))
    return sorted(ranked, key=lambda candidate: candidate.everywhere.brier)


def as_probability(values: NDArray[np.float32], kind: str) -> NDArray[np.float32]:
    """Return a target as probabilities, so that it can be ranked.

    Parameters
    ----------
    values : float array
        After the blend.
    kind : {"probability", "signed"}
        As in `softlabels.methods.Method`; -1 .. 1 becomes 0 .. 1 by (1 + S) / 2.

    Examples
    --------
    >>> as_probability(np.float32([-1, 0, 0.5]), "signed").tolist()
    [0.0, 0.5, 0.75]
    """
    if kind == "probability":
        return values
    if kind != "signed":
        raise InputError(f"rank: got a target of kind {kind!r}, expected 'probability' or 'signed'; mm are neither")
    return (np.asarray(values, np.float32) + np.float32(1)) * np.float32(0.5)


def _check(values: NDArray[np.floating], shape: tuple[int, ...], what: str) -> None:
    """Raise if an array is no map of probabilities of that shape."""
    if values.ndim != 4 or values.shape != shape:
        raise InputError(f"{what}: got shape {values.shape}, expected {shape} (classes, then z, y, x)")
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(f"{what}: got values from {low:.4g} to {high:.4g}, expected probabilities in [0, 1]")


def _scored(
    name: str,
    soft: NDArray[np.floating],
    reference: NDArray[np.floating],
    included: NDArray[np.bool_],
    doubtful: NDArray[np.bool_],
) -> ScoredCandidate:
    """Return one candidate's scores, slab by slab."""
    n_classes = len(reference)
    q, r = soft.reshape(n_classes, -1), reference.reshape(n_classes, -1)
    everywhere, ambiguous = _Sums(n_classes), _Sums(n_classes)
    deviation = 0.0
    for start in range(0, q.shape[1], _SLAB):
        part = slice(start, start + _SLAB)
        share, truth = q[:, part].astype(np.float32), r[:, part].astype(np.float32)
        total = share.sum(axis=0)
        deviation = max(deviation, float(np.abs(total - 1).max()))
        share = np.where(total > 0, share / np.where(total > 0, total, 1), np.float32(1 / n_classes))
        everywhere.add(share, truth, included.ravel()[part])
        ambiguous.add(share, truth, doubtful.ravel()[part])
    return ScoredCandidate(name, everywhere.scores(), ambiguous.scores(), deviation, *ambiguous.reliability())


class _Sums:
    """Running sums of the scores over a set of voxels."""

    def __init__(self, n_classes: int) -> None:
        self.n_voxels, self.brier, self.mae, self.surprise = 0, 0.0, 0.0, 0.0
        self.bins = np.zeros((3, n_classes * _N_BINS))

    def add(self, soft: NDArray[np.float32], truth: NDArray[np.float32], counted: NDArray[np.bool_]) -> None:
        """Add the counted voxels of a slab (C, n)."""
        soft, truth = soft[:, counted], truth[:, counted]
        gap = soft - truth
        self.n_voxels += soft.shape[1]
        self.brier += float((gap * gap).sum(dtype=np.float64))
        self.mae += 0.5 * float(np.abs(gap).sum(dtype=np.float64))
        self.surprise -= float((truth * np.log2(np.maximum(soft, np.float32(_FLOOR)))).sum(dtype=np.float64))
        place = np.minimum((soft * _N_BINS).astype(np.int64), _N_BINS - 1) + _N_BINS * np.arange(len(soft))[:, None]
        for line, weights in zip(self.bins, (None, soft.ravel(), truth.ravel()), strict=True):
            line += np.bincount(place.ravel(), weights, minlength=len(line))

    def scores(self) -> Scores:
        """Return the means; NaN where no voxel was counted."""
        n = self.n_voxels or np.nan
        values = self.bins[0].sum() or np.nan
        calibration = float(np.abs(self.bins[1] - self.bins[2]).sum() / values)
        return Scores(self.n_voxels, self.brier / n, self.mae / n, self.surprise / n, calibration)

    def reliability(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return mean forecast, mean truth and share of values of each bin, all classes together."""
        count, forecast, truth = self.bins.reshape(3, -1, _N_BINS).sum(axis=1)
        filled = np.where(count > 0, count, np.nan)
        return forecast / filled, truth / filled, count / (count.sum() or 1)
