"""What a method reads of a case and what it returns: arrays only, no files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boxed import BoxedVolumes
from softlabels._shared.on_demand import ChannelsOnDemand
from softlabels.errors import InputError

#: What a method may read besides masks and spacing.
Need = Literal["image", "seeds", "distance", "raters", "source_labels"]
NEEDS: tuple[Need, ...] = get_args(Need)

#: Each need: its fields and their shapes as axes of the masks (C, D, H, W); None is any length.
_EXPECTED: dict[Need, dict[str, tuple[int | None, ...]]] = {
    "image": {"image": (None, 1, 2, 3)},
    "seeds": {"seeds": (0, 1, 2, 3)},
    "distance": {"distance": (None, 0, 1, 2, 3)},
    "raters": {"raters": (None, 0, 1, 2, 3)},
    "source_labels": {"source_masks": (0, None, None, None), "source_from_target": (None, None)},
}


@dataclass(frozen=True)
class TargetInputs:
    """Everything that a method may read of one case; `Method.needs` selects which of it a method gets.

    Parameters
    ----------
    masks : (C, D, H, W) bool array
        The hard label, one mask per class.
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    class_names : tuple of C str
        For flags and messages.
    background : int, optional
        Index of the background class; None if it has no channel (overlapping regions).
    image : (M, D, H, W) float32 array, optional
        Intensities.
    domain : (D, H, W) bool array, optional
        Where intensities count and distances may run; None: everywhere.
    seeds : (C, D, H, W) bool array, optional
        Where the distances of each class start.
    distance : (M, C, D, H, W) float32 array, optional
        Geodesic distances, one per channel of the image and class; inf where no seed can be reached. M is 1 for one
        map of the vector image. For methods that read by channel, `ChannelsOnDemand`, which yields M arrays.
    farthest : (M, C) float32 array, optional
        The largest distance of each map, or a lower bound of it, where `distance` ends at a gap above the least.
    raters : (R, C, D, H, W) bool array, optional
        The masks of each of R raters.
    source_masks : (C, d, h, w) bool array, optional
        The masks on the grid of the label file, before any resampling.
    source_from_target : (4, 4) float array, optional
        Maps homogeneous voxel indices (z, y, x, 1) of the target grid to those of the grid of `source_masks`.
    threads : int
        How many threads to use; no effect on the result.

    Notes
    -----
    No method writes to any of these arrays.
    """

    masks: NDArray[np.bool_]
    spacing: tuple[float, float, float]
    class_names: tuple[str, ...]
    background: int | None = None
    image: NDArray[np.float32] | None = None
    domain: NDArray[np.bool_] | None = None
    seeds: NDArray[np.bool_] | None = None
    distance: NDArray[np.float32] | ChannelsOnDemand | None = None
    farthest: NDArray[np.float32] | None = None
    raters: NDArray[np.bool_] | None = None
    source_masks: NDArray[np.bool_] | None = None
    source_from_target: NDArray[np.float64] | None = None
    threads: int = 1

    def required(self, name: str) -> NDArray[Any]:
        """Return an array that the method needs; `Method.compute` has refused inputs without it."""
        given: NDArray[Any] | None = getattr(self, name)
        if given is None:
            raise InputError(f"{name}: missing, and this method needs it")
        return given

    def failed_with(self, error: Exception) -> bool:
        """Return whether an error was raised while distances were read, so that it is not the method's."""
        return isinstance(self.distance, ChannelsOnDemand) and self.distance.failure is error

    def absent_flags(self) -> list[str]:
        """Return a flag for each class without a voxel."""
        return [f"class '{n}' absent" for n, mask in zip(self.class_names, self.masks, strict=True) if not mask.any()]

    def check(self, needs: frozenset[Need]) -> None:
        """Raise InputError if something that is needed is missing or does not fit the masks."""
        masks = self.masks
        if masks.ndim != 4 or masks.dtype != bool or masks.size == 0:
            raise InputError(f"masks: got {masks.dtype} {masks.shape}, expected bool (C, D, H, W)")
        if len(self.class_names) != len(masks):
            raise InputError(f"class names: got {len(self.class_names)} class names for {len(masks)} masks")
        for need in sorted(needs):
            for name, axes in _EXPECTED[need].items():
                given = self.required(name)
                expected = tuple(None if axis is None else masks.shape[axis] for axis in axes)
                fits = len(expected) == np.ndim(given) and all(
                    n is None or n == m for n, m in zip(expected, np.shape(given), strict=True)
                )
                if not fits:
                    raise InputError(f"{name}: got shape {np.shape(given)}, expected {expected}")


@dataclass(frozen=True)
class TargetMap:
    """A computed map, ready to be encoded and stored.

    Parameters
    ----------
    values : (C, D, H, W) float32 array
        What is stored; its meaning is the method's `kind`.
    flags : list of str
        What a person should know about this case, such as an absent class.
    notes : dict
        Figures that the computation found, plain JSON values.
    """

    values: NDArray[np.float32]
    flags: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BoxedInputs:
    """What a method reads of a case with many classes, each in its box; no array has an axis of classes.

    Parameters
    ----------
    masks : BoxedVolumes of bool
        The hard label, C masks.
    spacing, class_names, background, image, domain, source_from_target, threads
        As in `TargetInputs`.
    source_masks : BoxedVolumes of bool, optional
        The masks on the grid of the label file, before any resampling.
    distance : tuple of M BoxedVolumes of float32
        The distances of the C classes in each channel, inf where they are a gap above the least or out of reach.
    farthest : (M, C) float32 array, optional
        The largest distance of each map, or a lower bound of it.
    """

    masks: BoxedVolumes
    spacing: tuple[float, float, float]
    class_names: tuple[str, ...]
    background: int | None = None
    image: NDArray[np.float32] | None = None
    domain: NDArray[np.bool_] | None = None
    distance: tuple[BoxedVolumes, ...] = ()
    farthest: NDArray[np.float32] | None = None
    source_masks: BoxedVolumes | None = None
    source_from_target: NDArray[np.float64] | None = None
    threads: int = 1

    @classmethod
    def of_arrays(cls, inputs: TargetInputs) -> BoxedInputs:
        """Return the inputs of dense arrays, but for distances."""
        source = inputs.source_masks
        return cls(
            masks=BoxedVolumes.of_array(inputs.masks, fill=False),
            spacing=inputs.spacing,
            class_names=inputs.class_names,
            background=inputs.background,
            image=inputs.image,
            domain=inputs.domain,
            source_masks=None if source is None else BoxedVolumes.of_array(source, fill=False),
            source_from_target=inputs.source_from_target,
            threads=inputs.threads,
        )

    def required(self, name: str) -> Any:
        """Return what the method needs, or raise InputError."""
        given = getattr(self, name)
        if given is None:
            raise InputError(f"{name}: missing, and this method needs it")
        return given

    def absent_flags(self) -> list[str]:
        """Return a flag for each class without a voxel."""
        return [f"class '{n}' absent" for n, (_, m) in zip(self.class_names, self.masks, strict=True) if not m.any()]


@dataclass(frozen=True)
class BoxedMap:
    """A computed map of many classes, each in its box; the rest as in `TargetMap`."""

    values: BoxedVolumes
    flags: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
