"""Which jobs of a project wait or run on a Slurm cluster now, and why Slurm ended a job."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from softlabels._shared.files import read_tail
from softlabels.pipeline.units import ALL_STAGES

#: Snakemake's comment on a job: rule_<rule>_wildcards_<unit>_<node>, with `_` for the `/` of a batch; the rule that
#: takes cases through all stages has no node.
_COMMENT = re.compile(
    rf"rule_(?:{ALL_STAGES}_wildcards_(?P<whole>.+)|\w+?_wildcards_(?P<unit>.+)_(?P<node>\w+-[0-9a-f]{{8}}))"
)


#: Seconds that a job on Slurm needs besides its work: two Snakemakes start one after another.
START_SECONDS = 5

#: Reasons for which Slurm lets a job wait that will start by itself.
PATIENT = frozenset(
    {"None", "Resources", "Priority", "BeginTime", "Dependency", "Prolog", "Cleaning", "JobArrayTaskLimit"}
)
#: How Slurm says in a job's output that it ended the job.
_ENDED = re.compile(r"^slurmstepd\S*: error: (?:\*+ )?(.+?)(?: \*+)?$", re.MULTILINE)
#: Bytes at the end of a job's output in which that is looked for.
_TAIL_BYTES = 1 << 20
_REASON = re.compile(r"memory|oom|DUE TO", re.IGNORECASE)
_RUNNING = frozenset({"RUNNING", "COMPILING", "COMPLETING", "CONFIGURING", "COMPLETED", "SUSPENDED"})


def is_running(state: str) -> bool:
    """Return whether a state of `queued_jobs` is that of a job that has begun."""
    return state in _RUNNING


def queued_jobs(folder: Path) -> dict[tuple[str, str], str]:
    """Return (unit, step) to Slurm's state, e.g. RUNNING or the reason of waiting, of a folder's jobs.

    Empty on a machine without Slurm, or when Slurm does not answer.
    """
    if not shutil.which("squeue"):
        return {}
    command = ["squeue", "--me", "--noheader", "--format", "%T|%r|%Z|%k"]
    try:
        done = subprocess.run(command, text=True, capture_output=True, timeout=20, check=True)
    except (subprocess.SubprocessError, OSError):
        return {}
    return parse_queue(done.stdout, folder)


def parse_queue(text: str, folder: Path) -> dict[tuple[str, str], str]:
    r"""Return (unit, step) to state from lines of `state|reason|working directory|comment`.

    Examples
    --------
    >>> lines = "RUNNING|None|/p|rule_seeds_wildcards_batches_00001_seeds-0a1b2c3d\nPENDING|Priority|/q|rule_index\n"
    >>> parse_queue(lines, Path("/p"))
    {('batches/00001', 'seeds-0a1b2c3d'): 'RUNNING'}
    """
    found = {}
    for line in text.splitlines():
        state, reason, workdir, comment = (line.split("|", 3) + [""] * 3)[:4]
        match = _COMMENT.fullmatch(comment.strip())
        if match and Path(workdir) == folder:
            unit = re.sub(r"^batches_(\d{5})$", r"batches/\1", match["unit"] or match["whole"])
            found[unit, match["node"] or ALL_STAGES] = reason if state == "PENDING" else state
    return found


def last_words(logs: Path, unit: str, step: str) -> str | None:
    """Return how Slurm explains the end of the last job of a (unit, step), or None if it does not.

    Read from Slurm's own log of that job, which the profile keeps of failed jobs in logs/slurm.
    """
    wildcards = unit.replace("/", "_") + ("" if step == ALL_STAGES else f"_{step}")
    found = logs.glob(f"slurm/rule_{step if step == ALL_STAGES else '*'}/{wildcards}/*.log")
    try:
        newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
        return None if newest is None else why_ended(read_tail(newest, _TAIL_BYTES))
    except FileNotFoundError:
        # Snakemake deletes the log of a job that has just succeeded.
        return None


def why_ended(text: str) -> str | None:
    r"""Return the line of a job's output in which Slurm says best why it ended the job, or None.

    Examples
    --------
    >>> why_ended("slurmstepd-n7: error: *** JOB 3 ON n7 CANCELLED AT 2026-11-21T13:48:17 DUE TO TIME LIMIT ***")
    'JOB 3 ON n7 CANCELLED AT 2026-11-21T13:48:17 DUE TO TIME LIMIT'
    >>> why_ended("slurmstepd: error: JOB 6 CANCELLED\nslurmstepd: error: Exceeded job memory limit\n")
    'Exceeded job memory limit'
    """
    said = _ENDED.findall(text)
    return next((line for line in said if _REASON.search(line)), said[-1] if said else None)
