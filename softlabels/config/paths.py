"""Paths of config.yaml in one form: `~` and `$NAME` replaced, no slash at the end, never empty."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from softlabels._shared.section import faults_error, shown

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def expanded(path: str) -> str:
    """Return a path with `~` and `$NAME` replaced; raise ValueError for one that leads nowhere.

    Examples
    --------
    >>> os.environ["SCRATCH"] = "/scratch/me"
    >>> expanded("$SCRATCH/store/")
    '/scratch/me/store'
    """
    if not path.strip():
        raise ValueError(f"got {shown(path)}, expected a path")
    if not path.isprintable():
        raise ValueError(f"got {shown(path)}, expected a path without control characters")
    made = os.path.expanduser(os.path.expandvars(path))
    if missing := _VARIABLE.search(made):
        raise ValueError(f"got {shown(path)}, but {missing[0]} is not set. Set it, or write the folder out")
    if made.startswith("~"):
        raise ValueError(f"got {shown(path)}, but there is no such user. Write the folder out, or './~...'")
    # Two slashes at the beginning may mean a host elsewhere; on Linux they mean one.
    return re.sub("^//+", "/", os.path.normpath(made))


def _path(value: str) -> str:
    try:
        return expanded(value)
    except ValueError as error:
        raise faults_error([f": {error}"]) from None


def _folder(value: str) -> str:
    path = _path(value)
    # Everything below such a folder belongs to softlabels: `verify` and `gc` look at all of it.
    if os.path.abspath(path) in (os.sep, os.path.expanduser("~"), os.getcwd()):
        raise faults_error(
            [f": got {shown(value)}, expected a folder of its own, such as {value.rstrip('/')}/softlabels"]
        )
    return path


def _results(value: str) -> str:
    path = _folder(value)
    if set("{}") & set(path):
        raise faults_error([f": got {shown(value)}, expected no {{ or }}, which mark Snakemake's wildcards"])
    return path


#: A file.
FilePath = Annotated[str, Field(min_length=1), AfterValidator(_path)]
#: A folder that softlabels has for itself.
FolderPath = Annotated[str, Field(min_length=1), AfterValidator(_folder)]
#: The same, in the names of Snakemake's rules.
ResultsPath = Annotated[str, Field(min_length=1), AfterValidator(_results)]
