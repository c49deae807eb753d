"""Relaxation of a piece of a row: the CPU engine's inner loops, for every metric.

The metric is known when a kernel is compiled (it is the type of `cost`), so that the inner loops do not branch on it.
The cost of a step is computed once and used for all classes; the loops over channels and classes run inside the loop
over vectors, so that costs stay in registers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba.extending import overload

from softlabels.geodesic import metric
from softlabels.geodesic._compile import inlined
from softlabels.geodesic._cpu_layout import OneChannelLayout
from softlabels.geodesic._simd import LANES, any_lane, lane_or, load, minimum, no_lane, store


class KernelCost(NamedTuple):
    """The figures of a step cost; the class, one of those below, says what is computed with them.

    Attributes
    ----------
    along_z : 4 float32
        The lengths of steps to the plane before: straight, diagonal, and the same for its rows on either side.
    along_y : 2 float32
        Those to the row before, straight and diagonal.
    along_x : float32
        That along the row.
    keep, lamb : float32
        As in `StepCost`.
    """

    along_z: tuple[np.float32, np.float32, np.float32, np.float32]
    along_y: tuple[np.float32, np.float32]
    along_x: np.float32
    keep: np.float32
    lamb: np.float32


class AdditiveCost(KernelCost):
    """The additive form."""


class RootCost(KernelCost):
    """The root form."""


class RatioCost(KernelCost):
    """The ratio form of one channel."""


class RatioNormCost(KernelCost):
    """The ratio form of several channels, whose gap is a norm."""


class ProductCost(KernelCost):
    """The ratio form of one channel at lamb = 1."""


class ProductNormCost(KernelCost):
    """The ratio form of several channels at lamb = 1."""


_absolute, _square = inlined(metric.absolute), inlined(metric.square)
_additive, _root, _ratio = inlined(metric.additive), inlined(metric.root), inlined(metric.ratio)
_EPSILON = metric.EPSILON


def kernel_cost(cost: metric.StepCost, n_channels: int) -> KernelCost:
    """Return a step cost as the kernels take it.

    At lamb = 1 the divisor of the ratio form is exactly 1, so the Product types leave the division out.
    """
    kind: type[KernelCost]
    if cost.form == metric.RATIO:
        is_product, is_norm = bool(cost.lamb == 1), n_channels > 1
        kind = ((RatioCost, RatioNormCost), (ProductCost, ProductNormCost))[is_product][is_norm]
    else:
        kind = AdditiveCost if cost.form == metric.ADDITIVE else RootCost
    length = cost.lengths
    return kind(
        (length[1, 0, 0], length[1, 0, 1], length[1, 1, 0], length[1, 1, 1]),
        (length[0, 1, 0], length[0, 1, 1]),
        length[0, 0, 1],
        cost.keep,
        cost.lamb,
    )


def _part(cost, difference):
    """Return what one channel adds to the gap."""
    raise NotImplementedError("only compiled code calls this")


def _step(cost, length, gap):
    """Return the step cost."""
    raise NotImplementedError("only compiled code calls this")


@overload(_part, jit_options={"forceinline": True, "error_model": "numpy"})
def _compile_part(cost, difference):
    if cost.instance_class in (AdditiveCost, RatioCost, ProductCost):
        return lambda cost, difference: _absolute(difference)
    return lambda cost, difference: _square(difference)


@overload(_step, jit_options={"forceinline": True, "error_model": "numpy"})
def _compile_step(cost, length, gap):
    return {
        AdditiveCost: lambda cost, length, gap: _additive(length, gap),
        RootCost: lambda cost, length, gap: _root(length, gap),
        RatioCost: lambda cost, length, gap: _ratio(length, gap, cost.keep, cost.lamb),
        RatioNormCost: lambda cost, length, gap: _ratio(length, np.sqrt(gap), cost.keep, cost.lamb),
        ProductCost: lambda cost, length, gap: length * (gap + _EPSILON),
        ProductNormCost: lambda cost, length, gap: length * (np.sqrt(gap) + _EPSILON),
    }[cost.instance_class]


def _further_channels(layout):
    """Return the range of the channels after the first."""
    raise NotImplementedError("only compiled code calls this")


@overload(_further_channels, jit_options={"forceinline": True})
def _compile_further_channels(layout):
    if layout.instance_class is OneChannelLayout:
        return lambda layout: range(1, 1)
    return lambda layout: range(1, layout.n_channels)


@inlined
def _gaps(cost, image, here, there, layout):
    """Return the gaps between a vector and its three neighbours in the row at `there`."""
    centre = load(image, here)
    before = _part(cost, centre - load(image, there - 1))
    straight = _part(cost, centre - load(image, there))
    after = _part(cost, centre - load(image, there + 1))
    for channel in _further_channels(layout):
        shift = channel * layout.volume
        centre = load(image, here + shift)
        before = before + _part(cost, centre - load(image, there + shift - 1))
        straight = straight + _part(cost, centre - load(image, there + shift))
        after = after + _part(cost, centre - load(image, there + shift + 1))
    return before, straight, after


@inlined
def _steps(cost, straight, diagonal, gaps):
    """Return the costs of the steps to three neighbours in a row."""
    return _step(cost, diagonal, gaps[0]), _step(cost, straight, gaps[1]), _step(cost, diagonal, gaps[2])


@inlined
def _least(distance, there, steps, value):
    """Return the least of `value` and the candidates from three neighbours in a row."""
    value = minimum(load(distance, there - 1) + steps[0], value)
    value = minimum(load(distance, there) + steps[1], value)
    return minimum(load(distance, there + 1) + steps[2], value)


@inlined
def relax_from_plane(distance, image, start, length, back, layout, cost):
    """Relax `length` voxels at flat index `start` from the three rows around `start + back` in another plane.

    Returns whether any came down; so do the other two.
    """
    straight, diagonal, side_straight, side_diagonal = cost.along_z
    changed = no_lane()
    for here in range(start, start + length, LANES):
        there = here + back
        low = _steps(cost, side_straight, side_diagonal, _gaps(cost, image, here, there - layout.pitch, layout))
        middle = _steps(cost, straight, diagonal, _gaps(cost, image, here, there, layout))
        high = _steps(cost, side_straight, side_diagonal, _gaps(cost, image, here, there + layout.pitch, layout))
        for label in range(len(layout.classes)):
            shift = label * layout.volume
            old = load(distance, here + shift)
            new = _least(distance, there + shift - layout.pitch, low, old)
            new = _least(distance, there + shift, middle, new)
            new = _least(distance, there + shift + layout.pitch, high, new)
            changed = lane_or(changed, new < old)
            store(distance, here + shift, new)
    return any_lane(changed)


@inlined
def relax_from_row(distance, image, start, length, back, layout, cost):
    """Relax `length` voxels at flat index `start` from the row at `start + back` of the same plane."""
    straight, diagonal = cost.along_y
    changed = no_lane()
    for here in range(start, start + length, LANES):
        steps = _steps(cost, straight, diagonal, _gaps(cost, image, here, here + back, layout))
        for label in range(len(layout.classes)):
            shift = label * layout.volume
            old = load(distance, here + shift)
            new = _least(distance, here + shift + back, steps, old)
            changed = lane_or(changed, new < old)
            store(distance, here + shift, new)
    return any_lane(changed)


@inlined
def relax_along_row(distance, image, start, length, steps, layout, cost):
    """Relax `length` voxels at flat index `start` along their own row, to and fro; `steps` is scratch.

    A vectorised check comes first, since most rows are settled.
    """
    for k in range(0, length + LANES, LANES):
        here = start + k
        gap = _part(cost, load(image, here) - load(image, here - 1))
        for channel in _further_channels(layout):
            shift = channel * layout.volume
            gap = gap + _part(cost, load(image, here + shift) - load(image, here + shift - 1))
        store(steps, k, _step(cost, cost.along_x, gap))
    is_any = False
    for label in range(len(layout.classes)):
        base = start + label * layout.volume
        changed = no_lane()
        for k in range(0, length, LANES):
            old = load(distance, base + k)
            new = minimum(load(distance, base + k - 1) + load(steps, k), old)
            new = minimum(load(distance, base + k + 1) + load(steps, k + 1), new)
            changed = lane_or(changed, new < old)
        if any_lane(changed):
            is_any = True
            _scan(distance, base, length, steps)
    return is_any


@inlined
def _scan(distance, base, length, steps):
    """Carry the distance along a row from both ends at once.

    What one direction brings never improves on going back the other way, so neither has to wait for the other.
    """
    first, last = base, base + length - 1
    forwards, backwards = distance[first - 1], distance[last + 1]
    for k in range(length):
        forwards = forwards + steps[k]
        here = distance[first + k]
        forwards = forwards if forwards < here else here
        distance[first + k] = forwards
        backwards = backwards + steps[length - k]
        here = distance[last - k]
        backwards = backwards if backwards < here else here
        distance[last - k] = backwards
