"""The CPU engine and third-party engines, in one run: exactness first, then time, memory and what bounds them.

`python benchmarks/geodesic.py [--repeats 3] [--threads 2] [--geodistk-python PATH] [--write]`

Volumes: the ICBM152 T1 (189 x 233 x 197, 1 mm) (nilearn wheel) and, where there are real volumes, the glioma case
du7294 (FLAIR). Intensities are in units of their standard deviation. The two engines take turns, so that both meet the
same load of the machine; seconds are medians. The table goes to benchmarks/RESULTS.md with --write.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from real_volumes import real_volumes
from results import write_section
from scipy.ndimage import binary_erosion

from softlabels._shared.cpus import usable_cpus
from softlabels.geodesic import certify, geodesic_distance
from softlabels.geodesic._cpu import solve_on_cpu
from softlabels.geodesic._problem import checked_problem
from softlabels.geodesic._reference import solve_reference

ROOT = Path(__file__).resolve().parents[1]
COSTS = [("sum", 0.5), ("sum", 1.0), ("pythagorean", 0.5), ("harmonic", 1.0), ("harmonic", 0.5)]
TIME_GEODISTK = """
import json, sys, time
import GeodisTK
import numpy as np
with np.load(sys.argv[1]) as given:
    image, seeds, spacing = given["image"], given["seeds"].astype(np.uint8), [float(s) for s in given["spacing"]]
start = time.perf_counter()
distance = GeodisTK.geodesic3d_raster_scan(image, seeds, spacing, float(sys.argv[3]), 4)
print(json.dumps(time.perf_counter() - start))
np.save(sys.argv[2], distance)
"""


def read(path: Path) -> sitk.Image:
    return sitk.ReadImage(str(path))


def icbm152():
    """Return T1, the eroded seeds of three tissues (white matter first) and spacing."""
    folder = Path(importlib.util.find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"
    name = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
    t1, grey, white = (sitk.GetArrayFromImage(read(folder / name.format(kind))) for kind in ("t1", "gm", "wm"))
    tissue = np.stack([white, grey, 255.0 - grey - white]).argmax(axis=0)
    seeds = np.stack([binary_erosion((tissue == k) & (t1 > 0), iterations=1 + (k == 0)) for k in range(3)])
    return scaled(t1), seeds, (1.0, 1.0, 1.0)


def glioma(folder: Path):
    """Return FLAIR, the eroded seeds of three regions and spacing."""
    image, label = read(folder / "fla.nii.gz"), read(folder / "label_fusion_mav.nii.gz")
    labels = sitk.GetArrayFromImage(label)
    seeds = np.stack([binary_erosion(labels == value) for value in (2, 1, 4)])
    return scaled(sitk.GetArrayFromImage(image)), seeds, image.GetSpacing()[::-1]


def scaled(image) -> np.ndarray:
    """Return intensities in units of their standard deviation over the object."""
    image = image.astype(np.float32)
    return image / image[image > 0].std()


def timed(action, *arguments, **options):
    """Return the seconds an action takes, and its result."""
    start = time.perf_counter()
    result = action(*arguments, **options)
    return time.perf_counter() - start, result


def fastgeodis(image, seeds, spacing, lamb, n_threads):
    """Return FastGeodis' seconds for 4 iterations and its map."""
    import torch
    from FastGeodis import generalised_geodesic3d

    torch.set_num_threads(n_threads)
    tensor, mask = (torch.from_numpy(a)[None, None] for a in (image, (~seeds).astype(np.float32)))
    seconds, found = timed(generalised_geodesic3d, tensor, mask, list(map(float, spacing)), 1e10, lamb, 4)
    return seconds, found[0, 0].numpy()


def geodistk(image, seeds, spacing, lamb, python):
    """Return GeodisTK's seconds for 4 iterations of its raster scan (one thread) and its map."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answer = Path(folder, "asked.npz"), Path(folder, "answer.npy")
        np.savez(asked, image=image, seeds=seeds, spacing=spacing)
        command = [str(python), "-I", "-c", TIME_GEODISTK, str(asked), str(answer), str(lamb)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return json.loads(done.stdout), np.load(answer)


def errors(theirs, exact) -> str:
    """Return a third-party engine's greatest relative error and the fraction of voxels more than 1 % off."""
    judged = (exact > 0) & np.isfinite(exact)
    relative = np.abs(theirs[judged] - exact[judged]) / exact[judged]
    return f"{relative.max():.2g} / {np.mean(relative > 0.01):.2%}"


def compare(name, volume, metric, lamb, arguments) -> dict:
    """Return a row: the built-in engine and the third-party engine of this cost, taking turns."""
    image, seeds, spacing = volume
    options = {"metric": metric, "lamb": lamb, "n_threads": arguments.threads}
    exact, certificate = geodesic_distance(image, seeds[0], spacing, **options, return_certificate=True)
    certificate.raise_unless_exact(name)
    ours, proof, peer, theirs, peer_name = [], [], [], None, "-"
    for _ in range(arguments.repeats):
        if metric == "harmonic" and arguments.geodistk_python.is_file():
            peer_name = "GeodisTK"
            seconds, theirs = geodistk(image, seeds[0], spacing, lamb, arguments.geodistk_python)
            peer.append(seconds)
        elif metric != "harmonic" and importlib.util.find_spec("FastGeodis"):
            peer_name = "FastGeodis" if metric == "sum" else "FastGeodis (sum)"
            seconds, theirs = fastgeodis(image, seeds[0], spacing, lamb, arguments.threads)
            peer.append(seconds)
        for _ in range(3):
            ours.append(timed(geodesic_distance, image, seeds[0], spacing, **options)[0])
            proof.append(timed(certify, exact, image, seeds[0], spacing, **options)[0])
    mine, pass_ns = statistics.median(ours), kernel_ns(metric, lamb)
    return {
        "volume": name,
        "metric": metric if metric == "pythagorean" else f"{metric} {lamb}",
        "softlabels s": f"{mine:.3f}",
        "certify s": f"{statistics.median(proof):.3f}",
        "rounds": certificate.iterations,
        "Mvoxel/s": f"{exact.size / mine / 1e6:.0f}",
        "of floor": f"{exact.size * 26 / 9 * pass_ns * 1e-9 / arguments.threads / mine:.0%}",
        "third-party engine, 4 iterations": peer_name,
        "third-party s": f"{statistics.median(peer):.2f}" if peer else "-",
        "ratio": f"{statistics.median(peer) / mine:.0f}x" if peer else "-",
        "third-party error: max rel. / > 1 % off": errors(theirs, exact) if peer and metric != "pythagorean" else "-",
    }


def kernel_ns(metric, lamb) -> float:
    """Return the time per voxel of relaxing nine neighbours within the first-level cache: the issue limit."""
    import numba

    from softlabels.geodesic._cpu_kernels import kernel_cost, relax_from_plane
    from softlabels.geodesic._cpu_layout import layout_of
    from softlabels.geodesic.metric import step_cost

    layout, cost = layout_of((3, 3, 64), 1, 1), kernel_cost(step_cost(metric, (1, 1, 1), lamb=lamb), 1)
    distance, image = np.ones(layout.volume, np.float32), np.ones(layout.volume, np.float32)

    @numba.njit(error_model="numpy")
    def repeat(distance, image, layout, cost, n):
        n_changed = 0
        for _ in range(n):
            start = layout.origin + layout.plane + layout.pitch
            n_changed += relax_from_plane(distance, image, start, layout.width, -layout.plane, layout, cost)
        return n_changed

    n = 200_000
    repeat(distance, image, layout, cost, 1)
    return min(timed(repeat, distance, image, layout, cost, n)[0] for _ in range(5)) / (n * layout.width) * 1e9


def peak_bytes_per_voxel(image, seeds, spacing, n_threads) -> float:
    """Return the peak of memory that a call needs beyond its input, bytes per voxel (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")

    def status(key):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))

    before = status("VmRSS")
    geodesic_distance(image, seeds, spacing, n_threads=n_threads)
    return (status("VmHWM") - before) / image.size


def classes_and_memory(volume, arguments) -> list[str]:
    """Return what three classes in one call cost beside one, in time and memory."""
    image, seeds, spacing = volume
    lines = []
    for metric, lamb in COSTS[:4]:
        options = {"metric": metric, "lamb": lamb, "n_threads": arguments.threads}
        geodesic_distance(image, seeds, spacing, **options)
        one, three = [], []
        for _ in range(2 * arguments.repeats + 1):
            one += [timed(geodesic_distance, image, seeds[k], spacing, **options)[0] for k in range(3)]
            three.append(timed(geodesic_distance, image, seeds, spacing, **options)[0])
        ratio = statistics.median(three) / statistics.median(one)
        lines.append(
            f"- three classes in one call, {metric} {lamb}: {statistics.median(three):.3f} s, {ratio:.2f}x one"
        )
    for n in (1, 3):
        used = peak_bytes_per_voxel(image, seeds[:n], spacing, arguments.threads)
        lines.append(
            f"- peak memory beyond the input, {n} class(es): {used:.1f} B/voxel, limit {1.3 * 4 * (1 + n):.1f}"
        )
    return lines


def context(volume, arguments) -> list[str]:
    """Return Dijkstra's algorithm (equal bits), scikit-fmm, a busy neighbour and a second process."""
    image, seeds, spacing = volume
    problem = checked_problem(image, seeds[:1], spacing, metric="sum", lamb=0.5, gamma=1.0, domain=None, cap=None)
    ours = solve_on_cpu(problem, arguments.threads)[0]
    seconds, exact = timed(solve_reference, problem)
    lines = [f"- heap Dijkstra, one thread: {seconds:.2f} s; bitwise equal: {np.array_equal(exact, ours)}"]
    if importlib.util.find_spec("skfmm"):
        import skfmm

        phi = np.where(seeds[0], -1.0, 1.0)
        seconds, _ = timed(skfmm.distance, phi, dx=list(spacing))
        lines.append(f"- context: scikit-fmm, Euclidean fast marching of the same volume and seeds: {seconds:.2f} s")
    alone = statistics.median(timed(solve_on_cpu, problem, arguments.threads)[0] for _ in range(7))
    spin = f"import os\nos.sched_setaffinity(0, {{{min(os.sched_getaffinity(0))}}})\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", spin]) as neighbour:
        time.sleep(0.3)
        busy = statistics.median(timed(solve_on_cpu, problem, arguments.threads)[0] for _ in range(7))
        neighbour.kill()
    lines.append(f"- a busy process on one of the cores: {busy / alone:.2f}x the time ({alone:.3f} s, {busy:.3f} s)")
    small = (
        "import numpy as np; from softlabels.geodesic import geodesic_distance as g;"
        "s = np.zeros((9, 9, 9), bool); s[4, 4, 4] = True; g(np.zeros(s.shape), s, (1, 1, 1))"
    )
    command, environment = [sys.executable, "-c", small], {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, env=environment, check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = min(timed(subprocess.run, command, env=environment, check=True)[0] for _ in range(3))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3
    lines.append(
        f"- a second process, from start to its first map: {seconds:.2f} s ({cpu:.2f} s of CPU), Python included"
    )
    return lines


def table(rows: list[dict]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *[list(row.values()) for row in rows]]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cpus())
    named = os.environ.get("SOFTLABELS_GEODISTK_PYTHON") or ROOT / ".venv-geodistk" / "bin" / "python"
    parser.add_argument("--geodistk-python", type=Path, default=Path(named))
    parser.add_argument("--write", action="store_true", help="write the section in benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    # Threads that spin at FastGeodis' barriers would make it look worse wherever other jobs hold a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    volumes = {"icbm152": icbm152()}
    if data := real_volumes():
        volumes["glioma"] = glioma(data / "glioma_du7294")
    rows = []
    for name, volume in volumes.items():
        for metric, lamb in COSTS:
            rows.append(compare(name, volume, metric, lamb, arguments))
            print(rows[-1], flush=True)
    notes = [*classes_and_memory(volumes["icbm152"], arguments), *context(volumes["icbm152"], arguments)]
    shapes = ", ".join(
        f"{name} {' x '.join(map(str, image.shape))}, {seeds[0].sum()} seeds"
        for name, (image, seeds, _) in volumes.items()
    )
    head = (
        f"{platform.machine()}, {arguments.threads} threads (GeodisTK has one), load {os.getloadavg()[0]:.1f} at the "
        f"end of the run; medians of {3 * arguments.repeats} runs of softlabels and {arguments.repeats} of the "
        f"third-party engine. {shapes}. All maps of softlabels are certified exact. `of floor`: the time in which the "
        "innermost loop, fed from the first-level cache, relaxes each of the 26 edges of each voxel once, over the "
        "time measured.\n"
    )
    text = "\n".join([head, table(rows), "", *notes])
    print(text)
    if arguments.write:
        write_section("Geodesic engine on CPU", text)


if __name__ == "__main__":
    main()
