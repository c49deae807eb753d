"""What `softlabels plan` states of a case beside what its one job then takes: kernels compiled by it, or by a warm-up.

Usage: python benchmarks/plan.py [--only NAME] [--methods SING,...]

Each case is computed twice, with GeoLS and SiNG, in one process of two threads as Snakemake would start it, and in a
cache folder of its own that has no kernels: without anything before, and after `softlabels warm-up`. CPU time is that
of the job; peak memory is that of its process and 300 MB for the two Snakemakes of a job. The real cases are found as
the tests find them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SNAKEMAKE_MB = 300
REAL = {
    "breast1": (["image.nii.gz"], "label.nii.gz"),
    "ct_organs_small": (["ct.nii.gz"], "label.nii.gz"),
    "ms_p19": (["t1.nii.gz"], "label_lesion.nii.gz"),
    "synthetic": (["ct.nii.gz"], "label.nii.gz"),
}
SHAPE, N_CLASSES = (128, 128, 128), 60
FORECAST = """
import json
from softlabels.config import load_config
from softlabels.inputs.sheet import read_sheet
from softlabels.pipeline.cost import JOB_START_SECONDS, forecast
from softlabels.pipeline.plan import make_plan
config = load_config("config.yaml")
cases = read_sheet("cases.tsv", config.channels)
costs = [row.cost for row in forecast(make_plan(config), cases, done=set(), stored=set())]
print(json.dumps([JOB_START_SECONDS + sum(c.seconds for c in costs), max(c.memory_mb for c in costs)]))
"""


def write_project(folder: Path, source: Path, name: str, targets: dict) -> dict:
    """Write config.yaml and the sheet of a case; return what the job is given."""
    import numpy as np
    import SimpleITK as sitk
    import yaml

    images, label = REAL[name]
    values = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(source / label)))).tolist()
    channels = [f"c{n}" for n in range(len(images))]
    config = {
        "channels": channels,
        "labels": {"background": 0} | {f"class_{int(v)}": int(v) for v in values if v},
        "prepare": {"normalise": "zscore"},
        "targets": targets,
        "keep": "targets",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    head = "\t".join(f"image:{channel}" for channel in channels)
    row = "\t".join(str(source / image) for image in images)
    (folder / "cases.tsv").write_text(f"case\t{head}\tlabel\n{name}\t{row}\t{source / label}\n")
    return config


def job_command(folder: Path) -> list[str]:
    """Return the command of the one job of a project."""
    from softlabels.config import load_config
    from softlabels.inputs.sheet import cases_to_json, read_sheet
    from softlabels.pipeline.job_files import JobFiles
    from softlabels.pipeline.node import nodes_to_json
    from softlabels.pipeline.plan import make_plan

    config, files = load_config(folder / "config.yaml"), JobFiles(folder / "job_files")
    nodes = files.write(nodes_to_json(make_plan(config).nodes.values()))
    cases = files.write(cases_to_json(read_sheet(folder / "cases.tsv", config.channels)))
    given = f"--nodes {nodes} --cases {cases} --receipt results/stages.json --store store --results results --threads 2"
    return [sys.executable, "-m", "softlabels", "stage", *given.split()]


def run(command: list[str], folder: Path, cache: Path) -> tuple[float, float, str]:
    """Run a command; return its CPU seconds, its peak memory in MB and what it printed."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The peak of the children is the largest of all there were, so each is measured in a process of its own.
    measured = [sys.executable, __file__, "--measured", *command]
    done = subprocess.run(measured, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    *said, peak = done.stdout.splitlines()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, float(peak), "\n".join(said)


def measure_child(command: list[str]) -> None:
    """Run a command and print its peak memory in MB after what it prints."""
    done = subprocess.run(command, text=True, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000)


def rows_of(name: str, source: Path, targets: dict) -> list[str]:
    """Return the rows of a case: compiling, and after a warm-up."""
    rows = []
    for warm in (False, True):
        with tempfile.TemporaryDirectory() as scratch:
            folder, cache = Path(scratch, "project"), Path(scratch, "cache")
            folder.mkdir()
            config = write_project(folder, source, name, targets)
            warm_up = run([sys.executable, "-m", "softlabels", "warm-up"], folder, cache)[0] if warm else 0.0
            _, _, said = run([sys.executable, "-c", FORECAST], folder, cache)
            seconds, memory = json.loads(said)
            cpu, peak, _ = run(job_command(folder), folder, cache)
            peak += SNAKEMAKE_MB
            what = f"after a warm-up of {warm_up:.0f} s" if warm else "compiles"
            rows.append(
                f"| {name} | {len(config['labels'])} | {what} | {cpu:.1f} | {seconds:.1f} | {seconds / cpu:.2f} | "
                f"{peak:.0f} | {memory} | {memory / peak:.2f} |"
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    if sys.argv[1:2] == ["--measured"]:
        measure_child(sys.argv[2:])
        return
    sys.path.insert(0, str(ROOT / "tests"))
    from helpers.real_volumes import HOW, real_volumes
    from many_classes import synthetic_ct

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the names of the cases")
    parser.add_argument("--methods", default="geols,sing")
    arguments = parser.parse_args()
    targets = {method: {"method": method} for method in arguments.methods.split(",")}
    real = real_volumes()
    if real is None:
        sys.exit(f"no real volumes. {HOW}")
    print("| case | classes | kernels | CPU s | planned | ratio | peak MB | planned | ratio |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in REAL:
        if arguments.only not in name:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            source = real.resolve() / name
            if name == "synthetic":
                import SimpleITK as sitk

                source = Path(scratch)
                for file, values in zip(("ct", "label"), synthetic_ct(SHAPE, N_CLASSES), strict=True):
                    sitk.WriteImage(sitk.GetImageFromArray(values), str(source / f"{file}.nii.gz"))
            rows_of(name, source, targets)


if __name__ == "__main__":
    main()
