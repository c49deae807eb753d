"""One door to our engine and to the two peers whose maps published results were made with.

==============  ==============  =============  ==========================================================
engine          metric          device         what it is
==============  ==============  =============  ==========================================================
``softlabels``  all             cpu, cuda      exact, with its certificate
``fastgeodis``  ``sum``         cpu, cuda      FastGeodis' plane sweeps, a fixed number of iterations
``geodistk``    ``harmonic``    cpu            GeodisTK's raster scan, a fixed number of iterations, in an
                                               interpreter of its own
==============  ==============  =============  ==========================================================

A peer stops after `iterations` and proves nothing. Its report says so, and how far its map is from ours.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import numpy as np

from softlabels._shared.cpus import usable_cpus
from softlabels.errors import DeviceError, InputError
from softlabels.geodesic import certify_problem, geodesic_distance
from softlabels.geodesic._problem import Problem, checked_problem
from softlabels.geodesic.metric import METRIC_OF_ENGINE, Engine

__all__ = ["ENGINES", "solve"]

ENGINES = get_args(Engine)

#: Both peers start from this value instead of inf, and leave it where no seed can be reached.
_FAR = np.float32(1e10)
_REPOSITORY = Path(__file__).resolve().parents[2]


def solve(
    image,
    seeds,
    spacing,
    *,
    engine: str = "softlabels",
    metric: str = "sum",
    lamb: float = 0.5,
    gamma: float = 1.0,
    domain=None,
    device: str = "cpu",
    n_threads: int | None = None,
    iterations: int = 4,
    geodistk_python: str | Path | None = None,
) -> tuple[np.ndarray, list[dict]]:
    """Return geodesic distances by the engine of that name, and an honest report on each map.

    Parameters
    ----------
    image, seeds, spacing, metric, lamb, gamma, domain, device, n_threads
        As in `softlabels.geodesic.geodesic_distance`.
    engine : {"softlabels", "fastgeodis", "geodistk"}
        A peer has one metric and no domain, see above.
    iterations : int
        Iterations of a peer, >= 1; the published codes use 4. Ours runs until the map is exact.
    geodistk_python : path, optional
        The interpreter that has GeodisTK and numpy < 2. By default the variable SOFTLABELS_GEODISTK_PYTHON, else
        `.venv-geodistk/bin/python` beside this package, which `make test` builds.

    Returns
    -------
    distance : float32 array of the seeds' shape
        inf where no seed can be reached; a peer's own 1e10 is given as inf.
    report : list of dict, one a class
        `engine`, `certified`, `n_violated`, `n_unattained`, `n_unreachable` for all. `certified` is what the
        certificate found in the bits, so a peer that rounds otherwise is not certified even when it has converged.
        A peer's report has also its `version`, `iterations`, `max_relative_error` and `fraction_over_1_percent`, both
        against our exact map where that is above 0. Ours says nothing that depends on the device or its timing.

    Raises
    ------
    InputError
        If the engine lacks the metric or the domain, or an argument is not what `geodesic_distance` expects.
    DeviceError
        If the engine's package, interpreter or device is not there.

    Notes
    -----
    FastGeodis runs its threads on `n_threads`; GeodisTK has one thread. FastGeodis on CUDA does not synchronise
    blocks between planes, so there its map may differ from run to run.

    Examples
    --------
    >>> distance, (report,) = solve(np.zeros((1, 1, 3)), np.array([[[True, False, False]]]), (1, 1, 1), lamb=0.0)
    >>> distance.tolist(), report["engine"], report["certified"]
    ([[[0.0, 1.0, 2.0]]], 'softlabels', True)
    """
    if engine not in ENGINES:
        raise InputError(f"engine: got {engine!r}, expected one of {', '.join(ENGINES)}")
    parameters = {"metric": metric, "lamb": lamb, "gamma": gamma, "domain": domain}
    if engine == "softlabels":
        distance, found = geodesic_distance(
            image, seeds, spacing, **parameters, device=device, n_threads=n_threads, return_certificate=True
        )
        return distance, [_report(engine, c) for c in (found if isinstance(found, list) else [found])]
    if metric != METRIC_OF_ENGINE[engine]:
        raise InputError(
            f"engine {engine}: got metric {metric!r}, expected {METRIC_OF_ENGINE[engine]!r}, the only one it has; "
            "change the metric or use engine 'softlabels'"
        )
    if not (isinstance(iterations, int) and iterations >= 1):
        raise InputError(f"iterations: got {iterations!r}, expected an integer >= 1")
    problem = checked_problem(image, seeds, spacing, **parameters, cap=None)
    if problem.domain is not None:
        raise InputError(
            f"engine {engine}: got a domain, but it knows none; drop the domain or use engine 'softlabels'"
        )
    spacing = [1.0, *np.ravel(spacing)][-3:]
    if engine == "fastgeodis":
        distance, package = _fastgeodis(problem, spacing, float(lamb), iterations, device, n_threads)
    else:
        distance, package = _geodistk(problem, spacing, float(lamb), iterations, device, geodistk_python)
    distance[distance >= _FAR] = np.inf
    exact = geodesic_distance(problem.image, problem.seeds, spacing, metric=metric, lamb=lamb, n_threads=n_threads)
    report = [
        _report(engine, certificate, version=package, **_errors(theirs, ours))
        for certificate, theirs, ours in zip(
            certify_problem(problem, distance, n_threads, iterations), distance, exact, strict=True
        )
    ]
    return distance.reshape(np.shape(seeds)), report


def _report(engine: str, certificate, **more) -> dict:
    """Return the report on one map."""
    findings = certificate.to_json()
    certified = findings.pop("is_exact")
    del findings["tile_visits"]
    if engine == "softlabels":
        del findings["iterations"]
    return {"engine": engine, "certified": certified, **findings, **more}


def _errors(theirs: np.ndarray, exact: np.ndarray) -> dict:
    """Return how far a peer's map is from the exact one, where that is finite and above 0."""
    judged = (exact > 0) & np.isfinite(exact) & np.isfinite(theirs)
    relative = np.abs(theirs[judged] - exact[judged]) / exact[judged]
    return {
        "max_relative_error": float(relative.max(initial=0.0)),
        "fraction_over_1_percent": float(np.mean(relative > 0.01)) if relative.size else 0.0,
    }


def _fastgeodis(problem: Problem, spacing, lamb, iterations, device, n_threads) -> tuple[np.ndarray, str]:
    """Return FastGeodis' maps (C, D, H, W) and its version; one class at a time, as it asks for."""
    try:
        import torch
        from FastGeodis import generalised_geodesic3d
    except ImportError as error:
        raise DeviceError(
            f"engine fastgeodis: {error}; it needs torch and FastGeodis in this interpreter: "
            "pip install --no-build-isolation FastGeodis==1.0.5 after torch, or `make test` builds it"
        ) from error
    on_cuda = device == "cuda" or device.startswith("cuda:")
    if on_cuda and not torch.cuda.is_available():
        raise DeviceError(f"engine fastgeodis: got device {device!r}, but torch sees no CUDA device; use device 'cpu'")
    if not on_cuda and device != "cpu":
        raise DeviceError(f"device: got {device!r}, expected 'cpu', 'cuda' or 'cuda:<index>'")
    image = torch.from_numpy(np.array(problem.image))[None].to(device)
    distance = np.empty(problem.seeds.shape, np.float32)
    with _torch_threads(torch, n_threads):
        for seeds, out in zip(problem.seeds, distance, strict=True):
            mask = torch.from_numpy((~seeds).astype(np.float32))[None, None].to(device)
            try:
                found = generalised_geodesic3d(image, mask, [float(s) for s in spacing], float(_FAR), lamb, iterations)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise DeviceError(
                    f"engine fastgeodis: failed on {device} with {reason!r}; build FastGeodis with CUDA, "
                    "free memory, or use engine 'softlabels'"
                ) from error
            out[...] = found[0, 0].cpu().numpy()
    return distance, version("FastGeodis")


@contextlib.contextmanager
def _torch_threads(torch, n_threads: int | None):
    """Let torch, and FastGeodis with it, use `n_threads` for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads or usable_cpus())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _geodistk(problem: Problem, spacing, lamb, iterations, device, python) -> tuple[np.ndarray, str]:
    """Return GeodisTK's maps (C, D, H, W) and its version, computed by another interpreter."""
    if device != "cpu":
        raise DeviceError(f"engine geodistk: got device {device!r}, but it runs on 'cpu' only; set device 'cpu'")
    python = _geodistk_interpreter(python)
    worker = Path(__file__).with_name("_geodistk_worker.py")
    with tempfile.TemporaryDirectory(prefix="softlabels-geodistk-") as folder:
        asked, answer = Path(folder, "asked.npz"), Path(folder, "answer.npz")
        np.savez(asked, image=problem.image, seeds=problem.seeds, spacing=spacing, lamb=lamb, iterations=iterations)
        # -I: neither this process' PYTHONPATH nor this folder may reach an interpreter with another numpy.
        command = [str(python), "-I", str(worker), str(asked), str(answer)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise DeviceError(f"engine geodistk: {python} failed with {last!r}; {_GEODISTK_REMEDY}")
        with np.load(answer) as found:
            return found["distance"], str(found["version"])


_GEODISTK_REMEDY = (
    "it needs an interpreter with GeodisTK 0.1.7 and numpy < 2: run `make .venv-geodistk/.ready`, or make one from "
    "envs/geodistk.yaml and set SOFTLABELS_GEODISTK_PYTHON to its python"
)


def _geodistk_interpreter(python) -> Path:
    """Return the interpreter for GeodisTK: the argument, else the variable, else the one that `make` builds."""
    named = python or os.environ.get("SOFTLABELS_GEODISTK_PYTHON")
    path = Path(named) if named else _REPOSITORY / ".venv-geodistk" / "bin" / "python"
    if not path.is_file():
        raise DeviceError(f"engine geodistk: no interpreter at {path}; {_GEODISTK_REMEDY}")
    return path
