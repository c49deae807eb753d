"""Folders that every user of the machine could change: noticed when a run starts.

A store is shared by a group on purpose, so group write is no finding. Write access for everyone is one, unless the
folder is sticky, as /tmp is, where only the owner of a file can replace it.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path


def open_to_all(paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return a line for each existing file or folder that every user of the machine can change.

    Parameters
    ----------
    paths : iterable of path-like
        Such as the project's folder, its configuration, results and store. Links are followed. What cannot be reached
        is passed over: whoever uses it says why.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> os.chmod(folder, 0o777)
    >>> open_to_all([folder]) == [f"{folder}: every user of this machine can write here; run: chmod o-w {folder}"]
    True
    """
    lines = []
    for path in dict.fromkeys(map(Path, paths)):
        try:
            mode = path.stat().st_mode
        except OSError:
            continue
        is_sticky = stat.S_ISDIR(mode) and mode & stat.S_ISVTX
        if mode & stat.S_IWOTH and not is_sticky:
            lines.append(f"{path}: every user of this machine can write here; run: chmod o-w {shlex.quote(str(path))}")
    return lines
