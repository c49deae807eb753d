"""Volumes that differ from one value only in a box each: what a hundred classes take, without a hundred volumes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import Box, bounding_box

_Scalar = TypeVar("_Scalar", bound=np.generic)

#: The box of a volume that has its one value everywhere.
NO_BOX: Box = (slice(0, 0), slice(0, 0), slice(0, 0))


class BoxedVolumes(Sequence[tuple[Box, NDArray[Any]]]):
    """C volumes of one shape, such as one per class, each held as the values in a box and one value everywhere else.

    It has the shape, dtype and slicing of the (C, D, H, W) array that it represents, so that it can be written to the
    store like one; iterating gives (box, values) of each volume.

    Parameters
    ----------
    shape : 3 ints
        (D, H, W).
    parts : iterable of C pairs (Box, array)
        For each volume its box, with start and stop inside of the shape, and the values there; `NO_BOX` and an empty
        array for a volume that is `fill` everywhere. The arrays are neither copied nor modified.
    fill : scalar
        The value around the boxes.
    dtype : dtype
        Of all values.

    Examples
    --------
    >>> box = (slice(0, 1), slice(0, 1), slice(1, 3))
    >>> maps = BoxedVolumes((1, 1, 4), [(box, np.float32([[[5, 6]]]))], fill=np.inf, dtype=np.float32)
    >>> maps.shape, maps.dense().tolist()
    ((1, 1, 1, 4), [[[[inf, 5.0, 6.0, inf]]]])
    >>> maps[0:1, 0:1, 0:1, 2:4].tolist(), maps.nbytes
    ([[[[6.0, inf]]]], 8)
    """

    ndim = 4

    def __init__(
        self, shape: Sequence[int], parts: Sequence[tuple[Box, NDArray[Any]]], *, fill: float, dtype: Any
    ) -> None:
        self._parts = list(parts)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.fill: Any = self.dtype.type(fill)
        depth, height, width = (int(n) for n in shape)
        self.shape: tuple[int, int, int, int] = (len(self._parts), depth, height, width)
        for box, values in self._parts:
            expected = tuple(part.stop - part.start for part in box)
            if values.shape != expected or values.dtype != self.dtype:
                raise ValueError(
                    f"boxed volumes: got {values.dtype} {values.shape}, expected {self.dtype} {expected} of {box}"
                )

    @classmethod
    def of_array(cls, dense: NDArray[Any], *, fill: float) -> BoxedVolumes:
        """Return the volumes (C, D, H, W) of an array, each cut to the box of what is not `fill`.

        Examples
        --------
        >>> BoxedVolumes.of_array(np.array([[[[0, 7, 0]]]]), fill=0)[0][1].tolist()
        [[[7]]]
        """
        return cls(dense.shape[1:], [boxed(volume, fill=fill) for volume in dense], fill=fill, dtype=dense.dtype)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self) -> Iterator[tuple[Box, NDArray[Any]]]:
        return iter(self._parts)

    def __getitem__(self, index: Any, /) -> Any:
        """Return (box, values) of one volume, or the dense array of a region: four slices over (C, D, H, W)."""
        if isinstance(index, tuple):
            return np.stack([self.region(c, index[1:]) for c in range(*index[0].indices(len(self)))])
        return self._parts[index]

    def region(self, index: int, space: tuple[slice, ...]) -> NDArray[Any]:
        """Return the dense values (d, h, w) of one volume in a region of space."""
        spans = self._spans(space)
        out = np.full([stop - start for start, stop in spans], self.fill, self.dtype)
        common = self._common(index, spans)
        if common is not None:
            box, values = self._parts[index]
            to = tuple(slice(a - start, b - start) for (a, b), (start, _) in zip(common, spans, strict=True))
            out[to] = values[tuple(slice(a - p.start, b - p.start) for (a, b), p in zip(common, box, strict=True))]
        return out

    def is_filled(self, index: int, space: tuple[slice, ...]) -> bool:
        """Return whether one volume is surely `fill` throughout a region of space, because its box does not meet it."""
        return self._common(index, self._spans(space)) is None

    def _spans(self, space: tuple[slice, ...]) -> list[tuple[int, int]]:
        """Return start and stop along each axis of space."""
        return [part.indices(n)[:2] for part, n in zip(space, self.shape[1:], strict=True)]

    def _common(self, index: int, spans: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
        """Return start and stop along each axis of what a region has in common with a box; None if nothing."""
        box = self._parts[index][0]
        common = [(max(a, part.start), min(b, part.stop)) for (a, b), part in zip(spans, box, strict=True)]
        return common if all(a < b for a, b in common) else None

    def dense(self) -> NDArray[Any]:
        """Return the (C, D, H, W) array, newly allocated."""
        out = np.full(self.shape, self.fill, self.dtype)
        for volume, (box, values) in zip(out, self._parts, strict=True):
            volume[box] = values
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of the values in all boxes."""
        return sum(values.nbytes for _, values in self._parts)


def boxed(volume: NDArray[_Scalar], *, fill: float) -> tuple[Box, NDArray[_Scalar]]:
    """Return the box of what is not `fill` in one volume (D, H, W), and a copy of the values in it.

    Examples
    --------
    >>> boxed(np.array([[[0, 7, 0]]]), fill=0)
    ((slice(0, 1, None), slice(0, 1, None), slice(1, 2, None)), array([[[7]]]))
    """
    box = bounding_box(volume != volume.dtype.type(fill)) or NO_BOX
    return box, volume[box].copy()


def hull(boxes: Sequence[Box]) -> Box:
    """Return the smallest box that holds all boxes that hold anything; `NO_BOX` if none does.

    Examples
    --------
    >>> hull([(slice(0, 1), slice(2, 3), slice(4, 5)), NO_BOX, (slice(0, 2), slice(0, 1), slice(4, 6))])
    (slice(0, 2, None), slice(0, 3, None), slice(4, 6, None))
    """
    full = [box for box in boxes if all(part.start < part.stop for part in box)]
    if not full:
        return NO_BOX
    z, y, x = (slice(min(p.start for p in parts), max(p.stop for p in parts)) for parts in zip(*full, strict=True))
    return z, y, x


def intersection(one: Box, other: Box) -> Box:
    """Return the box that two boxes share; `NO_BOX` if they share nothing.

    Examples
    --------
    >>> intersection((slice(0, 4), slice(0, 4), slice(0, 4)), (slice(2, 9), slice(1, 2), slice(3, 5)))
    (slice(2, 4, None), slice(1, 2, None), slice(3, 4, None))
    """
    z, y, x = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return (z, y, x) if all(side.start < side.stop for side in (z, y, x)) else NO_BOX


def within(box: Box, space: Box) -> Box:
    """Return a box of the volume as slices of the values in a larger box.

    Examples
    --------
    >>> within((slice(3, 4), slice(1, 2), slice(5, 8)), (slice(2, 9), slice(0, 2), slice(5, 9)))
    (slice(1, 2, None), slice(1, 2, None), slice(0, 3, None))
    """
    if box == NO_BOX:
        return NO_BOX
    z, y, x = (slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, space, strict=True))
    return z, y, x


def blocks_of(shape: Sequence[int], side: int) -> list[Box]:
    """Return boxes of at most `side` voxels along each axis that cover a volume.

    Examples
    --------
    >>> blocks_of((1, 2, 3), 2)[1]
    (slice(0, 1, None), slice(0, 2, None), slice(2, 3, None))
    """
    starts = itertools.product(*(range(0, n, side) for n in shape))
    return [_block(start, side, shape) for start in starts]


def _block(start: Sequence[int], side: int, shape: Sequence[int]) -> Box:
    """Return one block."""
    z, y, x = (slice(a, min(a + side, n)) for a, n in zip(start, shape, strict=True))
    return z, y, x


def widened(box: Box, margin: Sequence[int], shape: Sequence[int]) -> Box:
    """Return a box with a margin (z, y, x) on either side, cut at the border of a volume; `NO_BOX` stays what it is.

    Examples
    --------
    >>> widened((slice(0, 1), slice(4, 6), slice(3, 4)), (1, 1, 2), (1, 9, 9))
    (slice(0, 1, None), slice(3, 7, None), slice(1, 6, None))
    """
    if any(part.start >= part.stop for part in box):
        return NO_BOX
    z, y, x = (
        slice(max(part.start - extra, 0), min(part.stop + extra, n))
        for part, extra, n in zip(box, margin, shape, strict=True)
    )
    return z, y, x


def moved(part: tuple[Box, NDArray[_Scalar]], space: Box) -> tuple[Box, NDArray[_Scalar]]:
    """Return a box within a box, and its values, as a box of the volume.

    Examples
    --------
    >>> moved(((slice(0, 1), slice(0, 1), slice(1, 3)), np.ones((1, 1, 2))), (slice(5, 6), slice(0, 9), slice(2, 9)))[0]
    (slice(5, 6, None), slice(0, 1, None), slice(3, 5, None))
    """
    box, values = part
    if not values.size:
        return NO_BOX, values.reshape(0, 0, 0)
    return placed(box, space), values


def placed(box: Box, space: Box) -> Box:
    """Return a box within a box as a box of the volume.

    Examples
    --------
    >>> placed((slice(0, 1), slice(0, 1), slice(1, 3)), (slice(5, 6), slice(0, 9), slice(2, 9)))
    (slice(5, 6, None), slice(0, 1, None), slice(3, 5, None))
    """
    if box == NO_BOX:
        return NO_BOX
    z, y, x = (slice(a.start + b.start, a.stop + b.start) for a, b in zip(box, space, strict=True))
    return z, y, x
