"""What an engine is asked to solve: checked once, the same for every device, and in one shape.

The one place that knows of 2D images and of seeds without a class axis: `Problem.shaped` and `Problem.per_class` give
answers the form of the question.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels._shared.box import Box
from softlabels.errors import InputError
from softlabels.geodesic._limits import check_arithmetic, largest_step
from softlabels.geodesic.metric import ADDITIVE, GAMMA, LAMB, StepCost, step_cost
from softlabels.grid import checked_spacing

if TYPE_CHECKING:
    from collections.abc import Sequence

_T = TypeVar("_T")


@dataclass(frozen=True)
class Problem:
    """Checked input of an engine; nothing here is ever written to.

    Attributes
    ----------
    image : (M, D, H, W) float32 array
        Unscaled intensities; outside of the domain they may be anything.
    seeds : (C, D, H, W) bool array
        Seeds outside of the domain count for nothing: engines must mask them.
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    domain : (D, H, W) bool array or None
        False is a wall. None: no walls.
    cost : StepCost
    cap : float32
        Distances above it are given as inf; inf for no cap.
    asked_shape : tuple of ints
        The shape of the seeds as they were given.
    has_classes : bool
        Whether they were given with a class axis.
    largest_step : float
        No step costs more.
    bound : (D, H, W) float32 array or None
        Besides the cap: in each voxel, distances that are not below it are given as inf. It must rise by no more than a
        step costs, ``bound_p <= fl(bound_q + w_pq)``: a path that is not below it is then never below it again.
    """

    image: NDArray[np.float32]
    seeds: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    domain: NDArray[np.bool_] | None
    cost: StepCost
    cap: np.float32
    asked_shape: tuple[int, ...]
    has_classes: bool
    largest_step: float
    bound: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        depth, height, width = self.image.shape[1:]
        return depth, height, width

    @property
    def far(self) -> np.float32 | NDArray[np.float32]:
        """What a map holds where no path has arrived: what every distance is below that is not given as inf."""
        if self.bound is not None:
            return self.bound
        return np.float32(np.inf) if self.cap == np.inf else np.nextafter(self.cap, np.float32(np.inf))

    def part(self, box: Box, **changes: Any) -> Problem:
        """Return the problem of a box of the volume, contiguous and without a bound, with what else is to change."""
        fields: dict[str, Any] = {
            "image": np.ascontiguousarray(self.image[:, *box]),
            "domain": None if self.domain is None else np.ascontiguousarray(self.domain[box]),
        }
        return dataclasses.replace(self, **{"bound": None} | fields | changes)

    def shaped(self, maps: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return maps (C, D, H, W) in the shape of the seeds as they were given."""
        return maps.reshape(self.asked_shape)

    def per_class(self, found: list[_T]) -> list[_T] | _T:
        """Return a list with an item a class, or its only item if the seeds had no class axis."""
        return found if self.has_classes else found[0]


class Solution(NamedTuple):
    """What an engine answers: maps (C, D, H, W), the full sweeps made, and the tiles or segments visited."""

    maps: NDArray[np.float32]
    n_rounds: int
    n_visits: int


def checked_problem(
    image: ArrayLike,
    seeds: ArrayLike,
    spacing: Sequence[float],
    *,
    metric: str = "sum",
    lamb: float = LAMB,
    gamma: float = GAMMA,
    domain: ArrayLike | None = None,
    cap: float | None = None,
) -> Problem:
    """Return the checked problem of `geodesic_distance`'s arguments, without copies where the input allows it."""
    image, seeds, spacing = np.asarray(image), np.asarray(seeds), np.ravel(spacing).tolist()
    asked_shape = seeds.shape
    if image.ndim == 2:
        # A plane is a volume of one slice, whose thickness is no matter: no path leaves it.
        image, seeds = image[None], seeds[..., None, :, :]
        spacing = [1.0, *spacing] if len(spacing) == 2 else spacing
        domain = None if domain is None else np.asarray(domain)[None]
    if image.ndim not in (3, 4) or image.size == 0:
        raise InputError(f"image: got shape {image.shape}, expected (D, H, W), (M, D, H, W) or (H, W), none of them 0")
    if image.dtype.kind not in "fiub":
        raise InputError(f"image: got dtype {image.dtype}, expected real numbers")
    image = image if image.ndim == 4 else image[None]
    shape = image.shape[1:]
    if seeds.dtype != bool:
        raise InputError(f"seeds: got dtype {seeds.dtype}, expected bool; write `seeds > 0`")
    if seeds.ndim not in (3, 4) or seeds.shape[-3:] != shape or seeds.size == 0:
        raise InputError(f"seeds: got shape {seeds.shape}, expected {shape} of the image, or (C, *{shape})")
    cost = step_cost(metric, spacing, lamb=lamb, gamma=gamma)
    walls = _checked_domain(domain, shape)
    if cap is not None and not cap >= 0:
        raise InputError(f"cap: got {cap!r}, expected a distance >= 0, or None")
    with np.errstate(over="ignore", invalid="ignore"):
        image = image.astype(np.float32, copy=False)
    spans = _checked_spans(image, walls, cost)
    check_arithmetic(image, cost)
    has_classes = seeds.ndim == 4
    return Problem(
        image=image,
        seeds=seeds if has_classes else seeds[None],
        spacing=checked_spacing(spacing),
        domain=walls,
        cost=cost,
        cap=np.float32(np.inf if cap is None else cap),
        asked_shape=asked_shape,
        has_classes=has_classes,
        largest_step=largest_step(spans, cost),
    )


def _checked_domain(domain: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """Return the domain as a bool array, or None where it walls off nothing."""
    if domain is None:
        return None
    domain = np.asarray(domain)
    if domain.dtype != bool or domain.shape != shape:
        raise InputError(f"domain: got {domain.dtype} of shape {domain.shape}, expected bool of shape {shape}")
    return None if domain.all() else domain


def _checked_spans(image: NDArray[np.float32], domain: NDArray[np.bool_] | None, cost: StepCost) -> list[float]:
    """Return the range of each scaled channel inside the domain; raise if it is not finite or overflows a step."""
    spans = []
    for index, channel in enumerate(image):
        inside = channel if domain is None else channel[domain]
        low, high = (inside.min(), inside.max()) if inside.size else (0.0, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):
            n_bad = int(np.count_nonzero(~np.isfinite(inside)))
            raise InputError(
                f"image: got {n_bad} NaN or Inf voxels in channel {index} inside the domain, expected finite "
                "intensities; repair the image or exclude these voxels by `domain`"
            )
        spans.append(float(cost.scale) * (float(high) - float(low)))
    largest = sum(spans) if cost.form == ADDITIVE else sum(span**2 for span in spans)
    if largest > float(np.finfo(np.float32).max) / 4:
        raise InputError(f"image: got an intensity range of {max(spans):.3g}, whose cost overflows float32; rescale it")
    return spans
