"""Measure what separates each paper from its code, on a real glioma: the figures of docs/methods.md.

`python benchmarks/compare_variants.py [--data FOLDER]` prints Markdown. Distances are exact unless said.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from real_volumes import needed_volumes

from softlabels.blend import blend
from softlabels.geodesic import geodesic_distance
from softlabels.geodesic.engines import solve_with_engine
from softlabels.grid import Grid
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.quality import quality_figures
from softlabels.seeds import BoundarySeeds, CannySeeds, ErosionSeeds, SkeletonSeeds, make_seeds
from softlabels.store import BitRound, Layer, ScaleOffset, Store

SPACING = (1.0, 1.0, 1.0)
CLASSES = ("background", "core", "oedema", "enhancing")
REGIONS = ("core", "whole", "enhancing")


def read(path) -> np.ndarray:
    """Return the voxels of an image file."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def glioma(data: Path):
    """Return the four raw channels and the labels (BraTS' 4 made 3) of the whole volume."""
    folder = data / "glioma_du7294"
    images = np.stack([read(folder / f"{name}.nii.gz").astype(np.float32) for name in ("fla", "t1c", "t1", "t2")])
    labels = read(folder / "label_hnfnetv1-20.nii.gz")
    return images, np.where(labels == 4, 3, labels)


def box_of(mask: np.ndarray, margin: int) -> tuple[slice, ...]:
    """Return the bounding box of a mask with a margin."""
    at = np.argwhere(mask)
    return tuple(
        slice(max(0, low - margin), min(n, high + margin + 1))
        for low, high, n in zip(at.min(0), at.max(0), mask.shape, strict=True)
    )


def seeds_of(masks, names, strategy, background=None) -> np.ndarray:
    """Return seeds by a strategy."""
    return make_seeds(masks, SPACING, strategy, class_names=names, case_id="glioma", background=background)[0]


def distances(images, seeds, **cost) -> np.ndarray:
    """Return the exact distance of each channel."""
    return np.stack([geodesic_distance(image, seeds, SPACING, **cost) for image in images])


def row(*cells) -> None:
    """Print one row of a table."""
    print("| " + " | ".join(str(c) for c in cells) + " |", flush=True)


def compare_geols(images, labels) -> None:
    """Print what separates GeoLS' paper from its script, near the tumour and by the crop."""
    masks = np.stack([labels == c for c in range(4)])
    box = (slice(None), *box_of(labels > 0, 20))
    near, hard = images[box], masks[box]
    start = seeds_of(hard, CLASSES, SkeletonSeeds())
    theirs = seeds_of(hard, CLASSES, METHODS["geols"](variant="official").seed_strategy, background=0)
    exact = distances(near, theirs, metric="harmonic", lamb=1.0)
    maps = {
        "paper": make("geols", "paper", hard, distances(near, start, metric="pythagorean"), CLASSES),
        "official": make("geols", "official", hard, exact, CLASSES),
    }
    target = {k: blend(hard, v, rule="mix_onehot", alpha=0.1) for k, v in maps.items()}
    gap = np.abs(target["paper"] - target["official"])
    row("GeoLS", "target at alpha 0.1: largest and mean difference", f"{gap.max():.3f}, {gap.mean():.4f}")
    for name in maps:
        figures = quality_figures(maps[name], hard)
        row(
            "GeoLS " + name,
            "sum over classes of the map, of the target",
            f"{spread(maps[name])}; {spread(target[name])}",
        )
        row("GeoLS " + name, "argmax of the map is another class", f"{figures['disagreement']:.1%}")
        row("GeoLS " + name, "entropy of the map, bits", f"{figures['entropy_mean']:.3f}")
    four = np.stack(
        [solve_with_engine(i, theirs, SPACING, engine="geodistk", metric="harmonic", lamb=1.0)[0] for i in near]
    )
    cut = make("geols", "official", hard, four, CLASSES)
    error = np.abs(four[:, 1:] / np.maximum(exact[:, 1:], 1e-9) - 1)[exact[:, 1:] > 0]
    row(
        "GeoLS official",
        "4 iterations against converged: distance, worst and share above 1 %",
        f"+{error.max():.1%}, {(error > 0.01).mean():.1%}",
    )
    row(
        "GeoLS official",
        "4 iterations against converged: map, largest difference",
        f"{np.abs(cut - maps['official']).max():.3f}",
    )
    crop_effect(images[:1], masks, box)


def crop_effect(images, masks, box) -> None:
    """Print how the maps of one channel near the tumour change when they are computed on the whole volume."""
    for variant, cost in (("paper", {"metric": "pythagorean"}), ("official", {"metric": "harmonic", "lamb": 1.0})):
        whole_seeds = seeds_of(masks, CLASSES, SkeletonSeeds())
        whole = make("geols", variant, masks, distances(images, whole_seeds, **cost), CLASSES)[box]
        crop_seeds = whole_seeds[box]
        crop = make("geols", variant, masks[box], distances(images[box], crop_seeds, **cost), CLASSES)
        gap = np.abs(whole - crop)[1:]
        row(
            "GeoLS " + variant,
            "FLAIR, crop against whole head, same seeds: largest and mean change of the tumour classes",
            f"{gap.max():.3f}, {gap.mean():.4f}",
        )


def compare_sing(images, labels) -> None:
    """Print what separates SiNG's paper from its code."""
    masks = np.stack([np.isin(labels, values) for values in ([1, 3], [1, 2, 3], [3])])
    box = (slice(None), *box_of(labels > 0, 20))
    near, hard = images[box], masks[box]
    start = seeds_of(hard, REGIONS, CannySeeds())
    theirs = seeds_of(hard, REGIONS, METHODS["sing"](variant="official").seed_strategy)
    both = {
        "paper": (start, distances(near, start, metric="l1", lamb=0.5)),
        "official": (theirs, distances(near, theirs, metric="sum", lamb=0.5)),
    }
    found, stored = {}, {}
    for name, (seeds, distance) in both.items():
        inputs = TargetInputs(hard, SPACING, REGIONS, None, near, None, seeds, distance)
        result = METHODS["sing"](variant=name).compute(inputs)
        stored[name], found[name] = result.values, blend(hard, result.values, rule="signed_margin", delta=0.5)
        row("SiNG " + name, "seeds per region", ", ".join(str(int(s.sum())) for s in seeds))
        row("SiNG " + name, "beta in mm per region", ", ".join(f"{b:.2f}" for b in result.notes["beta"]))
    gap = np.abs(found["paper"] - found["official"])
    row(
        "SiNG",
        "S: largest difference; mean inside and outside",
        f"{gap.max():.3f}; {gap[hard].mean():.3f}, {gap[~hard].mean():.3f}",
    )
    bare = [unseeded_caps(mask, seeds) for mask, seeds in zip(hard, theirs, strict=True)]
    row("SiNG official", "voxels of first and last slices of a region without a seed", ", ".join(bare))
    far = found["official"][:, 0, 0, 0]
    row("SiNG official", "S far away (paper: -1)", ", ".join(f"{v:.3f}" for v in far))
    zeros = [int((near == 0)[:, mask].sum()) for mask in hard]
    row("SiNG official", "voxels x channels inside with intensity 0", ", ".join(map(str, zeros)))
    outside = ~hard
    row(
        "SiNG",
        "share of outside voxels at -1, paper and official",
        f"{(stored['paper'][outside] == -1).mean():.1%}, {(stored['official'][outside] == -1).mean():.1%}",
    )


def unseeded_caps(mask, seeds) -> str:
    """Return how many voxels of the first and last slice of a mask hold no seed, of how many."""
    filled = np.flatnonzero(mask.any(axis=(1, 2)))
    caps = [mask[z] for z in (filled[0], filled[-1])]
    bare = [(mask[z] & ~seeds[z]) for z in (filled[0], filled[-1])]
    return f"{sum(b.sum() for b in bare)} of {sum(c.sum() for c in caps)}"


def compare_label_only(data: Path) -> None:
    """Print what separates SVLS in voxels from SVLS in mm, and boundary loss's level set from millimetres."""
    folder = data / "spinal_cord"
    labels, spacing = read(folder / "t2s_label_wm1_gm2.nii.gz"), (7.5, 0.5, 0.5)
    masks = np.stack([labels == c for c in range(3)])
    inputs = TargetInputs(masks, spacing, ("background", "white", "grey"), 0)
    svls = {k: METHODS["svls"](variant=k).compute(inputs).values for k in ("paper", "official")}
    row("SVLS", "same 3x3x3 kernel: largest difference", f"{np.abs(svls['paper'] - svls['official']).max():.2g}")
    aware = METHODS["svls"](spacing_aware=True, sigma=0.5).compute(inputs).values
    gap = np.abs(svls["official"] - aware)
    row(
        "SVLS",
        "cord, 7.5 x 0.5 x 0.5 mm: in voxels against in mm (sigma 0.5 mm), largest and mean at soft voxels",
        f"{gap.max():.3f}, {gap[gap > 0].mean():.3f}",
    )
    phi = {k: METHODS["level_set"](variant=k).compute(inputs).values for k in ("mm", "official")}
    cut = METHODS["level_set"](variant="official", truncate=True).compute(inputs).values
    wrong = (phi["official"] > 0) & masks
    row("level set", "cord: inside voxels with the sign of the outside, official", f"{wrong.sum() / masks.sum():.1%}")
    row(
        "level set",
        "cord: truncation to integers, largest and mean error in mm",
        f"{np.abs(cut - phi['official']).max():.2f}, {np.abs(cut - phi['official']).mean():.2f}",
    )


def make(method, variant, masks, distance, names) -> np.ndarray:
    """Return a map made of distances."""
    return METHODS[method](variant=variant).compute(TargetInputs(masks, SPACING, names, 0, distance=distance)).values


def spread(values) -> str:
    """Return lowest and highest sum over classes."""
    total = values.sum(axis=0)
    return f"{total.min():.3f} to {total.max():.3f}"


def time_and_store(images, labels) -> None:
    """Print seconds and stored bytes per method for a case of BraTS' size."""
    masks = np.stack([labels == c for c in range(4)])
    seeds = seeds_of(masks, CLASSES, BoundarySeeds())
    cores = seeds_of(masks, CLASSES, ErosionSeeds())
    cost = {"metric": "sum", "lamb": 0.5}
    distance = distances(images, seeds, **cost)
    raters = np.stack([np.roll(masks, shift, 2) for shift in range(5)])
    inputs = TargetInputs(
        masks, SPACING, CLASSES, 0, images, None, seeds, distance, raters, masks, np.diag([1.0, 1.0, 1.0, 1.0])
    )
    plain = masks.size * 4
    print(f"\n| method | core seconds | MB stored | bound on the error | of {plain / 1e6:.0f} MB float32 |")
    print("|---|---|---|---|---|")
    for declared in METHODS.built_in.values():
        for method in declared.in_every_variant() if declared.is_stored() else ():
            started = time.process_time()
            result = method.compute(replace(inputs, seeds=cores) if method.name == "random_walker" else inputs)
            seconds = time.process_time() - started
            bounds = method.value_range
            encoding = ScaleOffset("uint8", *bounds) if bounds else BitRound(15)
            with tempfile.TemporaryDirectory() as folder:
                layer = Layer("target", result.values, channels=CLASSES, encoding=encoding)
                Store(Path(folder)).publish(
                    "0" * 64, [layer], grid=Grid(masks.shape[1:], SPACING), attributes={}, quality={}, provenance={}
                )
                stored = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
            error = f"{(bounds[1] - bounds[0]) / 510:.4f}" if bounds else "relative 2^-16"
            row(
                f"{method.name} {method.variant_name}",
                f"{seconds:.1f}",
                f"{stored / 1e6:.2f}",
                error,
                f"1/{plain / stored:.0f}",
            )


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="real volumes; by default those of the tests")
    data = parser.parse_args().data or needed_volumes()
    images, labels = glioma(data)
    print("| method | what | measured |\n|---|---|---|")
    compare_geols(images, labels)
    compare_sing(images, labels)
    compare_label_only(data)
    time_and_store(images, labels)


if __name__ == "__main__":
    main()
