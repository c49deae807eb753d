"""A computed cohort copied to where it is trained on: only the entries that its index names, each byte compared.

The copy is a folder with index.json and the store, or one archive of the same. The index is written last, so whoever
sees it has all of it.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from softlabels._shared.archive import is_archive
from softlabels._shared.files import atomic_writer, explained
from softlabels.cohort.case import IndexedCohort, naming
from softlabels.cohort.case_table import CaseTable, EntryAddress
from softlabels.cohort.index import INDEX_FILE, Index
from softlabels.errors import FormatError, InputError, StoreError
from softlabels.store.copying import archive_entry, copy_entry, has_entry
from softlabels.store.format import VERSION_FOLDER
from softlabels.store.garbage import sweep_stale
from softlabels.store.read import Entry, open_entry

#: The store's folder in a copy.
STORE = "store"
_LOCK = ".copy.lock"
#: Of an archive: the headers of a member.
_MEMBER_BYTES = 400


@dataclass(frozen=True)
class Copied:
    """What a copy took.

    Parameters
    ----------
    index : Path
        What a data set opens: the index.json of the copy, or the archive.
    n_cases, n_entries : int
    n_copied : int
        Entries that were not there already.
    n_bytes : int
        Of these.
    """

    index: Path
    n_cases: int
    n_entries: int
    n_copied: int
    n_bytes: int


def copy_cohort(
    index: str | Path,
    destination: str | Path,
    *,
    store: str | Path | None = None,
    targets: Sequence[str] = (),
    splits: Sequence[str] = (),
    n_threads: int = 4,
    progress: Callable[[int, int], None] | None = None,
    waiting: Callable[[], None] | None = None,
) -> Copied:
    """Copy what an index names to a folder or into an archive.

    Parameters
    ----------
    index : path
        index.json, or an archive that this function made.
    destination : path
        A folder, which is made; or a name that ends in .zip, for one file. Entries that the folder has already are not
        copied again, so that an interrupted copy is resumed. An archive is written anew, and replaces an older one when
        it is complete.
    store : path, optional
        Where the store of the index is now.
    targets : sequence of str
        Only these targets; by default all.
    splits : sequence of str
        Only the cases of these splits; by default all.
    n_threads : int
        Entries that are copied to a folder at once.
    progress : callable, optional
        Called with (entries done, entries in all) after each entry.
    waiting : callable, optional
        Called if another process is copying into the same folder; it is waited for, and its entries are used.

    Returns
    -------
    Copied

    Raises
    ------
    FormatError
        If an entry is missing or damaged, with case and entry.
    InputError
        If nothing is chosen, or the destination is the source.
    StoreError
        If there is too little space, or something cannot be read or written.
    """
    destination = Path(destination)
    cohort = IndexedCohort.open(index, store)
    chosen = _chosen(cohort.index, targets, splits)
    source = Path(index).absolute()
    if destination.suffix == ".zip":
        if destination.absolute() == source:
            raise InputError(f"copy: {destination} is the archive to copy from. Give another name")
        return _to_archive(chosen, _entries(chosen, cohort.store, n_threads), destination, progress)
    if (destination / INDEX_FILE).absolute() == source or is_archive(destination):
        raise InputError(f"copy: {destination} holds what is to be copied. Give another folder")
    entries = _entries(chosen, cohort.store, n_threads)
    with explained(destination, "cannot be written"):
        destination.mkdir(parents=True, exist_ok=True)
    with _alone(destination, waiting):
        return _to_folder(chosen, entries, destination, n_threads, progress)


def _chosen(index: Index, targets: Sequence[str], splits: Sequence[str]) -> Index:
    """Return the index of a copy: of some targets and cases, with the store beside it."""
    described = {name: index.target(name) for name in targets or index.targets}
    known = sorted({str(split) for split in index.cases.splits})
    if unknown := sorted(set(splits) - set(known)):
        raise InputError(f"split: got {unknown[0]!r}, expected some of {', '.join(known)}")
    cases = (
        replace(case, targets={name: address for name, address in case.targets.items() if name in described})
        for case in index.cases
        if not splits or case.split in splits
    )
    return replace(index, store=STORE, targets=described, cases=CaseTable.of(cases))


def _entries(index: Index, store: Path, n_threads: int) -> list[Entry]:
    """Return each entry of an index once, opened, or raise FormatError for the first that is missing or damaged."""
    named: dict[EntryAddress, tuple[str, str]] = {}
    for case in index.cases:
        named.setdefault(case.prepare, (case.id, "prepare"))
        for name, address in case.targets.items():
            named.setdefault(address, (case.id, f"target {name!r}"))

    def opened(address: EntryAddress) -> Entry:
        with naming(*named[address], address.key):
            entry = open_entry(store, address.key, address.manifest)
            if entry is None:
                raise FormatError(f"it is not in store {store}. Run snakemake again, or give the store (--store)")
        return entry

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(opened, named))


def _to_folder(
    index: Index, entries: list[Entry], folder: Path, n_threads: int, progress: Callable[[int, int], None] | None
) -> Copied:
    """Copy entries into the store of a folder, then write the index."""
    store = folder / STORE
    with suppress(FileNotFoundError):
        sweep_stale(store / VERSION_FOLDER)
    missing = [entry for entry in entries if not has_entry(store, entry)]
    n_bytes = sum(entry.nbytes for entry in missing)
    _require_space(folder, n_bytes)
    done = len(entries) - len(missing)
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(lambda entry: copy_entry(entry, store), missing):
            done += 1
            if progress is not None:
                progress(done, len(entries))
    index.write(folder / INDEX_FILE)
    return Copied(folder / INDEX_FILE, len(index.cases), len(entries), len(missing), n_bytes)


def _to_archive(index: Index, entries: list[Entry], path: Path, progress: Callable[[int, int], None] | None) -> Copied:
    """Write entries and the index into a new archive, which takes the place of an older one at the end."""
    n_bytes = sum(entry.nbytes + _MEMBER_BYTES * entry.n_files for entry in entries)
    with explained(path, "cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
    _require_space(path.parent, n_bytes)
    with atomic_writer(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for done, entry in enumerate(entries, 1):
            archive_entry(entry, archive, STORE)
            if progress is not None:
                progress(done, len(entries))
        archive.writestr(zipfile.ZipInfo(INDEX_FILE), index.to_bytes())
    return Copied(path, len(index.cases), len(entries), len(entries), n_bytes)


def _require_space(folder: Path, n_bytes: int) -> None:
    """Raise StoreError if the file system of a folder has too little space left."""
    with explained(folder, "cannot be read"):
        free = shutil.disk_usage(folder).free
    if free < n_bytes:
        raise StoreError(
            f"{folder}: has {free / 1e9:.1f} GB of free space, expected {n_bytes / 1e9:.1f} GB. Give another folder, "
            "or copy less (--target, --split)"
        )


@contextmanager
def _alone(folder: Path, waiting: Callable[[], None] | None) -> Iterator[None]:
    """Let one process at a time copy into a folder; on a file system without locks, all at once, which is safe too."""
    import fcntl

    with open(folder / _LOCK, "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting is not None:
                waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass
        yield
