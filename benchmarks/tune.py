"""What `softlabels tune` chooses where the truth is known: `python benchmarks/tune.py [--data FOLDER] [--write]`.

Cells of three sets with eight or nine annotators each (raters), and four coronal slabs of ICBM152 averaged to 2 mm with
its tissue shares as reference (partial volume): each left out in turn, and tuned on one and scored on the others.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import yaml
from numpy.typing import NDArray
from rank_methods import icbm152
from real_volumes import needed_volumes
from results import write_section

SECTION = "Tune"
METHODS = ["gaussian", "label_smoothing", "svls", "unmix"]
#: Around the brain, in mm.
MARGIN = 6


def write_project(folder: Path, channel: str, rows: list[tuple[str, Path, Path, Path]], config: dict) -> Path:
    """Write a case sheet of (case, image, label, reference) and a configuration; return the folder."""
    lines = [f"case\timage:{channel}\tlabel\treference", *("\t".join(map(str, row)) for row in rows)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cases.tsv").write_text("\n".join(lines) + "\n")
    base = {"channels": [channel], "targets": {"hard": {"method": "onehot"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(base | config))
    return folder


def write_volume(path: Path, values: NDArray, side_mm: float) -> Path:
    """Write a volume, or channels first, as NIfTI."""
    volumes = [sitk.GetImageFromArray(one) for one in (values if values.ndim == 4 else [values])]
    for one in volumes:
        one.SetSpacing([side_mm] * 3)
    sitk.WriteImage(sitk.JoinSeries(volumes) if values.ndim == 4 else volumes[0], str(path))
    return path


def cells(data: Path, name: str, folder: Path) -> Path:
    """Write the project of one set of cells: one annotator's label, the mean of the others."""
    rows = [
        (one.name, one / "image.nii.gz", one / "label.nii.gz", one / "reference.nii.gz")
        for one in sorted((data / "cells_tune" / name).resolve().iterdir())
    ]
    tune = {"methods": [*METHODS, "geodesic_band"], "annotator": "Person2, ImageJ"}
    return write_project(folder, "phase", rows, {"labels": {"background": 0, "cell": 1}, "tune": tune})


def slabs(folder: Path, tuned_on: int | None) -> Path:
    """Write the project of four coronal slabs of ICBM152, cropped around the brain and averaged to 2 mm."""
    image, labels, shares, names = icbm152()
    inside = np.argwhere(image[0] > 0)
    ends = zip(inside.min(axis=0), inside.max(axis=0), labels.shape, strict=True)
    box = tuple(slice(max(low - MARGIN, 0), min(high + 1 + MARGIN, size)) for low, high, size in ends)
    coarse, truth = (np.stack([halved(one[box]) for one in volumes]).astype(np.float32) for volumes in (image, shares))
    hard = truth.argmax(axis=0).astype(np.uint8)
    rows = []
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(np.array_split(np.arange(hard.shape[1]), 4)):
        files = {"image": coarse[0][:, part], "label": hard[:, part], "reference": truth[:, :, part]}
        paths = [write_volume(folder / f"{role}_{number}.nii.gz", values, 2.0) for role, values in files.items()]
        rows.append((f"slab{number}", *(path.resolve() for path in paths)))
    held_out = [] if tuned_on is None else [f"slab{number}" for number in range(4) if number != tuned_on]
    tune = {"methods": METHODS, "held_out": held_out, "annotator": "largest share"}
    return write_project(
        folder, "image", rows, {"labels": {name: index for index, name in enumerate(names)}, "tune": tune}
    )


def halved(volume: NDArray) -> NDArray[np.float64]:
    """Return a volume averaged over blocks of 2 x 2 x 2 voxels."""
    even = volume[tuple(slice(0, 2 * (n // 2)) for n in volume.shape)]
    pairs = [size for n in even.shape for size in (n // 2, 2)]
    return even.reshape(pairs).mean(axis=(1, 3, 5), dtype=np.float64)


def projects(data: Path, folder: Path, only: str) -> Iterator[tuple[str, Path]]:
    """Yield title and folder of each project at hand."""
    names = [name for name in ("d1", "d2", "d3") if (data / "cells_tune" / name).is_dir()]
    makers = {f"cells {name}": (lambda name=name: cells(data, name, folder / name)) for name in names}
    if importlib.util.find_spec("nilearn"):
        # In one folder: what was scored for the first is not computed again for the second.
        makers["ICBM152 at 2 mm, four slabs"] = lambda: slabs(folder / "slabs", None)
        makers["ICBM152 at 2 mm, tuned on slab 1 alone"] = lambda: slabs(folder / "slabs", 1)
    for title, make in makers.items():
        if only in title:
            yield title, make()


def tuned(folder: Path) -> tuple[list[str], str, float]:
    """Run tune; return its table, what it says, and its CPU seconds, NaN if it continues a run that was not timed."""
    spent, scores = folder / "cpu_seconds", folder / "results" / "tune" / "scores"
    earlier = float(spent.read_text()) if spent.exists() else math.nan if scores.exists() else 0.0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "softlabels", "tune"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = earlier + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    spent.write_text(str(seconds))
    rows = (folder / "results" / "tune" / "tune.tsv").read_text().splitlines()
    return rows, (folder / "results" / "tune" / "tune.txt").read_text(), seconds


def section(title: str, folder: Path) -> str:
    """Return the text of one project."""
    rows, text, seconds = tuned(folder)
    head, *cells_of_rows = [row.split("\t") for row in rows]
    cost = "" if math.isnan(seconds) else f", {seconds:.0f} CPU seconds"
    lines = [f"**{title}**{cost}:", "", *(f"- {line}" for line in text.splitlines()), ""]
    lines += ["| method | parameters | Brier, left out | entropy | change | 95 % interval | lower in |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for cells_of_row in cells_of_rows:
        row = dict(zip(head, cells_of_row, strict=True))
        change = interval = ""
        if row["brier_change"]:
            change = f"{100 * float(row['brier_change']):+.1f} %"
            interval = f"{100 * float(row['low']):+.1f}, {100 * float(row['high']):+.1f}"
        lower = f"{row['n_better']} of {row['n_cases']}" if row["n_better"] else ""
        name = f"**{row['method']}**" if row["chosen"] == "yes" else row["method"]
        figures = f"{row['brier'][:7]} | {row['entropy_bits'][:6]} | {change} | {interval} | {lower}"
        lines.append(f"| {name} | {row['parameters']} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    """Tune all projects at hand, print, and write the section if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="real volumes; by default those of the tests")
    parser.add_argument("--folder", type=Path, help="where the projects are written, and resumed; default: temporary")
    parser.add_argument("--only", default="", help="run the projects whose title contains this")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        data = arguments.data or needed_volumes()
        parts = []
        for title, project in projects(data, folder, arguments.only):
            parts.append(section(title, project))
            print(parts[-1] + "\n", flush=True)
    origin = "`python benchmarks/tune.py --write`; every score is of cases that nothing was chosen on."
    if arguments.write:
        write_section(SECTION, "\n\n".join([origin, *parts]))


if __name__ == "__main__":
    main()
