"""The demo: soft labels of the ICBM152 brain, compared with the true tissue probabilities that come with it.

Takes T1, grey and white matter maps (1 mm) from the nilearn wheel, makes hard labels of them, runs the pipeline with
`config.yaml`, and ends with a picture and a table. Run it by `make demo`; a second run computes nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from rich.console import Console
from rich.table import Table
from softlabels.rank import rank_scores

from softlabels.blend import blend
from softlabels.config import load_config
from softlabels.grid import Grid
from softlabels.plan import make_plan
from softlabels.receipts import Receipt
from softlabels.store import Store

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


def true_probabilities() -> np.ndarray:
    """Return background, grey and white matter probabilities as (3, D, H, W) float32 that sum to one."""
    grey, white = (sitk.GetArrayFromImage(nilearn_map(kind)).astype(np.float32) / 255 for kind in ("gm", "wm"))
    total = np.maximum(grey + white, 1)
    grey, white = grey / total, white / total
    return np.stack([1 - grey - white, grey, white])


def write_case() -> None:
    """Write the image, the hard labels (most probable tissue) and the case sheet, unless they are there."""
    sheet = DEMO / "cases.tsv"
    if sheet.exists():
        return
    DEMO.mkdir(exist_ok=True)
    image = nilearn_map("t1")
    labels = sitk.GetImageFromArray(true_probabilities().argmax(0).astype(np.uint8))
    labels.CopyInformation(image)
    sitk.WriteImage(image, str(DEMO / "t1.nii.gz"))
    sitk.WriteImage(labels, str(DEMO / "label.nii.gz"))
    sheet.write_text(f"case\timage:T1\tlabel\n{CASE}\tt1.nii.gz\tlabel.nii.gz\n")


def run_pipeline(cores: int) -> tuple[float, bool]:
    """Run snakemake; return its seconds and whether it found nothing to do."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    (DEMO / "snakemake.log").write_text(done.stdout)
    if done.returncode:
        sys.exit(f"{done.stdout}\nThe pipeline failed; its output is above and in {DEMO / 'snakemake.log'}.")
    return time.perf_counter() - started, "Nothing to be done" in done.stdout


def stage_table(receipts: list[Receipt], is_rerun: bool) -> Table:
    """Return seconds, outcome, certificate and bytes of every node."""
    table = Table("stage", "seconds", "this run", "certificate", "files", "MB stored", title=f"Case {CASE}")
    for receipt in receipts:
        entry = Store(receipt.store).find(receipt.key)
        maps = receipt.quality.get("maps", [])
        exact = f"{sum(m['certified'] for m in maps)} of {len(maps)} maps exact" if maps else ""
        outcome = "nothing to do" if is_rerun else receipt.outcome
        size = f"{entry.nbytes / 1e6:.2f}"
        table.add_row(receipt.node, f"{receipt.seconds:.2f}", outcome, exact, str(entry.n_files), size)
    return table


def truth_table(index: dict) -> Table:
    """Return how close hard and soft labels come to the true tissue probabilities."""
    store = Store(DEMO / "store")
    case = index["cases"][0]
    prepared = store.find(case["prepare"]["key"])
    labels, grid = prepared.read("labels"), prepared.grid
    truth = on_grid(true_probabilities(), grid)
    target = index["targets"]["geols"]
    masks = np.stack([np.isin(labels, c["values"]) for c in target["classes"]])
    stored = store.find(case["targets"]["geols"]["key"]).read("target")
    candidates = {
        "one-hot": blend(masks, None, rule="onehot"),
        "label smoothing 0.1": blend(masks, None, rule="label_smoothing", epsilon=0.1),
        "GeoLS, alpha 0.1": blend(masks, stored, **target["blend"]),
        "GeoLS, alpha 0.3": blend(masks, stored, rule="mix_onehot", alpha=0.3),
    }
    table = Table(
        "label", "mean absolute error", "cross-entropy", title="Against the true tissue probabilities, ambiguous voxels"
    )
    for name, soft_label in candidates.items():
        scores = rank_scores(soft_label, truth)["ambiguous"]
        table.add_row(name, f"{scores['mae']:.4f}", f"{scores['cross_entropy']:.3f}")
    return table


def on_grid(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Return the part of full-size (C, D, H, W) maps that lies on a cropped grid of the same spacing."""
    image = nilearn_map("t1")
    full = Grid.from_sitk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    start = np.linalg.inv(full.affine_ras) @ grid.affine_ras[:, 3]
    window = tuple(slice(round(a), round(a) + n) for a, n in zip(start[:3], grid.shape, strict=True))
    return values[:, *window]


def main() -> None:
    """Make the case, run the pipeline, print the tables and name the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    console = Console()
    console.print("ICBM152 T1, 1 mm: making soft labels (prepare, seeds, distance, target) ...")
    write_case()
    seconds, is_rerun = run_pipeline(arguments.cores)
    results = DEMO / "results"
    index = json.loads((results / "index.json").read_text())
    plan = make_plan(load_config(ROOT / "config.yaml"))
    receipts = [Receipt.read(results / CASE / f"{node}.json") for node in plan.nodes]
    console.print(stage_table(receipts, is_rerun))
    console.print(truth_table(index))
    computed = 0 if is_rerun else sum(receipt.outcome == "computed" for receipt in receipts)
    console.print(f"{computed} of {len(receipts)} results computed, the others were there already; {seconds:.1f} s.")
    console.print(
        f"Picture: {(results / CASE / 'montage.png').relative_to(ROOT)}   Report: demo/results/report/index.html"
    )
    console.print(
        "Train on it:  softlabels.loader.SoftLabelDataset('demo/results/index.json', target='geols')  (README)"
    )


if __name__ == "__main__":
    main()
