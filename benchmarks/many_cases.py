"""Commands and training on cohorts of many cases, which are made up: one case is computed, and its receipts are copied.

    python benchmarks/many_cases.py [N ...] --folder DIR

For each N: CPU seconds of the commands that read all receipts, size and number of the files of results, the dry run,
and what a trainer takes to open the index. Prints a table for benchmarks/RESULTS.md, section "Many cases".
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from scale import ROOT, machine, one_small_case, snakemake, write_project

from softlabels.config import load_config
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.receipts import BatchReceipt, Receipt
from softlabels.pipeline.units import make_steps, make_units

#: Runs in a process of its own: opens the training set of an index, as a trainer does.
OPEN = """
import resource, sys, time
from softlabels.training.dataset import SoftLabelDataset
def memory():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1e3
before, start = memory(), time.process_time()
dataset = SoftLabelDataset(sys.argv[1], target="geols", patch_size=(64, 64, 64))
print(time.process_time() - start, memory() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before)
"""


def made_up_cohort(folder: Path, n: int) -> Path:
    """Compute one case and write what a finished run of n cases like it would leave, but the store."""
    image, label = one_small_case(folder)
    changes = {"cases_per_job": 64, "stages_per_job": "all", "keep": "targets"}
    one = write_project(folder / "one", {"case0": (image, label)}, **changes)
    snakemake(one, "--cores", "1", "--quiet")
    model = [Receipt.read(path) for path in sorted((one / "results" / "case0").glob("*-*.json"))]
    names = [f"case{i:06d}" for i in range(n)]
    project = write_project(folder / f"many-{n}", dict.fromkeys(names, (image, label)), **changes)
    config = load_config(project / "config.yaml")
    plan = make_plan(config)
    for name in names:
        for receipt in model:
            key = hashlib.sha256(f"{name}/{receipt.node}".encode()).hexdigest()
            changed = replace(receipt, case=name, key=key, manifest=receipt.manifest and key, outcome="computed")
            changed.write(project / "results" / name / f"{receipt.node}.json")
    for unit, members in make_units(names, config.batch_size).items():
        for step, nodes in make_steps(plan.nodes, config.job_stages).items():
            BatchReceipt(nodes, members).write(project / "results" / unit / f"{step}.json")
    return project


def cpu_seconds(project: Path, *command: str) -> float:
    """Return the CPU time of a command of softlabels."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "softlabels", *command], cwd=project, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"softlabels {' '.join(command)}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def handed_over(index: Path) -> tuple[float, float]:
    """Return CPU seconds and megabytes of handing a data set to a worker that is not forked."""
    from softlabels.training.dataset import SoftLabelDataset

    dataset = SoftLabelDataset(index, target="geols", patch_size=(64, 64, 64))
    start, buffer = time.process_time(), io.BytesIO()
    ForkingPickler(buffer, 5).dump(dataset)
    return time.process_time() - start, buffer.tell() / 1e6


def rows_of(folder: Path, n: int) -> dict[str, str]:
    """Return every figure of a cohort of n cases, by what it is of."""
    project = made_up_cohort(folder, n)
    results, index = project / "results", project / "results" / "index.json"
    rows = {"files of results": f"{sum(len(files) for _, _, files in os.walk(results)):,}"}
    blocks = sum(os.lstat(Path(where) / name).st_blocks for where, _, files in os.walk(results) for name in files)
    rows["disk blocks of these MB"] = f"{blocks * 512 / 1e6:.0f}"
    rows["`softlabels index` s"] = f"{cpu_seconds(project, 'index'):.1f}"
    rows["index.json MB"] = f"{index.stat().st_size / 1e6:.0f}"
    for command in ("status", "check", "gc", "plan"):
        rows[f"`softlabels {command}` s"] = f"{cpu_seconds(project, command):.1f}"
    opened = subprocess.run([sys.executable, "-c", OPEN, index], capture_output=True, text=True, check=True).stdout
    seconds, memory, peak = map(float, opened.split())
    rows["data set opened s"] = f"{seconds:.1f}"
    rows["its memory, peak MB"] = f"{memory:.0f}, {peak:.0f}"
    seconds, size = handed_over(index)
    rows["handed to a worker s, MB"] = f"{seconds:.2f}, {size:.0f}"
    shutil.rmtree(results)
    dry = snakemake(project, "--dry-run", "--quiet", "rules")
    rows["`snakemake --dry-run` s, MB"] = f"{dry['cpu']:.1f}, {dry['peak_mb']:.0f}"
    rows["jobs of it"] = f"{int(re.findall(r'^total +([0-9]+)', dry['said'], re.MULTILINE)[-1]):,}"
    return rows


def main() -> None:
    """Print the table of the cohorts whose sizes are named."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("n", nargs="*", type=int, default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, required=True, help="where to write; emptied first and last")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    columns = {}
    for n in asked.n:
        shutil.rmtree(asked.folder, ignore_errors=True)
        columns[n] = rows_of(asked.folder, n)
        print(json.dumps(columns[n], indent=1), flush=True)
    shutil.rmtree(asked.folder)
    print(f"\n{machine()}\n\n| cases | {' | '.join(f'{n:,}' for n in columns)} |\n|---|{'---:|' * len(columns)}")
    for name in columns[asked.n[0]]:
        print(f"| {name} | {' | '.join(column[name] for column in columns.values())} |")


if __name__ == "__main__":
    main()
