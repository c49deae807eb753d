"""A whole case from files to stored GeoLS target, workflow included, beside the steps of the authors' script.

Usage: python benchmarks/whole_case.py [FOLDER], by default the shared glioma (155 x 240 x 240, 4 modalities).

The peer restates what GeoLS' published script does for one BraTS case (docs/methods.md): read, skeleton of three
classes, GeodisTK's raster scan with 4 iterations for each modality and class, exp(-D / mean D), min-max, background,
mean over modalities, one float32 NIfTI; GeodisTK has one thread. Ours is `snakemake --cores` on an empty store.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml
from skimage.morphology import skeletonize

ROOT = Path(__file__).resolve().parents[1]
MODALITIES = ("fla", "t1", "t1c", "t2")
CLASSES = {"necrosis": 1, "edema": 2, "enhancing": 4}


def authors_steps(folder: Path, label: str, out: Path) -> None:
    """Do for one case what the authors' script does, on the real GeodisTK."""
    image = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{m}.nii.gz"))).astype(np.float32) for m in MODALITIES]
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / label)))
    seeds = np.stack([skeletonize(labels == value) for value in CLASSES.values()])
    total = 0
    for number, modality in enumerate(image):
        asked, answer = out / f"asked{number}.npz", out / f"answer{number}.npz"
        np.savez(asked, image=modality[None], seeds=seeds, spacing=(1.0, 1.0, 1.0), lamb=1.0, iterations=4)
        worker = ROOT / "softlabels" / "geodesic" / "_geodistk_worker.py"
        subprocess.run([ROOT / ".venv-geodistk" / "bin" / "python", worker, asked, answer], check=True)
        maps = []
        for distance in np.load(answer)["distance"]:
            grown = np.exp(-distance / distance.mean())
            maps.append((grown - grown.min()) / (grown.max() - grown.min()))
        total = total + np.stack([1 - np.mean(maps, axis=0), *maps])
    sitk.WriteImage(sitk.GetImageFromArray((total / len(image)).astype(np.float32)), str(out / "maps.nii.gz"))


def write_project(folder: Path, label: str, project: Path, variant: str) -> None:
    """Write case sheet and configuration of the same case for the pipeline."""
    columns = "\t".join(f"image:{m}" for m in MODALITIES)
    files = "\t".join(str((folder / f"{m}.nii.gz").resolve()) for m in MODALITIES)
    (project / "cases.tsv").write_text(f"case\t{columns}\tlabel\nglioma\t{files}\t{(folder / label).resolve()}\n")
    config = {
        "channels": list(MODALITIES),
        "labels": {"background": 0} | CLASSES,
        "targets": {"geols": {"method": "geols", "variant": variant}},
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
    receipts = [yaml.safe_load(path.read_text()) for path in (project / "results" / "glioma").glob("*-*.json")]
    return {receipt["stage"]: receipt["seconds"] for receipt in receipts}


def main() -> None:
    """Time both, side by side, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = ROOT.parent / "shared" / "data" / "glioma_du7294"
    parser.add_argument("folder", type=Path, nargs="?", default=default)
    parser.add_argument("--label", default="label_sanet0-20.nii.gz")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rows = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as scratch:
            started = time.perf_counter()
            authors_steps(arguments.folder, arguments.label, Path(scratch))
            peer = time.perf_counter() - started
        for variant in ("paper", "official"):
            with tempfile.TemporaryDirectory() as scratch:
                write_project(arguments.folder, arguments.label, Path(scratch), variant)
                started = time.perf_counter()
                stages = pipeline(Path(scratch), arguments.cores)
                ours = time.perf_counter() - started
            rows.append((variant, peer, ours, stages))
            print(
                f"{variant:9} authors {peer:6.1f} s, ours {ours:6.1f} s, ratio {peer / ours:5.1f}x, stages {stages}",
                flush=True,
            )
    print(
        "\n| variant | authors' steps (s) | whole workflow (s) | ratio | of it: prepare, seeds, distance, target (s) |"
    )
    print("|---|---|---|---|---|")
    for variant in ("paper", "official"):
        own = sorted((row for row in rows if row[0] == variant), key=lambda row: row[1] / row[2])
        _, peer, ours, stages = own[len(own) // 2]
        parts = ", ".join(f"{stages[s]:.1f}" for s in ("prepare", "seeds", "distance", "target"))
        print(f"| {variant} | {peer:.1f} | {ours:.1f} | {peer / ours:.1f}x | {parts} |")


if __name__ == "__main__":
    main()
