"""Soft labels of the ICBM152 brain, compared with the true tissue probabilities that come with it.

Takes T1, grey and white matter maps (1 mm) from the nilearn wheel, makes hard labels of them, runs the pipeline with
`config.yaml`, and ends with a picture and a table. Run it by `make demo`; a second run computes nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from rich.console import Console
from rich.table import Table

from softlabels.config import load_config
from softlabels.evaluation.candidates import candidates
from softlabels.evaluation.rank import rank
from softlabels.evaluation.reference import read_reference
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.receipts import Receipt
from softlabels.store import Store
from softlabels.view.entries import case_entries

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "demo"
CASE = "icbm152"


def nilearn_map(kind: str) -> sitk.Image:
    """Return one of the ICBM152 maps (t1, gm, wm) that the nilearn wheel ships, without importing nilearn."""
    spec = importlib.util.find_spec("nilearn")
    if spec is None:
        sys.exit("The demo needs the nilearn wheel for its brain. Run 'make demo', or pip install 'softlabels[demo]'.")
    folder = Path(spec.origin).parent / "datasets" / "data"
    return sitk.ReadImage(str(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"))


def write_case() -> None:
    """Write image, hard labels (most probable tissue), true probabilities and case sheet, unless they are there."""
    sheet = DEMO / "cases.tsv"
    if sheet.exists():
        return
    DEMO.mkdir(exist_ok=True)
    image = nilearn_map("t1")
    grey, white = (sitk.GetArrayFromImage(nilearn_map(kind)).astype(np.float32) / 255 for kind in ("gm", "wm"))
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    labels = np.stack([1 - grey - white, grey, white]).argmax(0).astype(np.uint8)
    for values, name in ((labels, "label"), (grey, "true_grey"), (white, "true_white")):
        volume = sitk.GetImageFromArray(values)
        volume.CopyInformation(image)
        sitk.WriteImage(volume, str(DEMO / f"{name}.nii.gz"))
    sitk.WriteImage(image, str(DEMO / "t1.nii.gz"))
    sheet.write_text(f"case\timage:T1\tlabel\tsplit\n{CASE}\tt1.nii.gz\tlabel.nii.gz\ttrain\n")


def run_pipeline(cores: int, console: Console) -> float:
    """Run snakemake, showing each finished step; return its seconds."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores)]
    output, step = [], ""
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as running:
        for line in running.stdout:
            output.append(line)
            if found := re.search(r"Finished jobid: .*Rule: (\w+)", line):
                step = found[1]
            elif found := re.match(r"(\d+) of (\d+) steps", line):
                console.print(f"  {found[1]:>2}/{found[2]}  {step:<13} {time.perf_counter() - started:6.1f} s")
    (DEMO / "snakemake.log").write_text("".join(output))
    if running.returncode:
        sys.exit("".join(output) + f"\nThe pipeline failed; its output is above and in {DEMO / 'snakemake.log'}.")
    return time.perf_counter() - started


def stage_table(receipts: list[Receipt], fresh: set[str]) -> Table:
    """Return seconds, what this run did, certificate and bytes of every node."""
    table = Table("stage", "seconds", "this run", "certificate", "files", "MB stored", title=f"Case {CASE}")
    table.columns[0].no_wrap = table.columns[3].no_wrap = True
    for receipt in receipts:
        entry = Store(receipt.store).find(receipt.key)
        maps = receipt.quality.get("maps", [])
        exact = f"{sum(m['certified'] for m in maps)}/{len(maps)} exact" if maps else ""
        outcome = receipt.outcome if receipt.node in fresh else "unchanged"
        size = f"{entry.nbytes / 1e6:.2f}"
        table.add_row(receipt.node, f"{receipt.seconds:.2f}", outcome, exact, str(entry.n_files), size)
    return table


def truth_table(config, plan) -> Table:
    """Return how close hard and soft labels come to the true tissue probabilities."""
    entries = case_entries(config, plan, CASE)
    truth = read_reference([DEMO / "true_grey.nii.gz", DEMO / "true_white.nii.gz"], entries.case.grid)
    names = {"geols": "GeoLS, alpha 0.1", "gaussian": "Gaussian 1.25 mm", "unmix": "unmix 2 mm, window 1"}
    judged = {shown: entries.targets[name].target for name, shown in names.items()}
    soft_labels = candidates(judged, len(truth)).soft_labels
    title = "Against the true tissue probabilities; Gaussian and unmix with their best widths on this very brain"
    table = Table("label", "Brier", "ambiguous voxels: Brier", "MAE", "bits", title=title)
    table.columns[0].no_wrap = True
    for found in rank(soft_labels, truth):
        near = found.ambiguous
        figures = (found.everywhere.brier, near.brier, near.mae, near.cross_entropy)
        table.add_row(found.name, *(f"{figure:.4f}" for figure in figures))
    return table


def write_small(picture: Path, output: Path) -> None:
    """Write a picture as docs/demo.png has it: 1600 pixels wide, in 256 colours."""
    from PIL import Image

    with Image.open(picture) as image:
        size = (1600, round(1600 * image.height / image.width))
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(256).save(output, optimize=True)


def main() -> None:
    """Make the case, run the pipeline, print the tables and name the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--only-case", action="store_true", help="write image, labels and sheet, and stop there")
    parser.add_argument("--picture", type=Path, help="also write the picture there, as docs/demo.png was made")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    console = Console()
    console.print("ICBM152 T1, 1 mm: image and labels to soft labels")
    write_case()
    if arguments.only_case:
        return
    results, config = DEMO / "results", load_config("config.yaml")
    plan = make_plan(config)
    paths = {node: results / CASE / f"{node}.json" for node in plan.nodes}
    before = {node: path.stat().st_mtime_ns for node, path in paths.items() if path.exists()}
    seconds = run_pipeline(arguments.cores, console)
    fresh = {node for node, path in paths.items() if path.stat().st_mtime_ns != before.get(node)}
    receipts = [Receipt.read(path) for path in paths.values()]
    console.print(stage_table(receipts, fresh))
    console.print(truth_table(config, plan))
    computed = sum(receipt.outcome == "computed" for receipt in receipts if receipt.node in fresh)
    rest = "what was there already is unchanged" if computed else "all results were there already"
    console.print(f"{computed} of {len(receipts)} results computed in {seconds:.1f} s; {rest}.")
    if arguments.picture is not None:
        write_small(results / CASE / "montage.png", arguments.picture)
    console.print(f"Picture: demo/results/{CASE}/montage.png\nReport:  demo/results/report/index.html")
    console.print("Train:   SoftLabelDataset('demo/results/index.json', target='geols') (README)")


if __name__ == "__main__":
    main()
