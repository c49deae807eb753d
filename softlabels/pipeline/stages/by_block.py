"""A distribution over many classes from all distances: made block by block, since it needs all classes at a voxel."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import Box
from softlabels._shared.on_demand import VolumesByBlock
from softlabels._shared.rate import Rate
from softlabels.classes import LabelSet
from softlabels.methods.seeded import GeodesicMethod
from softlabels.pipeline.stages.base import Upstream

if TYPE_CHECKING:
    from softlabels.store.read import Entry

#: What that takes.
BY_BLOCK = Rate(us=0.04, memory_bytes=0.2, disk_bytes=0.04, volume_bytes=60)
#: Voxels of a block: those of which `largest_classes` ranks the classes together.
_BLOCK = 1 << 16


def target_by_block(
    sources: Upstream, distance: Entry, labels: LabelSet, method: GeodesicMethod
) -> tuple[VolumesByBlock, Callable[[], dict[str, Any]]]:
    """Return the map of a target from an entry of all distances, and what returns its figures once it has been read.

    Each block is read once; several threads may do so.
    """
    from softlabels.methods.quality import Quality

    classes, masks = labels.classes, sources.boxed_masks(labels.classes)
    n_classes, shape = len(classes), masks.shape[1:]
    farthest, is_reached = _reach(sources, n_classes)
    for index, (_, mask) in enumerate(masks):
        if mask.any() and not is_reached[:, index].any():
            raise method.out_of_reach(labels.names[index])
    quality, lock = Quality(n_classes), threading.Lock()

    def read(box: Box) -> NDArray[np.float32]:
        """Return the map (C, d, h, w) of a block."""
        hard = masks[0:n_classes, *box]
        near = distance.read("distance", box).reshape(-1, *hard.shape)
        soft = method.compute_voxels(near, hard, farthest)
        with lock:
            quality.add(soft.reshape(n_classes, -1), hard.reshape(n_classes, -1))
        return soft

    def figures() -> dict[str, Any]:
        """Return the figures of all blocks."""
        absent = [f"class '{n}' absent" for n, (_, mask) in zip(labels.names, masks, strict=True) if not mask.any()]
        return quality.figures() | {"flags": absent, "notes": {}}

    return VolumesByBlock(masks.shape, _blocks(shape, distance.chunks("distance")[1:]), read), figures


def _reach(sources: Upstream, n_classes: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the largest finite distance of each map (M, C), 0 if there is none, and whether there is any."""
    volumes = sources.volumes("distance", "distance")
    farthest, is_reached = np.zeros(len(volumes), np.float32), np.zeros(len(volumes), bool)
    for index in range(len(volumes)):
        volume = volumes.volume(index)
        is_finite = np.isfinite(volume)
        is_reached[index] = is_finite.any()
        farthest[index] = np.max(volume, where=is_finite, initial=0.0)
    return farthest.reshape(-1, n_classes), is_reached.reshape(-1, n_classes)


def _blocks(shape: tuple[int, ...], chunks: tuple[int, ...]) -> list[Box]:
    """Return blocks that cover a volume, each within one chunk of space, whole rows of it as far as they go."""
    depth = max(1, _BLOCK // (chunks[1] * chunks[2]))
    # Planes of one chunk, then of the next: no block reaches into two.
    planes = [
        slice(top, min(top + depth, chunk.stop))
        for chunk in _parts(shape[0], chunks[0])
        for top in range(chunk.start, chunk.stop, depth)
    ]
    return list(product(planes, _parts(shape[1], chunks[1]), _parts(shape[2], chunks[2])))


def _parts(n: int, size: int) -> list[slice]:
    """Return slices of a size that cover an axis; the last may be shorter."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
