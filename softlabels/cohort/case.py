"""A case with its target: image, hard labels and soft label, read from the store and named in every error.

A case is found through index.json (`IndexedCohort`) or through the receipts of a project that may be
unfinished (`softlabels.view.entries`). Both ways lead to the same two classes. They need numpy and the store's own
reader, hold no open file, and may be pickled or used after a fork.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.archive import is_archive
from softlabels.classes import LabelClass, class_masks, valid_voxels
from softlabels.cohort.case_table import EntryAddress, IndexedCase
from softlabels.cohort.index import INDEX_FILE, Index, TargetDescription
from softlabels.cohort.stored_map import StoredMap
from softlabels.errors import FormatError, InputError, StoreError
from softlabels.grid import Grid, Window
from softlabels.sparse import SparseLabel, to_dense
from softlabels.store.read import Entry, open_entry

#: Values of a soft label that are blended at once: 1 MiB.
_SLAB_VALUES = 2**18


@dataclass(frozen=True)
class PreparedCase:
    """What is prepared of a case, whatever its targets: image, hard labels and domain on one grid.

    Parameters
    ----------
    id : str
        The case id.
    entry : Entry
        The entry of stage prepare.
    ignore_label : int or None
        The label of voxels that no loss may look at.

    Notes
    -----
    Every method reads the whole volume, or a window of three (start, stop) pairs over (z, y, x), and raises FormatError
    with case and entry named if a byte is not what was published.
    """

    id: str
    entry: Entry
    ignore_label: int | None = None

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self.entry.grid

    @property
    def shape(self) -> tuple[int, int, int]:
        """The size of the volume, (z, y, x)."""
        depth, height, width = self.entry.grid.shape
        return depth, height, width

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the image's channels, in order."""
        return self.entry.channels("image") or ()

    def image(self, window: Window | None = None, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the (M, d, h, w) intensities as prepared, written to `out` if given."""
        return np.asarray(self._read("image", window, out), np.float32)

    def labels(self, window: Window | None = None) -> NDArray[np.integer]:
        """Return the (d, h, w) hard labels."""
        return self._read("labels", window)

    def raters(self, window: Window | None = None) -> NDArray[np.integer]:
        """Return the (R, d, h, w) labels of all raters, that of the hard labels first; only if the case has several."""
        return self._read("raters", window)

    def domain(self, window: Window | None = None) -> NDArray[np.bool_] | None:
        """Return the (d, h, w) mask of voxels that distances may cross; None if the case has no domain."""
        return self._read("domain", window) if "domain" in self.entry.layers else None

    def masks(self, classes: Sequence[LabelClass], window: Window | None = None) -> NDArray[np.bool_]:
        """Return the (C, d, h, w) masks of classes."""
        return class_masks(self.labels(window), classes)

    def valid(self, window: Window | None = None, labels: NDArray[np.integer] | None = None) -> NDArray[np.bool_]:
        """Return the voxels that a loss may use, (d, h, w): all except those of the ignore label.

        Parameters
        ----------
        window : three (start, stop) pairs, optional
            By default the whole volume.
        labels : (d, h, w) ndarray of integers, optional
            The hard labels of the window where they have been read already.
        """
        return valid_voxels(self.labels(window) if labels is None else labels, self.ignore_label)

    def _read(self, layer: str, window: Window | None, out: NDArray[Any] | None = None) -> NDArray[Any]:
        with naming(self.id, "prepare", self.entry.key):
            return self.entry.read(layer, window, out=out)


@dataclass(frozen=True)
class CaseTarget:
    """A case with one of its targets: what training, pictures, exports and scores read.

    Parameters
    ----------
    case : PreparedCase
    name : str
        The target's name in config.yaml.
    description : TargetDescription
        Its classes, its blend and the rest of what is known without its voxels.
    entry : Entry or None
        The entry of the stored map; None for a target that is derived from the labels alone.

    Notes
    -----
    The methods read as those of `PreparedCase` do.
    """

    case: PreparedCase
    name: str
    description: TargetDescription
    entry: Entry | None

    @property
    def classes(self) -> tuple[LabelClass, ...]:
        """The classes of the target, one per channel."""
        return self.description.classes

    @property
    def stored_entry(self) -> Entry:
        """The entry of the stored map; InputError if the target has none."""
        if self.entry is None:
            raise InputError(
                f"case {self.case.id}: target {self.name!r} is derived from the labels, so nothing is stored for it"
            )
        return self.entry

    def with_blend(self, **overrides: float | None) -> CaseTarget:
        """Return the same case and target with alpha, delta or epsilon replaced where they are not None.

        Raises
        ------
        InputError
            If the target's blend has no such parameter, or the value is outside [0, 1].
        """
        return replace(self, description=self.description.with_blend(**overrides))

    def masks(self, window: Window | None = None) -> NDArray[np.bool_]:
        """Return the (C, d, h, w) masks of the target's classes."""
        return self.case.masks(self.classes, window)

    @property
    def stored_map(self) -> StoredMap:
        """The stored map, dense or sparse; InputError if the target has none."""
        return StoredMap(self.stored_entry)

    def stored(self, window: Window | None = None) -> NDArray[np.float32]:
        """Return the (C, d, h, w) map of the store, before blending; InputError if the target has none."""
        stored = self.stored_map
        with self._naming():
            return stored.dense(window)

    def soft_label(
        self,
        window: Window | None = None,
        labels: NDArray[np.integer] | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the (C, d, h, w) soft label that training sees: hard labels and stored map, blended.

        Parameters
        ----------
        window : three (start, stop) pairs, optional
            By default the whole volume.
        labels : (d, h, w) ndarray of integers, optional
            The hard labels of the window where they have been read already.
        out : (C, d, h, w) ndarray of float32, optional
            Where to write the soft label; by default newly allocated.
        """
        labels = self.case.labels(window) if labels is None else labels
        if self.entry is not None and self.stored_map.is_sparse:
            return to_dense(self.sparse_label(window, labels), len(self.classes), out)
        if out is None:
            out = np.empty((len(self.classes), *labels.shape), np.float32)
        if not self.description.blend.needs_stored:
            return self.description.soft_label(labels, out=out)
        stored = self.stored_map
        with self._naming():
            encoded = stored.encoded(window)
        # Slabs that stay in a core's cache are decoded and blended twice as fast as the whole.
        n_planes = max(1, _SLAB_VALUES // (out.size // len(labels)))
        for first in range(0, len(labels), n_planes):
            slab = slice(first, first + n_planes)
            part = stored.encoding.decode(encoded[:, slab], out=out[:, slab])
            self.description.soft_label(labels[slab], part, out=part)
        return out

    def encoded(self, window: Window | None = None, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Return the (C, d, h, w) map as it is on disk, for `StoredMap.encoding`; InputError if it is stored sparse."""
        with self._naming():
            return self.stored_map.encoded(window, out)

    def sparse_label(
        self, window: Window | None = None, labels: NDArray[np.integer] | None = None
    ) -> SparseLabel[NDArray[Any]]:
        """Return the soft label that training sees by its few classes a voxel, (K, d, h, w).

        Parameters
        ----------
        window, labels
            As for `soft_label`, whose values these are.

        Raises
        ------
        InputError
            If the map is stored dense, or the target has no such form.
        """
        labels = self.case.labels(window) if labels is None else labels
        if not self.description.blend.needs_stored:
            return self.description.sparse_label(labels)
        stored = self.stored_map
        if not stored.is_sparse:
            raise InputError(
                f"case {self.case.id}: target {self.name!r} is stored dense. Set its `storage: sparse` in config.yaml "
                "and run snakemake again, or use the dense soft label"
            )
        with self._naming():
            label = stored.sparse(window)
        return self.description.sparse_label(labels, label)

    @contextmanager
    def _naming(self) -> Iterator[None]:
        """Add case, target and entry to the message of what goes wrong."""
        key = "" if self.entry is None else self.entry.key
        with naming(self.case.id, f"target {self.name!r}", key):
            yield


@dataclass(frozen=True)
class IndexedCohort:
    """An index with the store that holds its entries: the way from index.json to cases.

    Parameters
    ----------
    index : Index
    store : Path
        Where the store is now.

    Notes
    -----
    Every method raises FormatError if an entry is missing, damaged, or not the one of the index; the message names case
    and entry.
    """

    index: Index
    store: Path

    @classmethod
    def open(cls, path: str | Path, store: str | Path | None = None) -> IndexedCohort:
        """Return the cohort of an index.json; no entry is opened.

        Parameters
        ----------
        path : path
            index.json, as the workflow wrote it, or an archive that `softlabels copy` made.
        store : path, optional
            Where the store is now; by default where it was when the index was written, relative to the index.

        Raises
        ------
        FormatError
            If the file is missing, no index, or changed since it was written.
        """
        path = Path(path) / INDEX_FILE if is_archive(path) else path
        index = Index.read(path)
        return cls(index, index.store_path(path) if store is None else Path(store))

    def case(self, case: IndexedCase) -> PreparedCase:
        """Return image and labels of a case of the index."""
        return PreparedCase(case.id, self._entry(case.id, "prepare", case.prepare), self.index.ignore_label)

    def target(
        self,
        case: IndexedCase,
        name: str,
        description: TargetDescription | None = None,
        prepared: PreparedCase | None = None,
    ) -> CaseTarget:
        """Return a case of the index with one of its targets.

        Parameters
        ----------
        case : IndexedCase
        name : str
            A target of the index.
        description : TargetDescription, optional
            The index's own with another blend; by default the index's own.
        prepared : PreparedCase, optional
            The case, where it has been opened already.
        """
        description = self.index.target(name) if description is None else description
        prepared = self.case(case) if prepared is None else prepared
        entry = None
        if description.blend.needs_stored:
            if name not in case.targets:
                raise FormatError(
                    f"case {case.id}: the index has no entry of target {name!r}. Run snakemake again in the project's "
                    "folder"
                )
            entry = self._entry(case.id, f"target {name!r}", case.targets[name])
        return CaseTarget(prepared, name, description, entry)

    def _entry(self, case_id: str, role: str, address: EntryAddress) -> Entry:
        """Return the entry at an address of the index, which must hold what the index was written for."""
        with naming(case_id, role, address.key):
            entry = open_entry(self.store, address.key, address.manifest)
            if entry is None:
                raise FormatError(_absence(self.store))
        return entry


@contextmanager
def naming(case_id: str, role: str, key: str) -> Iterator[None]:
    """Add case and entry to the message of what goes wrong with the store."""
    try:
        yield
    except StoreError as error:
        raise type(error)(f"case {case_id}, {role}, entry {key[:12]}: {error}") from error


def _absence(store: Path) -> str:
    """Return why a store has no entry of the index, and what to do."""
    if not store.is_dir():
        return f"store {store}: no such folder. Mount it, or give its path (store=...) if it was moved or copied"
    return (
        f"it is not in store {store}. Run snakemake again in the project's folder, or give the path of the store "
        "(store=...) if it was moved or copied"
    )
