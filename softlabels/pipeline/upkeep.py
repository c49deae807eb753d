"""Keeping the results folder true: which store entries it names, and receipts that are damaged or no longer hold.

Only files with the names of receipts are read: a results folder may contain other files of its owner.
What cannot be read is set aside, not deleted.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING

from softlabels._shared.archive import sha256_of
from softlabels._shared.files import explained
from softlabels.cohort.index import INDEX_FILE, Index
from softlabels.errors import FormatError, StoreError
from softlabels.inputs.sheet import case_id_fault
from softlabels.pipeline.receipts import LINK_SUFFIX, BatchReceipt, Receipt
from softlabels.pipeline.stages import STAGES
from softlabels.pipeline.units import ALL_STAGES, FOLDER
from softlabels.store.format import MANIFEST, entry_folder

if TYPE_CHECKING:
    from softlabels.store.store import Store

_NODE = re.compile(rf"(?:{'|'.join(STAGES)})-[0-9a-f]{{8}}")
_BATCH = re.compile(r"[0-9]{5}")


def receipt_paths(results: Path) -> list[Path]:
    """Return the paths of all receipts of cases in a results folder, of other configurations too."""
    return sorted(path for path in results.glob("*/*-*.json") if _is_receipt(path))


def batch_receipt_paths(results: Path) -> list[Path]:
    """Return the paths of the receipts of batches, and of single cases that went through all stages in one job."""
    paths = [*results.glob(f"{FOLDER}/*/*.json"), *results.glob(f"*/{ALL_STAGES}.json")]
    return sorted(path for path in paths if _is_batch_receipt(results, path))


def _is_receipt(path: Path) -> bool:
    """Return whether a JSON file in a folder of the results folder is the receipt of a case, by its name and folder."""
    return _NODE.fullmatch(path.stem) is not None and case_id_fault(path.parent.name) is None


def _is_batch_receipt(results: Path, path: Path) -> bool:
    """Return whether a JSON file, by its name and folders, is what `batch_receipt_paths` finds."""
    if path.parent.parent == results / FOLDER:
        is_step = path.stem == ALL_STAGES or _NODE.fullmatch(path.stem) is not None
        return is_step and _BATCH.fullmatch(path.parent.name) is not None
    return path.stem == ALL_STAGES and path.parent.parent == results and case_id_fault(path.parent.name) is None


def live_keys(results: Iterable[Path], not_kept: Container[str] = ()) -> set[str]:
    """Return the keys of all entries that the receipts and the indexes of projects name, or that receipts read from.

    What a receipt says was not kept is not live: what was computed from it is there.

    Parameters
    ----------
    results : iterable of Path
        The results folders of all projects that use a store.
    not_kept : set of str
        Ids of nodes that are not kept any more, whatever their receipts say (`forget_kept` makes them say it).

    Raises
    ------
    StoreError
        If a folder is missing, or a receipt or an index cannot be read: a key that is overlooked is an entry lost.
    """
    found: set[str] = set()
    for folder in results:
        if not folder.is_dir():
            raise StoreError(f"{folder}: no such results folder; name the folders of all projects that use the store")
        try:
            named: set[str] = set()
            given_up: set[str] = set()
            for path in receipt_paths(folder):
                receipt = Receipt.read(path)
                is_kept = receipt.is_kept and receipt.node not in not_kept
                (named if is_kept else given_up).add(receipt.key)
                named.update(receipt.upstream.values())
            found |= named - given_up
            if (folder / INDEX_FILE).exists():
                found |= Index.read(folder / INDEX_FILE).keys()
        except FormatError as error:
            raise StoreError(f"{error}. Nothing is collected before that, as its entries would be lost") from None
    return found


def forget_kept(results: Path, node_ids: Container[str]) -> int:
    """Make the receipts of nodes say that their results are not kept, so that `gc` may remove these.

    Returns
    -------
    int
        How many said otherwise.
    """
    n_changed = 0
    for path in receipt_paths(results):
        if path.stem in node_ids and (receipt := Receipt.read(path)).is_kept:
            path.with_suffix(LINK_SUFFIX).unlink(missing_ok=True)
            replace(receipt, manifest=None).write(path)
            n_changed += 1
    return n_changed


def damaged_receipts(results: Path) -> dict[Path, str]:
    """Return the receipts of cases and batches, and the index, that cannot be read, each with the message."""
    index = results / INDEX_FILE
    readers: list[tuple[list[Path], Callable[[Path], object]]] = [
        (receipt_paths(results), Receipt.read),
        (batch_receipt_paths(results), BatchReceipt.read),
        ([index] if index.exists() or index.is_symlink() else [], Index.read),
    ]
    found = {}
    for paths, read in readers:
        for path in paths:
            try:
                read(path)
            except FormatError as error:
                found[path] = str(error)
    return found


def absent_keys(results: Path, store: Store, *, is_own: bool) -> set[str]:
    """Return the keys that receipts expect in a store and that it lacks; damaged receipts are passed over.

    In the project's own store all are expected but those that are still elsewhere, where the receipt says.
    """
    damaged = damaged_receipts(results)
    receipts = [Receipt.read(path) for path in receipt_paths(results) if path not in damaged]
    known = set(store.keys())
    absent = [receipt for receipt in receipts if receipt.is_kept and receipt.key not in known]
    if is_own:
        return {receipt.key for receipt in absent if not entry_folder(Path(receipt.store), receipt.key).is_dir()}
    return {receipt.key for receipt in absent if Path(receipt.store) == store.path}


def replaced_keys(results: Path, store: Store, *, is_own: bool) -> set[str]:
    """Return the keys of entries that are not those of the receipts any more, byte for byte.

    An entry that was discarded and computed again by another version of softlabels or numcodecs has the same values,
    but may be compressed in another way. In a store that is not the project's own, only receipts that name it count.
    """
    damaged = damaged_receipts(results)
    found = set()
    for path in receipt_paths(results):
        if path in damaged or not (receipt := Receipt.read(path)).is_kept:
            continue
        if not is_own and Path(receipt.store) != store.path:
            continue
        manifest = entry_folder(store.path, receipt.key) / MANIFEST
        with suppress(OSError):  # absent or unreadable: others say so
            if sha256_of(manifest) != receipt.manifest:
                found.add(receipt.key)
    return found


def forget_receipts(results: Path, keys: set[str]) -> int:
    """Delete the receipts that name any of the keys and set damaged ones aside, so that those jobs run again.

    The index is deleted too: while it exists, Snakemake considers everything before it done.

    Returns
    -------
    int
        How many files named a key or were damaged.
    """
    damaged = damaged_receipts(results)
    named = [path for path in receipt_paths(results) if path not in damaged and Receipt.read(path).key in keys]
    for path in damaged:
        set_aside(path)
    for path in named:
        path.unlink()
    forget_cases(results, {(path.parent.name, path.stem) for path in (*damaged, *named)})
    if damaged or named:
        (results / INDEX_FILE).unlink(missing_ok=True)
    return len(damaged) + len(named)


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that nothing takes it for a receipt any more; return its new path.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "seeds-0a1b2c3d.json")
    >>> names = []
    >>> for _ in range(2):
    ...     _ = path.write_text("{")
    ...     names.append(set_aside(path).name)
    >>> names
    ['seeds-0a1b2c3d.json.damaged', 'seeds-0a1b2c3d.json.damaged2']
    """
    names = (path.with_name(f"{path.name}.damaged{number if number > 1 else ''}") for number in count(1))
    free = next(name for name in names if not (name.exists() or name.is_symlink()))
    return path.rename(free)


def forget_incomplete(results: Path, *, require_all: bool = False) -> int:
    """Delete the receipts of batches in which a case failed, so that the next run tries those again.

    The workflow calls this when it ends: until then the good cases of the batch go on. A receipt that cannot be read
    is set aside.

    Parameters
    ----------
    results : Path
        The results folder.
    require_all : bool
        Look for the receipt of each case too: a batch that lacks one, because somebody deleted it, is incomplete.

    Returns
    -------
    int
        How many receipts were deleted or set aside.
    """
    n_forgotten = 0
    for path in batch_receipt_paths(results):
        try:
            receipt = BatchReceipt.read(path)
        except FormatError:
            set_aside(path)
            n_forgotten += 1
            continue
        own = product(receipt.cases, receipt.nodes)
        lacks_one = require_all and not all((results / case / f"{node}.json").exists() for case, node in own)
        if lacks_one or not receipt.is_complete:
            path.unlink()
            n_forgotten += 1
    return n_forgotten


def date_back(results: Path, now: float) -> int:
    """Give receipts that are dated in the future the present time, and return how many there were.

    A machine whose clock is ahead writes such receipts. Snakemake takes what is made of them for outdated, and stops,
    until that time has come.

    Parameters
    ----------
    results : Path
        The results folder.
    now : float
        Seconds since the epoch.

    Raises
    ------
    StoreError
        If such a receipt cannot be changed, for example because it is another user's.

    Notes
    -----
    Every run begins with this, so the folders are listed only once, and only files of the future are looked at further:
    0.3 s of CPU time for 40,000 receipts.
    """
    n_changed = 0
    for path in _json_files_after(results, now):
        is_of_case = path.parent.parent == results and _is_receipt(path)
        if is_of_case or _is_batch_receipt(results, path) or path == results / INDEX_FILE:
            with explained(path, "is dated in the future, and cannot be changed"), suppress(FileNotFoundError):
                os.utime(path, (now, now))
                n_changed += 1
    return n_changed


def _json_files_after(results: Path, time: float) -> Iterator[Path]:
    """Yield the JSON files of a results folder and of the folders of cases and batches that are dated after a time."""
    for folder in (str(results), *_folders_in(results), *_folders_in(results / FOLDER)):
        for entry in _content_of(folder):
            with suppress(OSError):  # gone, or a link to nowhere
                if entry.name.endswith(".json") and entry.stat().st_mtime > time:
                    yield Path(entry.path)


def _folders_in(folder: Path) -> list[str]:
    """Return the paths of the folders in a folder."""
    return [entry.path for entry in _content_of(folder) if os.path.isdir(entry.path)]


def _content_of(folder: str | Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing where it is absent, or another user's that may not be read."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def forget_cases(results: Path, jobs: set[tuple[str, str]]) -> None:
    """Delete the receipts of batches that hold any of these (case id, node id)."""
    for path in batch_receipt_paths(results):
        receipt = BatchReceipt.read(path)
        if jobs & set(product(receipt.cases, receipt.nodes)):
            path.unlink()
