"""The small file that a job leaves behind: which store entry holds a case's node, and how it came about."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from softlabels.cohort.case import read_index
from softlabels.errors import FormatError
from softlabels.pipeline.batches import BatchReceipt, batch_receipt_paths, forget_cases
from softlabels.store.format import entry_folder, sealed_json, unsealed_json

RECEIPT_VERSION = 1
#: Where receipts of cases lie in the results folder, and the index.
_RECEIPTS, _INDEX = "*/*-*.json", "index.json"


@dataclass(frozen=True)
class Receipt:
    """What became of one case x one node.

    Parameters
    ----------
    case, node, stage : str
        Which job this was.
    key, manifest : str
        The store entry and the digest of its manifest, 64 hex each.
    store : str
        Absolute path of the store.
    outcome : str
        ``computed``, or ``reused`` when the entry was there already.
    seconds : float
        Wall time of this job's work; of a reused entry, the time to find it.
    quality : dict
        Figures of the result (certificates, fallbacks, deviations), as stored in the entry.
    flags : list of str
        What a person should know about this case.
    upstream : list of str
        Keys of the entries that were read.
    """

    case: str
    node: str
    stage: str
    key: str
    manifest: str
    store: str
    outcome: str
    seconds: float
    quality: dict = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    upstream: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """Write the receipt in one step: a reader sees the whole file or none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(sealed_json({"receipt": RECEIPT_VERSION, **asdict(self)}))
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: str | Path) -> Receipt:
        """Return the receipt in a file, or raise FormatError with the remedy."""
        try:
            content = unsealed_json(Path(path).read_bytes(), Path(path))
            if content.pop("receipt") != RECEIPT_VERSION:
                raise ValueError("another version")
            return cls(**content)
        except FileNotFoundError:
            raise FormatError(f"receipt {path}: missing. Run snakemake again") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise FormatError(f"receipt {path}: damaged. Run 'softlabels verify --discard', then snakemake") from None


def find_entry(receipt: Receipt, store):
    """Return the entry that a receipt names, or None if it is neither in a store nor where the receipt says.

    The store comes first: a project may have been moved or copied together with it, and receipts hold absolute paths.

    Raises
    ------
    FormatError
        If the entry is damaged, or not the one of the receipt.
    """
    entry = store.find(receipt.key, receipt.manifest)
    if entry is None and Path(receipt.store) != store.path:
        entry = type(store)(receipt.store).find(receipt.key, receipt.manifest)
    return entry


def link_entry(receipt_path: Path, target: Path) -> None:
    """Point ``<receipt>.zarr`` at the entry's Zarr group, for people and viewers.

    A store in the project's folder, which holds the results too, may be moved with it; so that link is relative.
    """
    link = receipt_path.with_suffix(".zarr")
    project = receipt_path.absolute().parents[2]
    if target.absolute().is_relative_to(project):
        target = Path(os.path.relpath(target.absolute(), link.absolute().parent))
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def damaged_receipts(results: Path) -> dict[Path, str]:
    """Return the receipts of cases and batches, and the index, that cannot be read, each with the message."""
    found = {}
    for paths, read in (
        (sorted(results.glob(_RECEIPTS)), Receipt.read),
        (batch_receipt_paths(results), BatchReceipt.read),
        (sorted(results.glob(_INDEX)), read_index),
    ):
        for path in paths:
            try:
                read(path)
            except FormatError as error:
                found[path] = str(error)
    return found


def absent_keys(results: Path, store, *, is_own: bool) -> set[str]:
    """Return the keys that receipts expect in a store and that it lacks; damaged receipts are passed over.

    In the project's own store all are expected but those that still lie elsewhere, where the receipt says.
    """
    damaged = damaged_receipts(results)
    receipts = [Receipt.read(path) for path in results.glob(_RECEIPTS) if path not in damaged]
    known = set(store.keys())
    absent = [receipt for receipt in receipts if receipt.key not in known]
    if is_own:
        return {receipt.key for receipt in absent if not entry_folder(Path(receipt.store), receipt.key).is_dir()}
    return {receipt.key for receipt in absent if Path(receipt.store) == store.path}


def forget_receipts(results: Path, keys: set[str]) -> int:
    """Delete the receipts that are damaged or name any of the keys, so that snakemake runs those jobs again.

    The index goes with them: while it is there, Snakemake takes what it was made from for done.

    Returns
    -------
    int
        How many files were deleted because they are damaged or name a key.
    """
    damaged = damaged_receipts(results)
    named = [path for path in results.glob(_RECEIPTS) if path not in damaged and Receipt.read(path).key in keys]
    found = [*damaged, *named]
    for path in found:
        path.unlink()
    forget_cases(results, {(path.parent.name, path.stem) for path in found})
    if found:
        (results / _INDEX).unlink(missing_ok=True)
    return len(found)
