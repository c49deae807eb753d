"""Distances of many classes, each only where it is near, and what a distribution over classes needs besides."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels._shared.box import Box
from softlabels._shared.boxed import NO_BOX, BoxedVolumes, hull, widened
from softlabels._shared.cpus import usable_cpus
from softlabels.errors import InputError
from softlabels.geodesic._certify import Certificate
from softlabels.geodesic._farthest import Reach, farthest_at_least, own_peak
from softlabels.geodesic._gap import Limit, NearMap, Peaks, least_distance, limit_of, solve_each, solve_whole
from softlabels.geodesic._problem import Problem, checked_problem
from softlabels.geodesic.metric import GAMMA, LAMB

#: Voxels around a box in which a class is expected to be near.
_MARGIN = (3, 3, 3)
#: A class within this of its farthest distance has a weight below half of what it had without normalisation.
_HALF = 0.7


def geodesic_distance_within_gap(
    image: ArrayLike,
    seeds: ArrayLike | BoxedVolumes,
    spacing: Sequence[float],
    gap: float,
    *,
    metric: str = "sum",
    lamb: float = LAMB,
    gamma: float = GAMMA,
    domain: ArrayLike | None = None,
    boxes: Sequence[Box] | None = None,
    device: str = "cpu",
    n_threads: int | None = None,
) -> Iterator[NearMap]:
    """Yield, class by class, the distances that are at most `gap` above the least distance of all classes.

    Time and memory follow the boxes in which the classes are near, not classes x voxels: of a hundred organs, one or
    two are near at a voxel.

    Parameters
    ----------
    image : (D, H, W) or (M, D, H, W) array of real numbers
        As in `geodesic_distance`.
    seeds : (C, D, H, W) bool array, or BoxedVolumes of bool
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    gap : float
        >= 0, in the unit of the distance.
    metric, lamb, gamma, domain, device, n_threads
        As in `geodesic_distance`.
    boxes : sequence of C boxes, optional
        Where each class is expected to be near, for example the bounding boxes of the masks; by default around its
        seeds. A good guess saves time; the result does not depend on it.

    Yields
    ------
    NearMap
        For each class, those in large boxes first: a box and the distances in it, the bits of `geodesic_distance`
        where they are at most the least distance plus `gap` (compared exactly), and inf elsewhere; and the certificate,
        which proves that the engine kept all that is below its bound, as it proves a map with a cap.

    Raises
    ------
    InputError
        As in `geodesic_distance`, or if `gap` or `boxes` does not fit.
    CertificateError
        If the least distance or the bound is not what it must be.
    DeviceError
        As in `geodesic_distance`.

    Notes
    -----
    `softlabels.geodesic._gap` proves that nothing is lost. Both devices solve boxes, CUDA one at a time; the
    field that bounds them is made on the CPU. Memory: three volumes of float32 beside the image, and the boxes in work.

    Examples
    --------
    >>> seeds = np.zeros((2, 1, 1, 9), bool)
    >>> seeds[0, 0, 0, 0] = seeds[1, 0, 0, 8] = True
    >>> maps = geodesic_distance_within_gap(np.zeros((1, 1, 9)), seeds, (1, 1, 1), 2.0, lamb=0.0)
    >>> {near.index: near.values[0, 0].tolist() for near in maps}  # up to 5 against 3, beyond the middle
    {0: [0.0, 1.0, 2.0, 3.0, 4.0, 5.0], 1: [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]}
    """
    seeds = _as_boxed(seeds)
    problem = _problem_of(seeds, image, spacing, metric=metric, lamb=lamb, gamma=gamma, domain=domain)
    nearest = least_distance(problem, device, n_threads)
    limit = limit_of(problem, nearest, _checked_gap(gap), device=device, n_threads=n_threads)
    yield from solve_each(problem, seeds, _guesses(seeds, boxes), limit, device, n_threads or usable_cpus())


@dataclass(frozen=True, eq=False)
class NearDistances:
    """Distances of C classes as far as a distribution over classes depends on them.

    Attributes
    ----------
    maps : BoxedVolumes of float32
        inf where a distance is beyond the gap.
    farthest : (C,) float64 array
        The largest distance of each class, or a lower bound of it; 0 for a class that reaches nothing.
    is_exact : (C,) bool array
        Whether it is the largest distance itself.
    apart : tuple of int
        The classes that are the nearest ones near their own farthest voxel, where N is therefore that of the others.
    gap : float
        Above the least distance, up to where distances are kept.
    certificates : list of C Certificate
    """

    maps: BoxedVolumes
    farthest: NDArray[np.float64]
    is_exact: NDArray[np.bool_]
    apart: tuple[int, ...]
    gap: float
    certificates: list[Certificate]


def distances_for_distribution(
    image: ArrayLike,
    seeds: ArrayLike | BoxedVolumes,
    spacing: Sequence[float],
    gap: float,
    *,
    metric: str = "sum",
    lamb: float = LAMB,
    gamma: float = GAMMA,
    domain: ArrayLike | None = None,
    boxes: Sequence[Box] | None = None,
    rounding: float = 0.0,
    device: str = "cpu",
    n_threads: int | None = None,
) -> NearDistances:
    """Return what a distribution over C classes depends on whose weights are min-max normalised exponentials.

    The weight of a class is ``w_c = (exp(-D_c) - exp(-M_c)) / (1 - exp(-M_c))``, M_c being its largest finite
    distance, and its share ``w_c / sum_k w_k``. No share differs by more than ``2 C exp(-gap)`` from that of the full
    distances if classes are left out where `maps` is inf, and `farthest` takes the place of M_c.

    Parameters
    ----------
    image, seeds, spacing, metric, lamb, gamma, domain, boxes, device, n_threads
        As in `geodesic_distance_within_gap`.
    gap : float
        >= 1.
    rounding : float
        The relative error that distances may suffer before they are used, as when they are stored; the gap grows by it,
        so that the statement above is about the distances after that.

    Returns
    -------
    NearDistances

    Raises
    ------
    InputError, CertificateError, DeviceError
        As in `geodesic_distance_within_gap`; CertificateError also if the map of a class is not exact.

    Notes
    -----
    Let N be the least distance, and all weights relative to exp(-N). A class that is left out at a voxel weighs at most
    exp(-gap) there. One that is kept has the factor ``1 - (exp(D) - 1) / (exp(M) - 1)``; with L <= M in the place of M
    its weight is at most exp(N - L) less. Where L is not larger by the gap than every N of the class's map, the class
    is solved in full and M is exact. So the weights together are wrong by at most C exp(-gap), and a share by that
    over the sum of all weights.

    That sum is at least 1/2 where the nearest class is not near its own M. Where a class is the nearest one within 0.7
    of its own M, typically the background in one corner, it has hardly any weight, and classes far away matter. At
    these voxels the class is set apart: N is there the least of the others. In the worst case that sets apart all, and
    every class is solved in full.
    """
    if not gap >= 1:
        raise InputError(f"gap: got {gap!r}, expected a distance >= 1 for a distribution")
    boxed_seeds = _as_boxed(seeds)
    problem = _problem_of(boxed_seeds, image, spacing, metric=metric, lamb=lamb, gamma=gamma, domain=domain)
    nearest = least_distance(problem, device, n_threads)
    guesses = _guesses(boxed_seeds, boxes)
    solver = _Solver(problem, boxed_seeds, guesses, nearest, gap, rounding, device, n_threads)
    apart: set[int] = set()
    peaks = np.zeros(problem.shape, bool)
    while (found := solver.solve(apart, peaks)) is None:
        pass
    return found


@dataclass(frozen=True)
class _Solver:
    """What stays the same while classes are set apart."""

    problem: Problem
    seeds: BoxedVolumes
    guesses: list[Box]
    nearest: NDArray[np.float32]
    gap: float
    rounding: float
    device: str
    n_threads: int | None

    def solve(self, apart: set[int], peaks: NDArray[np.bool_]) -> NearDistances | None:
        """Return the distances, or None if classes had to be added to `apart` and voxels to `peaks`."""
        is_first, n_apart = not apart, len(apart)
        limit = self._limit(apart, peaks)
        reach = Reach(limit, self.problem.domain)
        farthest, is_exact = np.zeros(len(self.seeds)), np.ones(len(self.seeds), bool)
        parts: list[tuple[Box, NDArray[np.float32]]] = [(NO_BOX, np.empty((0, 0, 0), np.float32))] * len(self.seeds)
        certificates = [Certificate(0, 0, 0)] * len(self.seeds)
        n_threads = self.n_threads or usable_cpus()
        for near in solve_each(self.problem, self.seeds, self.guesses, limit, self.device, n_threads):
            c = near.index
            near.certificate.raise_unless_exact(f"geodesic distance of class {c}")
            parts[c], certificates[c] = (near.box, near.values), near.certificate
            if near.box == NO_BOX:
                continue
            least, nearest = farthest_at_least(near, self.seeds, reach)
            is_exact[c] = c in apart or not least - nearest >= self.gap + self.rounding * (least + nearest)
            farthest[c] = self._farthest(near) if is_exact[c] else least
            if is_exact[c] and c not in apart and farthest[c] > 0:
                at_peak = own_peak(near, limit, farthest[c], _HALF + 2 * self.rounding * farthest[c])
                if at_peak.any():
                    apart.add(c)
                    peaks[near.box] |= at_peak
                    if is_first:
                        # Mostly it is the background alone, and there is no need to solve the others twice.
                        return None
        if len(apart) > n_apart:
            return None
        maps = BoxedVolumes(self.problem.shape, parts, fill=np.inf, dtype=np.float32)
        return NearDistances(maps, farthest, is_exact, tuple(sorted(apart)), limit.gap, certificates)

    def _limit(self, apart: set[int], peaks: NDArray[np.bool_]) -> Limit:
        """Return the limit, above the least distance of the classes that are not apart at peaks."""
        at_peaks = None
        if apart:
            counted = [part for c, part in enumerate(self.seeds) if c not in apart]
            at_peaks = Peaks(peaks, _union(counted, self.problem.shape))
        return limit_of(
            self.problem,
            self.nearest,
            self.gap,
            peaks=at_peaks,
            rounding=self.rounding,
            device=self.device,
            n_threads=self.n_threads,
        )

    def _farthest(self, near: NearMap) -> float:
        """Return the largest finite distance of a class."""
        if near.farthest is not None:
            return near.farthest
        values, certificate = solve_whole(self.problem, self.seeds, near.index, self.device, self.n_threads)
        certificate.raise_unless_exact(f"geodesic distance of class {near.index}")
        return float(values.max(where=np.isfinite(values), initial=0.0))


def _as_boxed(seeds: ArrayLike | BoxedVolumes) -> BoxedVolumes:
    """Return seeds in boxes."""
    if isinstance(seeds, BoxedVolumes):
        if seeds.dtype != bool:
            raise InputError(f"seeds: got dtype {seeds.dtype}, expected bool")
        return seeds
    dense = np.asarray(seeds)
    if dense.dtype != bool or dense.ndim != 4:
        raise InputError(f"seeds: got {dense.dtype} of shape {dense.shape}, expected bool (C, D, H, W)")
    return BoxedVolumes.of_array(dense, fill=False)


def _union(parts: Sequence[tuple[Box, NDArray[np.bool_]]], shape: Sequence[int]) -> NDArray[np.bool_]:
    """Return where any of some classes has a seed."""
    union = np.zeros(shape, bool)
    for box, values in parts:
        union[box] |= values
    return union


def _problem_of(seeds: BoxedVolumes, image: ArrayLike, spacing: Sequence[float], **options: object) -> Problem:
    """Return the checked problem whose one seed map has the seeds of all classes."""
    return checked_problem(image, _union(list(seeds), seeds.shape[1:])[None], spacing, **options)  # type: ignore[arg-type]


def _checked_gap(gap: float) -> float:
    """Return the gap, or raise."""
    if not (gap >= 0 and math.isfinite(gap)):
        raise InputError(f"gap: got {gap!r}, expected a finite distance >= 0")
    return float(gap)


def _guesses(seeds: BoxedVolumes, boxes: Sequence[Box] | None) -> list[Box]:
    """Return where each class is expected to be near: around its seeds and the box given; empty without seeds."""
    if boxes is not None and len(boxes) != len(seeds):
        raise InputError(f"boxes: got {len(boxes)}, expected one for each of the {len(seeds)} classes")
    found = []
    for c, (box, is_seed) in enumerate(seeds):
        given = NO_BOX if boxes is None else boxes[c]
        found.append(widened(hull([box, given]), _MARGIN, seeds.shape[1:]) if is_seed.any() else NO_BOX)
    return found
