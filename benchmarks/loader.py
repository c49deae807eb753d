"""CPU time for one training patch: the loader beside nnU-Net's, MONAI's, tensorstore, zarr and a plain memory map.

Usage: python benchmarks/loader.py [--sizes 96 128] [--repeats 11] [--write]; --write puts the table into
benchmarks/RESULTS.md. The environment of `make test-nnunet` has nnU-Net and MONAI; tensorstore is installed with pip. A
loader that is not installed is left out, and its row says so.

One process reads patches of the real glioma (cropped to the brain, z-scores, 4 channels float32, GeoLS and Gaussian of
4 classes), each loader the same patches in turn. Every library has one thread, as in the workers of a DataLoader. Times
are CPU time: nothing is cold, and wall time on a shared machine would measure the others. The rows of softlabels draw
the patch as training does, which the others do not. A page fault is counted when a page is touched for the first time.
The second table is nnU-Net's augmented sample, as its training reads it (loader_augmented.py).
"""

from __future__ import annotations

import argparse
import os

os.environ.update(OMP_NUM_THREADS="1", nnUNet_raw="", nnUNet_preprocessed="", nnUNet_results="")
import contextlib
import importlib.metadata
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numcodecs.blosc
import numpy as np
import torch
from loader_augmented import SOFT, STOCK, augmented_loaders, augmented_times
from loader_peers import PEERS, Arrays, Patch, nnunet_trainer
from real_volumes import needed_volumes
from results import write_section

from softlabels.loader import SoftLabelDataset

ROOT = Path(__file__).resolve().parents[1]
SECTION = "Loader"
CHANNELS = ("fla", "t1", "t1c", "t2")
LABELS = {"background": 0, "necrosis": 1, "edema": 2, "enhancing": 4}
TARGETS = {
    "geols": {"method": "geols"},
    "gaussian": {"method": "gaussian", "sigma_mm": 2.0},
    "smooth": {"method": "label_smoothing"},
}
#: Row to the arguments of `SoftLabelDataset`; the first is what the others are compared with.
OURS = {
    "softlabels, geols (mix_onehot)": {"target": "geols"},
    "softlabels, gaussian (none)": {"target": "gaussian"},
    "softlabels, label smoothing (nothing stored)": {"target": "smooth"},
    "softlabels, geols, blended on the device": {"target": "geols", "blend_on_device": True},
}
#: nnU-Net's data set with the soft label of the index, as the shipped trainer reads it.
TRAINER = "nnUNetTrainerSoftLabels, image, hard and soft label"
PACKAGES = ("softlabels", "torch", "numpy", "numcodecs", "blosc2", "nnunetv2", "monai", "tensorstore", "zarr")


def computed_index(folder: Path, volumes: Path) -> Path:
    """Run the workflow on the glioma and return its index."""
    images = "\t".join(str((volumes / f"{m}.nii.gz").resolve()) for m in CHANNELS)
    label = (volumes / "label_sanet0-20.nii.gz").resolve()
    columns = "\t".join(f"image:{m}" for m in CHANNELS)
    (folder / "cases.tsv").write_text(f"case\t{columns}\tlabel\nglioma\t{images}\t{label}\n")
    prepare = {"clip_percentiles": [0.5, 99.5], "normalise": "zscore", "crop": "nonzero"}
    config = {"channels": list(CHANNELS), "labels": LABELS, "prepare": prepare, "targets": TARGETS}
    config |= {"stages_per_job": "all", "pictures": False}
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "-s",
        ROOT / "Snakefile",
        "--configfile",
        "config.yaml",
        "--cores",
        "2",
    ]
    done = subprocess.run([*command, "results/index.json"], cwd=folder, text=True, capture_output=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return folder / "results" / "index.json"


class OneThread(contextlib.ExitStack):
    """One thread for each library, as the workers of a DataLoader have."""

    def __enter__(self) -> OneThread:
        torch.set_num_threads(1)
        numcodecs.blosc.use_threads = False
        return self


def measured(rows: dict[str, Callable[[int], object]], repeats: int) -> dict[str, tuple[float, float, float]]:
    """Return the median CPU ms, its quartile range, and the page faults of each row; each round takes all in turn."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    faults: dict[str, list[int]] = {name: [] for name in rows}
    for number in range(repeats + 2):
        for name, read in rows.items():
            faults_before, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
            sample = read(number)
            times[name].append(1e3 * (time.process_time() - started))
            faults[name].append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults_before)
            del sample
    found = {}
    for name in rows:  # the first two rounds open files and fill caches
        low, middle, high = statistics.quantiles(times[name][2:], n=4)
        found[name] = (middle, high - low, statistics.median(faults[name][2:]))
    return found


def whole_arrays(index: Path) -> Arrays:
    """Return image, labels and soft label of the case."""
    whole = SoftLabelDataset(index, target="gaussian", mode="whole")[0]
    return {
        "image": whole["image"].numpy(),
        "labels": whole["labels"].numpy().astype(np.uint8),
        "soft_label": whole["soft_label"].numpy(),
    }


def rows_of(
    index: Path, arrays: Arrays, size: int, folder: Path
) -> tuple[dict[str, Callable[[int], object]], dict[str, str]]:
    """Return a reader of the n-th patch for each row, and why rows are left out."""
    datasets = {
        name: SoftLabelDataset(index, patch_size=(size,) * 3, patches_per_case=1000, seed=1, **arguments)
        for name, arguments in OURS.items()
    }
    rows = {name: dataset.__getitem__ for name, dataset in datasets.items()}
    first = next(iter(datasets.values()))
    origins = [tuple(first[n]["origin"].tolist()) for n in range(100)]
    missing = {}
    peers = {TRAINER: partial(nnunet_trainer, index), **PEERS}
    for name, make in peers.items():
        try:
            read = make(arrays, size, folder / f"{size}-{len(rows)}")
        except ImportError as error:
            missing[name] = f"not installed: {error.name}"
            continue
        rows[name] = lambda n, read=read: read(Patch(origins[n], size))
    return rows, missing


def main() -> None:
    """Measure, print the table and write it into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 128])
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--index", type=Path, help="of an earlier run of this benchmark")
    parser.add_argument("--write", action="store_true", help=f"replace the section '{SECTION}' of RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, OneThread():
        index = arguments.index or computed_index(Path(scratch), needed_volumes() / "glioma_du7294")
        found, missing, augmented = {}, {}, {}
        arrays = whole_arrays(index)
        for size in arguments.sizes:
            rows, missing = rows_of(index, arrays, size, Path(scratch))
            found[size] = measured(rows, arguments.repeats)
            with contextlib.suppress(ImportError):
                loaders = augmented_loaders(index, arrays, size, Path(scratch) / f"augmented-{size}")
                augmented[size] = augmented_times(loaders, 2 * arguments.repeats)
    heads = "".join(f" {size}^3 ms | quartiles apart | of nnU-Net's | faults |" for size in arguments.sizes)
    lines = [
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}; CPU time of one process, median of {arguments.repeats}; "
        f"{', '.join(_version(p) for p in PACKAGES)}.\n",
        f"| loader |{heads}",
        "|---|" + "---:|" * 4 * len(arguments.sizes),
    ]
    reference = "nnU-Net blosc2, image and hard label only"
    for name in [*OURS, TRAINER, *PEERS]:
        cells = []
        for size in arguments.sizes:
            if name in missing:
                cells.append(f" {missing[name]} | | | |")
                continue
            middle, spread, faults = found[size][name]
            share = f"{middle / found[size][reference][0]:.2f}" if reference in found[size] else ""
            cells.append(f" {middle:.1f} | {spread:.1f} | {share} | {faults:.0f} |")
        lines.append(f"| {name} |{''.join(cells)}")
    lines += augmented_table(augmented, 2 * arguments.repeats)
    print("\n".join(lines))
    if arguments.write:
        write_section(SECTION, "\n".join(lines))


def augmented_table(times: dict[int, dict[str, float]], n_samples: int) -> list[str]:
    """Return the lines of the table of augmented samples; none without nnU-Net."""
    if not times:
        return []
    heads = "".join(f" {size}^3 ms | of nnU-Net's |" for size in times)
    lines = ["", f"| augmented sample, mean of {n_samples} |{heads}", "|---|" + "---:|" * 2 * len(times)]
    for name in (SOFT, STOCK):
        lines.append(f"| {name} |" + "".join(f" {t[name]:.0f} | {t[name] / t[STOCK]:.2f} |" for t in times.values()))
    return lines


def _version(package: str) -> str:
    """Return a package with its version."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"no {package}"


if __name__ == "__main__":
    main()
