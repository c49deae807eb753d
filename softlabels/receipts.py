"""The small file that a job leaves behind: which store entry holds a case's node, and how it came about."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from softlabels.batches import forget_cases
from softlabels.errors import FormatError

RECEIPT_VERSION = 1


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
        temporary.write_text(json.dumps({"receipt": RECEIPT_VERSION, **asdict(self)}, indent=1) + "\n")
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: str | Path) -> Receipt:
        """Return the receipt in a file, or raise FormatError with the remedy."""
        try:
            content = json.loads(Path(path).read_text())
            if content.pop("receipt") != RECEIPT_VERSION:
                raise ValueError("another version")
            return cls(**content)
        except FileNotFoundError:
            raise FormatError(f"receipt {path}: missing. Run snakemake again") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise FormatError(f"receipt {path}: damaged ({error}). Delete it and run snakemake again") from None


def link_entry(receipt_path: Path, target: Path) -> None:
    """Point ``<receipt>.zarr`` at the entry's Zarr group, for people and viewers."""
    link = receipt_path.with_suffix(".zarr")
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    os.replace(temporary, link)


def forget_receipts(results: Path, keys: set[str]) -> int:
    """Delete the receipts that name any of the keys, so that snakemake runs those jobs again; return how many."""
    found = [receipt for receipt in map(Receipt.read, results.glob("*/*-*.json")) if receipt.key in keys]
    for receipt in found:
        (results / receipt.case / f"{receipt.node}.json").unlink()
    forget_cases(results, {(receipt.case, receipt.node) for receipt in found})
    return len(found)
