"""Sweeps over a slab of rows, which skip what cannot change.

A unit is a slab lo <= y < hi through all planes. Its planes are passed upwards, then downwards; in each plane the rows
are passed forwards, where a row is relaxed from the plane before, from the row before and along itself, then backwards.

Bookkeeping. `stamps` holds for each segment of a row the time of its last change, `rows` the latest of each row, `seen`
the time at which each direction last passed a plane. A segment is relaxed only if one that it would be relaxed from
changed since. Units run on different threads and may read a neighbour's row while it changes: values only ever
decrease, so a stale one is a valid upper bound, and what changed outside of the unit since the region in which the unit
last ran began (`outside`) counts as unseen.
"""

from __future__ import annotations

from softlabels.geodesic._compile import called, compiled, inlined
from softlabels.geodesic._cpu_kernels import relax_along_row, relax_from_plane, relax_from_row
from softlabels.geodesic._cpu_layout import FIRST
from softlabels.geodesic._simd import LANES, any_lane, broadcast, lane_or, load, no_lane

#: Ticks of the clock that a unit uses per plane: two passes, forwards and backwards.
TICKS_PER_PLANE = 4

#: Rows of `seen`.
UP, DOWN, FORWARDS, BACKWARDS, ALONG = range(5)
N_DIRECTIONS = 5


@inlined
def _latest(row, s):
    """Return the latest change in or beside segment s of a row."""
    return max(row[s], row[s + 1], row[s + 2])


@inlined
def _segment(layout, z, y, s):
    """Return where segment s of row (z, y) starts in the buffer, and its length."""
    x = s * layout.segment
    return layout.origin + z * layout.plane + y * layout.pitch + x, min(layout.segment, layout.width - x)


@compiled
def mark_known(distance, stamps, rows, layout, far, lo, hi):
    """Stamp the segments of planes lo..hi-1 that hold a distance below `far`, at first those of the seeds."""
    for label in range(len(layout.classes)):
        for z in range(lo, hi):
            for y in range(layout.n_y):
                for s in range(layout.n_segments):
                    start, length = _segment(layout, z, y, s)
                    is_known = no_lane()
                    for here in range(start, start + length, LANES):
                        is_known = lane_or(is_known, load(distance, label * layout.volume + here) < broadcast(far))
                    if any_lane(is_known):
                        stamps[z + 1, y + 1, s + 1] = rows[z + 1, y + 1] = FIRST


@inlined
def _from_plane(distance, image, stamps, rows, layout, cost, z, y, back, left_since, since, right_since, now):
    """Relax row (z, y) from the plane before (back = -1) or after it (1); return segments visited and changed."""
    p = z + 1 + back
    n_visits, n_changed = 0, 0
    if rows[p, y] <= left_since and rows[p, y + 1] <= since and rows[p, y + 2] <= right_since:
        return n_visits, n_changed
    low, middle, high = stamps[p, y], stamps[p, y + 1], stamps[p, y + 2]
    for s in range(layout.n_segments):
        if _latest(low, s) > left_since or _latest(middle, s) > since or _latest(high, s) > right_since:
            start, length = _segment(layout, z, y, s)
            n_visits += 1
            if relax_from_plane(distance, image, start, length, back * layout.plane, layout, cost):
                stamps[z + 1, y + 1, s + 1] = rows[z + 1, y + 1] = now
                n_changed += 1
    return n_visits, n_changed


@called
def _from_row(distance, image, stamps, rows, layout, cost, z, y, back, since, now):
    """Relax row (z, y) from the row before (back = -1) or after it (1); return segments visited and changed."""
    n_visits, n_changed = 0, 0
    if rows[z + 1, y + 1 + back] <= since:
        return n_visits, n_changed
    source = stamps[z + 1, y + 1 + back]
    for s in range(layout.n_segments):
        if _latest(source, s) > since:
            start, length = _segment(layout, z, y, s)
            n_visits += 1
            if relax_from_row(distance, image, start, length, back * layout.pitch, layout, cost):
                stamps[z + 1, y + 1, s + 1] = rows[z + 1, y + 1] = now
                n_changed += 1
    return n_visits, n_changed


@called
def _along(distance, image, stamps, rows, steps, layout, cost, z, y, since, now):
    """Relax row (z, y) along itself; return segments visited and changed."""
    n_visits, n_changed = 0, 0
    if rows[z + 1, y + 1] <= since:
        return n_visits, n_changed
    row = stamps[z + 1, y + 1]
    for i in range(2 * layout.n_segments):
        is_back = i >= layout.n_segments
        s = 2 * layout.n_segments - 1 - i if is_back else i
        if row[s + 2] == now if is_back else _latest(row, s) > since:
            start, length = _segment(layout, z, y, s)
            n_visits += 1
            if relax_along_row(distance, image, start, length, steps, layout, cost):
                row[s + 1] = rows[z + 1, y + 1] = now
                n_changed += 1
    return n_visits, n_changed


@compiled
def sweep_unit(distance, image, stamps, rows, seen, steps, layout, cost, lo, hi, now, outside):
    """Pass a unit upwards and downwards once; return the segments visited and changed."""
    n_visits, n_changed = 0, 0
    for direction in (UP, DOWN):
        back = -1 if direction == UP else 1
        for i in range(layout.n_z):
            z = i if direction == UP else layout.n_z - 1 - i
            now += 1
            for y in range(lo, hi):
                since = seen[direction, z]
                visits, changed = _from_plane(
                    distance, image, stamps, rows, layout, cost, z, y, back,
                    outside if y == lo else since, since, outside if y + 1 == hi else since, now,
                )  # fmt: skip
                n_visits, n_changed = n_visits + visits, n_changed + changed
                since = outside if y == lo else seen[FORWARDS, z]
                visits, changed = _from_row(distance, image, stamps, rows, layout, cost, z, y, -1, since, now)
                n_visits, n_changed = n_visits + visits, n_changed + changed
                since = seen[ALONG, z]
                visits, changed = _along(distance, image, stamps, rows, steps, layout, cost, z, y, since, now)
                n_visits, n_changed = n_visits + visits, n_changed + changed
            seen[direction, z] = seen[FORWARDS, z] = seen[ALONG, z] = now
            now += 1
            for y in range(hi - 1, lo - 1, -1):
                since = outside if y + 1 == hi else seen[BACKWARDS, z]
                visits, changed = _from_row(distance, image, stamps, rows, layout, cost, z, y, 1, since, now)
                n_visits, n_changed = n_visits + visits, n_changed + changed
                visits, changed = _along(distance, image, stamps, rows, steps, layout, cost, z, y, seen[ALONG, z], now)
                n_visits, n_changed = n_visits + visits, n_changed + changed
            seen[BACKWARDS, z] = seen[ALONG, z] = now
    return n_visits, n_changed
