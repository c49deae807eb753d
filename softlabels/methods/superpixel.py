"""Superpixel-guided label softening (Li et al., MICCAI 2020).

Where a superpixel is on both sides of a class's boundary, the annotation may be wrong. In it the label becomes
``q = 0.5 (d / (1 + |d|) + 1)`` (Eq. 1), with d the signed distance to the nearest boundary voxel of the class, positive
inside; elsewhere the label stays.

In [0, 1]. It sums to one only by chance: each class has its own d, and a boundary voxel has d = 0 and q = 0.5 for its
own class but d = -1 and q = 0.25 for its neighbour's. `renormalise` divides by the sum, which the paper does not. On
the boundary itself 0.5 is no decision, so that a threshold there does not give back the mask. An absent class is 0
everywhere. Padding is 1 for the background and 0 elsewhere. Flips, quarter turns and rescaling keep it valid, elastic
deformation does not (d). No load-time parameters.

The paper leaves open: compactness, what several channels do, the unit of d, and which voxels are the boundary. Here d
is in voxels or mm; boundary voxels are those of the class that share a face with the rest; intensities of each channel
are scaled to [0, 1] between their 0.5 and 99.5 percentiles, and SLIC sees all channels.

SLIC is SimpleITK's: on a BraTS case it is 3 to 5 times as fast as scikit-image's. It runs on one thread, because the
order in which its threads add up is not fixed, and only in the box of the boundaries, widened by two superpixels:
others change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, Field

from softlabels._shared.boundary import inner_boundary
from softlabels._shared.box import Box
from softlabels._shared.boxed import NO_BOX, BoxedVolumes, boxed, hull, intersection, moved, placed, widened, within
from softlabels._shared.rate import Rate
from softlabels.augmentation import NOT_ELASTIC
from softlabels.classes import LabelSet
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.advice import SUPERPIXEL_LOSSES, LossAdvice
from softlabels.methods.arrays import BoxedInputs, BoxedMap, Need
from softlabels.methods.boxed import BoxedMethod
from softlabels.methods.keys import RunContext

#: Percentiles that become 0 and 1, so that one bright voxel does not flatten the rest.
_LOW, _HIGH = 0.5, 99.5
#: Rounds of SLIC; its authors found 10 to suffice.
_N_ITERATIONS = 10


class Superpixel(BoxedMethod):
    """Superpixel-guided label softening (Li et al., MICCAI 2020)."""

    name: ClassVar[str] = "superpixel"
    title: ClassVar[str] = "superpixel"
    source: ClassVar[str] = "Li et al., MICCAI 2020"
    version: ClassVar[str] = "2"
    needs: ClassVar[frozenset[Need]] = frozenset({"image"})
    augmentation: ClassVar[Mapping[str, bool]] = NOT_ELASTIC
    cost: ClassVar[Rate] = Rate(us=0.05, memory_bytes=5, disk_bytes=0.2, volume_us=1.4, volume_bytes=75)
    boxed_cost: ClassVar[Rate] = Rate(us=0.013, memory_bytes=0.3, disk_bytes=0.04, volume_us=1.4, volume_bytes=90)

    variant: Literal["paper"] = Field("paper", description="the authors published no code")
    n_superpixels: int = Field(1500, ge=2, le=10_000_000, description="how many superpixels SLIC aims at")
    compactness: float = Field(
        0.1, gt=0, le=1e6, description="SLIC's weight of space against intensity (not in the paper)"
    )
    unit: Literal["voxel", "mm"] = Field("voxel", description="unit of the signed distance (not in the paper)")
    renormalise: bool = Field(
        False,
        validation_alias=AliasChoices("renormalise", "renormalize"),
        description="divide by the sum over classes, which the paper does not; also `renormalize`",
    )

    @property
    def losses(self) -> tuple[LossAdvice, ...]:
        """The paper's, which does without a sum of one."""
        return super().losses if self.renormalise else SUPERPIXEL_LOSSES

    @property
    def sums_to_one(self) -> bool:
        """Only if renormalised."""
        return self.renormalise

    def faults(self, labels: LabelSet, context: RunContext) -> list[str]:
        """Return what is wrong with `renormalise`."""
        if self.renormalise and labels.background is None:
            return ["renormalise: needs exclusive classes with a background. Remove it, or change the labels"]
        return []

    def boxed_map(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the softened labels of a case, each class in the box of its mask and of the superpixels it divides."""
        if self.renormalise and inputs.background is None:
            raise InputError("renormalise needs classes that exclude each other, one of them the background")
        masks, shape, spacing = inputs.masks, inputs.masks.shape[1:], checked_spacing(inputs.spacing)
        flags, edges = inputs.absent_flags(), _edges(masks)
        step = _grid_step(inputs.domain, shape, spacing, self.n_superpixels)
        box = widened(hull([edge_box for edge_box, _ in edges]), tuple(2 * side for side in step), shape)
        if box == NO_BOX:
            hard = BoxedVolumes(shape, [(b, m.astype(np.float32)) for b, m in masks], fill=0, dtype=np.float32)
            nothing = {"n_superpixels": 0, "n_softened": 0}
            return BoxedMap(hard, [*flags, "no class has a boundary: nothing to soften"], nothing)
        superpixels = slic(_scaled(inputs.required("image"), inputs.domain, box), step, self.compactness)
        sampling = spacing if self.unit == "mm" else (1.0, 1.0, 1.0)
        regions = _Superpixels(superpixels, box)
        parts, n_softened = [], 0
        for index in range(len(masks)):
            space, soft, n_own = regions.soften(masks, edges, index, sampling)
            parts.append((space, soft))
            n_softened += n_own
        values = BoxedVolumes(shape, parts, fill=0, dtype=np.float32)
        if self.renormalise:
            _renormalise(values)
        notes = {"n_superpixels": regions.n_present, "grid_step_voxels": list(step), "n_softened": n_softened}
        return BoxedMap(values, flags, notes)


def _edges(masks: BoxedVolumes) -> BoxedVolumes:
    """Return the boundary voxels of each mask, in boxes that are as small as they can be."""
    parts = []
    for index, (box, _) in enumerate(masks):
        wide = widened(box, (1, 1, 1), masks.shape[1:])
        edge = inner_boundary(masks.region(index, wide))
        parts.append(moved(boxed(edge, fill=False), wide))
    return BoxedVolumes(masks.shape[1:], parts, fill=False, dtype=bool)


def _renormalise(values: BoxedVolumes) -> None:
    """Divide by the sum over classes, in place; a voxel of no class may have no share of any."""
    total = np.zeros(values.shape[1:], np.float32)
    for box, soft in values:
        total[box] += soft
    for box, soft in values:
        np.divide(soft, total[box], out=soft, where=total[box] > 0)


class _Superpixels:
    """The superpixels of a box of the volume: which of them a class divides, and what is soft there."""

    def __init__(self, numbers: NDArray[np.int64], box: Box) -> None:
        from scipy import ndimage

        self.numbers, self.box = numbers, box
        self.sizes = np.bincount(numbers.ravel())
        # The boxes of the numbers from 1: those of the superpixels, whose numbers begin at 0.
        self.boxes = cast("list[Box]", ndimage.find_objects(numbers + 1))

    @property
    def n_present(self) -> int:
        """How many superpixels there are."""
        return int(np.count_nonzero(self.sizes))

    def soften(
        self, masks: BoxedVolumes, edges: BoxedVolumes, index: int, sampling: Sequence[float]
    ) -> tuple[Box, NDArray[np.float32], int]:
        """Return the box of a class, its map there, and how many voxels differ from the mask."""
        own = masks[index][0]
        if edges[index][0] == NO_BOX:
            return own, masks[index][1].astype(np.float32), 0
        common = intersection(own, self.box)
        here = self.numbers[within(common, self.box)]
        n_inside = np.bincount(here[masks.region(index, common)], minlength=len(self.sizes))
        is_divided = (n_inside > 0) & (n_inside < self.sizes)
        divided = hull([self.boxes[number] for number in np.flatnonzero(is_divided)])
        near = placed(divided, self.box)
        space = hull([own, near])
        soft = masks.region(index, space).astype(np.float32)
        part = hull([near, edges[index][0]])
        inside = self.numbers[within(part, self.box)]
        found = _softened(masks.region(index, part), edges.region(index, part), is_divided[inside], sampling)
        target = soft[within(part, space)]
        n_softened = int(np.count_nonzero(found != target))
        target[...] = found
        return space, soft, n_softened


def soften(
    mask: NDArray[np.bool_], edge: NDArray[np.bool_], superpixels: NDArray[np.integer], sampling: Sequence[float]
) -> NDArray[np.float32]:
    """Return q of one class (Eq. 1) in superpixels that its boundary divides, the mask elsewhere.

    Parameters
    ----------
    mask : (D, H, W) bool array
    edge : (D, H, W) bool array
        Boundary voxels of the mask.
    superpixels : (D, H, W) integer array
        Number of each voxel's superpixel, >= 0.
    sampling : 3 floats
        Length of a voxel (z, y, x) in the unit of the distance.

    Returns
    -------
    (D, H, W) float32 array

    Examples
    --------
    >>> mask = np.array([[[1, 1, 1, 0, 0, 0]]], bool)
    >>> soften(mask, inner_boundary(mask), np.array([[[0, 1, 1, 1, 2, 2]]]), (1, 1, 1)).ravel().tolist()
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    if not edge.any():
        return mask.astype(np.float32)
    n_inside = np.bincount(superpixels.ravel(), weights=mask.ravel())
    n_all = np.bincount(superpixels.ravel())
    return _softened(mask, edge, ((n_inside > 0) & (n_inside < n_all))[superpixels], sampling)


def _softened(
    mask: NDArray[np.bool_], edge: NDArray[np.bool_], is_divided: NDArray[np.bool_], sampling: Sequence[float]
) -> NDArray[np.float32]:
    """Return q of one class where superpixels are divided, the mask elsewhere."""
    from scipy import ndimage

    soft = mask.astype(np.float32)
    depth = ndimage.distance_transform_edt(~edge, sampling=sampling)[is_divided]
    signed = np.where(mask[is_divided], depth, -depth)
    soft[is_divided] = 0.5 * (signed / (1 + depth) + 1)
    return soft


def slic(image: NDArray[np.float32], step: tuple[int, int, int], compactness: float) -> NDArray[np.int64]:
    """Return SLIC superpixels.

    Parameters
    ----------
    image : (M, D, H, W) float32 array
    step : 3 ints
        Distance of the initial centres in voxels, (z, y, x).
    compactness : float
        > 0; the larger, the rounder.

    Returns
    -------
    (D, H, W) integer array
        Numbers from 0; connected regions.
    """
    import SimpleITK as sitk

    is_flat = image.shape[1] == 1
    channels = np.moveaxis(image[:, 0] if is_flat else image, 0, -1)
    clusters = sitk.SLICImageFilter()
    clusters.SetNumberOfThreads(1)
    clusters.SetMaximumNumberOfIterations(_N_ITERATIONS)
    clusters.SetSpatialProximityWeight(float(compactness))
    clusters.SetSuperGridSize([int(side) for side in (step[1:] if is_flat else step)[::-1]])
    found = sitk.GetArrayFromImage(clusters.Execute(sitk.GetImageFromArray(channels, isVector=True)))
    return (found[None] if is_flat else found).astype(np.int64)


def _grid_step(
    domain: NDArray[np.bool_] | None, shape: Sequence[int], spacing: Sequence[float], n_superpixels: int
) -> tuple[int, int, int]:
    """Return the distance of the centres in voxels, cubes in mm, so that `n_superpixels` fill the domain."""
    n_voxels = np.prod(shape) if domain is None else np.count_nonzero(domain)
    is_deep = [n > 1 for n in shape]
    per_axis = np.array([side for side, deep in zip(spacing, is_deep, strict=True) if deep] or [1.0])
    side_mm = (n_voxels * np.prod(per_axis) / n_superpixels) ** (1 / len(per_axis))
    z, y, x = (int(np.clip(round(side_mm / side), 1, n)) for side, n in zip(spacing, shape, strict=True))
    return z, y, x


def _scaled(
    image: NDArray[np.float32], domain: NDArray[np.bool_] | None, box: tuple[slice, slice, slice]
) -> NDArray[np.float32]:
    """Return the box of each channel with its percentiles at 0 and 1."""
    part = image[(slice(None), *box)].astype(np.float32)
    if not np.isfinite(part).all():
        raise InputError(f"got {np.sum(~np.isfinite(part))} NaN or Inf intensities; repair the image")
    for channel, whole in zip(part, image, strict=True):
        low, high = np.percentile(whole if domain is None else whole[domain], (_LOW, _HIGH))
        channel -= np.float32(low)
        channel /= np.float32(high - low or 1.0)
        np.clip(channel, 0, 1, out=channel)
    return part
