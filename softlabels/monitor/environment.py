"""The environment of Snakemake and of its jobs: UTF-8, the python and the softlabels that run here, nothing else."""

from __future__ import annotations

import codecs
import locale
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from softlabels.monitor.deployment import isolated_package

#: Set in a process that was restarted, so that none is restarted twice.
_RESTARTED = "SOFTLABELS_RESTARTED"


def is_utf8() -> bool:
    """Return whether Python reads and writes text and file names as UTF-8."""
    return bool(sys.flags.utf8_mode) or codecs.lookup(locale.getencoding()).name == "utf-8"


def restart_in_utf8(module: str, arguments: Sequence[str]) -> None:
    """Replace this process by `python -m module arguments` in UTF-8 mode, unless it uses UTF-8 already.

    In a locale such as C with Python's UTF-8 mode off, or ISO-8859-1, neither Snakemake nor Python can name the file
    `Müller/scan.nii.gz`. The encoding of file names is fixed when Python starts, so the process has to start again.
    Its jobs inherit the mode.

    Parameters
    ----------
    module : str
        What to run: `softlabels`, or `snakemake`.
    arguments : sequence of str
        Its arguments, as they were given to this process.
    """
    if is_utf8() or _RESTARTED in os.environ:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    environment = os.environ | {"PYTHONUTF8": "1", "PYTHONPATH": python_path(), _RESTARTED: "1"}
    os.execve(sys.executable, [sys.executable, "-P", "-X", "utf8", "-m", module, *arguments], environment)


def python_path(*first: str) -> str:
    """Return a PYTHONPATH of these folders and the present one, without its empty parts.

    An empty part, as `export PYTHONPATH=/x:$PYTHONPATH` leaves one, means the folder that Python is started in, where a
    file called random.py would be imported in place of the library.
    """
    return os.pathsep.join(filter(None, [*first, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]))


def set_job_environment(package: Path, *, is_module: bool) -> None:
    """Set the environment that the jobs of this process inherit, on this machine and on Slurm.

    Jobs call `python`: the one that runs here, unless a software environment puts its own in front. They find the
    softlabels that runs here, also in an environment where only its dependencies are installed.

    Parameters
    ----------
    package : Path
        Folder for the link to the package (`isolated_package`).
    is_module : bool
        Whether the workflow is a module of another one. The rules of that one may import from the folder of a script.
    """
    os.environ.update(
        PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        PYTHONPATH=python_path(str(isolated_package(package))),
    )
    if not is_module:
        # On Slurm, each job starts with `python -m snakemake` in the project's folder, where a file called random.py
        # or yaml.py would be imported in place of the library.
        os.environ["PYTHONSAFEPATH"] = "1"
