"""Keeping the results folder true: receipts that are damaged, incomplete, or name entries that are gone."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from softlabels.cohort.case import read_index
from softlabels.errors import FormatError
from softlabels.pipeline.receipts import BatchReceipt, Receipt
from softlabels.pipeline.units import ALL_STAGES, FOLDER
from softlabels.store.format import entry_folder

#: Where receipts of cases lie in the results folder, and the index.
_RECEIPTS, _INDEX = "*/*-*.json", "index.json"


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


def batch_receipt_paths(results: Path) -> list[Path]:
    """Return where the receipts of batches lie, of a single case that went through all stages too."""
    return sorted([*results.glob(f"{FOLDER}/*/*.json"), *results.glob(f"*/{ALL_STAGES}.json")])


def forget_incomplete(results: Path, *, are_all_there: bool = True) -> int:
    """Delete the receipts of batches in which a case failed, so that the next run tries those again; return how many.

    The workflow calls this when it ends: until then the good cases of the batch go on. With ``are_all_there=False``
    each receipt of a case is looked for too, and a batch that lacks one, because somebody deleted it, is incomplete.
    """

    def is_complete(receipt: BatchReceipt) -> bool:
        own = product(receipt.cases, receipt.nodes)
        return receipt.is_complete and (are_all_there or all((results / c / f"{n}.json").exists() for c, n in own))

    incomplete = [path for path in batch_receipt_paths(results) if not is_complete(BatchReceipt.read(path))]
    for path in incomplete:
        path.unlink()
    return len(incomplete)


def forget_cases(results: Path, jobs: set[tuple[str, str]]) -> None:
    """Delete the receipts of batches that hold any of these (case id, node id)."""
    for path in batch_receipt_paths(results):
        receipt = BatchReceipt.read(path)
        if jobs & set(product(receipt.cases, receipt.nodes)):
            path.unlink()
