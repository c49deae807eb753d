"""What unmix and geodesic_band cost, and what unmix gains: `python benchmarks/unmix.py [--data FOLDER] [--write]`.

CPU seconds of one thread, the least of three calls; for ICBM152, which comes with the nilearn wheel, also the scores
against its tissue shares. The glioma (155 x 240 x 240, four channels, four classes) runs where it is at hand.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rank_methods import icbm152, read
from real_volumes import needed_volumes
from results import write_section

from softlabels.evaluation.rank import rank
from softlabels.methods.gaussian import gaussian_map
from softlabels.methods.geodesic_band import geodesic_band_map
from softlabels.methods.unmix import unmix_map

SECTION = "Unmix"


def cases(data: Path) -> Iterator[tuple[str, NDArray[np.float32], NDArray[np.bool_], float, float]]:
    """Yield title, image, masks, sigma_mm and window of each case at hand."""
    image, labels, _, names = icbm152()
    yield "ICBM152, 1 mm", image, np.stack([labels == c for c in range(len(names))]), 2.0, 1.0
    folder = data / "glioma_du7294"
    if folder.is_dir():
        image = np.stack([read(folder / f"{name}.nii.gz").astype(np.float32) for name in ("fla", "t1", "t1c", "t2")])
        labels = read(folder / "label_hnfnetv1-20.nii.gz")
        yield "glioma", image, np.stack([labels == c for c in (0, 1, 2, 4)]), 1.0, 2.0


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the least CPU time of three calls, after one that may compile."""
    work()
    found = []
    for _ in range(3):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


def table(data: Path) -> str:
    """Return the costs, a row for each case."""
    rows = [
        "| case; CPU seconds | voxels | classes | channels | sigma | window | gaussian | unmix | geodesic_band |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for title, image, masks, sigma_mm, window in cases(data):
        size = {"spacing": (1, 1, 1), "sigma_mm": sigma_mm}
        gaussian = cpu_seconds(partial(gaussian_map, masks, **size))
        whole = cpu_seconds(partial(unmix_map, image, masks, window=window, **size))
        band = cpu_seconds(partial(geodesic_band_map, image, masks, **size))
        counts = f"{masks[0].size / 1e6:.1f} M | {len(masks)} | {len(image)}"
        rows.append(
            f"| {title} | {counts} | {sigma_mm:g} mm | {window:g} | {gaussian:.1f} | {whole:.1f} | {band:.1f} |"
        )
    return "\n".join(rows)


def scores() -> str:
    """Return the scores on ICBM152 of the best Gaussian and of unmix."""
    image, labels, shares, names = icbm152()
    masks = np.stack([labels == c for c in range(len(names))])
    found = rank(
        {
            "Gaussian 1.25 mm": gaussian_map(masks, (1, 1, 1), sigma_mm=1.25),
            "unmix 2 mm, window 1, rho 3": np.clip(unmix_map(image, masks, (1, 1, 1), sigma_mm=2.0, window=1.0), 0, 1),
        },
        shares,
    )
    rows = ["| ICBM152, both tuned on it | Brier | Brier, ambiguous | MAE | bits |", "|---|---|---|---|---|"]
    for one in found:
        a, b = one.everywhere, one.ambiguous
        rows.append(f"| {one.name} | {a.brier:.4f} | {b.brier:.4f} | {a.mae:.4f} | {a.cross_entropy:.3f} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write the section if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="real volumes; by default those of the tests")
    parser.add_argument("--write", action="store_true", help="replace the section of RESULTS.md")
    arguments = parser.parse_args()
    data = arguments.data or needed_volumes()
    origin = "One thread, two shared cores, the Gaussian included in all; `python benchmarks/unmix.py --write`."
    text = f"{origin}\n\n{table(data)}\n\n{scores()}"
    print(text)
    if arguments.write:
        write_section(SECTION, text)


if __name__ == "__main__":
    main()
