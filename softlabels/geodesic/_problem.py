"""What an engine is asked to solve: checked once, the same for every device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softlabels.errors import InputError
from softlabels.geodesic.metric import ADDITIVE, StepCost, step_cost


@dataclass(frozen=True)
class Problem:
    """Checked input of an engine; nothing here is ever written to.

    Attributes
    ----------
    image : (M, D, H, W) float32 array
        Unscaled intensities; outside of the domain they may be anything.
    seeds : (C, D, H, W) bool array
        Seeds outside of the domain count for nothing: engines must mask them.
    domain : (D, H, W) bool array or None
        False is a wall. None: no walls.
    cost : StepCost
    cap : float32
        Distances above it are given as inf; inf for no cap.
    """

    image: np.ndarray
    seeds: np.ndarray
    domain: np.ndarray | None
    cost: StepCost
    cap: np.float32

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W)."""
        return self.image.shape[1:]


def checked_problem(image, seeds, spacing, *, metric, lamb, gamma, domain, cap) -> Problem:
    """Return the checked problem of `geodesic_distance`'s arguments, without copies where the input allows it."""
    image, seeds, spacing = np.asarray(image), np.asarray(seeds), np.ravel(spacing)
    if image.ndim == 2:
        image, spacing = image[None], np.array([1.0, *spacing]) if len(spacing) == 2 else spacing
        seeds = seeds[..., None, :, :]
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
    domain = _checked_domain(domain, shape)
    if cap is not None and not cap >= 0:
        raise InputError(f"cap: got {cap!r}, expected a distance >= 0, or None")
    with np.errstate(over="ignore", invalid="ignore"):
        image = image.astype(np.float32, copy=False)
    _check_intensities(image, domain, cost)
    seeds = seeds if seeds.ndim == 4 else seeds[None]
    return Problem(image, seeds, domain, cost, np.float32(np.inf if cap is None else cap))


def _checked_domain(domain, shape) -> np.ndarray | None:
    """Return the domain as a bool array, or None where it walls off nothing."""
    if domain is None:
        return None
    domain = np.asarray(domain)
    if domain.dtype != bool or domain.shape != shape:
        raise InputError(f"domain: got {domain.dtype} of shape {domain.shape}, expected bool of shape {shape}")
    return None if domain.all() else domain


def _check_intensities(image, domain, cost: StepCost) -> None:
    """Raise if an intensity inside the domain is not finite, or their range overflows the step cost."""
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
