"""The built-in engine and the two third-party engines of published results, with one signature.

==============  ==============  =============  ==========================================================
engine          metric          device         what it is
==============  ==============  =============  ==========================================================
``softlabels``  all             cpu, cuda      built in; exact, with its certificate
``fastgeodis``  ``sum``         cpu, cuda      FastGeodis' plane sweeps, a fixed number of iterations
``geodistk``    ``harmonic``    cpu            GeodisTK's raster scan, a fixed number of iterations, in an
                                               interpreter of its own
==============  ==============  =============  ==========================================================

A third-party engine stops after `iterations` and proves nothing. Its report says so, and how far its map is from the
exact one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.errors import InputError
from softlabels.geodesic._certify import Certificate, certify_problem
from softlabels.geodesic._distance import solve_and_certify, solve_problem
from softlabels.geodesic._problem import Problem, checked_problem
from softlabels.geodesic.metric import GAMMA, LAMB, METRIC_OF_ENGINE, Engine

__all__ = ["ENGINES", "solve_with_engine"]

ENGINES = get_args(Engine)


def solve_with_engine(
    image: ArrayLike,
    seeds: ArrayLike,
    spacing: Sequence[float],
    *,
    engine: str = "softlabels",
    metric: str = "sum",
    lamb: float = LAMB,
    gamma: float = GAMMA,
    domain: ArrayLike | None = None,
    device: str = "cpu",
    n_threads: int | None = None,
    iterations: int = 4,
    geodistk_python: str | Path | None = None,
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Return geodesic distances by the engine of that name, and an honest report on each map.

    Parameters
    ----------
    image, seeds, spacing, metric, lamb, gamma, domain, device, n_threads
        As in `softlabels.geodesic.geodesic_distance`.
    engine : {"softlabels", "fastgeodis", "geodistk"}
        A third-party engine has one metric and no domain, see above.
    iterations : int
        Iterations of a third-party engine, >= 1; the published codes use 4. The built-in engine runs until the map is
        exact.
    geodistk_python : path, optional
        The interpreter that has GeodisTK and numpy < 2. By default what the variable SOFTLABELS_GEODISTK_PYTHON names.

    Returns
    -------
    distance : float32 array of the seeds' shape
        inf where no seed can be reached; the 1e10 of a third-party engine is given as inf.
    report : list of dict, one a class
        `engine`, `certified`, `n_violated`, `n_unattained`, `n_unreachable` for all. `certified` is what the
        certificate found in the bits, so an engine that rounds otherwise is not certified even when it has converged.
        The report of a third-party engine has also its `version`, `iterations`, `max_relative_error` and
        `fraction_over_1_percent`, both against the exact map where that is above 0. Nothing in the report of the
        built-in engine depends on the device or its timing.

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
    >>> seeds = np.array([[[True, False, False]]])
    >>> distance, (report,) = solve_with_engine(np.zeros((1, 1, 3)), seeds, (1, 1, 1), lamb=0.0)
    >>> distance.tolist(), report["engine"], report["certified"]
    ([[[0.0, 1.0, 2.0]]], 'softlabels', True)
    """
    if engine not in ENGINES:
        raise InputError(f"engine: got {engine!r}, expected one of {', '.join(ENGINES)}")
    if engine != "softlabels":
        _check_third_party(engine, metric, iterations)
    problem = checked_problem(image, seeds, spacing, metric=metric, lamb=lamb, gamma=gamma, domain=domain)
    if engine == "softlabels":
        solution, certificates = solve_and_certify(problem, device, n_threads)
        return problem.shaped(solution.maps), [_report(engine, certificate) for certificate in certificates]
    if problem.domain is not None:
        raise InputError(
            f"engine {engine}: got a domain, but it knows none; drop the domain or use engine 'softlabels'"
        )
    # What the workflow runs by default must not import what the third-party engines need.
    from softlabels.geodesic.third_party import FAR, solve_with_fastgeodis, solve_with_geodistk

    if engine == "fastgeodis":
        maps, package = solve_with_fastgeodis(problem, float(lamb), iterations, device, n_threads)
    else:
        maps, package = solve_with_geodistk(problem, float(lamb), iterations, device, geodistk_python)
    maps[maps >= FAR] = np.inf
    return problem.shaped(maps), _third_party_reports(engine, package, problem, maps, iterations, n_threads)


def _check_third_party(engine: str, metric: str, iterations: int) -> None:
    """Raise InputError unless a third-party engine has the metric and may iterate so often."""
    if metric != METRIC_OF_ENGINE[engine]:
        raise InputError(
            f"engine {engine}: got metric {metric!r}, expected {METRIC_OF_ENGINE[engine]!r}, the only one it has; "
            "change the metric or use engine 'softlabels'"
        )
    if not (isinstance(iterations, int) and iterations >= 1):
        raise InputError(f"iterations: got {iterations!r}, expected an integer >= 1")


def _third_party_reports(
    engine: str, package: str, problem: Problem, maps: NDArray[np.float32], iterations: int, n_threads: int | None
) -> list[dict[str, Any]]:
    """Return the report on each map of a third-party engine, measured against the exact one."""
    exact = solve_problem(problem, n_threads=n_threads).maps
    certificates = certify_problem(problem, maps, n_threads, iterations)
    return [
        _report(engine, certificate) | {"version": package, "iterations": iterations} | _errors(found, truth)
        for certificate, found, truth in zip(certificates, maps, exact, strict=True)
    ]


def _report(engine: str, certificate: Certificate) -> dict[str, Any]:
    """Return the report on one map: what the certificate found, without the effort it took to make the map."""
    names = ("n_violated", "n_unattained", "n_unreachable")
    return {"engine": engine, "certified": certificate.is_exact, **{n: getattr(certificate, n) for n in names}}


def _errors(found: NDArray[np.float32], exact: NDArray[np.float32]) -> dict[str, float]:
    """Return how far a map is from the exact one, where that is finite and above 0."""
    judged = (exact > 0) & np.isfinite(exact) & np.isfinite(found)
    relative = np.abs(found[judged] - exact[judged]) / exact[judged]
    return {
        "max_relative_error": float(relative.max(initial=0.0)),
        "fraction_over_1_percent": float(np.mean(relative > 0.01)) if relative.size else 0.0,
    }
