"""From the volumes of a case to what every method works on: crop, resample, clip, normalise; pure.

The order is fixed: crop -> domain -> resample -> clip -> normalise. Statistics are those of the image as it is stored,
after resampling, taken inside the domain if there is one, in float64; each stored value is rounded to float32 once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import bounding_box
from softlabels.errors import InputError
from softlabels.grid import Grid, checked_spacing
from softlabels.preprocess.normalise import normalise_channel
from softlabels.preprocess.resample import resample, resampled_grid


@dataclass(frozen=True)
class Prepared:
    """What the prepare stage publishes.

    Parameters
    ----------
    image : (M, D, H, W) float32 array
    labels : (D, H, W) array
        Type as given.
    domain : (D, H, W) bool array or None
        Where statistics were taken and distances may run; None: everywhere.
    raters : (R, D, H, W) array or None
    grid : Grid
    flags : tuple of str
        `constant_in_domain:<channel index>` (normalised to 0), `lost_label:<value>` (no voxel after resampling),
        `crop_skipped` (nothing to crop to), `domain_is_everything` (the image is 0 everywhere).
    notes : tuple of str
        What was done, for people.
    """

    image: NDArray[Any]
    labels: NDArray[Any]
    domain: NDArray[Any] | None
    raters: NDArray[Any] | None
    grid: Grid
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def prepare(
    image: NDArray[Any],
    labels: NDArray[Any],
    grid: Grid,
    *,
    spacing: tuple[float, float, float] | Literal["native"] | None = None,
    interpolation: Literal["linear", "bspline"] = "linear",
    antialias: bool = False,
    clip_percentiles: tuple[float, float] | None = None,
    normalise: Literal["none", "zscore", "minmax"] = "none",
    domain: Literal["none", "nonzero"] = "none",
    crop: Literal["none", "nonzero", "labels"] = "none",
    crop_margin_mm: float = 0.0,
    raters: NDArray[Any] | None = None,
    threads: int = 1,
    use_up: bool = False,
) -> Prepared:
    """Crop, resample and normalise one case.

    Parameters
    ----------
    image : (M, D, H, W) array, finite
    labels : (D, H, W) integer array
    grid : Grid
        Of both.
    spacing : 3 floats, or "native" or None
        Voxel size to resample to, in mm, ordered (z, y, x) as the array's axes; see `resampled_grid`. Image by
        `interpolation`, labels, raters and domain by the nearest voxel.
    interpolation : {"linear", "bspline"}
    antialias : bool
        Smooth the image before it is resampled to a coarser grid; see `resample`.
    clip_percentiles : (low, high), optional
        Each channel is clipped to these percentiles (linear between order statistics).
    normalise : {"none", "zscore", "minmax"}
        Each channel: ``(x - mean) / deviation`` (population deviation), or ``(x - min) / (max - min)``; 0 if it is
        constant, and 0 outside the domain.
    domain : {"none", "nonzero"}
        `nonzero`: voxels where any channel is not 0, holes filled, and all labelled voxels, so that no seed can be
        outside.
    crop : {"none", "nonzero", "labels"}
        To the bounding box of labelled voxels (label not 0, any rater), for `nonzero` of those and of voxels where
        any channel is not 0.
    crop_margin_mm : float
        Added to the box on each side, rounded up to whole voxels, within the volume.
    raters : (R, D, H, W) integer array, optional
        Further label maps, treated like `labels`.
    threads : int
        Channels normalised at once; no effect on the result.
    use_up : bool
        Whether `image` may be overwritten and become the result's.

    Returns
    -------
    Prepared
        The arguments are not changed, but for `use_up`; its labels may be a view of `labels`.

    Raises
    ------
    InputError
        Shapes or parameters make no sense, or resampling leaves nothing of the domain to take statistics of.

    Examples
    --------
    >>> image, labels = np.array([[[[0.0, 1.0, 3.0, 0.0]]]]), np.array([[[0, 0, 1, 0]]])
    >>> done = prepare(image, labels, Grid((1, 1, 4), (1, 1, 1)), normalise="minmax", crop="nonzero")
    >>> done.image, done.labels, done.grid.position((0, 0, 0))
    (array([[[[0., 1.]]]], dtype=float32), array([[[0, 1]]]), (1.0, 0.0, 0.0))
    """
    _check_arguments(image, labels, raters, grid, clip_percentiles, crop_margin_mm)
    flags: list[str] = []
    notes: list[str] = []
    everyone = labels[None] if raters is None else np.concatenate([labels[None], raters])
    if crop != "none":
        box = _crop_box(image, everyone, grid, crop, crop_margin_mm, flags)
        image, everyone = image[:, *box], everyone[:, *box]
        grid = grid.cropped([s.start for s in box], everyone.shape[1:])
    inside = _nonzero_domain(image, everyone, flags, notes) if domain == "nonzero" else None
    channels = list(image)
    if spacing not in (None, "native"):
        target = resampled_grid(grid, checked_spacing(spacing))
        notes += _resampling_notes(grid, target, antialias)
        channels = [resample(channel, grid, target, interpolation, antialias=antialias) for channel in channels]
        flags += _lost_labels(labels := everyone[0], resampled := resample(labels, grid, target, "nearest"))
        others = [resample(rater, grid, target, "nearest") for rater in everyone[1:]]
        everyone = np.stack([resampled, *others])
        inside = None if inside is None else resample(inside, grid, target, "nearest")
        grid = target
    if inside is not None and not inside.any() and (clip_percentiles is not None or normalise != "none"):
        raise InputError(
            f"prepare: got a domain without a voxel after resampling to {grid.spacing} mm, expected voxels to take "
            "statistics of. Choose a finer prepare.spacing, or prepare.domain none"
        )
    is_reusable = use_up and image.dtype == np.float32 and image.flags.c_contiguous and spacing in (None, "native")
    stored = image if is_reusable else np.empty((len(channels), *grid.shape), np.float32)
    options: dict[str, Any] = {"inside": inside, "clip_percentiles": clip_percentiles, "normalise": normalise}

    def store_one(index: int) -> bool:
        """Normalise one channel; return whether it is constant."""
        # Where both are one image, one view: the channel is overwritten block by block.
        channel = stored[index] if is_reusable else channels[index]
        return normalise_channel(channel, channel if is_reusable else stored[index], **options)

    with ThreadPoolExecutor(threads) as pool:
        constant = list(pool.map(store_one, range(len(channels))))
    flags += [f"constant_in_domain:{index}" for index in np.flatnonzero(constant)]
    return Prepared(
        image=stored,
        labels=np.ascontiguousarray(everyone[0]),
        domain=inside,
        raters=None if raters is None else np.ascontiguousarray(everyone[1:]),
        grid=grid,
        flags=tuple(flags),
        notes=tuple(notes),
    )


def _check_arguments(
    image: NDArray[Any],
    labels: NDArray[Any],
    raters: NDArray[Any] | None,
    grid: Grid,
    clip_percentiles: Sequence[float] | None,
    margin: float,
) -> None:
    """Raise InputError unless shapes and ranges are as `prepare` says."""
    if image.ndim != 4 or image.shape[1:] != grid.shape or labels.shape != grid.shape:
        raise InputError(
            f"prepare: got image {image.shape}, labels {labels.shape}, expected (M, *{grid.shape}), {grid.shape}"
        )
    if raters is not None and (raters.ndim != 4 or raters.shape[1:] != grid.shape or raters.dtype != labels.dtype):
        raise InputError(
            f"prepare: got raters {raters.shape} {raters.dtype}, expected (R, *{grid.shape}) of labels' {labels.dtype}"
        )
    if clip_percentiles is not None and not 0 <= clip_percentiles[0] < clip_percentiles[1] <= 100:
        raise InputError(f"prepare: got clip_percentiles {clip_percentiles}, expected 0 <= low < high <= 100")
    if not (np.isfinite(margin) and margin >= 0):
        raise InputError(f"prepare: got crop_margin_mm {margin}, expected a finite value >= 0")


def _crop_box(
    image: NDArray[Any], everyone: NDArray[Any], grid: Grid, crop: str, margin_mm: float, flags: list[str]
) -> tuple[slice, ...]:
    """Return the slices (z, y, x) to keep."""
    keep = (everyone != 0).any(axis=0)
    if crop == "nonzero":
        keep |= (image != 0).any(axis=0)
    box = bounding_box(keep, [math.ceil(round(margin_mm / side, 6)) for side in grid.spacing])
    if box is None:
        flags.append("crop_skipped")
        return tuple(slice(0, n) for n in grid.shape)
    return box


def _nonzero_domain(
    image: NDArray[Any], everyone: NDArray[Any], flags: list[str], notes: list[str]
) -> NDArray[np.bool_]:
    """Return where any channel is not 0, holes filled, and every labelled voxel."""
    from scipy.ndimage import binary_fill_holes

    if not image.any():
        flags.append("domain_is_everything")
        return np.ones(image.shape[1:], bool)
    occupied = (image != 0).any(axis=0)
    # A single slice is open above and below: its holes are those of the plane.
    inside = binary_fill_holes(occupied.squeeze()).reshape(occupied.shape)
    labelled = (everyone != 0).any(axis=0)
    n_added = int((labelled & ~inside).sum())
    if n_added:
        notes.append(f"domain: {n_added} labelled voxels where the image is 0 were added to it")
    return inside | labelled


def _resampling_notes(source: Grid, target: Grid, antialias: bool) -> list[str]:
    """Return the notes on a change of grid."""
    notes = [f"resampled from {source.shape} at {source.spacing} mm to {target.shape} at {target.spacing} mm"]
    coarser = max(new / old for new, old in zip(target.spacing, source.spacing, strict=True))
    if coarser >= 1.5 and not antialias:
        notes.append(f"up to {coarser:.2g} times coarser without antialias: fine structure may alias")
    return notes


def _lost_labels(before: NDArray[Any], after: NDArray[Any]) -> list[str]:
    """Return a flag for each label that resampling left without a voxel."""
    lost = np.setdiff1d(np.unique(before), np.unique(after))
    return [f"lost_label:{value}" for value in lost]
