"""A case of a hundred classes, from files to a stored GeoLS target: full distances beside those within a gap.

Usage: python benchmarks/many_classes.py [--shape 160,160,160 --classes 105] [--only NAME] [--write]
       python benchmarks/many_classes.py --methods [--shape 160,160,160 --classes 105] [--only NAME] [--write]

With --methods, every method that has a map of its own computes the target of one case instead.

The case is a synthetic CT: organs as balls of random size and place, z-scores. All stages run in one process of two
threads, without Snakemake, once for each configuration and each in a process of its own. Peak memory is that of the
process, imports and compiled kernels included; the kernels are compiled before.
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
from results import write_section

ROOT = Path(__file__).resolve().parents[1]
SECTION, METHODS_SECTION = "Many classes", "Many classes, by method"
CHANGES = {
    "full distances, dense target, all stages kept": {
        "target": {"distance": {"gap": "none"}, "storage": "dense"},
        "keep": "all",
    },
    "within the gap, sparse target, all stages kept": {"target": {}, "keep": "all"},
    "within the gap, sparse target, `keep: targets`": {"target": {}, "keep": "targets"},
}
#: Every method that reads one label file, and the forms of GeoLS and SiNG that need all distances.
BY_METHOD = {
    "svls": {"target": {"method": "svls"}, "keep": "all"},
    "gaussian": {"target": {"method": "gaussian"}, "keep": "all"},
    "dilation": {"target": {"method": "dilation"}, "keep": "all"},
    "partial_volume": {"target": {"method": "partial_volume"}, "keep": "all"},
    "superpixel": {"target": {"method": "superpixel"}, "keep": "all"},
    "level_set": {"target": {"method": "level_set"}, "keep": "all"},
    "sing": {"target": {"method": "sing"}, "keep": "all"},
    "sing, `keep: targets`": {"target": {"method": "sing"}, "keep": "targets"},
    "geols, `gap: none`": {"target": {"distance": {"gap": "none"}}, "keep": "all"},
    "geols, `gap: none`, `keep: targets`": {"target": {"distance": {"gap": "none"}}, "keep": "targets"},
}
#: Shape, classes, and which configurations: one as large as a TotalSegmentator case, and one as a FLARE case.
CASES = [
    ((160, 160, 160), 105, ""),
    ((250, 250, 300), 104, "keep: targets"),
    ((300, 512, 512), 14, "keep: targets"),
]
WORK = """
import json, resource, sys, time
from pathlib import Path
from softlabels.config import load_config
from softlabels.inputs.sheet import read_sheet
from softlabels.pipeline.batch import make_jobs, run_batch
from softlabels.pipeline.plan import make_plan
from softlabels.store import Store

config = load_config("config.yaml")
plan, cases = make_plan(config), read_sheet("cases.tsv", config.channels)
jobs = make_jobs(cases, list(plan.nodes.values()), Store(Path("store")), Path("results"), "cpu", 2)
started, cpu = time.perf_counter(), time.process_time()
run_batch(jobs, Path("results/batch.json"))
figures = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
receipts = [json.loads(path.read_text()) for path in Path("results").glob("many/*.json")]
figures["stages"] = {r["stage"]: r["cpu_seconds"] for r in receipts}
print(json.dumps(figures))
"""


def synthetic_ct(shape: tuple[int, int, int], n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return intensities and labels 0 .. n_classes - 1."""
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    for value in range(1, n_classes):
        radius = rng.uniform(4, min(shape) / 9)
        centre = [rng.uniform(radius, n - radius) for n in shape]
        box = tuple(slice(int(c - radius), int(c + radius) + 2) for c in centre)
        grid = np.ogrid[box]
        is_inside = sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= radius**2
        labels[box][is_inside[tuple(slice(0, n) for n in labels[box].shape)]] = value
    tissue = np.where(labels == 0, -100, 15 * (labels % 13.0)).astype(np.float32)
    return tissue + rng.normal(0, 20, shape).astype(np.float32), labels


def write_project(folder: Path, change: dict, n_classes: int, image: Path, label: Path) -> None:
    """Write config.yaml and the sheet of one configuration."""
    import yaml

    config = {
        "channels": ["ct"],
        "labels": {"background": 0} | {f"organ_{value}": value for value in range(1, n_classes)},
        "prepare": {"normalise": "zscore"},
        "targets": {"geols": {"method": "geols"} | change["target"]},
        "keep": change["keep"],
    }
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    (folder / "cases.tsv").write_text(f"case\timage:ct\tlabel\nmany\t{image}\t{label}\n")


def measure(folder: Path) -> dict:
    """Run all stages of a project; return seconds of clock and CPU, peak memory and the size of the store."""
    command = [sys.executable, "-c", WORK]
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    figures["store_mb"] = sum(path.stat().st_size for path in (folder / "store").rglob("*") if path.is_file()) / 1e6
    return figures


def warm_up(folder: Path, change: dict, n_classes: int) -> None:
    """Compile the kernels on a small case."""
    import SimpleITK as sitk

    image, labels = synthetic_ct((40, 40, 40), n_classes)
    paths = folder / "small.nii.gz", folder / "small_label.nii.gz"
    for path, values in zip(paths, (image, labels), strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    write_project(folder / "warm", change, n_classes, *paths)
    measure(folder / "warm")


def table_of(folder: Path, shape: tuple[int, int, int], n_classes: int, only: str, changes: dict) -> str:
    """Measure a case with the configurations whose name contains a text; return a table."""
    import SimpleITK as sitk

    image, labels = synthetic_ct(shape, n_classes)
    paths = folder / "ct.nii.gz", folder / "label.nii.gz"
    for path, values in zip(paths, (image, labels), strict=True):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    n_present = len(np.unique(labels))
    del image, labels
    rows = []
    for number, (title, change) in enumerate(changes.items()):
        if only not in title:
            continue
        own = folder / f"{number}"
        own.mkdir()
        warm_up(own, change, n_classes)
        write_project(own / "case", change, n_classes, *paths)
        found = measure(own / "case")
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in sorted(found["stages"].items()))
        rows.append(
            f"| {title} | {found['cpu']:.1f} | {found['seconds']:.1f} | {found['peak_mb'] / 1000:.2f} | "
            f"{found['store_mb']:.0f} | {stages} |"
        )
        print(rows[-1], flush=True)
    head = [
        f"{' x '.join(map(str, shape))} voxels, {n_classes} classes of which {n_present} are present:",
        "",
        "| configuration | CPU s | s | peak GB | store MB | CPU s of each stage |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join(head + rows)


def main() -> None:
    """Measure, print, and write the section if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", help="D,H,W of one case instead of all")
    parser.add_argument("--classes", type=int, default=105, help="of that case")
    parser.add_argument("--methods", action="store_true", help="measure each method instead")
    parser.add_argument("--only", default="", help="a part of the names of the configurations to run")
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    arguments = parser.parse_args()
    changes, cases, section = CHANGES, CASES, SECTION
    if arguments.methods:
        changes, cases, section = BY_METHOD, CASES[:1], METHODS_SECTION
    if arguments.shape:
        cases = [(tuple(int(n) for n in arguments.shape.split(",")), arguments.classes, arguments.only)]
    tables = []
    for shape, n_classes, only in cases:
        with tempfile.TemporaryDirectory() as name:
            tables.append(table_of(Path(name), shape, n_classes, arguments.only or only, changes))
    what, option = ("each method", "--methods ") if arguments.methods else ("GeoLS `paper`", "")
    intro = (
        f"Synthetic CTs, {what}, z-scores; two threads, one process for all stages, without Snakemake. "
        f"{platform.machine()}, {os.cpu_count()} CPUs shared with other work, load {os.getloadavg()[0]:.1f}, "
        f"{time.strftime('%Y-%m-%d')}. `python benchmarks/many_classes.py {option}--write`"
    )
    if arguments.write:
        write_section(section, "\n\n".join([intro, *tables]))


if __name__ == "__main__":
    main()
