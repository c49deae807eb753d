"""The masks of the classes of a prepared case, each in its box."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import Box, bounding_box
from softlabels._shared.boxed import NO_BOX, BoxedVolumes, hull
from softlabels.classes import LabelClass, value_mask

#: SciPy lists the boxes of all values up to the largest, so each larger value is looked for alone.
_MOST_LISTED = 1 << 16
#: As many values are looked for alone in less time than SciPy takes to be imported and to list them.
_FEW = 8


def boxed_class_masks(labels: NDArray[np.integer], classes: Sequence[LabelClass]) -> BoxedVolumes:
    """Return the mask of each class in its bounding box; dense, they are `class_masks`.

    Parameters
    ----------
    labels : (D, H, W) ndarray of integers
        Not modified.
    classes : sequence of C LabelClass
        Classes may share values (overlapping regions).

    Returns
    -------
    BoxedVolumes of bool
        A class without voxels has an empty box.

    Notes
    -----
    Cost: a pass over the volume for each of up to 8 values and for each value above 65535, two passes for all others.
    Memory: the boxes, which for organs add up to little more than the volume.

    Examples
    --------
    >>> classes = [LabelClass("background", (0,)), LabelClass("tumour", (1, 2))]
    >>> masks = boxed_class_masks(np.array([[[0, 1, 2, 0]]]), classes)
    >>> [values.astype(int).tolist() for _, values in masks]
    [[[[1, 0, 0, 1]]], [[[1, 1]]]]
    """
    boxes = _value_boxes(labels, {value for one in classes for value in one.values})
    parts = []
    for one in classes:
        box = hull([boxes[value] for value in one.values])
        parts.append((box, value_mask(labels[box], one.values)))
    return BoxedVolumes(labels.shape, parts, fill=False, dtype=bool)


def _value_boxes(labels: NDArray[np.integer], values: Collection[int]) -> dict[int, Box]:
    """Return the bounding box of each of some values."""
    found: dict[int, Box | None] = {}
    if len(values) > _FEW and labels.max(initial=0) < _MOST_LISTED:
        from scipy import ndimage

        listed = cast("list[Box | None]", ndimage.find_objects(labels))
        found = dict(enumerate(listed, start=1))
    boxes = {value: found[value] if value in found else bounding_box(labels == value) for value in values}
    return {value: box or NO_BOX for value, box in boxes.items()}
