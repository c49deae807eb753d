"""Connected components of a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.jit import Compiler

_compiled = Compiler("components", [Path(__file__)]).compiled


def label_components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Return the number of its 26-connected component for each voxel of a mask, and how many components there are.

    Parameters
    ----------
    mask : (D, H, W) bool array
        Not modified.

    Returns
    -------
    components : (D, H, W) int32 array
        0 outside of the mask; 1, 2, ... in the order of the components' first voxels in C order.
    n_components : int

    Notes
    -----
    The result is that of `scipy.ndimage.label`, in a third to half of its time and without importing SciPy, which takes
    as long as labelling a whole head. Cost: three passes over the volume, which join runs of voxels along x. Memory:
    16 bytes for each run besides the result.

    Examples
    --------
    >>> components, n_components = label_components(np.array([[[1, 0, 0, 1], [0, 1, 0, 1]]], bool))
    >>> components.tolist(), n_components
    ([[[1, 0, 0, 2], [0, 1, 0, 2]]], 2)
    """
    depth, height, width = mask.shape
    rows = np.ascontiguousarray(mask).reshape(depth * height, width)
    first_run = np.zeros(len(rows) + 1, np.int64)
    n_runs = _count_runs(rows, first_run)
    starts, ends, parents, numbers = (np.empty(n_runs, np.int32) for _ in range(4))
    _find_runs(rows, starts, ends)
    _join_runs(starts, ends, parents, first_run, height)
    components = np.zeros(rows.shape, np.int32)
    n_components: int = _number_runs(starts, ends, parents, first_run, numbers, components)
    return components.reshape(mask.shape), n_components


@_compiled
def _count_runs(rows, first_run):
    """Fill in how many runs there are before each row; return how many in all."""
    n_runs = 0
    for row in range(rows.shape[0]):
        before = False
        for x in range(rows.shape[1]):
            n_runs += rows[row, x] & ~before
            before = rows[row, x]
        first_run[row + 1] = n_runs
    return n_runs


@_compiled
def _find_runs(rows, starts, ends):
    """Fill in the first voxel of each run, and the one behind its last."""
    run, width = 0, rows.shape[1]
    for row in range(rows.shape[0]):
        before = False
        for x in range(width):
            inside = rows[row, x]
            if inside and not before:
                starts[run] = x
            elif before and not inside:
                ends[run] = x
                run += 1
            before = inside
        if before:
            ends[run] = width
            run += 1


@_compiled
def _root(parents, run):
    """Return the first run of the tree that a run is in, and shorten the way to it."""
    while parents[run] != run:
        parents[run] = parents[parents[run]]
        run = parents[run]
    return run


@_compiled
def _join_runs(starts, ends, parents, first_run, height):
    """Make trees of the runs that touch, whose roots are their first runs."""
    for run in range(parents.size):
        parents[run] = run
    for row in range(first_run.size - 1):
        z, y = divmod(row, height)
        # The other rows of the eight around this one have yet to come.
        for side in range(4):
            beside_z, beside_y = z - (side > 0), y - 1 + side - (side > 0)
            if beside_z < 0 or not 0 <= beside_y < height:
                continue
            beside = beside_z * height + beside_y
            run, other = first_run[row], first_run[beside]
            while run < first_run[row + 1] and other < first_run[beside + 1]:
                if starts[run] <= ends[other] and starts[other] <= ends[run]:
                    one, two = _root(parents, run), _root(parents, other)
                    parents[max(one, two)] = min(one, two)
                if ends[run] < ends[other]:
                    run += 1
                else:
                    other += 1


@_compiled
def _number_runs(starts, ends, parents, first_run, numbers, rows):
    """Write the number of its tree, in the order of the roots, to the voxels of each run; return how many trees."""
    n_components = 0
    for row in range(first_run.size - 1):
        for run in range(first_run[row], first_run[row + 1]):
            root = _root(parents, run)
            if root == run:
                n_components += 1
                numbers[run] = n_components
            number = numbers[run] = numbers[root]
            for x in range(starts[run], ends[run]):
                rows[row, x] = number
    return n_components
