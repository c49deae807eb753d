"""What methods share that compute many classes one by one, each in its box."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import Box, smooth_near_boundary
from softlabels._shared.boxed import NO_BOX, BoxedVolumes, widened
from softlabels._shared.rate import Rate
from softlabels.errors import InputError
from softlabels.methods.arrays import BoxedInputs, BoxedMap, TargetInputs, TargetMap
from softlabels.methods.base import Method, is_short

#: Smooths a box of a mask, as `smooth_near_boundary` takes it.
Smooth = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class BoxedMethod(Method):
    """A method whose map of many classes is computed class by class, in boxes; memory follows these.

    The pipeline calls `compute_boxed` where there are many classes or the target is stored sparse, and of methods that
    read distances where these end at a gap. Without a `soft_map` of its own, a method is computed so for few classes,
    too.

    Attributes
    ----------
    boxed_cost : Rate
        Measured per voxel and class, of a map computed so.
    """

    boxed_cost: ClassVar[Rate] = Rate(us=0.003, memory_bytes=0.05, disk_bytes=0.04, volume_us=0.1, volume_bytes=25)

    @classmethod
    def check_declaration(cls) -> None:
        """Raise TypeError if `boxed_map` is that of a base class whose `soft_map` the class has replaced."""
        super().check_declaration()
        of_soft, of_boxed = (next(c for c in cls.__mro__ if name in vars(c)) for name in ("soft_map", "boxed_map"))
        if BoxedMethod not in (of_boxed, of_soft) and of_boxed is not of_soft:
            raise TypeError(
                f"{cls.__name__} (method {cls.name!r}): has the soft_map of {of_soft.__name__} and the boxed_map of "
                f"{of_boxed.__name__}; implement both in one class"
            )

    @classmethod
    def has_boxed_map(cls) -> bool:
        """Return whether the class implements `boxed_map`."""
        return cls.boxed_map is not BoxedMethod.boxed_map

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the map that `boxed_map` makes, dense."""
        found = self.boxed_map(BoxedInputs.of_arrays(inputs))
        return TargetMap(found.values.dense(), found.flags, found.notes)

    def boxed_map(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the map of one case, 0 around the boxes; `compute_boxed` checks what comes out."""
        raise NotImplementedError

    def compute_boxed(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the map of one case with many classes, each in its box, checked and shared out as `compute` does."""
        try:
            found = self.boxed_map(inputs)
        except InputError as error:
            raise type(error)(f"method {self.name}: {error}") from error
        if self.sums_to_one and inputs.background is not None:
            _share_out(found.values)
        for _, values in found.values:
            if values.size:
                self._check_range(float(values.min()), float(values.max()))
        return found


def smoothed(masks: BoxedVolumes, smooth: Smooth, margin: Sequence[int], threads: int) -> BoxedVolumes:
    """Return what `smooth_near_boundary` gives of each mask, in the box of the mask and its margin.

    Parameters
    ----------
    masks : BoxedVolumes of bool
        In boxes that are as small as they can be.
    smooth, margin
        As in `smooth_near_boundary`.
    threads : int
        Classes at a time; no effect on the result.

    Examples
    --------
    >>> masks = BoxedVolumes.of_array(np.array([[[[0, 0, 0, 0, 1]]]], bool), fill=False)
    >>> smoothed(masks, lambda box: box / 2, (0, 0, 1), 1)[0]
    ((slice(0, 1, None), slice(0, 1, None), slice(3, 5, None)), array([[[0. , 0.5]]], dtype=float32))
    """
    shape = masks.shape[1:]

    def of_class(index: int) -> tuple[Box, NDArray[np.float32]]:
        """Smooth one mask."""
        box = masks[index][0]
        if box == NO_BOX:
            return NO_BOX, np.empty((0, 0, 0), np.float32)
        space = widened(box, margin, shape)
        mask = masks.region(index, space)
        if mask.shape == shape:
            return space, smooth_near_boundary(mask, smooth, margin)
        return space, smooth(mask.astype(np.float32))

    with ThreadPoolExecutor(threads) as pool:
        parts = list(pool.map(of_class, range(len(masks))))
    return BoxedVolumes(shape, parts, fill=0, dtype=np.float32)


def _share_out(values: BoxedVolumes) -> None:
    """Divide by the sum, in place, where mass went to voxels of no class, as `compute` does."""
    total = np.zeros(values.shape[1:], np.float32)
    for box, part in values:
        total[box] += part
    short = is_short(total)
    if short.any():
        for box, part in values:
            np.divide(part, total[box], out=part, where=short[box])
