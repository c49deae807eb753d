"""Segments that overlap, as 3D Slicer stores them (`.seg.nrrd` of several layers), as one label volume.

Each combination of segments that may meet in a voxel gets a value of its own: segment i (in the order of the file, from
0) adds 2^i. A class of the configuration is then a region: all values that contain its segment.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.header import Segment

#: A region lists 2^(n-1) values: 128 for eight segments.
MAX_OVERLAPPING = 8


def overlapping_labels(layers: NDArray[Any], segments: Sequence[Segment], what: str) -> NDArray[np.uint8]:
    """Return one label volume for segments in several layers.

    Parameters
    ----------
    layers : (L, D, H, W) array
        Label values of each layer.
    segments : sequence of Segment
        At most 8.
    what : str
        Named in errors.

    Returns
    -------
    (D, H, W) uint8 array
        The sum of 2^i over the segments i that contain the voxel; 0 where there is none.

    Raises
    ------
    InputError
        There are more segments, one is in no layer, or a layer has values of no segment.

    Examples
    --------
    >>> layers = np.array([[0, 1, 1], [0, 0, 1]]).reshape(2, 1, 1, 3)
    >>> overlapping_labels(layers, [Segment("organ", 1, 0), Segment("lesion", 1, 1)], "a.seg.nrrd").ravel().tolist()
    [0, 1, 3]
    """
    if len(segments) > MAX_OVERLAPPING:
        raise InputError(
            f"{what}: got {len(segments)} segments in {len(layers)} layers, expected at most {MAX_OVERLAPPING} that "
            "overlap; export fewer segments, or a label map without overlap"
        )
    places = {(segment.layer, segment.value) for segment in segments}
    if len(places) < len(segments) or not all(0 <= layer < len(layers) for layer, _ in places):
        raise InputError(
            f"{what}: got segments at (layer, value) {sorted(places)} of {len(layers)} layers; save it again"
        )
    for layer, values in enumerate(layers):
        strange = sorted({int(v) for v in np.unique(values)} - {0} - {value for at, value in places if at == layer})
        if strange:
            raise InputError(f"{what}: layer {layer} has values {strange[:8]} of no segment; save it again in Slicer")
    labels = np.zeros(layers.shape[1:], np.uint8)
    for i, segment in enumerate(segments):
        labels |= (layers[segment.layer] == segment.value).astype(np.uint8) << i
    return labels


def segment_labels(segments: Sequence[Segment]) -> dict[str, int | list[int]]:
    """Return the `labels` of a configuration for one segmentation: name to value, or to all values of a region.

    Parameters
    ----------
    segments : sequence of Segment
        If they are in several layers, they may overlap and become regions.

    Examples
    --------
    >>> segment_labels([Segment("liver", 3), Segment("kidney", 7)])
    {'liver': 3, 'kidney': 7}
    >>> segment_labels([Segment("organ", 1, 0), Segment("lesion", 1, 1)])
    {'organ': [1, 3], 'lesion': [2, 3]}
    """
    if len({segment.layer for segment in segments}) < 2:
        return {segment.name: segment.value for segment in segments}
    values = range(1, 2 ** len(segments))
    return {segment.name: [v for v in values if v >> i & 1] for i, segment in enumerate(segments)}
