"""Distances of many classes, each only where it is within a gap of the least: a map in a box, the bits of the whole.

Let D_c be the distance to the seeds of class c, N the least of all D_c, which one solution with all seeds gives, and B
a field above N + gap that *rises by no more than a step costs*: ``B_p <= fl(B_q + w_pq)`` for all neighbours. Rounded
addition is monotone. So a path that is not below B at q, ``d >= B_q``, arrives at p with ``fl(d + w_pq) >= B_p``: it
is never below B again. Conversely, every prefix of a shortest path to a voxel with D_c < B has a distance below B. An
engine that keeps only what is below B therefore gives D_c, bit for bit, wherever D_c < B, and inf elsewhere. The voxels
with D_c < B are one region around the seeds, so a box whose faces it does not reach contains all of it.

An engine that knows no such field gives the same from the box alone. Its distances there, of paths within the box, are
at least D_c; and where D_c < B at a voxel outside, the shortest path to it leaves the box through a face, where its
distance within the box is below B. So where no face has such a distance, all that is below B has its bits, and all
that is not is removed.

The sum ``fl(N + gap)`` does not rise so, because of its rounding. B is therefore a distance itself: that to all seeds,
starting at `gap` and a little more instead of 0. It is checked in every voxel that B is above N + gap and rises by no
more than steps cost; and what is between N + gap and B is removed, so that the result depends on the gap alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels._shared.box import Box
from softlabels._shared.boxed import NO_BOX, BoxedVolumes, boxed, moved
from softlabels._shared.in_order import map_in_order
from softlabels.errors import CertificateError
from softlabels.geodesic._certify import Certificate, certify_problem
from softlabels.geodesic._distance import solve_and_certify, solve_and_certify_if
from softlabels.geodesic._problem import Problem

#: How far the field starts above the gap at first, relative to the largest sum: more than rounding usually takes.
_SLACK, _LEAST_SLACK = 2.0**-16, 2.0**-100
#: A side of a box that is reached moves by this many voxels, or by this part of the box if that is more.
_GROWTH_VOX, _GROWTH = 4, 0.25
#: A class in a box of at least this part of the volume is solved in the whole, without a bound: that takes as long.
_WHOLE = 0.5
#: Classes in boxes of at least this part of the volume are solved one by one, since several would take much memory.
_LARGE = 1 / 16


@dataclass(frozen=True, eq=False)
class Limit:
    """Up to where distances are kept.

    Attributes
    ----------
    nearest : (D, H, W) float32 array
        N, the least distance; inf where none leads. At `peaks`, if there are any, the least of some classes only.
    gap : float
        Distances up to ``nearest + gap`` are kept.
    make_bound : callable or None
        Returns B; None to solve whole volumes.
    """

    nearest: NDArray[np.float32]
    gap: float
    make_bound: Callable[[], NDArray[np.float32]] | None

    @cached_property
    def bound(self) -> NDArray[np.float32] | None:
        """B, the (D, H, W) field for an engine that uses it, made when it is first needed."""
        return None if self.make_bound is None else self.make_bound()

    def cut(self, box: Box, values: NDArray[np.float32]) -> tuple[Box, NDArray[np.float32]]:
        """Return what is kept of the distances in a box, in the box of that; they are overwritten."""
        for plane, nearest in zip(values, self.nearest[box], strict=True):
            plane[plane > nearest.astype(np.float64) + self.gap] = np.inf
        return moved(boxed(values, fill=np.inf), box)


@dataclass(frozen=True, eq=False)
class Peaks:
    """Voxels where more classes are kept: up to the gap above the least distance of some of the classes.

    Attributes
    ----------
    voxels : (D, H, W) bool array
    seeds : (D, H, W) bool array
        Those of the classes that count there.
    """

    voxels: NDArray[np.bool_]
    seeds: NDArray[np.bool_]


def limit_of(
    problem: Problem,
    nearest: NDArray[np.float32],
    gap: float,
    *,
    peaks: Peaks | None = None,
    rounding: float = 0.0,
    device: str = "cpu",
    n_threads: int | None = None,
) -> Limit:
    """Return up to where distances are kept.

    Parameters
    ----------
    problem : Problem
        Whose one seed map has the seeds of all classes.
    nearest : (D, H, W) float32 array
        `least_distance` of it, which is overwritten at the peaks.
    gap : float
    peaks : Peaks, optional
    rounding : float
        The relative error that distances may suffer later. The gap grows by what two of them can then lose.
    device, n_threads
        As in `geodesic_distance`.
    """
    if peaks is not None:
        others = least_distance(dataclasses.replace(problem, seeds=peaks.seeds[None]), device, n_threads)
        nearest[peaks.voxels] = others[peaks.voxels]
        del others
    gap += 2 * rounding * (_largest(nearest) + gap)
    # Peaks that no class that counts can reach keep all classes, wherever their paths run.
    if peaks is not None and np.isinf(nearest[peaks.voxels]).any():
        return Limit(nearest, gap, None)
    raised = None if peaks is None else peaks.voxels
    return Limit(nearest, gap, lambda: rising_bound(problem, nearest, gap, raised, n_threads))


def least_distance(problem: Problem, device: str, n_threads: int | None) -> NDArray[np.float32]:
    """Return the certified distance to the one seed map of a problem."""
    solution, (certificate,) = solve_and_certify(problem, device, n_threads)
    certificate.raise_unless_exact("the least distance of all classes")
    return solution.maps[0]


def _largest(distance: NDArray[np.float32]) -> float:
    """Return the largest finite distance, 0 if there is none."""
    return float(distance.max(where=np.isfinite(distance), initial=0.0))


def rising_bound(
    problem: Problem,
    nearest: NDArray[np.float32],
    gap: float,
    peaks: NDArray[np.bool_] | None = None,
    n_threads: int | None = None,
) -> NDArray[np.float32]:
    """Return a field above ``nearest + gap`` that rises by no more than steps cost; see the module.

    `nearest` may be anything at `peaks`. The field is raised there, and falls off from them as fast as it may, so that
    what it lets through beside is what can lie on the way to a peak.

    Raises
    ------
    CertificateError
        If the field is not what it must be.
    """
    from softlabels.geodesic._certify_pass import judge
    from softlabels.geodesic._cpu import solve_on_cpu

    without_seeds = dataclasses.replace(problem, seeds=np.zeros_like(problem.seeds))

    def solved(start: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the least cost of a path that begins anywhere with the value there."""
        return solve_on_cpu(without_seeds, n_threads, start[None]).maps[0]

    def start_at(where: NDArray[np.bool_], value: ArrayLike) -> NDArray[np.float32]:
        """Return a field of inf with other values somewhere."""
        start = np.full(problem.shape, np.inf, np.float32)
        start[where] = value
        return start

    highest = _largest(nearest) + gap
    slack = _SLACK * highest or _LEAST_SLACK
    while True:
        bound = solved(start_at(problem.seeds[0], gap + slack))
        if peaks is not None:
            # In place, since each of these fields takes as much memory as the image.
            raised = solved(start_at(peaks, highest - (nearest[peaks].astype(np.float64) + gap)))
            np.subtract(np.float32(highest + slack), raised, out=raised)
            np.maximum(bound, raised, out=raised)
            del bound
            bound = solved(raised)
            del raised
        if _is_above(bound, nearest, gap):
            break
        slack *= 2
    state = np.zeros(problem.shape, np.uint8)
    n_violated, _, _ = judge(problem, without_seeds.seeds[0], bound, state, 0, problem.shape[0], n_threads)
    if n_violated:
        raise CertificateError(
            f"geodesic distance within a gap: got {n_violated} voxels where the bound rises by more than a step costs, "
            "expected 0; please report the input as a bug"
        )
    return bound


def _is_above(bound: NDArray[np.float32], nearest: NDArray[np.float32], gap: float) -> bool:
    """Return whether a bound is above ``nearest + gap`` wherever that is finite."""
    planes = zip(bound, nearest, strict=True)
    return all(((high > low.astype(np.float64) + gap) | np.isinf(low)).all() for high, low in planes)


@dataclass(frozen=True, eq=False)
class NearMap:
    """The distances of one class that are within a gap of the least over all classes.

    Attributes
    ----------
    index : int
        Which class.
    box : 3 slices
        Where any of its distances is within the gap; empty for a class without seeds.
    values : (d, h, w) float32 array
        The distances in the box, inf where they are beyond the gap.
    certificate : Certificate
        Of the map that was solved; `n_unreachable` counts the voxels of the domain that are inf here or outside of the
        box.
    farthest : float or None
        The largest finite distance of the class if it is known, because all its distances were solved.
    """

    index: int
    box: Box
    values: NDArray[np.float32]
    certificate: Certificate
    farthest: float | None = None


def solve_each(
    problem: Problem, seeds: BoxedVolumes, guesses: list[Box], limit: Limit, device: str, n_threads: int
) -> Iterator[NearMap]:
    """Yield the near map of each class, those in large boxes first, one by one; the others share the threads.

    Parameters
    ----------
    problem : Problem
        Of the whole volume; its own seeds are not read.
    seeds : BoxedVolumes of bool
    guesses : list of Box
        Where each class is expected to be near; empty exactly for a class without seeds.
    limit : Limit
    device : str
        CUDA solves boxes without the bound, one at a time, with the same result.
    n_threads : int
    """
    n_open = int(np.prod(problem.shape)) if problem.domain is None else int(np.count_nonzero(problem.domain))

    def solve(index: int, n_own_threads: int = 1) -> NearMap:
        """Solve one class."""
        if guesses[index] == NO_BOX:
            return NearMap(index, NO_BOX, np.empty((0, 0, 0), np.float32), Certificate(0, 0, n_open, 0, 0))
        found, box, farthest = None, guesses[index], None
        # A class that is solved in the whole anyway needs no bound.
        if _share(box, problem.shape) < _WHOLE and limit.bound is not None:
            found = _solve_within(problem, seeds, index, box, limit.bound, device, n_own_threads)
        if found is None:
            values, certificate = solve_whole(problem, seeds, index, device, n_threads)
            box, farthest = whole_box(problem), _largest(values)
        else:
            box, values, certificate = found
        box, values = limit.cut(box, values)
        n_far = n_open - int(np.count_nonzero(np.isfinite(values)))
        return NearMap(index, box, values, dataclasses.replace(certificate, n_unreachable=n_far), farthest)

    shares = [_share(guess, problem.shape) for guess in guesses]
    large = sorted((c for c, share in enumerate(shares) if share >= _LARGE), key=lambda c: -shares[c])
    yield from map(partial(solve, n_own_threads=n_threads), large)
    small = [c for c in range(len(seeds)) if c not in large]
    # Made here, if any class needs it, so that not all threads make it. Whole volumes take all threads each, and a
    # device takes one class at a time.
    n_together = n_threads if small and limit.bound is not None and device == "cpu" else 1
    with ThreadPoolExecutor(n_together) as pool:
        yield from map_in_order(pool, solve, small, n_together)


def _solve_within(
    problem: Problem,
    seeds: BoxedVolumes,
    index: int,
    box: Box,
    bound: NDArray[np.float32],
    device: str,
    n_threads: int,
) -> tuple[Box, NDArray[np.float32], Certificate] | None:
    """Return a box with all distances of a class that are below a bound, its map, and what proves it.

    The faces of the box move outwards until none of them is reached. None: the box has become too large.
    """
    known = None
    while _share(box, problem.shape) < _WHOLE:
        part = problem.part(box, seeds=seeds.region(index, box)[None])
        is_final = partial(_holds_all, box, problem.shape)
        values, certificate = _solve_below(part, np.ascontiguousarray(bound[box]), known, is_final, device, n_threads)
        if certificate is not None:
            return box, values, certificate
        grown = _grown(box, values, problem.shape)
        known = BoxedVolumes(problem.shape, [(box, values)], fill=np.inf, dtype=np.float32).region(0, grown)[None]
        box = grown
    return None


def _solve_below(
    part: Problem,
    bound: NDArray[np.float32],
    known: NDArray[np.float32] | None,
    is_final: Callable[[NDArray[np.float32]], bool],
    device: str,
    n_threads: int,
) -> tuple[NDArray[np.float32], Certificate | None]:
    """Return the distances in a box that are below a bound and, if they are final, what proves them.

    `known` are distances that are reached in the box, for an engine that can begin with them.
    """
    if device != "cpu":

        def below(maps: NDArray[np.float32]) -> NDArray[np.float32]:
            """Return what is below the bound of the one map, which stays as it is: the certificate is about it."""
            return np.where(maps[0] >= bound, np.float32(np.inf), maps[0])

        solution, certificates = solve_and_certify_if(part, device, lambda maps: is_final(below(maps)))
        return below(solution.maps), certificates[0] if certificates else None
    from softlabels.geodesic._cpu import solve_on_cpu

    bounded = dataclasses.replace(part, bound=bound)
    maps, *effort = solve_on_cpu(bounded, n_threads, known)
    return maps[0], certify_problem(bounded, maps, n_threads, *effort)[0] if is_final(maps[0]) else None


def solve_whole(
    problem: Problem, seeds: BoxedVolumes, index: int, device: str, n_threads: int | None
) -> tuple[NDArray[np.float32], Certificate]:
    """Return all distances (D, H, W) of one class, and what proves them."""
    whole = dataclasses.replace(problem, seeds=seeds.region(index, whole_box(problem))[None], bound=None)
    solution, (certificate,) = solve_and_certify(whole, device, n_threads)
    return solution.maps[0], certificate


def whole_box(problem: Problem) -> Box:
    """Return the box of the whole volume."""
    z, y, x = (slice(0, n) for n in problem.shape)
    return z, y, x


def _share(box: Box, shape: tuple[int, int, int]) -> float:
    """Return which part of the volume a box is."""
    return float(np.prod([(side.stop - side.start) / n for side, n in zip(box, shape, strict=True)]))


def _holds_all(box: Box, shape: tuple[int, int, int], values: NDArray[np.float32]) -> bool:
    """Return whether distances in a box are all that there are: no face is reached but those of the volume."""
    return _grown(box, values, shape) == box


def _grown(box: Box, values: NDArray[np.float32], shape: tuple[int, int, int]) -> Box:
    """Return a box whose faces that are reached, and are not the volume's, have moved outwards."""
    sides = []
    for axis, (side, n) in enumerate(zip(box, shape, strict=True)):
        step = max(_GROWTH_VOX, int(_GROWTH * (side.stop - side.start)))
        start, stop = side.start, side.stop
        if start > 0 and np.isfinite(values.take(0, axis)).any():
            start = max(start - step, 0)
        if stop < n and np.isfinite(values.take(-1, axis)).any():
            stop = min(stop + step, n)
        sides.append(slice(start, stop))
    z, y, x = sides
    return z, y, x
