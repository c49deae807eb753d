"""Snakemake profiles, installed for a user with what only this user's site knows."""

from __future__ import annotations

import re
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels.errors import InputError
from softlabels.monitor.deployment import workflow_folder


def install_profile(
    name: str, account: str | None = None, partition: str | None = None, gpu_partition: str | None = None
) -> Path:
    """Write a profile to where `snakemake --profile NAME` looks; return its folder.

    Parameters
    ----------
    name : str
        A folder of workflow/profiles.
    account, partition, gpu_partition : str, optional
        Slurm account, partition of CPU jobs, and partition of rules that need a GPU.

    Raises
    ------
    InputError
        If there is no such profile, or the user has one of that name already.
    """
    shipped = workflow_folder() / "workflow" / "profiles"
    known = sorted(path.parent.name for path in shipped.glob("*/config.yaml"))
    if name not in known:
        raise InputError(f"profile: got {name!r}, expected one of {known}")
    target = Path.home() / ".config" / "snakemake" / name
    if target.exists():
        raise InputError(f"{target}: already exists. Edit it, or delete it to install the shipped profile")
    text = at_site((shipped / name / "config.yaml").read_text(encoding="utf-8"), account, partition, gpu_partition)
    write_atomically(target / "config.yaml", text)
    return target


def at_site(text: str, account: str | None, partition: str | None, gpu_partition: str | None) -> str:
    r"""Return the text of a profile with a site's account and partitions in it.

    Examples
    --------
    >>> at_site("default-resources:  # ...\n  slurm_partition: cpu\n", "lab", "short", None)
    'default-resources:  # ...\n  slurm_account: lab\n  slurm_partition: short\n'
    """
    for value in filter(None, (account, partition, gpu_partition)):
        if not re.fullmatch(r"[A-Za-z0-9_.,-]+", value):
            raise InputError(f"{value!r}: not the name of a Slurm account or partition. See sinfo and sacctmgr")
    if partition:
        text = re.sub(r"(default-resources:.*\n  slurm_partition: ).*", rf"\g<1>{partition}", text)
    if gpu_partition:
        text = re.sub(r"(\w+_cuda:.*\n    slurm_partition: ).*", rf"\g<1>{gpu_partition}", text)
    if account:
        text = re.sub(r"(default-resources:.*\n)", rf"\g<1>  slurm_account: {account}\n", text)
    return text
