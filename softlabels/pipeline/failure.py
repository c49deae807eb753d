"""Why a job has no result: recorded in a file beside where its receipt would be, for `softlabels status`."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from softlabels._shared.files import read_small_file, write_atomically
from softlabels._shared.plain_json import sealed_json, unsealed_json
from softlabels.errors import DeviceError, DeviceFaultError, FormatError, SoftLabelsError, StoreError

log = logging.getLogger(__name__)

SUFFIX = ".failed"

#: What a failure is the fault of. After "case" the other cases of a batch go on. "machine" (device, memory, file
#: system), "device" (one that failed in the middle of its work: the machine's fault or the case's) and "ended" (from
#: outside: time limit, scancel, Ctrl-C) end the whole job.
Cause = Literal["case", "machine", "device", "ended"]


def cause_of(error: BaseException) -> Cause:
    """Return what an error of a job is the fault of.

    Examples
    --------
    >>> from softlabels.errors import InputError, StoreError
    >>> [cause_of(error) for error in (InputError(), FormatError(), StoreError(), MemoryError(), SystemExit())]
    ['case', 'case', 'machine', 'machine', 'ended']
    >>> [cause_of(error) for error in (DeviceError(), DeviceFaultError())]
    ['machine', 'device']
    """
    if not isinstance(error, Exception):
        return "ended"
    if isinstance(error, DeviceFaultError):
        return "device"
    if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError):
        return "machine"
    is_of_machine = isinstance(error, (DeviceError, OSError)) and not isinstance(error, FormatError)
    return "machine" if is_of_machine else "case"


@dataclass(frozen=True)
class Failure:
    """Why one case x node has no result.

    Parameters
    ----------
    case, node : str
        Which job.
    cause : {"case", "machine", "device", "ended"}
        See `Cause`.
    why : str
        One line: the message, with the kind of error before it unless softlabels raised it on purpose.
    """

    case: str
    node: str
    cause: Cause
    why: str

    @classmethod
    def of(cls, case_id: str, node_id: str, error: BaseException) -> Failure:
        """Return the failure that an error is.

        Examples
        --------
        >>> Failure.of("a", "seeds-0a1b2c3d", ValueError("a bug")).why
        'ValueError: a bug'
        """
        message = " ".join(str(error).split())
        is_on_purpose = isinstance(error, (SoftLabelsError, SystemExit)) and bool(message)
        why = message if is_on_purpose else f"{type(error).__name__}: {message}".removesuffix(": ")
        return cls(case_id, node_id, cause_of(error), why)

    @property
    def line(self) -> str:
        """What failed and why, in one line."""
        return f"failed: {self.case} {self.node}: {self.why}"

    def write(self, results: Path) -> None:
        """Write the failure in one step; StoreError if that fails."""
        write_atomically(failure_path(results, self.case, self.node), sealed_json(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Failure:
        """Return the failure in a file; FormatError if it is damaged."""
        try:
            return cls(**unsealed_json(read_small_file(path)))
        except (OSError, ValueError, TypeError):
            raise FormatError(f"{path}: damaged. Delete it; see the log of the job") from None


def record_failure(results: Path, case_id: str, node_id: str, error: BaseException) -> None:
    """Record why a job ends without a result; the error itself matters more than that it cannot be recorded."""
    failure = Failure.of(case_id, node_id, error)
    log.error("%s", failure.line)
    try:
        failure.write(results)
    except StoreError as of_record:
        log.warning("%s %s: its failure is not recorded: %s", case_id, node_id, of_record)


def device_failure(results: Path, case_id: str, node_id: str) -> Failure | None:
    """Return the failure of a job whose last attempt ended because the device failed in the middle of it."""
    try:
        failure = Failure.read(failure_path(results, case_id, node_id))
    except FormatError:  # none, or a damaged one
        return None
    return failure if failure.cause == "device" else None


def failure_path(results: Path, case_id: str, node_id: str) -> Path:
    """Return the path of the failure of one case x node."""
    return results / case_id / f"{node_id}{SUFFIX}"
