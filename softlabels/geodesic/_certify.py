"""Proof that a map is the geodesic distance, independent of the engine that computed it.

Let F(d) be the map that gives each voxel the least fl(d_q + w) over its neighbours q, and 0 at seeds. A map is

- FEASIBLE if d <= F(d): rounded addition is monotone, so d is nowhere above the distance;
- ATTAINED if each finite voxel is a seed or has a neighbour with fl(d_q + w) = d_p that is itself attained without
  reference to p: then d_p is the float32 length of a path from a seed, so d is nowhere below the distance.

Both together leave no other map. d = F(d) alone is not a proof: where steps cost nothing (lamb = 1 in flat air) or are
absorbed by rounding, the voxels of a plateau can justify each other. So a voxel counts as attained at once only from a
strictly nearer neighbour; from there the rest is settled along steps of no increment, and nothing may remain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.errors import CertificateError
from softlabels.geodesic._problem import Problem, checked_problem
from softlabels.geodesic.metric import GAMMA, LAMB


@dataclass(frozen=True)
class Certificate:
    """Findings about one map (one class).

    Attributes
    ----------
    n_violated : int
        Voxels above what a neighbour allows, seeds that are not 0, walls that are not inf, NaNs and negatives.
    n_unattained : int
        Finite voxels that no path from a seed accounts for.
    n_unreachable : int
        Voxels of the domain that are inf; a finding, not a fault.
    iterations : int or None
        Full sweeps that the engine made; None if the map came from elsewhere.
    tile_visits : int or None
        Tiles that the engine worked on after the sweeps.

    Examples
    --------
    >>> Certificate(0, 0, n_unreachable=7).is_exact
    True
    """

    n_violated: int
    n_unattained: int
    n_unreachable: int
    iterations: int | None = None
    tile_visits: int | None = None

    @property
    def is_exact(self) -> bool:
        """Whether the map is bitwise the float32 geodesic distance."""
        return self.n_violated == 0 and self.n_unattained == 0

    def to_json(self) -> dict[str, Any]:
        """Return the findings as plain JSON values."""
        return {"is_exact": self.is_exact, **dataclasses.asdict(self)}

    def raise_unless_exact(self, name: str = "geodesic distance") -> None:
        """Raise CertificateError, with `name` in the message, unless the map is exact."""
        if not self.is_exact:
            raise CertificateError(
                f"{name}: got {self.n_violated} voxels above what a neighbour allows and {self.n_unattained} that no "
                "path accounts for, expected 0 and 0; the map is wrong: please report the input as a bug"
            )


def certify(
    distance: ArrayLike,
    image: ArrayLike,
    seeds: ArrayLike,
    spacing: Sequence[float],
    *,
    metric: str = "sum",
    lamb: float = LAMB,
    gamma: float = GAMMA,
    domain: ArrayLike | None = None,
    cap: float | None = None,
    n_threads: int | None = None,
) -> Certificate | list[Certificate]:
    """Judge a map that any engine made for the arguments of `geodesic_distance`.

    Parameters
    ----------
    distance : float32 array of the seeds' shape
        The map, or one map a class.
    image, seeds, spacing, metric, lamb, gamma, domain, cap, n_threads
        As in `geodesic_distance`.

    Returns
    -------
    Certificate or list of Certificate
        A list, one a class, if the seeds have a class axis.

    Examples
    --------
    >>> seeds = np.array([[[True, False, False]]])
    >>> image = np.zeros((1, 1, 3), np.float32)
    >>> certify(np.float32([[[0.0, 0.5, 1.0]]]), image, seeds, (1, 1, 1)).is_exact
    True
    >>> certify(np.float32([[[0.0, 0.5, 0.9]]]), image, seeds, (1, 1, 1)).n_unattained
    1
    """
    problem = checked_problem(image, seeds, spacing, metric=metric, lamb=lamb, gamma=gamma, domain=domain, cap=cap)
    maps = np.asarray(distance, np.float32).reshape(problem.seeds.shape)
    return problem.per_class(certify_problem(problem, maps, n_threads))


def certify_problem(
    problem: Problem,
    distance: NDArray[np.float32],
    n_threads: int | None = None,
    iterations: int | None = None,
    tile_visits: int | None = None,
) -> list[Certificate]:
    """Return one certificate a class for `distance` of shape (C, D, H, W)."""
    from softlabels.geodesic._certify_pass import count_faults

    return [Certificate(*found, iterations, tile_visits) for found in count_faults(problem, distance, n_threads)]
