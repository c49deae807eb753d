"""Volumes that are made when they are read: what a hundred maps take that have no small boxes, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import Box


class VolumesOnDemand:
    """C volumes of one shape, made a few at a time when they are read; only those read last are held.

    It has the shape and dtype of the (C, D, H, W) array that it represents, so that it can be written to the store like
    one. It belongs to one thread. Volumes that are read again are made again.

    Parameters
    ----------
    shape : 4 ints
        (C, D, H, W).
    make : callable
        ``make(first, stop)`` returns the volumes first .. stop - 1 as a new array (n, D, H, W). It must give the same
        ones each time.
    dtype : dtype
        Of all values.
    n_together : int
        The most volumes that are made at once.

    Examples
    --------
    >>> def make(first, stop):
    ...     print("make", first, stop)
    ...     return np.full((stop - first, 1, 1, 2), first)
    >>> volumes = VolumesOnDemand((3, 1, 1, 2), make, dtype=int, n_together=2)
    >>> volumes.volume(0).tolist(), volumes.volume(1).tolist(), volumes.volume(2).tolist()
    make 0 2
    make 2 3
    ([[[0, 0]]], [[[0, 0]]], [[[2, 2]]])
    """

    ndim = 4

    def __init__(
        self, shape: tuple[int, ...], make: Callable[[int, int], NDArray[Any]], *, dtype: Any, n_together: int = 1
    ) -> None:
        self.shape: tuple[int, ...] = tuple(int(n) for n in shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.n_together = n_together
        self._make = make
        self._first, self._held = 0, np.empty((0, *self.shape[1:]), self.dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, region: tuple[slice, ...], /) -> NDArray[Any]:
        """Return the values of a region: four slices over (C, D, H, W)."""
        return np.stack([self.volume(c)[region[1:]] for c in range(*region[0].indices(len(self)))])

    def volume(self, index: int) -> NDArray[Any]:
        """Return one volume (D, H, W), which the caller does not keep or write to."""
        if not self._first <= index < self._first + len(self._held):
            first = index // self.n_together * self.n_together
            # Not two groups in memory at a time.
            self.release()
            self._held, self._first = self._make(first, min(first + self.n_together, len(self))), first
        return self._held[index - self._first]

    def are_together(self, first: int, stop: int) -> bool:
        """Return whether the volumes first .. stop - 1 are made at once."""
        return first // self.n_together == (stop - 1) // self.n_together

    def several(self, first: int, stop: int) -> NDArray[Any]:
        """Return the volumes first .. stop - 1 as one array, which the caller does not keep or write to."""
        if self.are_together(first, stop):
            self.volume(first)
            return self._held[first - self._first : stop - self._first]
        out = np.empty((stop - first, *self.shape[1:]), self.dtype)
        for index, volume in enumerate(out, start=first):
            volume[...] = self.volume(index)
        return out

    def release(self, before: int | None = None) -> None:
        """Forget the volumes that are held; if `before` is given, only when all of them are before that one."""
        if before is None or before >= self._first + len(self._held):
            self._held = self._held[:0].copy()

    def part(self, first: int, stop: int) -> VolumesOnDemand:
        """Return some of the volumes, with volumes of its own that are held."""
        make = self._make
        return VolumesOnDemand(
            (stop - first, *self.shape[1:]),
            lambda start, end: make(first + start, first + end),
            dtype=self.dtype,
            n_together=self.n_together,
        )

    def changed(self, change: Callable[[NDArray[Any]], NDArray[Any]], dtype: Any) -> VolumesOnDemand:
        """Return what a function gives of the volumes (n, D, H, W), which it may overwrite: they are new arrays."""
        make = self._make
        return VolumesOnDemand(
            self.shape, lambda first, stop: change(make(first, stop)), dtype=dtype, n_together=self.n_together
        )

    def within(self, context: Callable[[], AbstractContextManager[None]]) -> VolumesOnDemand:
        """Return the volumes, made in a context each time."""
        make = self._make

        def make_within(first: int, stop: int) -> NDArray[Any]:
            with context():
                return make(first, stop)

        return VolumesOnDemand(self.shape, make_within, dtype=self.dtype, n_together=self.n_together)

    def dense(self) -> NDArray[Any]:
        """Return the (C, D, H, W) array, newly allocated."""
        out = np.empty(self.shape, self.dtype)
        for index, volume in enumerate(out):
            volume[...] = self.volume(index)
        self.release()
        return out


class ChannelsOnDemand:
    """The (C, D, H, W) maps of M channels, read or made a channel at a time; it has the shape of the whole array.

    Parameters
    ----------
    volumes : VolumesOnDemand
        (M C, D, H, W): the maps of one channel after those of another.
    n_classes : int
        C.

    Attributes
    ----------
    failure : Exception, optional
        What reading or making a channel raised: an error of these volumes, not of whoever goes through them.

    Examples
    --------
    >>> maps = np.arange(6).reshape(6, 1, 1, 1)
    >>> channels = ChannelsOnDemand(VolumesOnDemand(maps.shape, lambda a, b: maps[a:b], dtype=int, n_together=3), 3)
    >>> channels.shape, [channel.ravel().tolist() for channel in channels]
    ((2, 3, 1, 1, 1), [[0, 1, 2], [3, 4, 5]])
    """

    ndim = 5

    def __init__(self, volumes: VolumesOnDemand, n_classes: int) -> None:
        self.shape: tuple[int, ...] = (len(volumes) // n_classes, n_classes, *volumes.shape[1:])
        self.failure: Exception | None = None
        self._volumes = volumes

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the maps of each channel, which are forgotten when the next are asked for."""
        n_classes = self.shape[1]
        for first in range(0, len(self._volumes), n_classes):
            yield self._read(first, first + n_classes)
            self._volumes.release(before=first + n_classes)

    def _read(self, first: int, stop: int) -> NDArray[Any]:
        """Return the maps of one channel, or note why there are none."""
        try:
            return self._volumes.several(first, stop)
        except Exception as error:
            self.failure = error
            raise


@dataclass(frozen=True)
class VolumesByBlock:
    """C float32 volumes that are made block by block of the volume, all of them at once.

    Parameters
    ----------
    shape : 4 ints
        (C, D, H, W).
    blocks : sequence of boxes
        Which together are the volume.
    read : callable
        Returns the values (C, d, h, w) of one of the blocks, in any thread.
    """

    shape: tuple[int, ...]
    blocks: Sequence[Box]
    read: Callable[[Box], NDArray[np.float32]]
