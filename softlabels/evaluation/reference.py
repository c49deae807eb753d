"""True soft labels: probability maps from files or the mean of raters, on the grid of a case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels.classes import LabelClass, class_masks
from softlabels.cohort.case import PreparedCase, naming
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.sheet import Case
from softlabels.inputs.volume import read_volume
from softlabels.methods.multi_rater import mean_map
from softlabels.preprocess.resample import resample


def read_reference(paths: Sequence[str | Path], grid: Grid) -> NDArray[np.float32]:
    """Return a true soft label on a grid, from one map per class or one file with a channel per class.

    Maps are resampled linearly. If they do not sum to one everywhere, what is missing is the background, put first.

    Parameters
    ----------
    paths : sequence of paths
        In the order of the classes; the background may be left out.
    grid : Grid
        Of the prepared case; its axes must run as those of the maps.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1], summing to one.

    Raises
    ------
    InputError
        If a map has values outside [0, 1], or their sum exceeds one.
    """
    maps = []
    for path in paths:
        volume = read_volume(path)
        channels = volume.values if volume.values.ndim == 4 else volume.values[None]
        maps += [resample(channel, volume.grid, grid, "linear").astype(np.float32) for channel in channels]
    reference = np.stack(maps)
    total = reference.sum(axis=0)
    if reference.min() < 0 or total.max() > 1.01:
        raise InputError(
            f"reference {', '.join(map(str, paths))}: got values from {reference.min():.3g} and sums up to "
            f"{total.max():.3g}, expected probabilities of one distribution"
        )
    if np.abs(total - 1).max() > 0.01:
        reference = np.concatenate([np.maximum(1 - total, 0)[None], reference])
    return reference


def case_reference(case: Case, prepared: PreparedCase, classes: Sequence[LabelClass]) -> NDArray[np.float32]:
    """Return the true soft label that the case sheet names, on the grid of the prepared case.

    Parameters
    ----------
    case : Case
        With a reference: files, or the mean of the further raters. The rater of the hard label has no vote, because
        candidates are made of that label.
    prepared : PreparedCase
    classes : sequence of C LabelClass
        Exclusive classes, the background first.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1]; sums to one, except where every rater gives the ignore label.

    Raises
    ------
    InputError
        If the case has no reference, it has other classes, or its maps are no probabilities.
    """
    names = [one.name for one in classes]
    if not case.reference:
        raise InputError(f"case {case.id}: no reference in the case sheet. Add a column 'reference' with its path")
    if case.has_rater_reference:
        with naming(case.id, "prepare", prepared.entry.key):
            raters = prepared.entry.read("raters")
        votes = mean_map(np.stack([class_masks(one, classes) for one in raters[1:]]))
        total = votes.sum(axis=0)
        votes /= np.where(total > 0, total, np.float32(1))
        return votes
    paths = list(case.reference)
    if given := case.reference_classes:
        if unknown := sorted((set(given) ^ set(names)) - {names[0]}):
            raise InputError(
                f"case {case.id}: reference columns for {', '.join(given)}, expected one for each of "
                f"{', '.join(names)}, the first optional; check {', '.join(unknown)}"
            )
        paths = [case.reference[given.index(name)] for name in names if name in given]
    try:
        reference = read_reference(paths, prepared.grid)
    except InputError as error:
        raise type(error)(f"case {case.id}: {error}") from error
    if len(reference) != len(classes):
        raise InputError(
            f"case {case.id}: reference {', '.join(paths)} has {len(reference)} classes with the background, expected "
            f"{len(classes)}: {', '.join(names)}"
        )
    return reference
