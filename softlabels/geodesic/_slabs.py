"""Volumes larger than memory: the same map, with one slab in memory at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.geodesic._certify import Certificate
from softlabels.geodesic._limits import check_sums
from softlabels.geodesic._problem import Problem, checked_problem


class _Planes(Protocol):
    """What gives an array for a slice of planes: a NumPy array, a memory map, a Zarr array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


class _WritablePlanes(_Planes, Protocol):
    """Planes that an array can be assigned to."""

    def __setitem__(self, key: Any, value: Any, /) -> None: ...


_Out = TypeVar("_Out", bound=_WritablePlanes)
#: Gives the problem of planes lo..hi-1.
_ProblemOf = Callable[[int, int], Problem]


@overload
def geodesic_distance_slabs(
    image: _Planes,
    seeds: _Planes,
    spacing: Sequence[float],
    out: _Out,
    *,
    n_planes: int = ...,
    metric: str = ...,
    lamb: float = ...,
    gamma: float = ...,
    domain: _Planes | None = ...,
    cap: float | None = ...,
    n_threads: int | None = ...,
    return_certificate: Literal[False] = ...,
) -> _Out: ...


@overload
def geodesic_distance_slabs(
    image: _Planes,
    seeds: _Planes,
    spacing: Sequence[float],
    out: _Out,
    *,
    n_planes: int = ...,
    metric: str = ...,
    lamb: float = ...,
    gamma: float = ...,
    domain: _Planes | None = ...,
    cap: float | None = ...,
    n_threads: int | None = ...,
    return_certificate: Literal[True],
) -> tuple[_Out, Certificate | list[Certificate]]: ...


def geodesic_distance_slabs(
    image: _Planes,
    seeds: _Planes,
    spacing: Sequence[float],
    out: _Out,
    *,
    n_planes: int = 64,
    metric: str = "sum",
    lamb: float = 0.5,
    gamma: float = 1.0,
    domain: _Planes | None = None,
    cap: float | None = None,
    n_threads: int | None = None,
    return_certificate: bool = False,
) -> _Out | tuple[_Out, Certificate | list[Certificate]]:
    """Write the map of `geodesic_distance` to `out`, bit for bit, reading and writing a slab of planes at a time.

    Neighbouring slabs share a plane. A slab is solved from what `out` holds so far, and again whenever a neighbour
    lowers their common plane; as a distance written is always that of a path, the end is the map itself.

    Parameters
    ----------
    image : (D, H, W) or (M, D, H, W) array-like
        A NumPy array, memory map, Zarr array or anything else that gives an array for `image[..., lo:hi, :, :]`.
    seeds : (D, H, W) or (C, D, H, W) bool array-like
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    out : float32 array-like of the seeds' shape
        Written to; whatever it holds before is lost.
    n_planes : int
        Planes of a slab, >= 2. Memory is 1.1 x 4 bytes x (M + C), and the input's own, per voxel of a slab.
    metric, lamb, gamma, domain, cap, n_threads, return_certificate
        As in `geodesic_distance`; `domain` may be array-like too.

    Returns
    -------
    out, or (out, certificate) with one Certificate, or a list of them if the seeds have a class axis
        The certificate keeps a byte per voxel in a temporary file.

    Raises
    ------
    InputError
        As in `geodesic_distance`, or if `out` or `n_planes` does not fit.

    Examples
    --------
    >>> seeds = np.zeros((5, 1, 1), bool)
    >>> seeds[0] = True
    >>> out = np.empty((5, 1, 1), np.float32)
    >>> geodesic_distance_slabs(np.zeros((5, 1, 1)), seeds, (2, 1, 1), out, n_planes=2)[:, 0, 0].tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0]
    """
    if tuple(out.shape) != tuple(seeds.shape) or out.dtype != np.float32:
        raise InputError(f"out: got {out.dtype} of shape {tuple(out.shape)}, expected float32 of {tuple(seeds.shape)}")
    if n_planes < 2:
        raise InputError(f"n_planes: got {n_planes}, expected >= 2, since neighbouring slabs share a plane")
    n_z = seeds.shape[-3]
    slabs = [(lo, min(lo + n_planes, n_z)) for lo in range(0, max(n_z - 1, 1), n_planes - 1)]

    def problem_of(lo: int, hi: int) -> Problem:
        part = None if domain is None else np.asarray(domain[lo:hi])
        return checked_problem(
            np.asarray(image[..., lo:hi, :, :]), np.asarray(seeds[..., lo:hi, :, :]), spacing,
            metric=metric, lamb=lamb, gamma=gamma, domain=part, cap=cap,
        )  # fmt: skip

    n_rounds, n_visits = _solve_slabs(problem_of, out, slabs, n_threads)
    if not return_certificate:
        return out
    certificates = [
        Certificate(*_judge_slabs(problem_of, out, label, n_z, n_planes, n_threads), n_rounds, n_visits)
        for label in range(seeds.shape[0] if len(seeds.shape) == 4 else 1)
    ]
    return out, certificates if len(seeds.shape) == 4 else certificates[0]


def _read(out: _Planes, lo: int, hi: int) -> NDArray[np.float32]:
    """Return planes lo..hi-1 of the maps as (C, planes, H, W)."""
    planes = np.asarray(out[..., lo:hi, :, :])
    return planes.reshape(-1, *planes.shape[-3:])


def _solve_slabs(
    problem_of: _ProblemOf, out: _WritablePlanes, slabs: list[tuple[int, int]], n_threads: int | None
) -> tuple[int, int]:
    """Solve slabs upwards and downwards until none is due; return rounds and visits."""
    for lo, hi in slabs:
        out[..., lo:hi, :, :] = np.inf
    from softlabels.geodesic._cpu import solve_on_cpu

    is_due, n_rounds, n_visits = [True] * len(slabs), 0, 0
    while any(is_due):
        order = range(len(slabs)) if n_rounds % 2 == 0 else reversed(range(len(slabs)))
        n_rounds += 1
        for k in order:
            if not is_due[k]:
                continue
            is_due[k] = False
            lo, hi = slabs[k]
            before = _read(out, lo, hi)
            problem = problem_of(lo, hi)
            after, _, visits = solve_on_cpu(problem, n_threads, initial=before)
            check_sums(after, domain=problem.domain, cap=problem.cap, largest_step=problem.largest_step)
            n_visits += visits
            if k > 0:
                is_due[k - 1] |= not np.array_equal(before[:, 0], after[:, 0])
            if k + 1 < len(slabs):
                is_due[k + 1] |= not np.array_equal(before[:, -1], after[:, -1])
            out[..., lo:hi, :, :] = after.reshape(out.shape[:-3] + after.shape[-3:])
    return n_rounds, n_visits


def _judge_slabs(
    problem_of: _ProblemOf, out: _Planes, label: int, n_z: int, n_planes: int, n_threads: int | None
) -> tuple[int, int, int]:
    """Return the numbers of violated, unattained and unreachable voxels of one class."""
    from softlabels.geodesic._certify_pass import judge
    from softlabels.geodesic._plateaus import PENDING

    counts = np.zeros(3, np.int64)
    with tempfile.TemporaryFile() as file:
        state = np.memmap(file, np.uint8, "w+", shape=tuple(out.shape[-3:]))
        for lo in range(0, n_z, n_planes):
            hi, first = min(lo + n_planes, n_z), max(lo - 1, 0)
            problem = problem_of(first, min(hi + 1, n_z))
            distance = _read(out, first, min(hi + 1, n_z))[label]
            part = np.zeros(problem.shape, np.uint8)
            counts += judge(problem, problem.seeds[label], distance, part, lo - first, hi - first, n_threads)
            state[lo:hi] = part[lo - first : hi - first]
        n_violated, n_unreachable, n_pending = counts.tolist()
        while n_pending:
            for lo in range(0, max(n_z - 1, 1), n_planes - 1):
                _settle_slab(problem_of, out, label, state, lo, min(lo + n_planes, n_z))
            n_left = sum(int(np.count_nonzero(plane == PENDING)) for plane in state)
            if n_left == n_pending:
                break
            n_pending = n_left
    return n_violated, n_pending, n_unreachable


def _settle_slab(problem_of: _ProblemOf, out: _Planes, label: int, state: NDArray[np.uint8], lo: int, hi: int) -> None:
    """Settle planes lo..hi-1 as far as their own voxels tell; neighbouring slabs share a plane."""
    from softlabels.geodesic._plateaus import PENDING, settle

    part = np.array(state[lo:hi])
    if n_pending := int(np.count_nonzero(part == PENDING)):
        settle(problem_of(lo, hi), _read(out, lo, hi)[label], part, n_pending)
        state[lo:hi] = part
