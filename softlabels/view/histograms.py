"""How the values of a soft label are distributed over the voxels of a cohort."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.cpus import usable_cpus
from softlabels.cohort.arrays import Cohort

#: Voxels of a case that are counted one by one; counting more takes longer than all else that a report needs.
MAX_VOXELS = 2**20


@dataclass(frozen=True)
class Histogram:
    """Counts of the values of a soft label.

    Attributes
    ----------
    edges : (B + 1,) float64 array
    counts : dict of str to (B,) int64 array
        By class name.
    """

    edges: NDArray[np.float64]
    counts: dict[str, NDArray[np.int64]]


def value_histogram(
    cohort: Cohort, target: str, case_ids: Sequence[str], bounds: tuple[float, float], n_bins: int = 50
) -> Histogram:
    """Return the histogram of a target's soft label over the voxels of some cases, in bounded memory.

    Parameters
    ----------
    cohort : Cohort
    target : str
    case_ids : sequence of str
    bounds : tuple of 2 floats
        Ends of the range.
    n_bins : int

    Notes
    -----
    Of a case with more than `MAX_VOXELS`, every s-th voxel along y and x is counted, s * s times.
    """
    names = cohort.targets[target].class_names
    edges = np.linspace(*bounds, n_bins + 1)

    def of_case(case_id: str) -> NDArray[np.int64]:
        """Return the (C, B) counts of one case."""
        case = cohort[case_id]
        step = math.ceil(math.sqrt(case.grid.n_voxels / MAX_VOXELS))
        counts = np.zeros((len(names), n_bins), np.int64)
        for (_, (y, _), (x, _)), block in case.blocks(target):
            sample = block[..., -y % step :: step, -x % step :: step]
            counts += [np.histogram(channel, edges)[0] for channel in sample]
        return counts * step**2

    with ThreadPoolExecutor(usable_cpus()) as pool:
        total = sum(pool.map(of_case, case_ids), np.zeros((len(names), n_bins), np.int64))
    return Histogram(edges, dict(zip(names, total, strict=True)))
