"""What of a project waits or runs on a Slurm cluster now."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

#: Snakemake's comment on a job: rule_<rule>_wildcards_<unit>_<node>, with `_` for the `/` of a batch.
_COMMENT = re.compile(r"rule_\w+?_wildcards_(?P<unit>.+)_(?P<node>\w+-[0-9a-f]{8})")


def queued_jobs(folder: Path) -> dict[tuple[str, str], str]:
    """Return (unit, node id) to Slurm's state, e.g. RUNNING or PENDING, of the jobs that were started in a folder.

    Empty on a machine without Slurm, or when Slurm does not answer.
    """
    if not shutil.which("squeue"):
        return {}
    command = ["squeue", "--me", "--noheader", "--format", "%T|%Z|%k"]
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return {}
    return parse_queue(done.stdout, folder)


def parse_queue(text: str, folder: Path) -> dict[tuple[str, str], str]:
    r"""Return (unit, node id) to state from lines of `state|working directory|comment`.

    Examples
    --------
    >>> lines = "RUNNING|/p|rule_seeds_wildcards_batches_00001_seeds-0a1b2c3d\nPENDING|/q|rule_index\n"
    >>> parse_queue(lines, Path("/p"))
    {('batches/00001', 'seeds-0a1b2c3d'): 'RUNNING'}
    """
    found = {}
    for line in text.splitlines():
        state, workdir, comment = (line.split("|", 2) + ["", ""])[:3]
        match = _COMMENT.fullmatch(comment.strip())
        if match and Path(workdir) == folder:
            unit = re.sub(r"^batches_(\d{5})$", r"batches/\1", match["unit"])
            found[unit, match["node"]] = state
    return found
