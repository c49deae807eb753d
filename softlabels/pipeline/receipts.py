"""Receipts, the small files that jobs leave: which store entry holds a node of a case, and how it came about."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from softlabels.errors import FormatError
from softlabels.store.format import sealed_json, unsealed_json

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


@dataclass(frozen=True)
class BatchReceipt:
    """What became of one batch x one step.

    Parameters
    ----------
    nodes : list of str
        The nodes of the step.
    cases : list of str
        All cases of the batch.
    failed : dict
        Case id to the one line that says why; of several, the first.
    waiting : list of str
        Cases that could not begin, because an earlier stage failed.
    """

    nodes: list[str]
    cases: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether every case has its result."""
        return not self.failed and not self.waiting

    def write(self, path: Path) -> None:
        """Write the receipt in one step: a reader sees the whole file or none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(sealed_json(asdict(self)))
        os.replace(temporary, path)

    @classmethod
    def read(cls, path: Path) -> BatchReceipt:
        """Return the receipt in a file, or raise FormatError with the remedy."""
        try:
            return cls(**unsealed_json(path.read_bytes(), path))
        except (FormatError, TypeError):
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
