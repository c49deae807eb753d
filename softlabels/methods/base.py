"""The base of every soft-label method: what a method declares, and what softlabels does around its maths.

A method is one module with one class: its fields are the keys of config.yaml, its class attributes declare what the
planner, the stages, the loader and the reference pages must know, and `soft_map` computes. Modules of methods are
imported wherever a config is read, so they load SciPy and the like on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.rate import Rate
from softlabels._shared.registry import Component
from softlabels.augmentation import ANY_AUGMENTATION, Contract
from softlabels.blend import RULES, Blend
from softlabels.calibration import Calibration
from softlabels.classes import LabelSet
from softlabels.errors import CertificateError, InputError
from softlabels.methods.advice import DISTANCE_LOSSES, DISTRIBUTION_LOSSES, SIGNED_LOSSES, LossAdvice
from softlabels.methods.arrays import NEEDS, Need, TargetInputs, TargetMap
from softlabels.methods.keys import Calibrate, Labels, RunContext, Softness, TuningGrid

#: Padding of a level set in mm: outside of the volume is outside of every structure, and far.
FAR_MM = 100.0

#: The variant of a method that has one form only.
STANDARD = "standard"

#: Classes from which on the pipeline computes class by class where a method can, so that memory does not follow them.
MANY_CLASSES = 8

#: Classes from which on `storage: auto` keeps the largest ones of each voxel.
SPARSE_FROM = 16


class Method(Component):
    """One way of making soft labels, with its parameters.

    Subclasses set the class attributes below, add fields for their parameters, and implement `soft_map`. The variants
    are the choices of the field `variant`; without it there is one, ``standard``. The parameter that the loader applies
    is that of the blend rule; it is in no key, so that changing it computes nothing.

    Attributes
    ----------
    kind : {"probability", "signed", "distance"}
        In [0, 1]; in [-1, 1] with the sign saying inside or outside; or a distance in mm.
    needs : frozenset of str
        What it reads besides masks, spacing and domain: image, seeds, distance, raters, source_labels.
    blend : str
        The rule of `softlabels.blend` that makes the training target of the stored map.
    unnormalised : frozenset of str
        Variants of kind probability whose map does not sum to one over exclusive classes.
    absent, filling : mapping of str to float
        By variant, the map of a class without voxels, and of one that fills the volume, where it differs from what
        the kind has: probability 0 and 1, signed -1 and 1, distance 0 and 0.
    allows_overlap : bool
        Whether classes may share voxels.
    needs_background : bool
        Whether the background must be one of the classes.
    augmentation : mapping of str to bool
        The augmentation contract: which deformations of image and map leave the map a valid target.
    cost : Rate
        Measured per voxel and class.
    grid : mapping of str to tuple
        The values of each parameter that `softlabels tune` tries, in every combination. Those of a parameter in mm (its
        name ends in ``_mm``) are multiples of the smallest voxel side. Without it the method is not tuned.
    assumes : {"partial_volume", "disagreement"}, optional
        Why labels are soft, where the method depends on that: voxels hold several tissues, or annotators disagree.
        `softlabels tune` warns where the reference looks otherwise.
    """

    key: ClassVar[str] = "method"
    kind: ClassVar[Literal["probability", "signed", "distance"]] = "probability"
    needs: ClassVar[frozenset[Need]] = frozenset()
    #: Which of `needs` the class has keys for, set by the classes of `softlabels.methods.seeded`.
    provides: ClassVar[frozenset[Need]] = frozenset()
    blend: ClassVar[str] = "none"
    unnormalised: ClassVar[frozenset[str]] = frozenset()
    absent: ClassVar[Mapping[str, float]] = {}
    filling: ClassVar[Mapping[str, float]] = {}
    allows_overlap: ClassVar[bool] = True
    needs_background: ClassVar[bool] = False
    augmentation: ClassVar[Contract] = ANY_AUGMENTATION
    cost: ClassVar[Rate] = Rate(us=0.05, memory_bytes=5, disk_bytes=0.2, volume_bytes=45)
    grid: ClassVar[TuningGrid] = {}
    assumes: ClassVar[Softness | None] = None

    labels: Labels | None = Field(
        None, description="this target's own classes of the same integers, in the grammar of the top-level labels"
    )
    precision: Literal["uint8", "uint16"] = Field(
        "uint8", description="of a stored map with bounds: error at most 1/510 or 1/131070 of its range"
    )
    storage: Literal["auto", "dense", "sparse"] = Field(
        "auto",
        description="dense: one map per class; sparse: the largest classes of each voxel with their shares, for "
        f"distributions; auto: sparse from {SPARSE_FROM} classes that exclude each other",
    )
    max_dropped: float = Field(
        0.01, ge=1e-4, le=0.1, description="the most mass of a voxel that a sparse map may leave out"
    )
    calibrate: Calibrate | None = Field(
        None, description="slope, offsets and fitted_for of a probability; applied by the loader, computes nothing"
    )

    # ------------------------------------------------------------------------------------- to be implemented

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the map of one case; `compute` checks what goes in and what comes out."""
        raise NotImplementedError

    def faults(self, labels: LabelSet, context: RunContext) -> list[str]:
        """Return what is wrong between parameters, classes and the rest of the configuration, with the remedies."""
        return []

    # ------------------------------------------------------------------------------------- what it promises

    @classmethod
    def variants(cls) -> tuple[str, ...]:
        """Return the names of all variants, the default first."""
        field = cls.model_fields.get("variant")
        return get_args(field.annotation) if field else (STANDARD,)

    @classmethod
    def in_every_variant(cls, **parameters: Any) -> list[Self]:
        """Return the method in each of its variants, the default first."""
        if "variant" not in cls.model_fields:
            return [cls(**parameters)]
        return [cls(**(parameters | {"variant": variant})) for variant in cls.variants()]

    @classmethod
    def in_grid(cls, side_mm: float) -> list[Self]:
        """Return the method with each combination of parameters in its grid, the last parameter fastest.

        Parameters
        ----------
        side_mm : float
            Smallest side of a voxel in mm: the unit of the grid's parameters in mm.

        Examples
        --------
        >>> from softlabels.methods import METHODS
        >>> [one.sigma_mm for one in METHODS["gaussian"].in_grid(2.0)[:3]]
        [0.6, 0.7, 0.8]
        """
        if not cls.grid:
            return []
        axes = [
            [_four_digits(value * side_mm) for value in values] if name.endswith("_mm") else list(values)
            for name, values in cls.grid.items()
        ]
        return [cls(**dict(zip(cls.grid, values, strict=True))) for values in product(*axes)]

    @property
    def variant_name(self) -> str:
        """The variant; ``standard`` for a method that has one form only."""
        return getattr(self, "variant", STANDARD)

    @classmethod
    def load_time(cls) -> str | None:
        """Return the name of the parameter that the loader applies, if there is one."""
        return RULES[cls.blend].parameter

    @classmethod
    def is_stored(cls) -> bool:
        """Return False where the loader derives the target from the labels alone."""
        return RULES[cls.blend].needs_stored

    @property
    def value_range(self) -> tuple[float, float] | None:
        """The lowest and highest value that the map can take; None if it has no bounds."""
        return {"probability": (0.0, 1.0), "signed": (-1.0, 1.0), "distance": None}[self.kind]

    @property
    def sums_to_one(self) -> bool:
        """Whether the map is a distribution over classes that exclude each other."""
        return self.kind == "probability" and self.variant_name not in self.unnormalised

    @property
    def absent_value(self) -> float:
        """The map of a class without voxels, which is one value everywhere."""
        return self.absent.get(self.variant_name, -1.0 if self.kind == "signed" else 0.0)

    @property
    def filling_value(self) -> float:
        """The map of a class that fills the volume, which is one value everywhere."""
        return self.filling.get(self.variant_name, 0.0 if self.kind == "distance" else 1.0)

    @property
    def losses(self) -> tuple[LossAdvice, ...]:
        """What to train with, the usual choice first; it follows from what the map is."""
        if self.kind == "probability":
            return DISTRIBUTION_LOSSES
        return SIGNED_LOSSES if self.value_range else DISTANCE_LOSSES

    def pad_value(self, n_classes: int, background: int | None) -> tuple[float, ...]:
        """Return the value of each channel beyond the volume, where all is background.

        Examples
        --------
        >>> from softlabels.methods import METHODS
        >>> METHODS["gaussian"]().pad_value(3, background=0)
        (1.0, 0.0, 0.0)
        >>> METHODS["sing"]().pad_value(2, background=None)
        (-1.0, -1.0)
        """
        far = (1.0 if self.value_range else FAR_MM) * (1 if self.kind == "distance" else -1)
        outside, inside = (0.0, 1.0) if self.kind == "probability" else (far, -far)
        return tuple(inside if c == background else outside for c in range(n_classes))

    # ------------------------------------------------------------------------------------- for the pipeline

    def node_parameters(self) -> dict[str, Any]:
        """Return what the stored map depends on, as plain JSON values: part of its key."""
        left_out = {"variant", "labels", "seeds", "distance", "calibrate", "storage", "max_dropped", self.load_time()}
        own = {k: v for k, v in self.model_dump(mode="json").items() if k not in left_out}
        return {"method": self.name, "variant": self.variant_name, **own}

    @classmethod
    def from_node_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the method that `node_parameters` described."""
        others = {"method"} if "variant" in cls.model_fields else {"method", "variant"}
        return cls.model_validate({k: v for k, v in parameters.items() if k not in others})

    def storage_parameters(self, labels: LabelSet) -> dict[str, Any]:
        """Return what the node says besides where these classes are stored sparse; nothing where they are dense.

        Examples
        --------
        >>> from softlabels.methods import METHODS
        >>> organs = LabelSet.parse({"background": 0} | {f"organ_{i}": i for i in range(1, 20)})
        >>> METHODS["svls"]().storage_parameters(organs), METHODS["sing"]().storage_parameters(organs)
        ({'storage': 'sparse', 'max_dropped': 0.01}, {})
        """
        is_many = len(labels.classes) >= SPARSE_FROM and self._can_be_sparse(labels)
        if self.storage == "sparse" or (self.storage == "auto" and is_many):
            return {"storage": "sparse", "max_dropped": self.max_dropped}
        return {}

    def _can_be_sparse(self, labels: LabelSet) -> bool:
        """Return whether the stored map is a distribution over classes, of which some may be left out."""
        return self.is_stored() and self.sums_to_one and not labels.is_overlapping

    def blend_of(self, labels: LabelSet) -> Blend:
        """Return what the loader does with the stored map of these classes, the calibration included."""
        parameter = self.load_time()
        value = None if parameter is None else float(getattr(self, parameter))
        if self.calibrate is None:
            return Blend(self.blend, value)
        offsets = tuple(self.calibrate.offsets.get(name, 0.0) for name in labels.names)
        return Blend(self.blend, value, Calibration(self.calibrate.slope, offsets, self.calibrate.fitted_for))

    def check(self, labels: LabelSet, context: RunContext) -> list[str]:
        """Return every fault of the target against its classes and the rest of the configuration."""
        faults = []
        if labels.is_overlapping and not self.allows_overlap:
            faults.append(
                f"{self.name} needs exclusive classes, but {', '.join(labels.names)} overlap. "
                "Give the target its own 'labels' with one class per integer"
            )
        elif self.needs_background and labels.background is None:
            faults.append(f"{self.name} needs a background class. Add 'background: 0' to the labels")
        if self.storage == "sparse" and not self._can_be_sparse(labels):
            why = "overlap" if labels.is_overlapping else "have no stored map that sums to one"
            faults.append(
                f"storage: got sparse, but the classes of {self.name} {self.variant_name} {why}. Remove storage"
            )
        return faults + self._calibrate_faults(labels) + self.faults(labels, context)

    def _calibrate_faults(self, labels: LabelSet) -> list[str]:
        """Return what is wrong with the calibration."""
        if self.calibrate is None:
            return []
        if self.kind != "probability" or self.blend == "onehot":
            return [f"calibrate: {self.name} gives nothing between 0 and 1 that is a probability. Remove calibrate"]
        unknown = sorted(set(self.calibrate.offsets) - set(labels.names))
        expected = ", ".join(labels.names)
        return [f"calibrate.offsets: got {', '.join(unknown)}, expected some of {expected}"] if unknown else []

    def compute(self, inputs: TargetInputs) -> TargetMap:
        """Return the map of one case, checked.

        Parameters
        ----------
        inputs : TargetInputs
            What the method needs of the case; not modified.

        Returns
        -------
        TargetMap
            With `value_range` and, where `sums_to_one`, sums of one wherever there is a class.

        Raises
        ------
        InputError
            If an input is missing or has the wrong shape, or does not go with the parameters. An error that is raised
            while distances are read is not the method's, and passes unchanged.
        SeedError
            If a present class has no seed and the paper's form cannot do without.
        CertificateError
            If the map holds NaN or leaves its range.
        """
        if not self.is_stored():
            raise InputError(f"method {self.name}: nothing is stored; softlabels.blend makes the target of the labels")
        try:
            inputs.check(self.needs)
            if self.needs_background and inputs.background is None:
                raise InputError("no background class; declare one with the value 0 in `labels`")
            found = self.soft_map(inputs)
        except InputError as error:
            if inputs.failed_with(error):
                raise
            raise type(error)(f"method {self.name}: {error}") from error
        if self.sums_to_one and inputs.background is not None:
            share_out(found.values)
        self._check_values(found.values, inputs)
        return found

    def _check_values(self, values: NDArray[np.float32], inputs: TargetInputs) -> None:
        """Raise if a map breaks its promise: nothing unbounded or undefined may reach the store."""
        where = f"method {self.name} {self.variant_name}"
        if values.dtype != np.float32 or values.shape != inputs.masks.shape:
            raise CertificateError(
                f"{where}: computed {values.dtype} {values.shape}, expected float32 {inputs.masks.shape}; nothing is "
                "stored. Please report this to whoever wrote the method"
            )
        self._check_range(float(values.min()), float(values.max()))

    def _check_range(self, low: float, high: float) -> None:
        """Raise if values leave their range."""
        lowest, highest = self.value_range or (-np.finfo(np.float32).max, np.finfo(np.float32).max)
        # A comparison with NaN is false.
        if not (low >= lowest and high <= highest):
            raise CertificateError(
                f"method {self.name} {self.variant_name}: computed values from {low:.6g} to {high:.6g}, expected "
                f"{lowest:.6g} to {highest:.6g}; nothing is stored. Please report this case"
            )

    @classmethod
    def check_declaration(cls) -> None:
        """Raise TypeError if the class promises something that does not fit together."""
        super().check_declaration()
        faults = []
        if unknown := sorted(cls.needs - set(NEEDS)):
            faults.append(f"needs: got {unknown}, expected some of {', '.join(NEEDS)}")
        if cls.blend not in RULES:
            faults.append(f"blend: got {cls.blend!r}, expected one of {', '.join(RULES)}")
        elif cls.load_time() and cls.load_time() not in cls.model_fields:
            faults.append(f"blend: rule {cls.blend!r} needs a field {cls.load_time()!r}")
        if lacking := (cls.needs & {"seeds", "distance"}) - cls.provides:
            faults.append(f"needs: {sorted(lacking)} comes with a base class of softlabels.methods.seeded")
        variants = {v for by in (cls.unnormalised, cls.absent, cls.filling) for v in by} - set(cls.variants())
        if variants:
            faults.append(f"variants: {sorted(variants)} are not among {', '.join(cls.variants())}")
        if undeclared := sorted(set(cls.grid) - set(cls.model_fields)):
            faults.append(f"grid: got {undeclared}, expected names of its fields")
        elif empty := [name for name, values in cls.grid.items() if not values]:
            faults.append(f"grid: got no value of {empty}, expected at least one")
        if set(cls.augmentation) != set(ANY_AUGMENTATION):
            faults.append(f"augmentation: got {sorted(cls.augmentation)}, expected {sorted(ANY_AUGMENTATION)}")
        if faults:
            raise TypeError(f"{cls.__name__} (method {cls.name!r}): {'; '.join(faults)}")


def _four_digits(value: float) -> float:
    """Return a number as short as a person would write it in config.yaml."""
    return float(f"{value:.4g}")


def share_out(values: NDArray[np.float32]) -> None:
    """Divide by the sum, in place, where mass went to voxels of no class: beside the ignore label or a rater's."""
    total = values.sum(axis=0)
    short = is_short(total)
    if short.any():
        values[:, short] /= total[short]


def is_short(total: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a sum over classes is less than one because mass is lost: rounding moves it by less than 1e-4."""
    return (total > 0) & (total < 1 - 1e-4)
