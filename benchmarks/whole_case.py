"""A whole case from files to stored GeoLS target, workflow included, beside the steps of the authors' script.

Usage: python benchmarks/whole_case.py [FOLDER] [--write], by default the real glioma (155 x 240 x 240, 4 channels);
--write puts the table into benchmarks/RESULTS.md.

The baseline restates what GeoLS' published script does for one BraTS case (docs/methods.md): read, skeleton of three
classes, GeodisTK's raster scan with 4 iterations for each channel and class, exp(-D / mean D), min-max, background,
mean over channels, one float32 NIfTI; GeodisTK has one thread. It lives in an environment of its own: what starting
it and handing over arrays takes is not counted. Ours is `snakemake --cores` on an empty store, all stages in one job.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml
from real_volumes import needed_volumes
from results import write_section
from skimage.morphology import skeletonize

ROOT = Path(__file__).resolve().parents[1]
CHANNELS = ("fla", "t1", "t1c", "t2")
SECTION = "A whole case"
#: What is run: the work of the script itself, and the paper's variant on raw and on normalised intensities.
RUNS = {
    "official, raw intensities": ("official", {}),
    "paper, raw intensities": ("paper", {}),
    "paper, z-scores (what `softlabels init` writes)": (
        "paper",
        {"clip_percentiles": [0.5, 99.5], "normalise": "zscore"},
    ),
}
CLASSES = {"necrosis": 1, "edema": 2, "enhancing": 4}


def authors_steps(folder: Path, label: str, out: Path) -> float:
    """Do for one case what the authors' script does, on the real GeodisTK; return its seconds."""
    started, transfer = time.perf_counter(), 0.0
    image = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{m}.nii.gz"))).astype(np.float32) for m in CHANNELS]
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / label)))
    seeds = np.stack([skeletonize(labels == value) for value in CLASSES.values()])
    total = 0
    for number, channel in enumerate(image):
        asked, answer = out / f"asked{number}.npz", out / f"answer{number}.npz"
        handed_over = time.perf_counter()
        np.savez(asked, image=channel[None], seeds=seeds, spacing=(1.0, 1.0, 1.0), lamb=1.0, iterations=4)
        worker = ROOT / "softlabels" / "geodesic" / "_geodistk_worker.py"
        subprocess.run([ROOT / ".venv-geodistk" / "bin" / "python", worker, asked, answer], check=True)
        with np.load(answer) as answered:
            distances, worked = answered["distance"], float(answered["seconds"])
        transfer += time.perf_counter() - handed_over - worked
        maps = []
        for distance in distances:
            grown = np.exp(-distance / distance.mean())
            maps.append((grown - grown.min()) / (grown.max() - grown.min()))
        total = total + np.stack([1 - np.mean(maps, axis=0), *maps])
    sitk.WriteImage(sitk.GetImageFromArray((total / len(image)).astype(np.float32)), str(out / "maps.nii.gz"))
    return time.perf_counter() - started - transfer


def write_project(folder: Path, label: str, project: Path, variant: str, prepare: dict) -> None:
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
        "pictures": False,
    }
    (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def pipeline(project: Path, cores: int) -> dict[str, float]:
    """Run snakemake to the target; return the seconds that each stage's own work took."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--configfile", "config.yaml"]
    command += [
        "--workflow-profile",
        ROOT / "workflow" / "profiles" / "default",
        "--cores",
        str(cores),
        "results/index.json",
    ]
    done = subprocess.run(command, cwd=project, text=True, capture_output=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    receipts = [json.loads(path.read_text()) for path in (project / "results" / "glioma").glob("*-*.json")]
    return {receipt["stage"]: receipt["seconds"] for receipt in receipts}


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
    times: dict[str, list[tuple]] = {name: [] for name in RUNS}
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            peer = authors_steps(folder, arguments.label, Path(scratch))
        for name, (variant, prepare) in RUNS.items():
            with tempfile.TemporaryDirectory() as scratch:
                write_project(folder, arguments.label, Path(scratch), variant, prepare)
                started = time.perf_counter()
                stages = pipeline(Path(scratch), arguments.cores)
                ours = time.perf_counter() - started
            times[name].append((peer, ours, stages))
            print(f"{name}: authors {peer:.1f} s, ours {ours:.1f} s, {peer / ours:.1f}x, {stages}", flush=True)
    lines = [
        f"{platform.machine()}, {arguments.cores} cores (GeodisTK has one thread), load {os.getloadavg()[0]:.1f}; "
        f"medians of {arguments.repeats}; four channels of 155 x 240 x 240, three classes and the background.\n",
        "| softlabels | authors' steps s | whole workflow s | ratio | of it prepare, seeds, distance, target s |",
        "|---|---:|---:|---:|---|",
    ]
    for name, rows in times.items():
        peer, ours, stages = sorted(rows, key=lambda row: row[0] / row[1])[len(rows) // 2]
        parts = ", ".join(f"{stages[s]:.1f}" for s in ("prepare", "seeds", "distance", "target"))
        lines.append(f"| {name} | {peer:.1f} | {ours:.1f} | {peer / ours:.1f}x | {parts} |")
    print("\n".join(lines))
    if arguments.write:
        write_section(SECTION, "\n".join(lines))


if __name__ == "__main__":
    main()
