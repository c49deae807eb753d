"""What the jobs are given: cases, nodes and configuration in files whose names are digests of their content.

Data on a command line has a limit (128 KiB for one argument on Linux, which a batch with long paths exceeds), and
Snakemake prints the command of every job that fails. A file that is named by its content can be shared by jobs and by
runs, is never changed, and is verified by the job that reads it. As a parameter of a rule, its path changes with the
content, so that Snakemake runs the job again.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from softlabels._shared.files import is_damage, read_small_file, write_atomically
from softlabels.errors import FormatError, StoreError

#: Where they are in the folder that Snakemake works in, which all nodes of a cluster see.
FOLDER = Path(".snakemake", "softlabels")

_NAME = re.compile(r"[0-9a-f]{32}\.json")
_DAY = 24 * 3600
_DAYS_KEPT = 30


@dataclass(frozen=True)
class JobFiles:
    """The job files of one folder.

    Parameters
    ----------
    folder : Path
        Made when the first file is written.

    Examples
    --------
    >>> import tempfile
    >>> files = JobFiles(Path(tempfile.mkdtemp()))
    >>> path = files.path('{"cases": 3}')
    >>> path.name
    '88b8697515854253abb2c1bb5b399055.json'
    """

    folder: Path = FOLDER

    def path(self, content: str) -> Path:
        """Return the path of the file with this content, whether it exists or not."""
        return self.folder / _name(content.encode())

    def write(self, content: str) -> Path:
        """Write the file with this content unless it exists; return its path.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        path, data = self.path(content), content.encode()
        try:
            status = os.lstat(path)
            is_there = status.st_size == len(data)
        except OSError:
            is_there = False
        if not is_there:
            write_atomically(path, data)
        elif status.st_mtime < time.time() - _DAY:
            # Its owner may be another user of the project, who alone can set the time.
            with suppress(OSError):
                os.utime(path)
        return path

    def delete_unused(self) -> int:
        """Delete the files that no run has used for 30 days; return how many.

        A file is in use as long as a run plans with it or starts jobs that read it. One that is missing is written
        again by whoever starts the job.
        """
        oldest, n_deleted = time.time() - _DAYS_KEPT * _DAY, 0
        with suppress(FileNotFoundError), os.scandir(self.folder) as found:
            for one in found:
                is_own = _NAME.fullmatch(one.name) and one.is_file(follow_symlinks=False)
                if is_own and one.stat(follow_symlinks=False).st_mtime < oldest:
                    os.unlink(one.path)
                    n_deleted += 1
        return n_deleted


def read_job_file(path: Path) -> str:
    """Return the content of a job file.

    Raises
    ------
    FormatError
        If it is missing, or its content is not what its name says.
    StoreError
        If it cannot be read.
    """
    again = "Run the same snakemake command again, which writes it"
    try:
        data = read_small_file(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise FormatError(f"{path}: missing. {again}") from None
        if is_damage(error):
            raise FormatError(f"{path}: cannot be read ({error.strerror}). Delete it. {again}") from None
        raise StoreError(f"{path}: cannot be read ({error.strerror}). Check the file system") from error
    if _name(data) != path.name:
        raise FormatError(f"{path}: damaged, its content is not the one that its name stands for. Delete it. {again}")
    return data.decode()


def _name(data: bytes) -> str:
    """Return the name of the file with this content."""
    return f"{hashlib.sha256(data).hexdigest()[:32]}.json"
