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
        If there is no such profile, it has no place for a name, or the user has a profile of that name already.
    """
    shipped = workflow_folder() / "workflow" / "profiles"
    known = sorted(path.parent.name for path in shipped.glob("*/config.yaml"))
    if name not in known:
        raise InputError(f"profile: got {name!r}, expected one of {known}")
    target = Path.home() / ".config" / "snakemake" / name
    if target.exists():
        raise InputError(f"{target}: already exists. Edit it, or delete it to install the shipped profile")
    text = (shipped / name / "config.yaml").read_text(encoding="utf-8")
    try:
        text = at_site(text, account, partition, gpu_partition)
    except InputError as error:
        raise InputError(f"profile {name}: {error}") from None
    write_atomically(target / "config.yaml", text)
    return target


def at_site(text: str, account: str | None, partition: str | None, gpu_partition: str | None) -> str:
    r"""Return the text of a profile with a site's account and partitions in it.

    Examples
    --------
    >>> at_site("default-resources:  # ...\n  slurm_partition: cpu\n", "lab", "short", None)
    'default-resources:  # ...\n  slurm_account: lab\n  slurm_partition: short\n'

    Raises
    ------
    InputError
        If a name is none of Slurm's, or the profile has no place for it.
    """
    changes = {
        "partition": (partition, r"(default-resources:.*\n  slurm_partition: ).*", ""),
        "GPU partition": (gpu_partition, r"(\w+_cuda:.*\n    slurm_partition: ).*", ""),
        "account": (account, r"(default-resources:.*\n)", "  slurm_account: {}\n"),
    }
    for what, (name, place, form) in changes.items():
        if not name:
            continue
        if not re.fullmatch(r"[A-Za-z0-9_.,-]+", name):
            raise InputError(f"{name!r}: not the name of a Slurm account or partition. See sinfo and sacctmgr")
        text, n_changed = re.subn(place, rf"\g<1>{(form or '{}').format(name)}", text)
        if not n_changed:
            raise InputError(f"got the {what} {name!r}, but this profile is not for Slurm. Leave it out")
    return text
