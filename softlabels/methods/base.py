"""What every soft-label method takes, gives back and promises; light, as it is imported wherever a config is parsed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module

import numpy as np

from softlabels.errors import CertificateError, InputError

#: Padding of a level set in mm: outside of the volume is outside of every structure, and far.
FAR_MM = 100.0


@dataclass(frozen=True)
class TargetInputs:
    """All that a method may read of one case; which of it a method needs stands in `Method.needs`.

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
        Where distances were allowed to run.
    seeds : (C, D, H, W) bool array, optional
        Where the distances of each class start.
    distance : (M, C, D, H, W) float32 array, optional
        Geodesic distances, one per modality and class; inf where no seed can be reached. M is 1 for one map of the
        vector image.
    raters : (R, C, D, H, W) bool array, optional
        The masks of each of R raters.
    source_masks : (C, d, h, w) bool array, optional
        The masks on the grid of the label file, before any resampling.
    source_from_target : (4, 4) float array, optional
        Maps homogeneous voxel indices (z, y, x, 1) of the target grid to those of the grid of `source_masks`.
    threads : int
        How many classes to work on at a time; no effect on the result.

    Notes
    -----
    No method writes to any of these arrays.
    """

    masks: np.ndarray
    spacing: tuple[float, float, float]
    class_names: tuple[str, ...]
    background: int | None = None
    image: np.ndarray | None = None
    domain: np.ndarray | None = None
    seeds: np.ndarray | None = None
    distance: np.ndarray | None = None
    raters: np.ndarray | None = None
    source_masks: np.ndarray | None = None
    source_from_target: np.ndarray | None = None
    threads: int = 1

    def absent_flags(self) -> list[str]:
        """Return a flag for each class without a voxel."""
        return [f"class '{n}' absent" for n, mask in zip(self.class_names, self.masks, strict=True) if not mask.any()]


@dataclass(frozen=True)
class TargetMap:
    """A computed map, ready to be quantised and stored.

    Attributes
    ----------
    values : (C, D, H, W) float32 array
        What is stored; what it means is the method's business.
    pad_value : tuple of C floats
        The value of each channel beyond the volume.
    flags : list of str
        What a person should know about this case, such as an absent class.
    notes : dict
        Figures that the computation found, plain JSON values.
    """

    values: np.ndarray
    pad_value: tuple[float, ...]
    flags: list[str] = field(default_factory=list)
    notes: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """One way of making soft labels, as the planner, the stages and the loader see it.

    Attributes
    ----------
    name : str
        As in config.yaml; the implementation is ``softlabels.methods.<name>``.
    kind : {"probability", "signed", "distance"}
        In [0, 1]; in [-1, 1] with the sign saying inside or outside; or a distance in mm.
    variants : tuple of str
        ``("standard",)`` where there is one form only.
    needs : frozenset of str
        What it reads besides masks and spacing: image, domain, seeds, distance, raters, source_labels.
    blend : str
        The rule of `softlabels.blend` that makes the training target of the stored map.
    ranges : mapping of variant to (lowest, highest) or None
        For quantisation; None: floats are stored. A variant that is left out has the range of the kind.
    unnormalised : frozenset of str
        Variants of kind probability whose map does not sum to one over exclusive classes.
    allows_overlap : bool
        Whether classes may share voxels.
    needs_background : bool
        Whether the background must be one of the classes.
    is_stored : bool
        False where the loader derives the target from the labels alone.
    augmentation : mapping of str to bool
        Whether flip, rot90, rescale and elastic, done to image and map alike, leave the map a valid target.
    algorithm : str
        Changes when results change; part of the store's key.
    """

    name: str
    kind: str = "probability"
    variants: tuple[str, ...] = ("standard",)
    needs: frozenset[str] = frozenset()
    blend: str = "none"
    ranges: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    unnormalised: frozenset[str] = frozenset()
    allows_overlap: bool = True
    needs_background: bool = False
    is_stored: bool = True
    augmentation: Mapping[str, bool] = field(
        default_factory=lambda: {"flip": True, "rot90": True, "rescale": True, "elastic": True}
    )
    algorithm: str = "1"

    def blend_rule(self, variant: str) -> str:
        """Return the blend rule of a variant."""
        self._check_variant(variant)
        return self.blend

    def value_range(self, variant: str) -> tuple[float, float] | None:
        """Return the lowest and highest value that a variant's map can take; None if it has no bounds."""
        self._check_variant(variant)
        of_kind = {"probability": (0.0, 1.0), "signed": (-1.0, 1.0), "distance": None}[self.kind]
        return self.ranges.get(variant, of_kind)

    def sums_to_one(self, variant: str) -> bool:
        """Return whether a variant's map is a distribution over classes that exclude each other."""
        self._check_variant(variant)
        return self.kind == "probability" and variant not in self.unnormalised

    def pad_value(self, n_classes: int, background: int | None, variant: str) -> tuple[float, ...]:
        """Return the value of each channel beyond the volume, where all is background.

        Examples
        --------
        >>> Method("gaussian").pad_value(3, 0, "standard")
        (1.0, 0.0, 0.0)
        >>> Method("sing", kind="signed").pad_value(2, None, "standard")
        (-1.0, -1.0)
        """
        if self.kind == "probability":
            return tuple(1.0 if c == background else 0.0 for c in range(n_classes))
        if self.kind == "signed":
            return tuple(1.0 if c == background else -1.0 for c in range(n_classes))
        far = 1.0 if self.value_range(variant) else FAR_MM
        return tuple(-far if c == background else far for c in range(n_classes))

    def compute(self, inputs: TargetInputs, *, variant: str | None = None, **params) -> TargetMap:
        """Return the map of one case.

        Parameters
        ----------
        inputs : TargetInputs
            What the method needs of the case; not modified.
        variant : str, optional
            By default the first of `variants`.
        **params
            The method's own parameters, see its module.

        Returns
        -------
        TargetMap

        Raises
        ------
        InputError
            If the variant is unknown, an input is missing or has the wrong shape, or a parameter is out of range.
        SeedError
            If a present class has no seed and the paper's form cannot do without.
        CertificateError
            If the map holds NaN or leaves its range.
        """
        variant = self.variants[0] if variant is None else variant
        self._check_variant(variant)
        if not self.is_stored:
            raise InputError(f"method {self.name}: nothing is stored; softlabels.blend.blended makes it of the labels")
        self._check_inputs(inputs)
        module = import_module(f"softlabels.methods.{self.name}")
        if self.variants != ("standard",):
            params["variant"] = variant
        values, flags, notes = module.compute(inputs, **params)
        if self.sums_to_one(variant) and inputs.background is not None:
            _share_out(values)
        self._check_values(values, variant)
        pad_value = self.pad_value(len(inputs.masks), inputs.background, variant)
        return TargetMap(values, pad_value, flags, notes)

    def _check_values(self, values: np.ndarray, variant: str) -> None:
        """Raise if a map breaks its promise: nothing unbounded or undefined may reach the store."""
        low, high = float(values.min()), float(values.max())
        lowest, highest = self.value_range(variant) or (-np.finfo(np.float32).max, np.finfo(np.float32).max)
        # A comparison with NaN is false.
        if not (low >= lowest and high <= highest):
            raise CertificateError(
                f"method {self.name} {variant}: computed values from {low:.6g} to {high:.6g}, expected "
                f"{lowest:.6g} to {highest:.6g}; nothing is stored. Please report this case"
            )

    def _check_variant(self, variant: str) -> None:
        """Raise if there is no such variant."""
        if variant not in self.variants:
            raise InputError(f"method {self.name}: got variant {variant!r}, expected one of {', '.join(self.variants)}")

    def _check_inputs(self, inputs: TargetInputs) -> None:
        """Raise if something that the method needs is missing or does not fit the masks."""
        masks = inputs.masks
        if masks.ndim != 4 or masks.dtype != bool or masks.size == 0:
            raise InputError(f"method {self.name}: masks got {masks.dtype} {masks.shape}, expected bool (C, D, H, W)")
        if len(inputs.class_names) != len(masks):
            raise InputError(f"method {self.name}: got {len(inputs.class_names)} class names for {len(masks)} masks")
        if self.needs_background and inputs.background is None:
            raise InputError(f"method {self.name}: no background class; declare one with the value 0 in `labels`")
        for need in sorted(self.needs):
            for name, shape in _EXPECTED[need].items():
                given = getattr(inputs, name)
                if given is None:
                    raise InputError(f"method {self.name}: {name} is missing, and this method needs it")
                wanted = tuple(masks.shape[axis] if isinstance(axis, int) else axis for axis in shape)
                fits = len(wanted) == np.ndim(given) and all(
                    n is None or n == m for n, m in zip(wanted, np.shape(given), strict=True)
                )
                if not fits:
                    raise InputError(f"method {self.name}: {name} got shape {np.shape(given)}, expected {wanted}")


def _share_out(values: np.ndarray) -> None:
    """Divide by the sum, in place, where mass went to voxels of no class: beside the ignore label or a rater's.

    Elsewhere nothing changes, because rounding moves a sum by less than 1e-4.
    """
    total = values.sum(axis=0)
    is_short = (total > 0) & (total < 1 - 1e-4)
    if is_short.any():
        values[:, is_short] /= total[is_short]


#: Each need: its fields and their shapes as axes of the masks (C, D, H, W); None is any length.
_EXPECTED = {
    "image": {"image": (None, 1, 2, 3)},
    "seeds": {"seeds": (0, 1, 2, 3)},
    "distance": {"distance": (None, 0, 1, 2, 3)},
    "raters": {"raters": (None, 0, 1, 2, 3)},
    "source_labels": {"source_masks": (0, None, None, None), "source_from_target": (None, None)},
}
