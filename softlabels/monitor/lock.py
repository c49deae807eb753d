"""Knowing whether the Snakemake that locked a project is still alive, so that a crash needs no `--unlock`.

Snakemake's lock is two files that outlive a killed process. The kernel's lock on a file does not: while a controller
lives it holds one, so whoever gets it knows that Snakemake's files are left over.
"""

from __future__ import annotations

import fcntl
import platform
from pathlib import Path

_held = []


def release_stale_lock(folder: Path) -> bool:
    """Hold the project as its controller, and remove Snakemake's lock if its owner is dead; return whether it was.

    Only a lock that was taken on this host is ever removed: not every shared file system carries kernel locks from
    one node to another.

    Parameters
    ----------
    folder : Path
        Snakemake's own folder, `.snakemake` in the working directory.
    """
    folder.mkdir(exist_ok=True)
    owner = open(folder / "softlabels.monitor.lock", "a+")  # noqa: SIM115 (held until this process ends)
    _held.append(owner)
    left_over = []
    try:
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    except OSError:
        # A file system without kernel locks: nobody can tell, so Snakemake's lock stays as it is.
        return False
    else:
        left_over = _remove_left_over(folder / "locks", owner)
    # Shared from now on: Snakemake allows several controllers of one project that make different files.
    fcntl.flock(owner, fcntl.LOCK_SH)
    return bool(left_over)


def is_controlled(folder: Path) -> bool | None:
    """Return whether the Snakemake of this project lives; None if it never ran or nobody can tell.

    Parameters
    ----------
    folder : Path
        Snakemake's own folder, `.snakemake` in the working directory.
    """
    try:
        # An exclusive lock on NFS needs a file that is open for writing.
        with open(folder / "softlabels.monitor.lock", "r+") as owner:
            if owner.read() != platform.node():
                return None
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False


def _remove_left_over(locks: Path, owner) -> list[Path]:
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
