"""The target of a method whose map of a class depends on that class alone: made while it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.on_demand import VolumesOnDemand
from softlabels.classes import LabelSet
from softlabels.methods.by_class import ClassInputs, MethodByClass, notes_of_target
from softlabels.pipeline.stages.base import Job, Upstream

#: Classes computed at once, however many threads there are: what `MethodByClass.by_class_cost` states the memory of.
_MOST_TOGETHER = 2


def target_by_class(
    job: Job, sources: Upstream, labels: LabelSet, method: MethodByClass
) -> tuple[VolumesOnDemand, Callable[[], dict[str, Any]]]:
    """Return the maps of a target, made one after another when they are read, and what then returns its figures."""
    from softlabels.methods.quality import QualityByClass

    read = _reader(sources, labels, method)
    n_together = min(job.threads or 1, _MOST_TOGETHER) if method.in_threads else 1
    shape = (len(labels.classes), *sources.grid.shape)
    quality = QualityByClass(shape, kind=method.kind)
    flags: dict[int, list[str]] = {}
    notes: dict[int, dict[str, Any]] = {}

    def make(first: int, stop: int) -> NDArray[np.float32]:
        """Return the maps of some classes."""
        classes = [read(index) for index in range(first, stop)]
        maps = method.compute_classes(classes, n_together)
        for index, one, found in zip(range(first, stop), classes, maps, strict=True):
            quality.add(index, found.values, one.mask)
            flags[index], notes[index] = found.flags, found.notes
        return np.stack([found.values for found in maps])

    def figures() -> dict[str, Any]:
        """Return the figures of all classes."""
        in_order = range(len(labels.classes))
        own_flags = [flag for index in in_order for flag in flags[index]]
        own_notes = notes_of_target([notes[index] for index in in_order])
        return quality.figures() | {"flags": own_flags, "notes": own_notes}

    return VolumesOnDemand(shape, make, dtype=np.float32, n_together=n_together), figures


def _reader(sources: Upstream, labels: LabelSet, method: MethodByClass) -> Callable[[int], ClassInputs]:
    """Return what returns the inputs of each class."""
    n_classes, space = len(labels.classes), tuple(slice(0, n) for n in sources.grid.shape)
    masks, domain = sources.boxed_masks(labels.classes), sources.domain()
    image = sources.read("prepare", "image") if "image" in method.needs else None
    seeds = sources.read_boxed("seeds", "seeds", fill=False) if "seeds" in method.needs else None
    distance: list[VolumesOnDemand] = []
    if "distance" in method.needs:
        maps = sources.volumes("distance", "distance")
        distance = [maps.part(first, first + n_classes) for first in range(0, len(maps), n_classes)]

    def read(index: int) -> ClassInputs:
        """Return the inputs of one class."""
        return ClassInputs(
            name=labels.names[index],
            mask=masks.region(index, space),
            spacing=sources.grid.spacing,
            image=image,
            domain=domain,
            seeds=None if seeds is None else seeds.region(index, space),
            read_distance=(lambda: np.stack([part.volume(index) for part in distance])) if distance else None,
        )

    return read
