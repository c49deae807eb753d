"""Whole cases from a network's output on the patches of a grid."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.patches import stitch


def stitch_cases(
    dataset: SoftLabelDataset,
    predictions: Iterable[tuple[str, Sequence[int], ArrayLike]],
    weight: ArrayLike | None = None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the case id and the whole volume of each case from a network's output on the patches of a grid.

    Parameters
    ----------
    dataset : SoftLabelDataset
        Of mode "grid", with 3D patches.
    predictions : iterable of (case_id, origin, patch)
        In the order of the dataset (no shuffling); patch is a (C, d, h, w) array.
    weight : (d, h, w) ndarray, optional
        As for `softlabels.training.patches.stitch`.

    Yields
    ------
    case_id : str
    volume : (C, D, H, W) ndarray of float32
    """
    for case_id, group in itertools.groupby(predictions, key=operator.itemgetter(0)):
        _, origins, patches = zip(*group, strict=True)
        yield case_id, stitch(patches, [tuple(map(int, o)) for o in origins], dataset.shape_of(case_id), weight)
