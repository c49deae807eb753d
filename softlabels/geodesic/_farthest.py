"""The largest distance of each class, which min-max normalisation needs, from maps that end at a gap.

Every voxel that class c reaches and that its near map leaves out has ``D_c > N + gap``. So the largest N among them,
plus the gap, is below the largest D_c, and so is the largest D_c of the map itself. The larger of the two is the bound.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boxed import BoxedVolumes
from softlabels.geodesic._gap import Limit, NearMap


class Reach:
    """Where the least distance is largest, in each part of the volume that walls keep apart.

    Parameters
    ----------
    limit : Limit
    domain : (D, H, W) bool array or None
        Where paths may run.
    """

    def __init__(self, limit: Limit, domain: NDArray[np.bool_] | None) -> None:
        self.limit = limit
        is_reached = np.isfinite(limit.nearest)
        self._nearest = limit.nearest
        if not is_reached.all():
            self._nearest = np.where(is_reached, limit.nearest, np.float32(-np.inf))
        self._parts: NDArray[np.integer] | None = None
        n_parts = 1
        if domain is not None:
            from softlabels._shared.components import label_components

            self._parts, n_parts = label_components(domain)
            if n_parts == 1:
                # What is behind walls has no distance.
                self._parts = None
        self._peaks = [np.unravel_index(int(self._in_part(k).argmax()), limit.nearest.shape) for k in range(n_parts)]

    def _in_part(self, part: int) -> NDArray[np.float32]:
        """Return the least distance in one part, -inf elsewhere."""
        if self._parts is None:
            return self._nearest
        return np.where(self._parts == part + 1, self._nearest, np.float32(-np.inf))

    def largest_outside(self, near: NearMap, seeds: BoxedVolumes) -> float:
        """Return the largest N where a class reaches and its near map leaves it out; -inf if there is no such voxel."""
        parts = [0]
        if self._parts is not None:
            box, is_seed = seeds[near.index]
            parts = [int(part) - 1 for part in np.unique(self._parts[box][is_seed]) if part]
        return max((self._outside(part, near) for part in parts), default=-np.inf)

    def _outside(self, part: int, near: NearMap) -> float:
        """Return the largest N of a part outside of a near map."""
        peak = self._peaks[part]
        inner = tuple(place - side.start for place, side in zip(peak, near.box, strict=True))
        is_in_box = all(0 <= place < n for place, n in zip(inner, near.values.shape, strict=True))
        if not (is_in_box and np.isfinite(near.values[inner])):
            return float(self._nearest[peak])
        rest = self._in_part(part).copy()
        rest[near.box][np.isfinite(near.values)] = -np.inf
        return float(rest.max())


def farthest_at_least(near: NearMap, seeds: BoxedVolumes, reach: Reach) -> tuple[float, float]:
    """Return a lower bound of the largest distance of a class with seeds, and the largest N of its near map."""
    is_near = np.isfinite(near.values)
    outside = reach.largest_outside(near, seeds) + reach.limit.gap
    inside = float(near.values.max(where=is_near, initial=0.0))
    nearest: NDArray[np.float32] = reach.limit.nearest[near.box]
    return max(inside, outside), float(nearest.max(where=is_near & np.isfinite(nearest), initial=0.0))


def own_peak(near: NearMap, limit: Limit, farthest: float, drop: float) -> NDArray[np.bool_]:
    """Return where in its box a class is the nearest one at less than `drop` from its own largest distance."""
    is_nearest = near.values == limit.nearest[near.box]
    return is_nearest & np.isfinite(near.values) & (near.values > farthest - drop)
