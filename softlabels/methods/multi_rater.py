"""Several raters fused to one probability per class: their plain mean, or STAPLE (Warfield et al., TMI 2004).

In [0, 1]; sums to one wherever any rater gives a class: one who gives none, such as the ignore label, has no vote
there. A class that no rater marks is 0 everywhere. Padding is 1 for the background and 0 elsewhere. All augmentations
keep it valid. There are no load-time parameters.

STAPLE here is the multi-label form, with one confusion matrix per rater, for classes that exclude each other; for two
classes it is the binary STAPLE of SimpleITK. Regions that overlap are binary problems of their own. Both weigh raters
by how well they agree with the consensus, and are near certain almost everywhere: a mean of votes says more about
ambiguity.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels.errors import InputError
from softlabels.methods.arrays import Need, TargetInputs, TargetMap
from softlabels.methods.base import Method

#: Start of each rater's diagonal, the value that ITK starts from.
_TRUST = 0.99999
#: The iteration ends when no entry of a confusion matrix changes by more than the tolerance; more rounds are an error.
_TOLERANCE, _MOST_ROUNDS = 1e-7, 2000


class MultiRater(Method):
    """The raters of a case fused to one probability per class."""

    name: ClassVar[str] = "multi_rater"
    title: ClassVar[str] = "raters"
    source: ClassVar[str] = "mean; STAPLE: Warfield, Zou and Wells, TMI 2004"
    version: ClassVar[str] = "3"
    needs: ClassVar[frozenset[Need]] = frozenset({"raters"})

    fusion: Literal["mean", "staple"] = Field("mean", description="plain average, or STAPLE")

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the fused labels of a case."""
        raters = inputs.required("raters")
        if len(raters) < 2:
            raise InputError(f"got {len(raters)} rater, expected at least 2; list more label files in the sheet")
        names = zip(inputs.class_names, np.any(raters, axis=(0, 2, 3, 4)), strict=True)
        flags = [f"class '{name}' absent in all raters" for name, is_marked in names if not is_marked]
        notes = {"n_raters": len(raters)}
        if self.fusion == "mean":
            return TargetMap(mean_map(raters), flags, notes)
        if inputs.background is not None:
            values, trust = staple(raters)
        else:
            # One binary problem per region: inside against outside.
            regions = [staple(np.stack([raters[:, c], ~raters[:, c]], axis=1)) for c in range(raters.shape[1])]
            values = np.stack([inside[0] for inside, _ in regions])
            trust = np.stack([matrix for _, matrix in regions])
        return TargetMap(values, flags, {**notes, "confusion": trust.round(6).tolist()})


def mean_map(raters: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the share of raters who marked each class.

    Parameters
    ----------
    raters : (R, C, D, H, W) bool array

    Returns
    -------
    (C, D, H, W) float32 array

    Examples
    --------
    >>> mean_map(np.array([[[[[1, 1, 0]]]], [[[[1, 0, 0]]]]], bool)).ravel().tolist()
    [1.0, 0.5, 0.0]
    """
    total = np.zeros(raters.shape[1:], np.float32)
    for rater in raters:
        total += rater
    total /= np.float32(len(raters))
    return total


def staple(raters: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the probability of each class given all raters, and how well each rater did.

    Parameters
    ----------
    raters : (R, C, D, H, W) bool array
        Masks of classes that exclude each other. A voxel without any class is a decision of its own, which never is the
        truth.

    Returns
    -------
    values : (C, D, H, W) float32 array
        Sums to one.
    confusion : (R, C + 1, C) float64 array
        Probability that a rater decides k (C: nothing) where the truth is c; columns sum to one.

    Raises
    ------
    InputError
        If the iteration does not settle.

    Notes
    -----
    The prior of a class is its share of all decisions. Voxels with the same decisions have the same result, so the
    iteration runs over distinct patterns of decisions, of which there are few.

    Examples
    --------
    >>> three = np.zeros((3, 2, 1, 1, 8), bool)
    >>> three[:, 1, ..., 2:6] = True
    >>> three[2, 1, ..., 5] = False  # the third rater misses a voxel
    >>> three[:, 0] = ~three[:, 1]
    >>> values, confusion = staple(three)
    >>> values[1].ravel().round(3).tolist(), float(confusion[2, 1, 1].round(3))  # the third finds 3 of 4
    ([0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0], 0.75)
    """
    n_raters, n_classes = raters.shape[:2]
    decisions = _decisions(raters)
    patterns, inverse, counts = _patterns(decisions, n_classes + 1)
    picked = np.eye(n_classes + 1)[patterns]
    prior = np.einsum("p,prk->k", counts, picked)[:n_classes]
    prior /= prior.sum()
    off = (1 - _TRUST) / n_classes
    confusion = np.full((n_raters, n_classes + 1, n_classes), off)
    confusion[:, np.arange(n_classes), np.arange(n_classes)] = _TRUST
    for _ in range(_MOST_ROUNDS):
        posterior = _posterior(patterns, confusion, prior)
        weighted = posterior * counts[:, None]
        volume = weighted.sum(axis=0)
        updated = np.einsum("pc,prk->rkc", weighted, picked)
        np.divide(updated, volume, out=updated, where=volume > 0)
        updated[..., volume == 0] = confusion[..., volume == 0]
        moved, confusion = np.abs(updated - confusion).max(), updated
        if moved <= _TOLERANCE:
            values = posterior.astype(np.float32)[inverse].T
            return np.ascontiguousarray(values).reshape(raters.shape[1:]), confusion
    raise InputError(f"STAPLE: not settled after {_MOST_ROUNDS} rounds; use fusion 'mean'")


def _decisions(raters: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return each rater's class per voxel as (R, N) uint8, the number of classes where there is none."""
    n_raters, n_classes = raters.shape[:2]
    decisions = np.full((n_raters, raters[0, 0].size), n_classes, np.uint8)
    for rater, row in zip(raters.reshape(n_raters, n_classes, -1), decisions, strict=True):
        for index, mask in enumerate(rater):
            row[mask] = index
    return decisions


def _patterns(
    decisions: NDArray[np.uint8], base: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return distinct columns (P, R), the pattern of each voxel, and how often each occurs."""
    codes = np.zeros(decisions.shape[1], np.int64)
    for row in decisions:
        codes *= base
        codes += row
    is_unanimous = (decisions == decisions[0]).all(axis=0)
    # Sorting is for the few voxels on which raters differ; the others are as many patterns as decisions.
    disputed, inverse_disputed = np.unique(codes[~is_unanimous], return_inverse=True)
    agreed = np.flatnonzero(np.bincount(decisions[0][is_unanimous], minlength=base))
    unit = sum(base**k for k in range(len(decisions)))
    place = np.zeros(base, np.int64)
    place[agreed] = np.arange(len(agreed))
    inverse = np.empty(len(codes), np.int64)
    inverse[is_unanimous] = place[decisions[0][is_unanimous]]
    inverse[~is_unanimous] = inverse_disputed + len(agreed)
    kinds = np.concatenate([agreed * unit, disputed])
    digits = [kinds // base**k % base for k in reversed(range(len(decisions)))]
    return np.stack(digits, axis=1), inverse, np.bincount(inverse, minlength=len(kinds)).astype(np.float64)


def _posterior(
    patterns: NDArray[np.int64], confusion: NDArray[np.float64], prior: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the probability of each class for each pattern, (P, C)."""
    with np.errstate(divide="ignore"):
        score = np.log(prior) + sum(np.log(matrix[row]) for matrix, row in zip(confusion, patterns.T, strict=True))
    score -= score.max(axis=1, keepdims=True)
    found = np.exp(score)
    return found / found.sum(axis=1, keepdims=True)
