"""Plateaus of the certificate: voxels that only a neighbour of the same distance accounts for.

Where a step gains nothing, because it costs nothing or rounding absorbs it, two voxels of equal distance are level. A
voxel without a nearer neighbour is attained if level steps lead to it from one that has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from softlabels.geodesic._compile import compiled, inlined
from softlabels.geodesic._cpu_kernels import _part, _step, kernel_cost
from softlabels.geodesic._problem import Problem

#: A sweep over a volume takes as long as a flood of this part of it.
_SWEEP_SHARE = 64
#: States of a voxel: settled, or none that has to be; waiting for a level step from a settled one; a wall.
SETTLED, PENDING, WALL = 0, 1, 2


def settle(problem: Problem, distance: NDArray[np.float32], state: NDArray[np.uint8], n_pending: int) -> int:
    """Settle what level steps join to a settled voxel; return how many stay pending.

    Sweeps settle large plateaus in passing. A flood ends what is left when a sweep settles less than half or little is
    pending, so that the cost stays linear however a plateau winds.
    """
    cost = kernel_cost(problem.cost, len(problem.image))
    rest = (distance, problem.image, problem.cost.scale, state, problem.cost.lengths, cost)
    before = 2 * n_pending
    while state.size // _SWEEP_SHARE < n_pending <= before // 2:
        before, n_pending = n_pending, n_pending - _sweep(*rest)
    if n_pending:
        waiting = np.flatnonzero(state == PENDING)
        n_pending -= _flood(*rest, waiting)
    return int(n_pending)


@inlined
def _is_level(distance, image, scale, at, to, length, cost):
    """Return whether the step between two voxels, of a volume or of a row, is level."""
    if distance[to] != distance[at]:
        return False
    gap = _part(cost, scale * image[0][at] - scale * image[0][to])
    for channel in range(1, image.shape[0]):
        gap = gap + _part(cost, scale * image[channel][at] - scale * image[channel][to])
    return distance[at] + _step(cost, length, gap) == distance[at]


@inlined
def _is_joined(distance, image, scale, state, z, y, x, side, lengths, cost):
    """Return whether a level step joins a voxel to a settled one: of those before it in C order (side -1) or after."""
    n_z, n_y, n_x = distance.shape
    for dz in range(2):
        for dy in range(-dz, 2):
            # Of its own row and plane only the half on one side.
            for dx in range(-1 if dz or dy else 1, 2):
                to_z, to_y, to_x = z + side * dz, y + side * dy, x + side * dx
                if not (0 <= to_z < n_z and 0 <= to_y < n_y and 0 <= to_x < n_x):
                    continue
                if state[to_z, to_y, to_x] == SETTLED:
                    length = lengths[dz, abs(dy), abs(dx)]
                    if _is_level(distance, image, scale, (z, y, x), (to_z, to_y, to_x), length, cost):
                        return True
    return False


@inlined
def _mark_settled(state, z, y, side, is_near):
    """Set is_near[x + 1] where, of the four rows before row (z, y), one has a settled voxel at x."""
    n_z, n_y, n_x = state.shape
    is_near[:] = 0
    for dz in range(2):
        for dy in range(-1 if dz else 1, 2):
            to_z, to_y = z + side * dz, y + side * dy
            if 0 <= to_z < n_z and 0 <= to_y < n_y:
                states = state[to_z, to_y]
                for x in range(n_x):
                    is_near[x + 1] |= states[x] == SETTLED


@compiled
def _sweep(distance, image, scale, state, lengths, cost):
    """Pass all voxels in C order, then in the opposite order, and settle what is joined to one before; count it."""
    n_z, n_y, n_x = distance.shape
    is_near = np.zeros(n_x + 2, np.uint8)
    n_settled = 0
    for side in (-1, 1):
        for k in range(n_z * n_y):
            row = k if side < 0 else n_z * n_y - 1 - k
            z, y = row // n_y, row % n_y
            states, distances, intensities = state[z, y], distance[z, y], image[:, z, y]
            is_marked = is_carried = False
            for i in range(n_x):
                x = i if side < 0 else n_x - 1 - i
                if states[x] != PENDING:
                    is_carried = states[x] == SETTLED
                    continue
                # Most voxels of a plateau are settled by the one before in their row.
                if is_carried:
                    is_carried = _is_level(distances, intensities, scale, x, x + side, lengths[0, 0, 1], cost)
                if not is_carried:
                    if not is_marked:
                        _mark_settled(state, z, y, side, is_near)
                        is_marked = True
                    if is_near[x] | is_near[x + 1] | is_near[x + 2]:
                        is_carried = _is_joined(distance, image, scale, state, z, y, x, side, lengths, cost)
                if is_carried:
                    states[x] = SETTLED
                    n_settled += 1
    return n_settled


@compiled
def _flood(distance, image, scale, state, lengths, cost, waiting):
    """Settle the voxels of flat indices `waiting` that a plateau joins to a settled one; return how many."""
    n_z, n_y, n_x = distance.shape
    stack = np.empty(len(waiting), np.int64)
    n_settled = 0
    for first in waiting:
        z, y, x = first // (n_y * n_x), first // n_x % n_y, first % n_x
        if state[z, y, x] != PENDING or not (
            _is_joined(distance, image, scale, state, z, y, x, -1, lengths, cost)
            or _is_joined(distance, image, scale, state, z, y, x, 1, lengths, cost)
        ):
            continue
        state[z, y, x] = SETTLED
        stack[0], size = first, 1
        while size > 0:
            size -= 1
            n_settled += 1
            z, y, x = stack[size] // (n_y * n_x), stack[size] // n_x % n_y, stack[size] % n_x
            for to_z in range(max(z - 1, 0), min(z + 2, n_z)):
                for to_y in range(max(y - 1, 0), min(y + 2, n_y)):
                    for to_x in range(max(x - 1, 0), min(x + 2, n_x)):
                        if state[to_z, to_y, to_x] != PENDING:
                            continue
                        length = lengths[abs(to_z - z), abs(to_y - y), abs(to_x - x)]
                        if _is_level(distance, image, scale, (z, y, x), (to_z, to_y, to_x), length, cost):
                            state[to_z, to_y, to_x] = SETTLED
                            stack[size] = (to_z * n_y + to_y) * n_x + to_x
                            size += 1
    return n_settled
