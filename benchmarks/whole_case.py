"""A whole case from files to stored GeoLS target, workflow included, beside the steps of the authors' script.

Usage: python benchmarks/whole_case.py [FOLDER] [--write], by default the real glioma (155 x 240 x 240, 4 channels);
--write puts the table into benchmarks/RESULTS.md.

The baseline restates what GeoLS' published script does for one BraTS case (docs/methods.md): read, skeleton of three
classes, GeodisTK's raster scan with 4 iterations for each channel and class, exp(-D / mean D), min-max, background,
mean over channels, one float32 NIfTI; GeodisTK has one thread. It lives in an environment of its own: what starting
it and handing over arrays takes is not counted. Ours is `snakemake --cores` on an empty store, all stages in one job.

Both are given on the clock and in CPU time, user and system, of all processes: on a machine whose cores are shared with
other work, only the latter can be compared. Python keeps the bytecode of the package, as it does of an installed one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk
import yaml
from real_volumes import needed_volumes
from results import write_section
from skimage.morphology import skeletonize

ROOT = Path(__file__).resolve().parents[1]
CHANNELS = ("fla", "t1", "t1c", "t2")
SECTION = "A whole case"
_ZSCORES = {"clip_percentiles": [0.5, 99.5], "normalise": "zscore"}
#: What is run, as variant, preparation and what is kept: the work of the script itself, and the paper's variant on raw
#: and on normalised intensities.
RUNS = {
    "official, raw intensities": ("official", {}, "all"),
    "paper, raw intensities": ("paper", {}, "all"),
    "paper, z-scores (what `softlabels init` writes)": ("paper", _ZSCORES, "all"),
    "the same with `keep: targets`": ("paper", _ZSCORES, "targets"),
}
STAGES = ("prepare", "seeds", "distance", "target")
CLASSES = {"necrosis": 1, "edema": 2, "enhancing": 4}


class Spent(NamedTuple):
    """Seconds on the clock, and of CPU."""

    wall: float
    cpu: float

    def __sub__(self, other: Spent) -> Spent:
        """Return the time between two readings."""
        return Spent(self.wall - other.wall, self.cpu - other.cpu)


def own_clocks() -> Spent:
    """Return the clocks of this process."""
    return Spent(time.perf_counter(), time.process_time())


def clocks_of_children() -> Spent:
    """Return the clock, and the CPU time of all processes that this one has waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Spent(time.perf_counter(), used.ru_utime + used.ru_stime)


def authors_steps(folder: Path, label: str, out: Path) -> Spent:
    """Do for one case what the authors' script does, on the real GeodisTK; return its time."""
    started, of_geodistk, transfer = own_clocks(), Spent(0, 0), Spent(0, 0)
    image = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{m}.nii.gz"))).astype(np.float32) for m in CHANNELS]
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / label)))
    seeds = np.stack([skeletonize(labels == value) for value in CLASSES.values()])
    total = 0
    for number, channel in enumerate(image):
        asked, answer = out / f"asked{number}.npz", out / f"answer{number}.npz"
        handed_over = own_clocks()
        np.savez(asked, image=channel[None], seeds=seeds, spacing=(1.0, 1.0, 1.0), lamb=1.0, iterations=4)
        worker = ROOT / "softlabels" / "geodesic" / "_geodistk_worker.py"
        subprocess.run([ROOT / ".venv-geodistk" / "bin" / "python", worker, asked, answer], check=True)
        with np.load(answer) as answered:
            distances, spent = answered["distance"], (float(answered["seconds"]), float(answered["cpu_seconds"]))
        of_geodistk = Spent(of_geodistk.wall + spent[0], of_geodistk.cpu + spent[1])
        taken = own_clocks() - handed_over
        transfer = Spent(transfer.wall + taken.wall, transfer.cpu + taken.cpu)
        maps = []
        for distance in distances:
            grown = np.exp(-distance / distance.mean())
            maps.append((grown - grown.min()) / (grown.max() - grown.min()))
        total = total + np.stack([1 - np.mean(maps, axis=0), *maps])
    sitk.WriteImage(sitk.GetImageFromArray((total / len(image)).astype(np.float32)), str(out / "maps.nii.gz"))
    own = own_clocks() - started - transfer
    return Spent(own.wall + of_geodistk.wall, own.cpu + of_geodistk.cpu)


def write_project(folder: Path, label: str, project: Path, variant: str, prepare: dict, keep: str) -> None:
    """Write case sheet and configuration of the same case for the pipeline."""
    columns = "\t".join(f"image:{m}" for m in CHANNELS)
    files = "\t".join(str((folder / f"{m}.nii.gz").resolve()) for m in CHANNELS)
    (project / "cases.tsv").write_text(f"case\t{columns}\tlabel\nglioma\t{files}\t{(folder / label).resolve()}\n")
    config = {
        "channels": list(CHANNELS),
        "labels": {"background": 0} | CLASSES,
        "prepare": prepare,
        "targets": {"geols": {"method": "geols", "variant": variant}},
        "stages_per_job": "all",
        "keep": keep,
        "pictures": False,
    }
    (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def pipeline(project: Path, cores: int) -> tuple[Spent, dict[str, Spent]]:
    """Run snakemake to the target; return the time of all its processes, and that of each stage's own work."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--configfile", "config.yaml"]
    command += ["--workflow-profile", ROOT / "workflow" / "profiles" / "default", "--cores", str(cores)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = clocks_of_children()
    done = subprocess.run(
        [*command, "results/index.json"], cwd=project, env=environment, text=True, capture_output=True
    )
    spent = clocks_of_children() - started
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    receipts = [json.loads(path.read_text()) for path in (project / "results" / "glioma").glob("*-*.json")]
    return spent, {r["stage"]: Spent(r["seconds"], r["cpu_seconds"]) for r in receipts}


def table(times: dict[str, list[tuple[Spent, Spent, dict[str, Spent]]]]) -> list[str]:
    """Return the table, of the runs with the median ratio of CPU times."""
    lines = [
        "| softlabels | authors' steps s (CPU s) | whole workflow s (CPU s) | ratio | ratio of CPU time "
        "| CPU s of prepare, seeds, distance, target | the rest |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    for name, rows in times.items():
        peer, ours, stages = sorted(rows, key=lambda row: row[0].cpu / row[1].cpu)[len(rows) // 2]
        parts = [stages[stage].cpu for stage in STAGES]
        lines.append(
            f"| {name} | {peer.wall:.1f} ({peer.cpu:.1f}) | {ours.wall:.1f} ({ours.cpu:.1f}) "
            f"| {peer.wall / ours.wall:.1f}x | {peer.cpu / ours.cpu:.1f}x "
            f"| {', '.join(f'{part:.1f}' for part in parts)} | {ours.cpu - sum(parts):.1f} |"
        )
    return lines


def main() -> None:
    """Time both, side by side, print the table and write it into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="the glioma case; by default that of the tests")
    parser.add_argument("--label", default="label_sanet0-20.nii.gz")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"replace the section '{SECTION}' of RESULTS.md")
    arguments = parser.parse_args()
    folder = arguments.folder or needed_volumes() / "glioma_du7294"
    times: dict[str, list[tuple[Spent, Spent, dict[str, Spent]]]] = {name: [] for name in RUNS}
    for what in list(RUNS.values())[:2]:
        with tempfile.TemporaryDirectory() as scratch:
            # Compiles the kernels of both metrics where they are not: that is not to be measured.
            write_project(folder, arguments.label, Path(scratch), *what)
            pipeline(Path(scratch), arguments.cores)
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            peer = authors_steps(folder, arguments.label, Path(scratch))
        for name, what in RUNS.items():
            with tempfile.TemporaryDirectory() as scratch:
                write_project(folder, arguments.label, Path(scratch), *what)
                ours, stages = pipeline(Path(scratch), arguments.cores)
            times[name].append((peer, ours, stages))
            print(f"{name}: authors {peer}, ours {ours}, {stages}", flush=True)
    lines = [
        f"{platform.machine()}, {arguments.cores} cores (GeodisTK has one thread), load {os.getloadavg()[0]:.1f}; "
        f"medians of {arguments.repeats}; four channels of 155 x 240 x 240, three classes and the background.\n",
        *table(times),
    ]
    print("\n".join(lines))
    if arguments.write:
        write_section(SECTION, "\n".join(lines))


if __name__ == "__main__":
    main()
