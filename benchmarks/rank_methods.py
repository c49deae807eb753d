"""Rank every method against true soft labels: tissue maps of ICBM152, annotators of cells, algorithms on a glioma.

`python benchmarks/rank_methods.py [--data FOLDER] [--out rank_results]` writes a TSV and a picture per case and
prints the tables of docs/methods.md. ICBM152 comes with the nilearn wheel; the other cases run where they are at hand.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from real_volumes import needed_volumes

from softlabels.blend import blend
from softlabels.evaluation.plot import write_plot
from softlabels.evaluation.rank import as_probability, rank
from softlabels.evaluation.ranking import combined
from softlabels.evaluation.table import write_table
from softlabels.geodesic import geodesic_distance
from softlabels.methods import METHODS, TargetInputs
from softlabels.seeds import CannySeeds, ErosionSeeds, SkeletonSeeds, make_seeds


def read(path) -> np.ndarray:
    """Return the voxels of an image file."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def icbm152():
    """Return T1, hard labels and the true shares of grey and white matter (background: the rest)."""
    folder = Path(importlib.util.find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"
    t1, grey, white = (
        read(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz").astype(np.float32)
        for kind in ("t1", "gm", "wm")
    )
    truth = np.stack([255 - grey - white, grey, white]) / np.float32(255)
    return t1[None], truth.argmax(axis=0), truth, ("background", "grey", "white")


def cell(folder: Path):
    """Return a microscopy image, one annotator's label and the mean of the others."""
    (mean,) = folder.glob("soft_mean_of_other_*.nii.gz")
    inside = read(mean).astype(np.float32)
    labels = read(folder / "label_person2.nii.gz")
    return (
        read(folder / "image.nii.gz").astype(np.float32)[None],
        labels,
        np.stack([1 - inside, inside]),
        ("bg", "cell"),
    )


def glioma(folder: Path):
    """Return four channels around the tumour, one algorithm's label and the mean of the four others."""
    names = ("isen-20", "hnfnetv1-20", "sanet0-20", "scan-20", "yixinmpl-20")
    votes = np.stack([read(folder / f"label_{name}.nii.gz") for name in names])
    inside = np.argwhere((votes > 0).any(axis=0))
    box = tuple(slice(low - 12, high + 13) for low, high in zip(inside.min(0), inside.max(0), strict=True))
    images = np.stack([read(folder / f"{name}.nii.gz")[box].astype(np.float32) for name in ("fla", "t1", "t1c", "t2")])
    votes = np.where(votes == 4, 3, votes)[(slice(None), *box)]
    truth = np.stack([(votes[1:] == c).mean(axis=0, dtype=np.float32) for c in (0, 1, 2)])
    # One algorithm alone marks label 4 and the hard label has none; its voxels count as core, label 1.
    truth[1] += (votes[1:] == 3).mean(axis=0, dtype=np.float32)
    return images, np.where(votes[0] == 3, 1, votes[0]), truth, ("background", "core", "oedema")


def candidates(image: np.ndarray, labels: np.ndarray, names, spacing=(1.0, 1.0, 1.0)) -> dict[str, np.ndarray]:
    """Return every method's training target at its defaults, and seconds spent on each, printed."""
    masks = np.stack([labels == c for c in range(len(names))])
    scored = (image - image.mean((1, 2, 3), keepdims=True)) / image.std((1, 2, 3), keepdims=True)
    seeds, _ = make_seeds(masks, spacing, SkeletonSeeds(), class_names=names, case_id="rank")
    edges, _ = make_seeds(masks, spacing, CannySeeds(), class_names=names, case_id="rank")
    in_slices = CannySeeds(mode="slices", fallback=False)
    slices, _ = make_seeds(masks, spacing, in_slices, class_names=names, case_id="rank")
    cores, _ = make_seeds(masks, spacing, ErosionSeeds(), class_names=names, case_id="rank")

    def stored(method, kind="onehot", **params):
        """Return a method's stored map."""
        volume = {"raw": image, "zscore": scored}.get(kind, scored)
        of_sing = slices if params.get("variant") == "official" else edges
        start = {"geols": seeds, "sing": of_sing, "random_walker": cores}.get(method)
        cost = params.pop("cost", None)
        distance = np.stack([geodesic_distance(one, start, spacing, **cost) for one in volume]) if cost else None
        inputs = TargetInputs(masks, spacing, tuple(names), 0, volume, None, start, distance)
        return METHODS[method](**params).compute(inputs).values

    pythagorean, harmonic = {"metric": "pythagorean", "gamma": 1.0}, {"metric": "harmonic", "lamb": 1.0}
    recipes = {
        "uniform": lambda: np.full(masks.shape, 1 / len(masks), np.float32),
        "one-hot": lambda: blend(masks, rule="onehot"),
        "label smoothing 0.1": lambda: blend(masks, rule="label_smoothing", epsilon=0.1),
        "SVLS 3x3x3": lambda: stored("svls"),
        "SVLS 7x7x7, sigma 2": lambda: stored("svls", kernel_size=7, sigma=2.0),
        "Gaussian 1": lambda: stored("gaussian"),
        "Gaussian 2": lambda: stored("gaussian", sigma_mm=2.0),
        "dilation 1, 0.5": lambda: stored("dilation", radius_mm=1.0),
        "dilation 2, 0.5": lambda: stored("dilation", radius_mm=2.0),
        "superpixel, renormalised": lambda: stored("superpixel", renormalise=True),
        "random walker 130": lambda: stored("random_walker", "raw"),
        "random walker 3": lambda: stored("random_walker", "raw", beta=3.0),
        "unmix 1": lambda: stored("unmix", "raw"),
        "unmix 2": lambda: stored("unmix", "raw", sigma_mm=2.0),
        "geodesic band 1": lambda: stored("geodesic_band", "raw"),
        "geodesic band 2": lambda: stored("geodesic_band", "raw", sigma_mm=2.0),
    }
    for kind in ("raw", "zscore"):
        made = {}

        def geols(alpha, variant, cost, kind=kind, made=made):
            """Return a GeoLS target; the map is made once for every alpha."""
            made[variant] = made.get(variant) if variant in made else stored("geols", kind, variant=variant, cost=cost)
            return blend(masks, made[variant], rule="mix_onehot", alpha=alpha)

        recipes |= {
            f"GeoLS paper 0.1, {kind}": lambda geols=geols: geols(0.1, "paper", pythagorean),
            f"GeoLS paper 0.5, {kind}": lambda geols=geols: geols(0.5, "paper", pythagorean),
            f"GeoLS official 0.1, {kind}": lambda geols=geols: geols(0.1, "official", harmonic),
            f"SiNG paper, {kind}": lambda kind=kind: signed(
                masks, stored("sing", kind, variant="paper", cost={"metric": "l1", "lamb": 0.5})
            ),
            f"SiNG official, {kind}": lambda kind=kind: signed(
                masks, stored("sing", kind, variant="official", cost={"metric": "sum", "lamb": 0.5})
            ),
        }
    found = {}
    for name, make in recipes.items():
        started = time.perf_counter()
        found[name] = np.clip(make(), 0, 1)
        print(f"  {name}: {time.perf_counter() - started:.1f} s", flush=True)
    return found


def signed(masks: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Return SiNG's target at delta 0.5 as probabilities."""
    return as_probability(blend(masks, stored, rule="signed_margin", delta=0.5), "signed")


def report(title: str, case, out: Path) -> None:
    """Rank one case, write its files and print its table."""
    image, labels, truth, names = case
    print(title, image.shape, flush=True)
    ranked = rank(candidates(image, labels, names), truth)
    stem = title.split(":")[0].replace(" ", "_")
    write_table(ranked, out / f"{stem}.tsv")
    write_plot(combined({stem: ranked}), out / f"{stem}.png")
    share = ranked[0].ambiguous.n_voxels / ranked[0].everywhere.n_voxels
    print(f"\n### {title}\n\n{ranked[0].ambiguous.n_voxels} ambiguous voxels, {share:.1%} of the volume\n")
    print("| | all voxels | | | | ambiguous voxels | | | |\n|---|---|---|---|---|---|---|---|---|")
    print("| soft label | Brier | MAE | bits | calibration | Brier | MAE | bits | calibration |")
    for one in ranked:
        cells = [
            f"{s.brier:.4f} | {s.mae:.4f} | {s.cross_entropy:.3f} | {s.calibration:.4f}"
            for s in (one.everywhere, one.ambiguous)
        ]
        print(f"| {one.name} | {' | '.join(cells)} |")
    print(flush=True)


def main() -> None:
    """Rank all cases at hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="real volumes; by default those of the tests")
    parser.add_argument("--out", type=Path, default=Path("rank_results"))
    parser.add_argument("--only", help="run the cases whose title holds this word")
    arguments = parser.parse_args()
    data = arguments.data or needed_volumes()
    arguments.out.mkdir(parents=True, exist_ok=True)
    cells, tumour = data / "cells_multi_annot", data / "glioma_du7294"
    cases = {"icbm152: T1 against tissue maps": icbm152}
    if cells.is_dir():
        cases["cell d1: one annotator against the mean of 8"] = lambda: cell(cells / "d1_B01")
        cases["cell d3: one annotator against the mean of 9"] = lambda: cell(cells / "d3_m01")
    if tumour.is_dir():
        cases["glioma: one algorithm against the mean of 4"] = lambda: glioma(tumour)
    for title, load in cases.items():
        if not arguments.only or arguments.only in title:
            report(title, load(), arguments.out)


if __name__ == "__main__":
    main()
