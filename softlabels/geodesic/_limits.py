"""What float32 cannot hold: sums that overflow, and small numbers in a process that flushes them to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import DeviceError, InputError
from softlabels.geodesic.metric import ADDITIVE, EPSILON, RATIO, ROOT, StepCost

#: More steps than any path has: volumes have fewer voxels.
_MOST_STEPS = 2.0**40
#: Beside a step of this length, what flushing to zero changes (2^-126 and its root) is less than half the last bit.
_ORDINARY = 2.0**-30
#: By form: intensities from here on have differences, or squares of these, of 2^-126 or more, the least normal number.
_ORDINARY_INTENSITY = {ADDITIVE: 2.0**-102, ROOT: 2.0**-39, RATIO: 2.0**-39}
#: The bits of a float32 without its sign, and those of the least normal number.
_MAGNITUDE, _LEAST_NORMAL = np.uint32(0x7FFFFFFF), 0x00800000


def largest_step(spans: Sequence[float], cost: StepCost) -> float:
    """Return a bound of what a step costs: the longest one across the whole range of all channels."""
    length, norm = float(cost.lengths.max()), math.sqrt(sum(span**2 for span in spans))
    if cost.form == ADDITIVE:
        return length + sum(spans)
    if cost.form == ROOT:
        return math.sqrt(length + norm**2)
    shifted = norm + float(EPSILON)
    return length * (shifted / (float(cost.keep) * shifted + float(cost.lamb)))


def check_arithmetic(image: NDArray[np.float32], cost: StepCost) -> None:
    """Raise if this process rounds small numbers to 0 and that could change a bit of the result.

    A library built with -ffast-math, or torch.set_flush_denormal, sets this for a whole thread. Beside a step length of
    ordinary size such numbers are rounded away in any case, so that only steps without a length can tell.
    """
    shortest = float(cost.lengths.ravel()[1:].min())
    if shortest >= _ORDINARY or not _flushes_to_zero():
        return
    # By their bits, since in such a process a comparison takes them for 0. Differences of float32 numbers are multiples
    # of the last bit of the smaller one.
    bits = image.view(np.uint32) & _MAGNITUDE
    least = int(bits.min(where=bits > 0, initial=_MAGNITUDE))
    if (
        least >= _LEAST_NORMAL
        and float(np.uint32(least).view(np.float32)) * float(cost.scale) >= (_ORDINARY_INTENSITY[cost.form])
    ):
        return
    raise DeviceError(
        "this process flushes small floating point numbers to zero, so that steps between the smallest intensities of "
        "this image would be wrong: call torch.set_flush_denormal(False), import the library that was built with "
        "-ffast-math in another process, or rescale the image"
    )


def check_sums(
    distance: NDArray[np.float32], *, domain: NDArray[np.bool_] | None, cap: np.float32, largest_step: float
) -> None:
    """Raise InputError if a path may have cost more than float32 holds: its inf would read as "unreachable".

    Parameters
    ----------
    distance : (C, D, H, W) float32 array
        The maps that an engine found.
    domain, cap
        As the engine was given them.
    largest_step : float
        From the function of that name.
    """
    most = float(np.finfo(np.float32).max)
    if cap != np.inf or largest_step <= most / _MOST_STEPS:
        return
    for index, one in enumerate(distance):
        is_infinite = np.isinf(one) if domain is None else np.isinf(one) & domain
        largest = float(one.max(where=np.isfinite(one), initial=0.0))
        if largest > most / 2 and is_infinite.any():
            raise InputError(
                f"geodesic distance of class {index}: paths cost up to {largest:.3g}, near the end of float32, and got "
                f"{int(is_infinite.sum())} voxels at inf that may be reachable; rescale the image, or set a cap"
            )


def _flushes_to_zero() -> bool:
    """Return whether this thread makes 0 of numbers below the least normal float32, as operand or as result."""
    least = np.array([np.finfo(np.float32).tiny], np.float32)
    denormal = np.array([1], np.uint32).view(np.float32)
    result, operand = least * np.float32(0.5), denormal * np.float32(2**30)
    return bool(result.view(np.uint32)[0] == 0 or operand.view(np.uint32)[0] == 0)
