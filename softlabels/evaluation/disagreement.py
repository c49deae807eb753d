"""Whether a soft reference looks like the disagreement of a few raters, rather than like partial volume; pure.

A mean of R raters takes the values 0, 1/R, ..., 1, but so does the mean over a block of R voxels. What differs is how
wide the ambiguous zone is: a block that holds two classes is where a boundary is, while raters disagree over several
voxels. A reference looks like raters if both hold:

- it has few levels: all values are multiples of 1/R, for one R up to 30;
- its ambiguous zone is wide: a fifth or more of the ambiguous voxels have ambiguous neighbours only (of the 26).

Of 18 cells with eight or nine raters, 56 to 92 % of the ambiguous voxels have such neighbours; of 53 block means of
brains, tumours, spinal cords, breasts and abdominal organs at most 1.4 %. Tissue maps of an atlas have a wide zone too
(68 % of ICBM152), but many levels. The criterion does not see raters whose mean was resampled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.evaluation.scores import AMBIGUOUS

#: The most raters that are recognised by their levels.
MOST_RATERS = 30
#: The share of inner ambiguous voxels from which on a reference of few levels looks like raters.
INNER_SHARE = 0.2
#: How far a value may be from a multiple of 1/R: references are also stored with three digits.
_TOLERANCE = 2e-3


@dataclass(frozen=True)
class ReferenceSoftness:
    """Where and in which steps a reference is soft.

    Attributes
    ----------
    n_levels : int or None
        The least R up to `MOST_RATERS` whose multiples of 1/R all values are; None if there is none.
    inner_share : float
        Share of the ambiguous voxels whose neighbours are all ambiguous; 0 if no voxel is.
    """

    n_levels: int | None
    inner_share: float

    @property
    def looks_like_raters(self) -> bool:
        """Whether the reference looks like the mean of a few raters."""
        return self.n_levels is not None and self.n_levels > 1 and self.inner_share >= INNER_SHARE


def reference_softness(reference: NDArray[np.floating]) -> ReferenceSoftness:
    """Return where and in which steps a reference is soft.

    Parameters
    ----------
    reference : (C, D, H, W) float array
        Probabilities. Not modified. An axis of one voxel has no neighbours.

    Examples
    --------
    Five raters who draw one edge at five places, against an edge that crosses one voxel:

    >>> raters = np.float32([[[[0, 0, 0.2, 0.4, 0.6, 0.8, 1, 1]]]])
    >>> reference_softness(np.concatenate([raters, 1 - raters]))
    ReferenceSoftness(n_levels=5, inner_share=0.5)
    >>> block = np.float32([[[[0, 0, 0, 0.2, 1, 1, 1, 1]]]])
    >>> reference_softness(np.concatenate([block, 1 - block]))
    ReferenceSoftness(n_levels=5, inner_share=0.0)
    """
    from scipy import ndimage

    low, high = AMBIGUOUS
    ambiguous: NDArray[np.bool_] = np.any((reference > low) & (reference < high), axis=0)
    n_ambiguous = np.count_nonzero(ambiguous)
    if not n_ambiguous:
        return ReferenceSoftness(_levels(reference), 0.0)
    neighbours = np.ones([3 if size > 1 else 1 for size in ambiguous.shape], bool)
    inner = ndimage.binary_erosion(ambiguous, neighbours, border_value=1)
    return ReferenceSoftness(_levels(reference), float(np.count_nonzero(inner) / n_ambiguous))


def _levels(reference: NDArray[np.floating]) -> int | None:
    """Return the least R whose multiples of 1/R all values are."""
    values = np.unique(np.round(reference, 4))
    for n in range(1, MOST_RATERS + 1):
        if np.abs(values - np.round(values * n) / n).max() <= _TOLERANCE:
            return n
    return None
