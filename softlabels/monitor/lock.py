"""Knowing whether the Snakemake that locked a project is still alive, so that a crash needs no `--unlock`.

Snakemake's lock is two files that outlive a killed process. The kernel's lock on a file does not: every Snakemake of a
project holds one while it runs, so whoever gets it exclusively knows that Snakemake's own files are left over.
"""

from __future__ import annotations

import fcntl
import platform
from pathlib import Path
from typing import TextIO

#: Of the project's folder: Snakemake's own folder, with its locks, and the file that the kernel locks.
_LOCKS, _OWNER = Path(".snakemake", "locks"), Path(".snakemake", "softlabels.lock")

#: Open files whose locks last until this process ends.
_held: list[TextIO] = []


def release_stale_lock(project: Path) -> bool:
    """Lock a project for this process, and remove Snakemake's lock if its owner is dead; return whether it was.

    Only a lock that was taken on this host is ever removed: not every shared file system carries kernel locks from
    one node to another.

    Parameters
    ----------
    project : Path
        The folder that Snakemake works in.
    """
    path = project / _OWNER
    path.parent.mkdir(exist_ok=True)
    owner = open(path, "a+", encoding="utf-8")  # noqa: SIM115 (held until this process ends)
    _held.append(owner)
    left_over = []
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except OSError:
        # Without kernel locks, it cannot be known whether the owner is alive, so Snakemake's lock stays as it is.
        return False
    else:
        left_over = _remove_left_over(project / _LOCKS, owner)
    # Shared from now on: Snakemake allows several runs of one project that make different files.
    fcntl.flock(owner, fcntl.LOCK_SH)
    return bool(left_over)


def is_running_here(project: Path) -> bool | None:
    """Return whether a Snakemake of this project is alive; None if it never ran, or that cannot be known.

    Parameters
    ----------
    project : Path
        The folder that Snakemake works in.
    """
    try:
        # An exclusive lock on NFS needs a file that is open for writing.
        with open(project / _OWNER, "r+", encoding="utf-8") as owner:
            if owner.read() != platform.node():
                return None
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _remove_left_over(locks: Path, owner: TextIO) -> list[Path]:
    """Remove Snakemake's locks if the last owner was on this host; return them."""
    found, here = list(locks.glob("*.lock")), platform.node()
    owner.seek(0)
    if found and owner.read() != here:
        return []
    for path in found:
        path.unlink()
    owner.truncate(0)
    owner.write(here)
    owner.flush()
    return found
