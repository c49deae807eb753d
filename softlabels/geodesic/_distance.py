"""The distances: geodesic, solved and proved on the requested device, and Euclidean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.errors import DeviceError, InputError
from softlabels.geodesic._certify import Certificate, certify_problem
from softlabels.geodesic._limits import check_sums
from softlabels.geodesic._problem import Problem, Solution, checked_problem
from softlabels.geodesic.metric import GAMMA, LAMB
from softlabels.grid import checked_spacing


@overload
def geodesic_distance(
    image: ArrayLike,
    seeds: ArrayLike,
    spacing: Sequence[float],
    *,
    metric: str = ...,
    lamb: float = ...,
    gamma: float = ...,
    domain: ArrayLike | None = ...,
    cap: float | None = ...,
    device: str = ...,
    n_threads: int | None = ...,
    return_certificate: Literal[False] = ...,
) -> NDArray[np.float32]: ...


@overload
def geodesic_distance(
    image: ArrayLike,
    seeds: ArrayLike,
    spacing: Sequence[float],
    *,
    metric: str = ...,
    lamb: float = ...,
    gamma: float = ...,
    domain: ArrayLike | None = ...,
    cap: float | None = ...,
    device: str = ...,
    n_threads: int | None = ...,
    return_certificate: Literal[True],
) -> tuple[NDArray[np.float32], Certificate | list[Certificate]]: ...


def geodesic_distance(
    image: ArrayLike,
    seeds: ArrayLike,
    spacing: Sequence[float],
    *,
    metric: str = "sum",
    lamb: float = LAMB,
    gamma: float = GAMMA,
    domain: ArrayLike | None = None,
    cap: float | None = None,
    device: str = "cpu",
    n_threads: int | None = None,
    return_certificate: bool = False,
) -> NDArray[np.float32] | tuple[NDArray[np.float32], Certificate | list[Certificate]]:
    """Return the least cost of a path from each voxel to the nearest seed, exact in float32.

    Parameters
    ----------
    image : (D, H, W), (M, D, H, W) or (H, W) array of real numbers
        Intensities, M channels; converted to float32. Write one 2D image of M channels as (M, 1, H, W).
    seeds : (D, H, W) or (C, D, H, W) bool array; (H, W) or (C, H, W) for an image (H, W)
        Where the distance is 0. C classes are solved in one call, for much less than C times the time of one.
    spacing : 3 floats, or 2 for an image (H, W)
        Voxel size in mm, ordered (z, y, x).
    metric : {"sum", "pythagorean", "harmonic", "l1"}
        The step cost, see `softlabels.geodesic.metric.step_cost`.
    lamb : float
        Weight of the intensity, 0..1 (sum, harmonic, l1).
    gamma : float
        Weight of the intensity, >= 0 (pythagorean).
    domain : (D, H, W) bool array, optional
        Paths stay where it is True. Seeds outside of it count for nothing.
    cap : float, optional
        Distances up to `cap` are exact, all others are inf; a small cap saves time.
    device : str
        "cpu", "cuda" or "cuda:<index>". The result does not depend on it.
    n_threads : int, optional
        CPU threads; by default those that the process may use (affinity, SLURM_CPUS_PER_TASK).
    return_certificate : bool
        Whether to prove the result and return the findings too.

    Returns
    -------
    distance : float32 array of the seeds' shape
        In the unit of the step cost; inf outside of the domain and where no seed can be reached.
    certificate : Certificate, or list of Certificate if the seeds have a class axis
        Only if `return_certificate`.

    Raises
    ------
    InputError
        If shapes, types or parameters do not fit, an intensity inside the domain is NaN or Inf, or the cost of a path
        overflows float32.
    DeviceError
        If the device is not there, or the process flushes small numbers to zero and this would change the result.

    Notes
    -----
    The map is the greatest fixpoint of d_p = min_q fl(d_q + w_pq) over the 26 neighbours; fl(.) rounds to float32.
    There is only one, so neither order nor device matters.

    Examples
    --------
    >>> image = np.array([[0, 0, 4, 4]])
    >>> geodesic_distance(image, image == 9, (1, 1), lamb=0.5).tolist()
    [[inf, inf, inf, inf]]
    >>> seeds = np.array([[True, False, False, False]])
    >>> geodesic_distance(image, seeds, (1, 1), lamb=0.5).tolist()  # 0.5 mm a step, and 0.5 * 4 to climb
    [[0.0, 0.5, 3.0, 3.5]]
    """
    problem = checked_problem(image, seeds, spacing, metric=metric, lamb=lamb, gamma=gamma, domain=domain, cap=cap)
    if not return_certificate:
        return problem.shaped(solve_problem(problem, device, n_threads).maps)
    solution, certificates = solve_and_certify(problem, device, n_threads)
    return problem.shaped(solution.maps), problem.per_class(certificates)


def solve_problem(problem: Problem, device: str = "cpu", n_threads: int | None = None) -> Solution:
    """Return the exact maps from the engine of a device.

    Raises
    ------
    InputError
        If the number of threads makes no sense, or the cost of a path overflows float32.
    DeviceError
        If the device is not there.
    """
    _check_threads(n_threads)
    if device == "cpu":
        from softlabels.geodesic._cpu import solve_on_cpu

        solution = solve_on_cpu(problem, n_threads)
    else:
        _check_cuda(device)
        from softlabels.geodesic._cuda import solve_on_cuda

        solution = solve_on_cuda(problem, device)
    _check_sums(problem, solution)
    return solution


def solve_and_certify(
    problem: Problem, device: str = "cpu", n_threads: int | None = None
) -> tuple[Solution, list[Certificate]]:
    """Return the exact maps and one certificate a class, both found on the device; errors as of `solve_problem`.

    On CUDA the image, the seeds and the maps stay on the device for the certificate, which therefore speaks of the maps
    before they are copied.
    """
    if device == "cpu":
        solution = solve_problem(problem, device, n_threads)
        return solution, certify_problem(problem, solution.maps, n_threads, solution.n_rounds, solution.n_visits)
    _check_threads(n_threads)
    return solve_and_certify_if(problem, device, lambda maps: True)


def solve_and_certify_if(
    problem: Problem, device: str, is_wanted: Callable[[NDArray[np.float32]], bool]
) -> tuple[Solution, list[Certificate]]:
    """Return what `solve_and_certify` does on CUDA, without certificates of maps that are not wanted.

    `is_wanted` is called with the maps (C, D, H, W) of the classes that are solved together.
    """
    _check_cuda(device)
    from softlabels.geodesic._cuda import solve_and_certify_on_cuda

    solution, certificates = solve_and_certify_on_cuda(problem, device, is_wanted)
    _check_sums(problem, solution)
    return solution, certificates


def _check_threads(n_threads: int | None) -> None:
    """Raise InputError unless the number of threads makes sense."""
    if n_threads is not None and n_threads < 1:
        raise InputError(f"n_threads: got {n_threads!r}, expected a number >= 1, or None for all that may be used")


def _check_cuda(device: str) -> None:
    """Raise DeviceError unless the name is one of a CUDA device."""
    if not (device == "cuda" or device.startswith("cuda:")):
        raise DeviceError(f"device: got {device!r}, expected 'cpu', 'cuda' or 'cuda:<index>'")


def _check_sums(problem: Problem, solution: Solution) -> None:
    """Raise InputError if the cost of a path overflows float32."""
    check_sums(solution.maps, domain=problem.domain, cap=problem.cap, largest_step=problem.largest_step)


def euclidean_distance(seeds: ArrayLike, spacing: Sequence[float]) -> NDArray[np.float32]:
    """Return the exact Euclidean distance in mm to the nearest seed, anisotropic; inf if there is no seed.

    Use it where a paper means Euclid: the lamb = 0 geodesic over 26 neighbours is up to 13 % longer (isotropic).

    Parameters
    ----------
    seeds : (D, H, W) or (C, D, H, W) bool array
    spacing : 3 floats
        Voxel size in mm, (z, y, x).

    Returns
    -------
    float32 array of the seeds' shape

    Examples
    --------
    >>> euclidean_distance(np.array([[[True, False], [False, False]]]), (9.0, 3.0, 4.0)).tolist()
    [[[0.0, 4.0], [3.0, 5.0]]]
    """
    from scipy.ndimage import distance_transform_edt

    seeds, sampling = np.asarray(seeds), checked_spacing(spacing)
    volumes = seeds.reshape(-1, *seeds.shape[-3:])
    distance = np.full(volumes.shape, np.inf, np.float32)
    for volume, out in zip(volumes, distance, strict=True):
        if volume.any():
            out[...] = distance_transform_edt(~volume, sampling=sampling)
    return distance.reshape(seeds.shape)
