"""A whole cohort as dask arrays: statistics over more voxels than fit into memory, every byte still checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from softlabels.classes import class_masks
from softlabels.cohort.case import CaseTarget, IndexedCohort, PreparedCase
from softlabels.cohort.case_table import IndexedCase
from softlabels.cohort.index import TargetDescription
from softlabels.grid import Grid, Window
from softlabels.store.format import block_shape
from softlabels.store.read import Entry

if TYPE_CHECKING:
    import dask.array

#: Of the store's largest chunks, how many make one dask block along each axis: a few MB, so that dask's own cost per
#: block is small.
_BLOCK = 2
#: From this many channels on, a block is as large as one such chunk along each axis.
_MANY = 16


def open_cohort(index: str | Path, *, store: str | Path | None = None) -> Cohort:
    """Return the cases of an index as dask arrays; nothing but the index is read before something is computed.

    Parameters
    ----------
    index : path
        index.json, as the pipeline wrote it.
    store : path, optional
        Where the store is now; by default where it was when the index was written, relative to the index.

    Returns
    -------
    Cohort

    Raises
    ------
    FormatError
        If the file is missing, no index, or changed since it was written.

    Examples
    --------
    The mean soft label of each class over all voxels of all cases, in bounded memory::

        cohort = softlabels.open_cohort("results/index.json")
        cohort.voxels(lambda case: case.soft_label("geols")).mean(axis=1).compute()
    """
    return Cohort(IndexedCohort.open(index, store))


class Cohort:
    """The cases of an index, in its order; made by `open_cohort`.

    Attributes
    ----------
    targets : mapping of str to TargetDescription
        The targets of the index.
    case_ids : tuple of str
        The cases.
    """

    def __init__(self, cohort: IndexedCohort) -> None:
        self.targets: Mapping[str, TargetDescription] = cohort.index.targets
        self.case_ids = cohort.index.cases.ids
        self._cohort = cohort

    def __len__(self) -> int:
        return len(self.case_ids)

    def __iter__(self) -> Iterator[CohortCase]:
        return (CohortCase(self._cohort, case) for case in self._cohort.index.cases)

    def __getitem__(self, case_id: str) -> CohortCase:
        return CohortCase(self._cohort, self._cohort.index.case(case_id))

    def voxels(self, of: Callable[[CohortCase], dask.array.Array]) -> dask.array.Array:
        """Return the voxels of all cases in one row per channel, for statistics that need no neighbours.

        Parameters
        ----------
        of : callable
            Takes a `CohortCase` and returns a dask array (C, D, H, W) or (D, H, W).

        Returns
        -------
        dask array
            (C, N) or (N,). The voxels are in the same order whatever `of` returns, so rows may be compared.
        """
        da = _dask_array()

        return da.concatenate([_flat(of(case)) for case in self], axis=-1)


class CohortCase:
    """One case: its grid and its layers as dask arrays, read and checked block by block.

    Attributes
    ----------
    id : str
    split : str or None
        From the case sheet.
    flags : tuple of str
        What a person should know about the case.
    """

    def __init__(self, cohort: IndexedCohort, case: IndexedCase) -> None:
        self.id, self.split, self.flags = case.id, case.split, case.flags
        self._cohort, self._case = cohort, case

    def __repr__(self) -> str:
        return f"CohortCase({self.id!r})"

    @cached_property
    def _prepared(self) -> PreparedCase:
        return self._cohort.case(self._case)

    def _target(self, name: str, **overrides: float | None) -> CaseTarget:
        """Return the case with one of its targets."""
        description = self._cohort.index.target(name).with_blend(**overrides)
        return self._cohort.target(self._case, name, description, self._prepared)

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self._prepared.grid

    @property
    def image(self) -> dask.array.Array:
        """The prepared image: dask array (M, D, H, W), float32."""
        return _lazy(self._prepared.entry, "image", self._prepared.image)

    @property
    def labels(self) -> dask.array.Array:
        """The hard labels: dask array (D, H, W), integers."""
        return _lazy(self._prepared.entry, "labels", self._prepared.labels)

    def masks(self, target: str) -> dask.array.Array:
        """Return the mask of each class of a target: dask array (C, D, H, W), bool."""
        classes = self._cohort.index.target(target).classes
        return _per_voxel(partial(class_masks, classes=classes), self.labels, n_channels=len(classes), dtype=bool)

    def stored(self, target: str) -> dask.array.Array:
        """Return the map that the store holds for a target, before blending: dask array (C, D, H, W), float32."""
        return _lazy_stored(self._target(target))

    def soft_label(self, target: str, **overrides: float | None) -> dask.array.Array:
        """Return what the loader trains on, with alpha, delta or epsilon replaced: dask (C, D, H, W), float32."""
        chosen = self._target(target, **overrides)
        stored = None if chosen.entry is None else _lazy_stored(chosen)
        soft_label = chosen.description.soft_label
        return _per_voxel(soft_label, self.labels, stored, n_channels=len(chosen.classes), dtype=np.float32)

    def blocks(self, target: str, **overrides: float | None) -> Iterator[tuple[Window, NDArray[np.float32]]]:
        """Yield windows that make up the volume, each with its soft label (C, d, h, w), float32, without dask.

        Of many classes a window is one chunk of the store, else several that are together as large as its largest ones.
        """
        chosen = self._target(target, **overrides)
        shape = self._prepared.shape
        # Whole chunks, so that each is decoded once.
        size = self._prepared.entry.chunks("labels") if chosen.entry is None else chosen.stored_map.chunks
        if len(chosen.classes) < _MANY:
            size = tuple(n * max(1, most // n) for n, most in zip(size, block_shape(shape), strict=True))
        starts = itertools.product(*(range(0, n, step) for n, step in zip(shape, size, strict=True)))
        for start in starts:
            window = [(a, min(a + step, n)) for a, step, n in zip(start, size, shape, strict=True)]
            yield window, chosen.soft_label(window)


class _LayerArray:
    """A layer as dask wants its sources: shape, dtype and indexing.

    Parameters
    ----------
    shape, dtype
        Of the whole layer.
    read : callable
        Takes a window and returns what the layer holds there.
    """

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike, read: Callable[[Window], NDArray[Any]]) -> None:
        self._read = read
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.ndim = len(self.shape)

    def __getitem__(self, index: tuple[slice | int, ...]) -> NDArray[Any]:
        """Read the box around a tuple of slices or integers, and take from it what was asked for."""
        parts = [slice(part, part + 1) if isinstance(part, int) else part for part in index]
        ranges = [range(n)[part] for part, n in zip(parts, self.shape, strict=True)]
        starts = [0] * (self.ndim - 3) + [min(part, default=0) for part in ranges[-3:]]
        box = [(start, max(part, default=0) + 1) for start, part in zip(starts[-3:], ranges[-3:], strict=True)]
        inside = tuple(_shifted(part, start) for part, start in zip(ranges, starts, strict=True))
        single = tuple(axis for axis, part in enumerate(index) if not isinstance(part, slice))
        return self._read(box)[inside].squeeze(single)


def _shifted(part: range, start: int) -> slice:
    """Return the slice that takes the indices of a range, less `start`."""
    if not part:
        return slice(0, 0)
    stop = part[-1] - start + (1 if part.step > 0 else -1)
    return slice(part[0] - start, None if stop < 0 else stop, part.step)


def _lazy(entry: Entry, name: str, read: Callable[[Window], NDArray[Any]]) -> dask.array.Array:
    """Return a layer as a dask array; equal entries give equal dask names."""
    source = _LayerArray(entry.shape(name), entry.dtype(name), read)
    return _blocks(source, f"{name}-{entry.manifest_digest}")


def _lazy_stored(target: CaseTarget) -> dask.array.Array:
    """Return the stored map of a target, all its classes, as a dask array."""
    stored = target.stored_map
    source = _LayerArray(stored.shape, np.float32, target.stored)
    return _blocks(source, f"target-{stored.entry.manifest_digest}")


def _blocks(source: _LayerArray, name: str) -> dask.array.Array:
    """Return a source as a dask array of blocks, the same for all layers; their borders may cut chunks."""
    da = _dask_array()

    lead = source.shape[:-3]
    step = _BLOCK if math.prod(lead) < _MANY else 1
    block = tuple(step * n for n in block_shape(source.shape[-3:]))
    return da.from_array(source, chunks=lead + block, name=name, asarray=False)


def _per_voxel(
    function: Callable[..., NDArray[Any]],
    labels: dask.array.Array,
    stored: dask.array.Array | None = None,
    *,
    n_channels: int,
    dtype: type,
) -> dask.array.Array:
    """Return a function of labels (D, H, W), and perhaps a map (C, D, H, W), applied block by block."""
    da = _dask_array()

    if stored is None:
        return da.map_blocks(function, labels, chunks=((n_channels,), *labels.chunks), new_axis=0, dtype=dtype)
    aligned = stored.rechunk({0: -1, **dict(enumerate(labels.chunks, 1))})
    return da.blockwise(function, "czyx", labels, "zyx", aligned, "czyx", dtype=dtype)


def _dask_array() -> ModuleType:
    """Return dask.array, or raise ImportError with the remedy: what only trains does without dask."""
    try:
        import dask.array
    except ImportError as error:
        raise ImportError("open_cohort needs dask: pip install 'softlabels[workflow]'", name=error.name) from error
    return dask.array


def _flat(array: dask.array.Array) -> dask.array.Array:
    """Return (C, N) or (N,): block after block, so that nothing has to be moved between blocks."""
    da = _dask_array()

    if array.ndim == 4:
        array = array.rechunk({0: -1})
    lead = array.shape[:-3]
    blocks = array.to_delayed().reshape(-1)
    sizes = np.prod(np.stack(np.meshgrid(*array.chunks[-3:], indexing="ij")), axis=0).reshape(-1)
    flat = [
        da.from_delayed(block.reshape((*lead, -1)), (*lead, int(size)), dtype=array.dtype)
        for block, size in zip(blocks, sizes, strict=True)
    ]
    return da.concatenate(flat, axis=-1)
