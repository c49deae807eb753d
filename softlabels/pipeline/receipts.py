"""Receipts, the small files that jobs leave: which store entry holds a node of a case, and how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softlabels._shared.files import is_damage, link_atomically, read_small_file, relative_path, write_atomically
from softlabels._shared.plain_json import quickly_sealed_json, sealed_json, unsealed_json
from softlabels.errors import FormatError, InputError, NotKeptError, StoreError
from softlabels.inputs.detached import file_state

if TYPE_CHECKING:
    from softlabels.inputs.sheet import Case
    from softlabels.store.read import Entry
    from softlabels.store.store import Store

RECEIPT_VERSION = 1
#: Ending of the link beside a receipt.
LINK_SUFFIX = ".zarr"


@dataclass(frozen=True)
class FileRecord:
    """What was read of one file of a case.

    Parameters
    ----------
    digest : str
        sha256 (hex) of its header and samples, unpacked.
    size, mtime_ns : int
        Bytes of the file, and the time of its last change in nanoseconds since the epoch.
    """

    digest: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Receipt:
    """What became of one case x one node.

    Parameters
    ----------
    case, node, stage : str
        Which job this was.
    key : str
        The store entry, 64 hex.
    manifest : str or None
        The digest of its manifest, 64 hex; None if the result was not kept (`keep` in config.yaml): it was handed on in
        memory and not written. Its key, figures and flags are recorded all the same.
    store : str
        Absolute path of the store.
    outcome : str
        ``computed``, or ``reused`` when the entry was there already; of a result that is not kept, when what is
        computed from it was there already.
    seconds : float
        Wall time of this job's work; of a reused entry, the time to find it.
    cpu_seconds : float or None
        CPU time of the same, of all threads; None in receipts of versions that did not measure it.
    quality : dict
        Figures of the result (certificates, fallbacks, deviations), as stored in the entry.
    flags : list of str
        What a person should know about this case.
    upstream : dict of str to str
        Role to the key of each entry that was read.
    files : dict of str to FileRecord
        Role to what was found of each file of the case that was read.
    labels : dict
        Of a prepare receipt: the size of the volume and where its labels are (`LabelBlocks`), for the index.
    checks : str or None
        The digest of what the files were verified against (`Node.checks`).
    grid : dict
        Of a prepare receipt: the grid of the case's files, for the index.
    """

    case: str
    node: str
    stage: str
    key: str
    manifest: str | None
    store: str
    outcome: str
    seconds: float
    cpu_seconds: float | None = None
    quality: dict[str, Any] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)
    upstream: dict[str, str] = field(default_factory=dict)
    files: dict[str, FileRecord] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    checks: str | None = None
    grid: dict[str, Any] = field(default_factory=dict)

    @property
    def is_kept(self) -> bool:
        """Whether the result was written to the store."""
        return self.manifest is not None

    @property
    def work_seconds(self) -> float:
        """CPU time; wall time where that was not measured."""
        return self.seconds if self.cpu_seconds is None else self.cpu_seconds

    def write(self, path: Path) -> None:
        """Write the receipt in one step: a reader sees the whole file or none."""
        write_atomically(path, quickly_sealed_json({"receipt": RECEIPT_VERSION, **asdict(self)}))

    def changed_files(self, case: Case) -> list[str]:
        """Return a line for each file of a case that is not as it was read; no samples are read.

        Only the roles of this receipt count, and of a prepare receipt those of the case too. Cost: one `stat` a file;
        of an image in two files, its header is read.
        """
        paths = dict(case.files())
        roles = {**self.files, **(paths if self.stage == "prepare" else {})}
        return [line for role in roles if (line := _change(role, paths.get(role), self.files.get(role)))]

    @classmethod
    def read(cls, path: str | Path) -> Receipt:
        """Return the receipt in a file, or raise FormatError with the remedy."""
        with _readable(path):
            content = unsealed_json(read_small_file(path))
            if content.pop("receipt") != RECEIPT_VERSION:
                raise ValueError("another version")
            files = {role: FileRecord(**record) for role, record in content.pop("files").items()}
            return cls(**content, files=files)


def _change(role: str, path: str | None, record: FileRecord | None) -> str | None:
    """Return how a file of a case differs from what was read in this role; None if it does not."""
    if path is None:
        return f"{role}: is no longer among the files of the case"
    if record is None:
        return f"{role}: {path} was not read"
    try:
        state = file_state(path)
    except FileNotFoundError:
        return f"{role}: {path} is gone"
    except OSError as error:
        return f"{role}: {path} cannot be reached ({error.strerror})"
    return None if state == (record.size, record.mtime_ns) else f"{role}: {path} changed since it was read"


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
        write_atomically(path, sealed_json(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> BatchReceipt:
        """Return the receipt in a file, or raise FormatError with the remedy."""
        with _readable(path):
            return cls(**unsealed_json(read_small_file(path)))


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Turn any error of reading a receipt into one with the remedy."""
    damaged = f"receipt {path}: damaged. Run 'softlabels verify --discard', then snakemake"
    try:
        yield
    except FileNotFoundError:
        raise FormatError(f"receipt {path}: missing. Run snakemake again") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise FormatError(damaged) from None
    except OSError as error:
        if is_damage(error):
            raise FormatError(damaged) from None
        raise StoreError(f"receipt {path}: cannot be read ({error.strerror}). Check the file system") from error


def receipt_path(results: Path, case_id: str, node_id: str) -> Path:
    """Return the path of the receipt of one case x node."""
    return results / case_id / f"{node_id}.json"


@dataclass(frozen=True)
class StoredResult:
    """The result of one case x node: its receipt, and its entry in the store."""

    receipt: Receipt
    entry: Entry


def find_result(results: Path, case_id: str, node_id: str, store: Store) -> StoredResult:
    """Return the result of one case x node.

    The entry is looked for in `store`, then in the store that the receipt names: receipts hold absolute paths, and a
    project may have been moved or copied together with its store.

    Parameters
    ----------
    results : Path
        The results folder.
    case_id, node_id : str
    store : Store
        The project's store.

    Raises
    ------
    FormatError
        If the receipt is missing, damaged or of another job, or the entry is damaged or not the one of the receipt.
    NotKeptError
        If the result was not kept, and nobody has computed it again since.
    InputError
        If the entry is gone.
    """
    path = receipt_path(results, case_id, node_id)
    receipt = Receipt.read(path)
    if (receipt.case, receipt.node) != (case_id, node_id):
        raise FormatError(
            f"receipt {path}: is that of case {receipt.case}, {receipt.node}. Delete it, then run snakemake again"
        )
    entry = store.find(receipt.key, receipt.manifest)
    if entry is None and not receipt.is_kept:
        raise NotKeptError(
            f"case {case_id}, {node_id}: was not kept (keep in the configuration). Compute it again to look at it: "
            f"'softlabels show {case_id} --make', or view or export with --make"
        )
    if entry is None and Path(receipt.store) != store.path:
        entry = type(store)(receipt.store).find(receipt.key, receipt.manifest)
    if entry is None:
        raise InputError(
            f"case {case_id}, {node_id}: entry {receipt.key[:12]} is not in store {store.path}. "
            "Run 'softlabels verify --discard', then snakemake"
        )
    return StoredResult(receipt, entry)


def link_entry(receipt_path: Path, target: Path) -> None:
    """Point ``<receipt>.zarr`` at the entry's Zarr group, for people and viewers.

    A store in the project's folder, which holds the results too, may be moved with it; so that link is relative.
    """
    link = receipt_path.with_suffix(LINK_SUFFIX)
    project = receipt_path.absolute().parents[2]
    if target.absolute().is_relative_to(project):
        target = Path(relative_path(target, link.parent))
    link_atomically(link, target)
