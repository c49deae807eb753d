"""Time the CUDA engine, its certificate and FastGeodis' CUDA on one card, in one run.

`python benchmarks/geodesic_cuda.py [--repeats 7] [--write]` prints a table, for benchmarks/RESULTS.md. The image is the
ICBM152 T1 (189 x 233 x 197, 1 mm) from the nilearn wheel, the seeds are its tissues, eroded. Every map is compared bit
for bit with the CPU engine's. FastGeodis is timed with its tensors on the card, one class after another as it asks for;
our `relax` with image, seeds and maps on the card as well, `call` from arrays in main memory to arrays in main memory,
and `proved` the same with the certificate, which is found before the maps leave the card.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from results import write_section
from scipy.ndimage import binary_erosion

from softlabels.errors import DeviceError
from softlabels.geodesic import _cuda, _cuda_device, geodesic_distance
from softlabels.geodesic._problem import checked_problem
from softlabels.geodesic.engines import solve_with_engine

SECTION = "Geodesic engine on CUDA"
SPACING = (1.0, 1.0, 1.0)
COSTS = [
    {"metric": "sum", "lamb": 0.5},
    {"metric": "sum", "lamb": 1.0},
    {"metric": "pythagorean", "gamma": 1.0},
    {"metric": "harmonic", "lamb": 1.0},
]


def icbm152(crop: int | None):
    """Return T1 in units of its standard deviation, and the eroded seeds of three tissues (3, D, H, W)."""
    folder = Path(importlib.util.find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"
    t1, grey, white = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz")))
        for kind in ("t1", "gm", "wm")
    )
    middle = tuple(slice(None) if crop is None else slice(n // 2 - crop // 2, n // 2 + crop // 2) for n in t1.shape)
    t1, grey, white = (a[middle].astype(np.float32) for a in (t1, grey, white))
    tissue = np.stack([255 - grey - white, grey, white]).argmax(axis=0)
    seeds = np.stack([binary_erosion(tissue == k, iterations=1 + (k != 1)) for k in range(3)])
    return t1 / t1[t1 > 0].std(), seeds


def median_seconds(action, repeats: int) -> float:
    """Return the median time of an action that ends only when the card has finished, after one run to warm up."""
    action()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def relax_seconds(problem, repeats: int) -> float:
    """Return the median time from seeds to maps, with image, seeds and maps on the card."""
    with _cuda_device.CudaDevice("cuda", _cuda.macros(problem)) as gpu:
        image, seeds = _cuda.upload_image(problem, gpu), gpu.upload(problem.seeds)

        def solve():
            distance, _, _ = _cuda.solve_from(problem, image, seeds, gpu)
            gpu.download(distance, 1, np.float32)  # waits for the end
            gpu.free(distance)

        return median_seconds(solve, repeats)


def fastgeodis_seconds(image, seeds, lamb: float, iterations: int, repeats: int) -> float:
    """Return the median time of FastGeodis on the card over all classes."""
    import torch
    from FastGeodis import generalised_geodesic3d

    tensor = torch.from_numpy(image)[None, None].cuda()
    masks = [torch.from_numpy((~one).astype(np.float32))[None, None].cuda() for one in seeds]

    def run():
        for mask in masks:
            generalised_geodesic3d(tensor, mask, list(SPACING), 1e10, lamb, iterations)
        torch.cuda.synchronize()

    return median_seconds(run, repeats)


def why_no_fastgeodis(image, seeds) -> str | None:
    """Return why FastGeodis does not run on the card, or None if it does."""
    try:
        solve_with_engine(image, seeds, SPACING, engine="fastgeodis", device="cuda", iterations=1)
    except DeviceError as reason:
        return str(reason)
    return None


def row(image, seeds, cost: dict, repeats: int, has_peer: bool) -> list[str]:
    """Return one line of the table: all figures of one step cost."""
    options = {"metric": "sum", "lamb": 0.5, "gamma": 1.0} | cost
    problem = checked_problem(image, seeds, SPACING, **options, domain=None, cap=None)
    maps, n_rounds, n_visits = _cuda.solve_on_cuda(problem)
    is_equal = np.array_equal(maps, geodesic_distance(image, seeds, SPACING, **cost))
    side = _cuda.macros(problem)["TILE"]
    n_tiles = len(seeds) * int(np.prod([-(-n // side) for n in image.shape]))
    relax = relax_seconds(problem, repeats)
    call = median_seconds(lambda: geodesic_distance(image, seeds, SPACING, device="cuda", **cost), repeats)
    proved = median_seconds(lambda: _cuda.solve_and_certify_on_cuda(problem), repeats)
    peer, error = "-", "-"
    if cost["metric"] == "sum" and has_peer:
        _, report = solve_with_engine(image, seeds, SPACING, engine="fastgeodis", device="cuda", **cost)
        peer = f"{1e3 * fastgeodis_seconds(image, seeds, cost['lamb'], 4, repeats):.2f}"
        error = f"{max(r['max_relative_error'] for r in report):.2g}"
    name = ", ".join(str(value) for value in cost.values())
    milliseconds = [f"{1e3 * value:.2f}" for value in (relax, call, proved)]
    return [
        name, str(len(seeds)), *milliseconds, str(n_rounds), f"{n_visits / n_tiles:.2f}",
        "yes" if is_equal else "NO", peer, error,
    ]  # fmt: skip


def main() -> None:
    """Print the table line by line, and write it into RESULTS.md if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="runs of which the median is taken")
    parser.add_argument("--crop", type=int, help="side of a cube from the middle of the image, for a quick run")
    parser.add_argument("--write", action="store_true", help=f"replace the section '{SECTION}' of RESULTS.md")
    arguments = parser.parse_args()
    image, seeds = icbm152(arguments.crop)
    shape = " x ".join(map(str, image.shape))
    lines = [f"{_cuda_device.device_name()}; ICBM152 T1 {shape}; times in ms, median of {arguments.repeats}", ""]
    if missing := why_no_fastgeodis(image, seeds[:1]):
        lines += [missing, ""]
    head = ["cost", "classes", "relax", "call", "proved", "rounds", "visits per tile", "bits of the CPU",
            "FastGeodis, 4 iterations", "its max relative error"]  # fmt: skip
    lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    print("\n".join(lines))
    for cost in COSTS:
        for own in (seeds[:1], seeds):
            lines.append("| " + " | ".join(row(image, own, cost, arguments.repeats, not missing)) + " |")
            print(lines[-1], flush=True)
    if arguments.write:
        write_section(SECTION, "\n".join(lines))


if __name__ == "__main__":
    main()
