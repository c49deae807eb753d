"""The stored map of a target, whichever way it is stored: dense or sparse on request, in a window.

A dense map is the layer `target` (C, D, H, W). A sparse one is the layers `shares` and `classes` (K, D, H, W); see
docs/store.md. Nothing else reads the layers of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.sparse import NO_FLOOR, SparseLabel, one_class, to_dense
from softlabels.store.encoding import Encoding
from softlabels.store.read import Entry

_DENSE, _SHARES, _CLASSES = "target", "shares", "classes"


@dataclass(frozen=True)
class StoredMap:
    """The map of an entry of stage target, before blending.

    Parameters
    ----------
    entry : Entry
    """

    entry: Entry

    @property
    def is_sparse(self) -> bool:
        """Whether the largest classes of each voxel are stored, not all of them."""
        return _SHARES in self.entry.layers

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the C classes, in order."""
        names = self.entry.flag_meanings(_CLASSES) if self.is_sparse else self.entry.channels(_DENSE)
        return names or ()

    @property
    def n_kept(self) -> int:
        """K, the classes stored at each voxel; C of a dense map."""
        return self.entry.shape(_SHARES if self.is_sparse else _DENSE)[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, D, H, W), whichever way the map is stored."""
        return (len(self.class_names), *self.entry.grid.shape)

    @property
    def chunks(self) -> tuple[int, ...]:
        """The chunks on disk, (z, y, x)."""
        return self.entry.chunks(_SHARES if self.is_sparse else _DENSE)[-3:]

    @property
    def encoding(self) -> Encoding:
        """How the values of a dense map are stored; InputError if the map is stored sparse."""
        return self._dense_entry().encoding(_DENSE)

    @property
    def encoded_dtype(self) -> np.dtype[Any]:
        """The dtype of `encoded`."""
        return self._dense_entry().stored_dtype(_DENSE)

    def encoded(
        self, window: Sequence[slice | Sequence[int]] | None = None, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Return the (C, d, h, w) map as it is on disk: integers that `encoding` decodes, or float32.

        Parameters
        ----------
        window : three slices or (start, stop) pairs, optional
            By default the whole volume.
        out : (C, d, h, w) ndarray of `encoded_dtype`, optional
            Where to write it.
        """
        return self._dense_entry().read(_DENSE, window, out=out, as_stored=True)

    def _dense_entry(self) -> Entry:
        """Return the entry, or raise InputError if the map is stored sparse."""
        if self.is_sparse:
            raise InputError("the map is stored by its largest classes. Use the dense or the sparse soft label")
        return self.entry

    def dense(
        self,
        window: Sequence[slice | Sequence[int]] | None = None,
        *,
        channels: tuple[int, int] | None = None,
        n_threads: int = 1,
    ) -> NDArray[np.float32]:
        """Return the (C, d, h, w) map, or some of its classes.

        Parameters
        ----------
        window : three slices or (start, stop) pairs, optional
            By default the whole volume.
        channels : tuple of 2 ints, optional
            First class and the one after the last; by default all.
        n_threads : int
            Threads that decode.

        Raises
        ------
        FormatError
            If a byte is not what was published.
        """
        if not self.is_sparse:
            return np.asarray(self.entry.read(_DENSE, window, n_threads, channels=channels), np.float32)
        label, n_classes = self.sparse(window, n_threads=n_threads), len(self.class_names)
        if channels is None:
            return to_dense(label, n_classes)
        if not 0 <= channels[0] < channels[1] <= n_classes:
            raise InputError(f"channels: got {tuple(channels)}, expected (start, stop) inside ({n_classes},)")
        return np.stack([one_class(label, number) for number in range(*channels)])

    def sparse(
        self, window: Sequence[slice | Sequence[int]] | None = None, *, n_threads: int = 1
    ) -> SparseLabel[NDArray[Any]]:
        """Return the K largest classes of each voxel, (K, d, h, w); InputError if the map is stored dense."""
        if not self.is_sparse:
            raise InputError("the map is stored dense. Set `storage: sparse` for the target and run snakemake again")
        shares, classes = (self.entry.read(name, window, n_threads) for name in (_SHARES, _CLASSES))
        return SparseLabel(classes, shares, NO_FLOOR)
