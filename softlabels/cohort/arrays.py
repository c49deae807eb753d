"""A whole cohort as dask arrays: statistics over more voxels than fit into memory, every byte still checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from softlabels.blend import RULES, blend, class_masks, resolved_blend
from softlabels.cohort.case import read_index
from softlabels.errors import FormatError, InputError
from softlabels.grid import Grid
from softlabels.store.read import Entry, open_entry

#: Chunks of the store that make one dask block along each axis: a few MB, so that dask's own cost per block is small.
_BLOCK = 2


def open_cohort(index, *, store=None) -> Cohort:
    """Return the cases of an index as dask arrays; nothing but the index is read before something is computed.

    Parameters
    ----------
    index : path
        index.json, as the pipeline wrote it.
    store : path, optional
        Where the store lies now; by default where it lay when the index was written, seen from the index.

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
    path = Path(index)
    content = read_index(path)
    return Cohort(path.parent / content["store"] if store is None else Path(store), content)


class Cohort:
    """The cases of an index, in its order; made by `open_cohort`.

    Attributes
    ----------
    targets : dict
        Target name to its description in the index.
    case_ids : tuple of str
        The cases.
    """

    def __init__(self, store: Path, index: dict):
        self.targets = index["targets"]
        self._cases = {case["id"]: CohortCase(store, case, self.targets) for case in index["cases"]}
        self.case_ids = tuple(self._cases)

    def __len__(self) -> int:
        return len(self._cases)

    def __iter__(self) -> Iterator[CohortCase]:
        return iter(self._cases.values())

    def __getitem__(self, case_id: str) -> CohortCase:
        if case_id not in self._cases:
            raise InputError(
                f"case {case_id!r}: not in the index, which has {len(self)} cases such as {self.case_ids[0]}"
            )
        return self._cases[case_id]

    def voxels(self, of: Callable[[CohortCase], object]):
        """Return the voxels of all cases in one row per channel, for statistics that need no neighbours.

        Parameters
        ----------
        of : callable
            Takes a `CohortCase` and returns a dask array (C, D, H, W) or (D, H, W).

        Returns
        -------
        dask array
            (C, N) or (N,). The voxels lie in the same order whatever `of` returns, so rows may be compared.
        """
        import dask.array as da

        return da.concatenate([_flat(of(case)) for case in self], axis=-1)


class CohortCase:
    """One case: its grid and its layers as dask arrays, read and checked block by block.

    Attributes
    ----------
    id, split : str
        From the case sheet.
    flags : list of str
        What a person should know about the case.
    """

    def __init__(self, store: Path, case: dict, targets: dict):
        self.id, self.split, self.flags = case["id"], case.get("split"), case.get("flags", [])
        self._store, self._case, self._targets = store, case, targets

    def __repr__(self):
        return f"CohortCase({self.id!r})"

    @cached_property
    def _prepare(self) -> Entry:
        return self._entry(self._case["prepare"], "prepare")

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return self._prepare.grid

    @property
    def image(self):
        """The prepared image: dask array (M, D, H, W), float32."""
        return _lazy(self._prepare, "image")

    @property
    def labels(self):
        """The hard labels: dask array (D, H, W), integers."""
        return _lazy(self._prepare, "labels")

    def masks(self, target: str):
        """Return the mask of each class of a target: dask array (C, D, H, W), bool."""
        classes = self._described(target)["classes"]
        return _per_voxel(partial(class_masks, classes=classes), self.labels, n_channels=len(classes), dtype=bool)

    def stored(self, target: str):
        """Return the map that the store holds for a target, before blending: dask array (C, D, H, W), float32."""
        self._described(target)
        if target not in self._case["targets"]:
            raise InputError(f"case {self.id}: target {target!r} is derived from the labels, nothing is stored for it")
        return _lazy(self._entry(self._case["targets"][target], f"target {target!r}"), "target")

    def soft_label(self, target: str, **overrides):
        """Return what the loader trains on, with alpha, delta or epsilon replaced: dask (C, D, H, W), float32."""
        mixed, needs_stored = self._blend(target, **overrides)
        masks = self.masks(target)
        arrays = [masks, self.stored(target)] if needs_stored else [masks]
        return _per_voxel(mixed, *arrays, n_channels=masks.shape[0], dtype=np.float32)

    def slabs(self, target: str, **overrides) -> Iterator[np.ndarray]:
        """Yield the soft label slab after slab of some planes: (C, d, H, W), float32, without dask."""
        mixed, needs_stored = self._blend(target, **overrides)
        classes = self._described(target)["classes"]
        n_z, *plane = self.grid.shape
        entry = self._entry(self._case["targets"][target], f"target {target!r}") if needs_stored else None
        depth = (entry or self._prepare).chunks("target" if entry else "labels")[-3]
        for z in range(0, n_z, depth):
            box = [(z, min(z + depth, n_z)), *((0, n) for n in plane)]
            masks = class_masks(self._prepare.read("labels", box), classes=classes)
            yield mixed(masks, entry.read("target", box)) if needs_stored else mixed(masks)

    def _blend(self, target, **overrides):
        """Return the function of masks (and stored map) that makes the soft label, and whether it takes that map."""
        described = self._described(target)
        rule = resolved_blend(described["blend"], **overrides)
        return partial(blend, is_overlapping=described["is_overlapping"], **rule), RULES[rule["rule"]][1]

    def _described(self, target):
        """Return the description of a target."""
        if target not in self._targets:
            raise InputError(f"target {target!r}: not in the index, which has {', '.join(self._targets)}")
        return self._targets[target]

    def _entry(self, address, role):
        """Return the store entry at an address of the index."""
        entry = open_entry(self._store, address["key"], address["manifest"])
        if entry is None:
            raise FormatError(
                f"case {self.id}, {role}: entry {address['key'][:12]} is not in {self._store}. Run snakemake again"
            )
        return entry


class _LayerArray:
    """A layer as dask wants its sources: shape, dtype and indexing."""

    def __init__(self, entry, name):
        self._entry, self._name = entry, name
        self.shape, self.dtype = entry.shape(name), entry.dtype(name)
        self.ndim = len(self.shape)

    def __getitem__(self, index):
        """Read the box around a tuple of slices or integers, and take from it what was asked for."""
        ranges = [range(n)[part] for part, n in zip(index, self.shape, strict=True)]
        ranges = [range(part, part + 1) if isinstance(part, int) else part for part in ranges]
        starts = [0] * (self.ndim - 3) + [min(part, default=0) for part in ranges[-3:]]
        box = [(start, max(part, default=0) + 1) for start, part in zip(starts[-3:], ranges[-3:], strict=True)]
        inside = tuple(_shifted(part, start) for part, start in zip(ranges, starts, strict=True))
        single = tuple(axis for axis, part in enumerate(index) if not isinstance(part, slice))
        return self._entry.read(self._name, box)[inside].squeeze(single)


def _shifted(part, start):
    """Return the slice that takes the indices of a range, less `start`."""
    if not part:
        return slice(0, 0)
    stop = part[-1] - start + (1 if part.step > 0 else -1)
    return slice(part[0] - start, None if stop < 0 else stop, part.step)


def _lazy(entry, name):
    """Return a layer as a dask array; equal entries give equal dask names."""
    import dask.array as da

    lead = entry.shape(name)[:-3]
    blocks = lead + tuple(_BLOCK * n for n in entry.chunks(name)[-3:])
    return da.from_array(_LayerArray(entry, name), chunks=blocks, name=f"{name}-{entry.manifest_digest}", asarray=False)


def _per_voxel(function, *arrays, n_channels, dtype):
    """Return a function of whole channel stacks applied block by block."""
    import dask.array as da

    first = arrays[0]
    if first.ndim == 3:
        return da.map_blocks(function, first, chunks=((n_channels,), *first.chunks), new_axis=0, dtype=dtype)
    aligned = [array.rechunk({0: -1, **dict(enumerate(first.chunks[1:], 1))}) for array in arrays]
    return da.map_blocks(function, *aligned, dtype=dtype)


def _flat(array):
    """Return (C, N) or (N,): block after block, so that nothing has to be moved between blocks."""
    import dask.array as da

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
