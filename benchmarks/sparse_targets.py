"""A hundred classes in training: a sparse target beside the dense one, on disk, in the loader and in the losses.

Usage: python benchmarks/sparse_targets.py [--side 160] [--classes 105] [--patch 64] [--repeats 11] [--write]; --write
puts the tables into benchmarks/RESULTS.md.

The case is a synthetic CT with organs as balls, and its soft label GeoLS. One process with one thread for each library,
as the worker of a DataLoader has, reads the same random patches in turn; the losses have one thread too. Times are
medians of CPU time. The first row of each table is what the others are compared with.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"

import numcodecs.blosc
import numpy as np
import SimpleITK as sitk
import torch
from results import write_section

from softlabels.cohort.case import IndexedCohort
from softlabels.loader import SoftLabelDataset
from softlabels.losses import dice_metric_loss, kl_divergence, soft_cross_entropy, without_background

ROOT = Path(__file__).resolve().parents[1]
SECTION = "Sparse targets"
LOSSES = {"soft_cross_entropy": soft_cross_entropy, "kl_divergence": kl_divergence, "dice_metric_loss": None}


def synthetic_ct(side: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (int16) with noise and labels (uint8) of balls, the later over the earlier ones."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:side, :side, :side]
    labels = np.zeros((side, side, side), np.uint8)
    for number in range(1, n_classes):
        centre, radius = rng.uniform(0.05 * side, 0.95 * side, 3), rng.uniform(0.025, 0.0875) * side
        labels[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2] = number
    level = rng.uniform(-100, 300, n_classes)
    image = level[labels] + rng.normal(0, 20, labels.shape)
    return image.astype(np.int16), labels


def computed_index(folder: Path, side: int, n_classes: int) -> Path:
    """Run the workflow on the synthetic CT and return its index."""
    image, labels = synthetic_ct(side, n_classes)
    for name, values in (("ct", image), ("label", labels)):
        sitk.WriteImage(sitk.GetImageFromArray(values), str(folder / f"{name}.nii.gz"))
    (folder / "cases.tsv").write_text("case\timage:CT\tlabel\nct\tct.nii.gz\tlabel.nii.gz\n")
    geols = {"method": "geols"}
    config = {
        "channels": ["CT"],
        "labels": {"background": 0} | {f"organ_{i}": i for i in range(1, n_classes)},
        "prepare": {"normalise": "zscore"},
        "targets": {"dense": geols | {"storage": "dense"}, "sparse": geols | {"storage": "sparse"}},
        "stages_per_job": "all",
        "pictures": False,
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "2", "results/index.json"]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return folder / "results" / "index.json"


def cpu_seconds(rows: dict[str, Callable[[int], object]], repeats: int) -> dict[str, float]:
    """Return the median CPU time of each row; each round takes all rows in turn."""
    times: dict[str, list[float]] = {name: [] for name in rows}
    for number in range(repeats + 2):
        for name, run in rows.items():
            started = time.process_time()
            run(number)
            times[name].append(time.process_time() - started)
    return {name: statistics.median(own[2:]) for name, own in times.items()}  # the first two rounds fill caches


def loader_lines(index: Path, patch: int, repeats: int) -> list[str]:
    """Return the table of the loader."""
    options = {"patch_size": (patch,) * 3, "patches_per_case": 1000, "seed": 1}
    datasets = {
        "stored dense, dense sample": SoftLabelDataset(index, target="dense", **options),
        "stored sparse, dense sample": SoftLabelDataset(index, target="sparse", **options),
        "stored sparse, sparse sample": SoftLabelDataset(index, target="sparse", sparse=True, **options),
    }
    found = cpu_seconds({name: dataset.__getitem__ for name, dataset in datasets.items()}, repeats)
    first = next(iter(found.values()))
    lines = [f"| loader, {patch}^3 | CPU s a patch | share | soft label MB |", "|---|---:|---:|---:|"]
    for name, dataset in datasets.items():
        label = dataset[999]["soft_label"]
        parts = [label] if torch.is_tensor(label) else list(label)
        megabytes = sum(part.numel() * part.element_size() for part in parts) / 1e6
        lines.append(f"| {name} | {found[name]:.3f} | {found[name] / first:.2f} | {megabytes:.1f} |")
    return lines


def loss_lines(index: Path, patch: int, repeats: int) -> list[str]:
    """Return the table of the losses, forward and backward."""
    options = {"patch_size": (patch,) * 3, "foreground_fraction": 1.0, "seed": 1}
    dense = SoftLabelDataset(index, target="sparse", **options)[0]["soft_label"][None]
    few = torch.utils.data.default_collate(
        [SoftLabelDataset(index, target="sparse", sparse=True, **options)[0]["soft_label"]]
    )
    logits = torch.randn(dense.shape, generator=torch.Generator().manual_seed(0))

    def step(loss: Callable[..., torch.Tensor] | None, target: object) -> Callable[[int], object]:
        def run(number: int) -> torch.Tensor:
            given = logits.clone().requires_grad_()
            if loss is None:
                value = dice_metric_loss(given.softmax(1)[:, 1:], without_background(target))
            else:
                value = loss(given, target)
            value.backward()
            return value.detach()

        return run

    steps = {(name, kind): step(loss, target) for name, loss in LOSSES.items()
             for kind, target in (("dense", dense), ("sparse", few))}  # fmt: skip
    found = cpu_seconds(steps, max(3, repeats // 4))
    lines = [f"| loss, {patch}^3, forward and backward | dense CPU s | sparse CPU s | share |",
             "|---|---:|---:|---:|"]  # fmt: skip
    for name in LOSSES:
        of_dense, of_few = found[name, "dense"], found[name, "sparse"]
        lines.append(f"| `{name}` | {of_dense:.2f} | {of_few:.2f} | {of_few / of_dense:.2f} |")
    return lines


def store_lines(index: Path) -> list[str]:
    """Return the table of the store."""
    cohort = IndexedCohort.open(index)
    (case,) = cohort.index.cases
    lines = ["| target on disk | MB | layers | QUALITY.json |", "|---|---:|---|---|"]
    for name in ("dense", "sparse"):
        entry = cohort.target(case, name).stored_entry
        layers = ", ".join(f"`{layer}` {entry.shape(layer)}" for layer in entry.layers)
        figures = entry.quality.get("sparse", {})
        shown = ", ".join(f"{key} {figures[key]:.3g}" for key in ("n_kept", "dropped_max", "error_max") if figures)
        lines.append(f"| {name} | {entry.nbytes / 1e6:.2f} | {layers} | {shown} |")
    return lines


def main() -> None:
    """Measure, print the tables and write them into RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--index", type=Path, help="of an earlier run of this benchmark")
    parser.add_argument("--write", action="store_true", help=f"replace the section '{SECTION}' of RESULTS.md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    numcodecs.blosc.use_threads = False
    with tempfile.TemporaryDirectory() as scratch:
        index = arguments.index or computed_index(Path(scratch), arguments.side, arguments.classes)
        loader, losses = (table(index, arguments.patch, arguments.repeats) for table in (loader_lines, loss_lines))
        store = store_lines(index)
    head = (
        f"{platform.machine()}, load {os.getloadavg()[0]:.1f}; CPU time of one process with one thread, median of "
        f"{arguments.repeats}; synthetic CT of {arguments.side}^3, {arguments.classes} classes, GeoLS."
    )
    text = "\n".join([head, "", *loader, "", *losses, "", *store])
    print(text)
    if arguments.write:
        write_section(SECTION, text)


if __name__ == "__main__":
    main()
