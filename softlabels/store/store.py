"""`Store`: the one door to a store's entries."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from softlabels._shared.cpus import usable_cpus
from softlabels._shared.files import explained
from softlabels.errors import InputError, StoreError
from softlabels.grid import Grid
from softlabels.store import garbage, verify
from softlabels.store.format import VERSION_FOLDER, entry_folder
from softlabels.store.publish import Layer, Record, publish_entry
from softlabels.store.read import Entry, open_entry

_KEY = re.compile("[0-9a-f]{64}")


class Store:
    """A folder of immutable entries, shared by projects, users and jobs on any number of machines.

    Parameters
    ----------
    path : path
        The store's folder. Nothing is created before the first entry is published.
    n_threads : int, optional
        Threads that compress; by default the CPUs this process may use.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from softlabels.store import entry_key
    >>> store = Store(tempfile.mkdtemp() + "/store")
    >>> key = entry_key(stage="seeds", algorithm="1", params={}, inputs={})
    >>> store.find(key) is None
    True
    >>> seeds = Layer("seeds", np.ones((1, 2, 3, 4), bool), channels=["tumour"])
    >>> grid = Grid((2, 3, 4), (5.0, 1.0, 1.0))
    >>> entry, outcome = store.publish(key, [seeds], grid=grid, attributes={}, quality={}, provenance={})
    >>> outcome, entry.read("seeds").sum(), entry.channels("seeds")
    ('computed', np.int64(24), ('tumour',))
    """

    def __init__(self, path: str | os.PathLike[str], n_threads: int | None = None) -> None:
        self.path = Path(path).absolute()
        self.n_threads = n_threads or usable_cpus()
        try:
            is_folder = stat.S_ISDIR(self.path.stat().st_mode)
        except FileNotFoundError:
            is_folder = True
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be reached ({error.strerror}); name another path") from error
        if not is_folder:
            raise StoreError(f"{self.path}: got a file, expected the store's folder; name another path")

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r})"

    def find(self, key: str, manifest_digest: str | None = None) -> Entry | None:
        """Return the entry of `key`, or None; FormatError if it is damaged. See `softlabels.store.read.open_entry`.

        The entry is marked as used now, where this user may do that, so that `gc` during a run keeps it.
        """
        entry = open_entry(self.path, _checked_key(key), manifest_digest)
        if entry is not None:
            garbage.mark_used(entry.path)
        return entry

    def publish(
        self,
        key: str,
        layers: Sequence[Layer],
        *,
        grid: Grid,
        attributes: dict[str, Any],
        quality: Record,
        provenance: Record,
    ) -> tuple[Entry, str]:
        """Publish layers as the entry of `key`, unless another writer was first.

        Parameters
        ----------
        key : str
            From `entry_key`.
        layers : sequence of Layer
            All on `grid`.
        grid : Grid
            Position and size of the voxels.
        attributes, quality : dict
            Plain JSON about the result. Deterministic: they are part of the manifest's digest.
        provenance : dict
            Plain JSON about the making: who, where, when, how long.

        A function in the place of `quality` or `provenance` is called once the layers are written.

        Returns
        -------
        tuple of Entry and str
            The entry and "computed", or the entry that was there first and "reused".

        Raises
        ------
        StoreError
            If it cannot be written; nothing is published then and nothing is left behind.
        InputError
            If a layer does not fit the grid or its encoding.
        """
        entry, outcome = publish_entry(
            self.path,
            _checked_key(key),
            layers,
            grid=grid,
            attributes=attributes,
            quality=quality,
            provenance=provenance,
            n_threads=self.n_threads,
        )
        garbage.mark_used(entry.path)
        return entry, outcome

    def keys(self) -> Iterator[str]:
        """Yield the keys of all published entries, in order."""
        with explained(self.path, "cannot be listed"):
            # A link to a folder is not entered: what is in it belongs to another store.
            prefixes = sorted(one.name for one in _listed(self.path / VERSION_FOLDER) if _is_prefix(one))
        for prefix in prefixes:
            with explained(self.path, "cannot be listed"):
                names = sorted(one.name for one in _listed(self.path / VERSION_FOLDER / prefix))
            yield from (name for name in names if _KEY.fullmatch(name) and name.startswith(prefix))

    def verify(self, deep: bool = False, progress: Callable[[int, int], None] | None = None) -> list[verify.Damage]:
        """Return what is wrong in the store; see `softlabels.store.verify.verify_store`."""
        return verify.verify_store(self.path, list(self.keys()), deep=deep, progress=progress)

    def gc(
        self, live: Iterable[str], *, delete: bool = False, min_age_s: float = garbage.MIN_AGE_S
    ) -> list[garbage.Garbage]:
        """Return, and with `delete` remove, unreferenced entries; see `softlabels.store.garbage.collect_garbage`."""
        return garbage.collect_garbage(self.path, self.keys(), live, delete=delete, min_age_s=min_age_s)

    def register_results(self, results: str | os.PathLike[str]) -> None:
        """Make `gc` spare what a project names; see `softlabels.store.garbage.register_results`."""
        garbage.register_results(self.path, Path(results))

    def registered_results(self) -> list[Path]:
        """Return the results folders of all projects that registered."""
        return garbage.registered_results(self.path)

    def discard(self, key: str) -> None:
        """Remove an entry at once, damaged or not; readers see it whole or absent."""
        garbage.discard_folder(entry_folder(self.path, _checked_key(key)))

    def sweep_stale_tmp(self) -> list[Path]:
        """Remove and return what killed writers left behind; see `softlabels.store.garbage.sweep_stale`."""
        return garbage.sweep_stale(self.path / VERSION_FOLDER)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing if there is none."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except FileNotFoundError:
        return []


def _is_prefix(one: os.DirEntry[str]) -> bool:
    """Return whether this is a folder of entries: the first two digits of their keys."""
    return re.fullmatch("[0-9a-f]{2}", one.name) is not None and one.is_dir(follow_symlinks=False)


def _checked_key(key: object) -> str:
    """Return `key` if it is 64 hex digits."""
    if not (isinstance(key, str) and _KEY.fullmatch(key)):
        raise InputError(f"store key: got {key!r}, expected 64 hex digits from entry_key")
    return key
