"""Which soft label is nearest to a soft truth: scores of candidates against probability maps or the mean of raters.

A method's own figures cannot say whether its label is right. Where a true soft reference exists (tissue probability
maps, the mean of several raters, a finer label averaged to the grid) each candidate made of the hard label is a
forecast of it and is scored as one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.evaluation.scores import Scores, VoxelSets, checked_probabilities, score


@dataclass(frozen=True)
class ScoredCandidate:
    """One soft label with its scores over three sets of voxels, and its reliability.

    Attributes
    ----------
    name : str
    everywhere, ambiguous, boundary : Scores
        Over all voxels; those that the reference gives a class between 5 and 95 %; those within two voxel sides of a
        boundary between the largest classes of the reference.
    sum_deviation : float
        Largest distance of the sum over classes from 1, before it was divided out for scoring.
    forecast, observed, share : (20,) float64 arrays
        Reliability over all classes and ambiguous voxels: mean of q and of r in each bin of q (NaN in an empty bin),
        and the bin's share of values.
    """

    name: str
    everywhere: Scores
    ambiguous: Scores
    boundary: Scores
    sum_deviation: float
    forecast: NDArray[np.float64]
    observed: NDArray[np.float64]
    share: NDArray[np.float64]


def rank(
    candidates: Mapping[str, NDArray[np.floating]],
    reference: NDArray[np.floating],
    *,
    include: NDArray[np.bool_] | None = None,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    is_overlapping: bool = False,
) -> list[ScoredCandidate]:
    """Return the candidates, nearest to the reference first.

    Parameters
    ----------
    candidates : mapping of str to (C, D, H, W) float array
        Soft labels as probabilities, after the blend. `as_probability` makes them of signed maps. Not modified. They
        are divided by their sum over classes (a sum of 0 becomes the uniform distribution), for a score must not depend
        on a hidden weight; the deviation is reported.
    reference : (C, D, H, W) float array
        The true soft label, in [0, 1], summing to one unless regions overlap. Not modified.
    include : (D, H, W) bool array, optional
        Voxels to count; by default all.
    spacing : 3 floats
        Voxel size in mm, (z, y, x): for the width of the boundary band.
    is_overlapping : bool
        Whether each class is a region of its own. Scores are then means over regions.

    Returns
    -------
    list of ScoredCandidate
        Sorted by the Brier score over all voxels, which only the truth minimises. Scores over the ambiguous voxels (any
        class between 5 and 95 % in the reference) say where the differences come from; alone they would reward a label
        that is vague everywhere.

    Raises
    ------
    InputError
        If shapes differ, a value is not a probability, or the reference does not sum to one within 0.01 though classes
        exclude each other.

    Examples
    --------
    >>> truth = np.float32([[[[1, 0.5]]], [[[0, 0.5]]]])
    >>> hard, half = np.float32([[[[1, 1]]], [[[0, 0]]]]), np.float32([[[[1, 0.75]]], [[[0, 0.25]]]])
    >>> [(c.name, c.everywhere.brier, c.ambiguous.mae) for c in rank({"hard": hard, "half": half}, truth)]
    [('half', 0.0625, 0.25), ('hard', 0.25, 0.5)]
    """
    reference = np.asarray(reference)
    checked_probabilities(reference, reference.shape, "reference")
    if not is_overlapping:
        _check_distribution(reference, include)
    voxels = VoxelSets.of(reference, include, spacing, is_overlapping=is_overlapping)
    ranked = []
    for name, soft in candidates.items():
        soft = np.asarray(soft)
        checked_probabilities(soft, reference.shape, f"candidate {name}")
        sets = (voxels.everywhere, voxels.ambiguous, voxels.boundary)
        (everywhere, ambiguous, boundary), deviation = score(soft, reference, sets, is_overlapping=is_overlapping)
        three = (everywhere.scores(), ambiguous.scores(), boundary.scores())
        ranked.append(ScoredCandidate(name, *three, deviation, *ambiguous.reliability()))
    return sorted(ranked, key=lambda candidate: candidate.everywhere.brier)


def _check_distribution(reference: NDArray[np.floating], include: NDArray[np.bool_] | None) -> None:
    """Raise InputError unless a reference sums to one where it counts; elsewhere it may be the votes of no rater."""
    counted = reference.reshape(len(reference), -1) if include is None else reference[:, include]
    off = np.abs(counted.sum(axis=0, dtype=np.float64) - 1).max(initial=0)
    if off > 0.01:
        raise InputError(f"reference: got sums over classes up to {off:.3g} away from 1, expected a distribution")


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
