"""The step costs by name, each one fixed sequence of float32 operations that every engine follows.

The functions `absolute`, `square`, `additive`, `root` and `ratio` are that definition: plain arithmetic, no control
flow that depends on data, valid for scalars and arrays. NumPy runs them unchanged, CPU engines compile them
unchanged, and the CUDA kernels repeat them operation by operation (no fused multiply-add, no flush to zero). Rounded
addition is monotone, so equal step costs are all it takes for equal maps on every device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import checked_spacing

#: The 26 neighbours (dz, dy, dx) in lexicographic order; entry 25 - k is the opposite of entry k.
OFFSETS = np.array(
    [(z, y, x) for z in (-1, 0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1) if (z, y, x) != (0, 0, 0)], dtype=np.int64
)
OFFSETS.flags.writeable = False

#: What `harmonic` adds to the intensity difference, so that flat tissue still has a length.
EPSILON = np.float32(1e-5)

ADDITIVE, ROOT, RATIO = 0, 1, 2

MetricName = Literal["sum", "pythagorean", "harmonic", "l1"]
Engine = Literal["softlabels", "fastgeodis", "geodistk"]

#: The weight of the intensity where none is given, of the metrics with `lamb` and of that with `gamma`.
LAMB, GAMMA = 0.5, 1.0


#: What the arithmetic is valid for besides numba's values: one number, or an array.
_Numbers = TypeVar("_Numbers", np.float32, NDArray[np.float32])


@dataclass(frozen=True)
class Metric:
    """What there is to know of a metric besides its arithmetic.

    Parameters
    ----------
    name : str
        As in config.yaml.
    step : str
        The cost of a step: h is its length in mm, dI the difference of intensity.
    source : str
        Who uses it.
    form : int
        ADDITIVE, ROOT or RATIO: which of the functions below computes it.
    weight : {"lamb", "gamma"}
        The name of its one parameter.
    engine : str, optional
        The third-party engine that has it too.
    """

    name: MetricName
    step: str
    source: str
    form: int
    weight: Literal["lamb", "gamma"]
    engine: Engine | None = None

    @property
    def default_weight(self) -> float:
        """The value of its parameter where none is given."""
        return GAMMA if self.weight == "gamma" else LAMB


#: Every metric by name. Packages cannot add any: a metric is part of the compiled kernels of each device and of their
#: proof, which repeat its arithmetic operation by operation.
METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("sum", "(1-lamb) h + lamb sum_c abs(dI_c)", "FastGeodis", ADDITIVE, "lamb", "fastgeodis"),
        Metric("pythagorean", "sqrt(h^2 + gamma^2 sum_c dI_c^2)", "GeoLS, Eq. 4", ROOT, "gamma"),
        Metric("harmonic", "h / ((1-lamb) + lamb / (norm(dI) + 1e-5))", "GeodisTK", RATIO, "lamb", "geodistk"),
        Metric("l1", "as sum, with h the L1 length of the step", "SiNGR, Eq. 2", ADDITIVE, "lamb"),
    )
}
#: The one metric of each third-party engine.
METRIC_OF_ENGINE: dict[str, str] = {metric.engine: metric.name for metric in METRICS.values() if metric.engine}


def absolute(difference: _Numbers) -> _Numbers:
    """Return what one channel adds to the gap of the additive form."""
    return abs(difference)


def square(difference: _Numbers) -> _Numbers:
    """Return what one channel adds to the gap of the root and the ratio form."""
    return difference * difference


def additive(length: np.float32, gap: _Numbers) -> _Numbers:
    """Step cost of `sum` and `l1`: length = (1 - lamb) h, ``gap = |J0| + |J1| + ...`` from the left, J = lamb dI."""
    return length + gap


def root(length: np.float32, gap: _Numbers) -> _Numbers:
    """Step cost of `pythagorean`: length = h^2, gap = J0 J0 + J1 J1 + ... from the left, J = gamma dI."""
    return np.sqrt(length + gap)


def ratio(length: np.float32, gap: _Numbers, keep: np.float32, lamb: np.float32) -> _Numbers:
    """Step cost of `harmonic`: length = h, ``gap = |dI|`` or sqrt(dI0 dI0 + dI1 dI1 + ...), keep = 1 - lamb.

    h / (keep + lamb / e) with e = gap + 1e-5, written with a single division: h (e / (keep e + lamb)).
    """
    shifted = gap + EPSILON
    return length * (shifted / (keep * shifted + lamb))


@dataclass(frozen=True)
class StepCost:
    """The cost of a step from a voxel to one of its 26 neighbours, ready for an engine.

    Make it with `step_cost`. All figures are float32.

    Attributes
    ----------
    metric : str
        Name of the metric.
    form : int
        ADDITIVE, ROOT or RATIO.
    scale : float32
        Engines work on J = scale * image, one float32 product per voxel.
    lengths : (2, 2, 2) float32 array
        `lengths[|dz|, |dy|, |dx|]`, computed in float64 and rounded once: (1-lamb) h for the additive form,
        h^2 for the root, h for the ratio. `lengths[0, 0, 0]` is 0.
    keep, lamb : float32
        1 - lamb and lamb; only the ratio form reads them.
    """

    metric: str
    form: int
    scale: np.float32
    lengths: NDArray[np.float32]
    keep: np.float32
    lamb: np.float32

    def gap(self, differences: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the gap of the differences of J, shape (M, ...) -> (...), summed from channel 0 upwards."""
        part = absolute if self.form == ADDITIVE or (self.form == RATIO and len(differences) == 1) else square
        total = part(differences[0])
        for difference in differences[1:]:
            total = total + part(difference)
        return np.sqrt(total) if self.form == RATIO and len(differences) > 1 else total

    def step(self, differences: NDArray[np.float32], offset: Sequence[int]) -> NDArray[np.float32]:
        """Return the cost of the step `offset` (dz, dy, dx) for differences of J of shape (M, ...), float32.

        Examples
        --------
        >>> cost = step_cost("sum", (1, 1, 1), lamb=0.5)
        >>> cost.step(np.float32([[0.5 * 3]]), (0, 0, 1)).item()  # 0.5 * 1 mm + 0.5 * 3
        2.0
        """
        length = self.lengths[tuple(np.abs(offset))]
        gap = self.gap(differences)
        if self.form == ADDITIVE:
            return additive(length, gap)
        return root(length, gap) if self.form == ROOT else ratio(length, gap, self.keep, self.lamb)


def step_cost(metric: str, spacing: Sequence[float], *, lamb: float = LAMB, gamma: float = GAMMA) -> StepCost:
    """Return the step cost of a metric on a grid.

    Parameters
    ----------
    metric : {"sum", "pythagorean", "harmonic", "l1"}
        With h the step length in mm and dI the difference of intensity:
        sum: (1-lamb) h + lamb ``sum_c |dI_c|`` (FastGeodis);
        pythagorean: sqrt(h^2 + gamma^2 sum_c dI_c^2) (GeoLS, Eq. 4);
        harmonic: h / ((1-lamb) + lamb / (dI + 1e-5)), dI the L2 norm over channels (GeodisTK's raster scan);
        l1: as sum, with h the L1 length of the step (SiNGR, Eq. 2).
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    lamb : float
        In 0..1; not used by pythagorean.
    gamma : float
        >= 0; only used by pythagorean.

    Raises
    ------
    InputError
        If the metric is unknown or a parameter is out of its range.

    Examples
    --------
    >>> float(step_cost("pythagorean", (3.0, 1.0, 1.0)).lengths[1, 0, 1])  # h^2 = 3^2 + 1^2
    10.0
    """
    if metric not in METRICS:
        raise InputError(f"metric: got {metric!r}, expected one of {', '.join(METRICS)}")
    if not (np.isfinite(lamb) and 0 <= lamb <= 1):
        raise InputError(f"lamb: got {lamb!r}, expected a number in 0..1")
    if not (np.isfinite(gamma) and gamma >= 0):
        raise InputError(f"gamma: got {gamma!r}, expected a finite number >= 0")
    sides = np.array([(z, y, x) for z in (0, 1) for y in (0, 1) for x in (0, 1)]) * np.array(checked_spacing(spacing))
    squares = (sides**2).sum(axis=1)
    lengths, scale = {
        "sum": ((1 - lamb) * np.sqrt(squares), lamb),
        "l1": ((1 - lamb) * sides.sum(axis=1), lamb),
        "pythagorean": (squares, gamma),
        "harmonic": (np.sqrt(squares), 1.0),
    }[metric]
    lengths = lengths.astype(np.float32).reshape(2, 2, 2)
    if not np.isfinite(lengths).all():
        raise InputError(f"spacing: got {spacing!r}, expected voxels whose step lengths fit in float32")
    lengths.flags.writeable = False
    return StepCost(metric, METRICS[metric].form, np.float32(scale), lengths, np.float32(1 - lamb), np.float32(lamb))
