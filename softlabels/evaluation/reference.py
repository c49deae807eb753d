"""True soft labels: probability maps from files or the mean of raters, on the grid of a case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from softlabels.classes import LabelClass, LabelSet, class_masks, valid_voxels
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.sheet import Case
from softlabels.inputs.volume import read_volume
from softlabels.methods.multi_rater import mean_map
from softlabels.preprocess.resample import resample


class RatedCase(Protocol):
    """A case on a grid: `softlabels.cohort.case.PreparedCase`, or one that was read from its files."""

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        ...

    @property
    def ignore_label(self) -> int | None:
        """The label of voxels that no loss may look at."""
        ...

    def raters(self) -> NDArray[np.integer]:
        """Return the (R, D, H, W) labels of all raters, that of the hard labels first."""
        ...

    def valid(self) -> NDArray[np.bool_]:
        """Return the voxels that a loss may use, (D, H, W), as a new array."""
        ...


def read_reference(paths: Sequence[str | Path], grid: Grid, *, is_overlapping: bool = False) -> NDArray[np.float32]:
    """Return a true soft label on a grid, from one map per class or one file with a channel per class.

    Maps are resampled linearly. If they do not sum to one everywhere, what is missing is the background, put first.
    Maps of regions that overlap are taken as they are.

    Parameters
    ----------
    paths : sequence of paths
        In the order of the classes; the background may be left out.
    grid : Grid
        Of the prepared case; its axes must run as those of the maps.
    is_overlapping : bool
        Whether each map is of a region of its own.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1], summing to one unless regions overlap.

    Raises
    ------
    InputError
        If a map has values outside [0, 1], or their sum exceeds one though they do not overlap.
    """
    maps = []
    for path in paths:
        volume = read_volume(path)
        channels = volume.values if volume.values.ndim == 4 else volume.values[None]
        maps += [resample(channel, volume.grid, grid, "linear").astype(np.float32) for channel in channels]
    reference = np.stack(maps)
    if is_overlapping:
        if reference.min() < 0 or reference.max() > 1:
            raise InputError(
                f"reference {', '.join(map(str, paths))}: got values from {reference.min():.3g} to "
                f"{reference.max():.3g}, expected a probability for each region"
            )
        return reference
    total = reference.sum(axis=0)
    if reference.min() < 0 or total.max() > 1.01:
        raise InputError(
            f"reference {', '.join(map(str, paths))}: got values from {reference.min():.3g} and sums up to "
            f"{total.max():.3g}, expected probabilities of one distribution"
        )
    if np.abs(total - 1).max() > 0.01:
        reference = np.concatenate([np.maximum(1 - total, 0)[None], reference])
    return reference


def case_reference(case: Case, prepared: RatedCase, classes: Sequence[LabelClass]) -> NDArray[np.float32]:
    """Return the true soft label that the case sheet names, on the grid of the prepared case.

    Parameters
    ----------
    case : Case
        With a reference: files, or the mean of the further raters. The rater of the hard label has no vote, because
        candidates are made of that label.
    prepared : RatedCase
    classes : sequence of C LabelClass
        Exclusive classes, the background first; or regions that overlap, without a background.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1]; sums to one over exclusive classes, except where every rater gives the ignore label. A rater who
        gives it has no vote there.

    Raises
    ------
    InputError
        If the case has no reference, it has other classes, or its maps are no probabilities.
    """
    names = [one.name for one in classes]
    is_overlapping = not any(one.is_background for one in classes)
    if not case.reference:
        raise InputError(f"case {case.id}: no reference in the case sheet. Add a column 'reference' with its path")
    if case.has_rater_reference:
        raters = prepared.raters()[1:]
        votes = mean_map(np.stack([class_masks(one, classes) for one in raters]))
        total = votes.sum(axis=0)
        if is_overlapping:
            total = np.mean(valid_voxels(raters, prepared.ignore_label), axis=0, dtype=np.float32)
        votes /= np.where(total > 0, total, np.float32(1))
        return votes
    paths = list(case.reference)
    if given := case.reference_classes:
        if unknown := sorted((set(given) ^ set(names)) - (set() if is_overlapping else {names[0]})):
            raise InputError(
                f"case {case.id}: reference columns for {', '.join(given)}, expected one for each of "
                f"{', '.join(names)}{'' if is_overlapping else ', the first optional'}; check {', '.join(unknown)}"
            )
        paths = [case.reference[given.index(name)] for name in names if name in given]
    try:
        reference = read_reference(paths, prepared.grid, is_overlapping=is_overlapping)
    except InputError as error:
        raise type(error)(f"case {case.id}: {error}") from error
    if len(reference) != len(classes):
        counted = "" if is_overlapping else " with the background"
        raise InputError(
            f"case {case.id}: reference {', '.join(paths)} has {len(reference)} classes{counted}, expected "
            f"{len(classes)}: {', '.join(names)}"
        )
    return reference


def counted_voxels(
    prepared: RatedCase, reference: NDArray[np.floating], labels: LabelSet, *, of_raters: bool
) -> NDArray[np.bool_]:
    """Return the voxels of a case that scores are taken over, (D, H, W).

    Parameters
    ----------
    prepared : RatedCase
    reference : (C, D, H, W) array
        The true soft label.
    labels : LabelSet
    of_raters : bool
        Whether the reference is the mean of the further raters.

    Returns
    -------
    (D, H, W) bool array
        Whether the label is not the ignore label, and at least one rater of the reference has given another one, too.
        Of exclusive classes, also whether the reference has a class there; of regions that overlap, a voxel outside of
        all of them counts.
    """
    counted = prepared.valid()
    if of_raters and prepared.ignore_label is not None:
        counted &= (prepared.raters()[1:] != prepared.ignore_label).any(axis=0)
    return counted if labels.is_overlapping else counted & (reference.sum(axis=0) > 0.5)
