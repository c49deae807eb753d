"""Stream image patches with hard and soft labels from a store into PyTorch training; needs numpy, zarr and torch only.

What a sample is depends on (seed, epoch, index) alone, so it is the same for any number of workers, for fork and spawn,
and for any order. The entries of a case are opened at its first sample, by the process that reads them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from softlabels.cohort.case import CaseTarget, IndexedCohort, PreparedCase
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.errors import FormatError, InputError
from softlabels.sparse import SparseLabel
from softlabels.store.encoding import Encoding
from softlabels.store.format import block_shape
from softlabels.training.arguments import EXACT, checked_form, checked_patch, chosen, foreground_values
from softlabels.training.folds import chosen_cases
from softlabels.training.patches import (
    ForegroundTable,
    grid_origins,
    random_origin,
    sample_rng,
)
from softlabels.training.volumes import PatchReader, read_volumes

try:
    import torch
    from torch.utils.data import Dataset

    from softlabels.training.augmentation import Sample, bound_transform, check_exact, checked_keys
    from softlabels.training.device_blend import DeviceBlend, map_encoding
    from softlabels.training.sampler import RepeatWatch
except ImportError as error:
    raise ImportError("softlabels.training.dataset needs PyTorch: pip install 'softlabels[loader]'") from error

MODES = ("random", "grid", "whole")
#: What every sample has besides the soft labels.
SAMPLE = ("image", "labels", "valid", "case_id", "origin", "spacing", "affine")
#: Cases that a process keeps open; an open case takes about 30 kB, opening one again a few milliseconds.
MAX_OPEN = 1000


class SoftLabelDataset(Dataset[Sample]):
    """Patches (or whole volumes) of a cohort with the soft labels of one target.

    A sample is a dict; M channels, C classes, (d, h, w) the patch:

    ============  ==================  ==========================================================================
    image         (M, d, h, w) dtype  intensities as prepared; `image_pad` outside the volume
    labels        (d, h, w) int64     raw label values; 0 outside the volume
    soft_label    (C, d, h, w) dtype  the blended target; the target's pad value outside the volume
    valid         (d, h, w) bool      inside the volume and not the ignore label: where a loss may look
    case_id       str
    origin        (3,) int64          first voxel (z, y, x) in the volume; negative where the volume is smaller
    spacing       (3,) float64        voxel size in mm, (z, y, x)
    affine        (4, 4) float64      homogeneous voxel indices of the patch, (z, y, x, 1), to RAS+ mm; z is 0 in 2D
    ============  ==================  ==========================================================================

    Each of `further_targets` adds `soft_label_<name>`, like `soft_label`.

    Parameters
    ----------
    index : path
        The index.json that the workflow wrote.
    target : str
        Name of a target in the index.
    mode : {"random", "grid", "whole"}
        random: `patches_per_case` patches of each case and epoch. grid: patches that cover every voxel of every case;
        the last one of an axis is shifted back to end flush with the volume (`softlabels.training.patches`).
        whole: one sample per case, of its own size.
    patch_size : tuple of 3 ints, or of 2
        (z, y, x) in voxels. Two sizes (y, x) give 2D samples without the z axis, slices of a 3D volume or the image of
        a (1, H, W) one. A volume smaller than the patch is in its middle. Not for mode "whole".
    store : path, optional
        Where the store is now; by default where it was when the index was written, relative to the index.
    further_targets : sequence of str, optional
        Targets whose soft labels are in the sample as well; image and labels are read once for all.
    split : str, optional
        Only the cases of this split; by default all.
    cases : sequence of str, optional
        Only the cases with these ids, in the order of the index; not together with `split`. Folds are in
        `softlabels.training.folds`.
    patches_per_case : int
        For mode "random", >= 1.
    foreground_fraction : float
        For mode "random": probability in [0, 1] that a patch is centred on a foreground voxel, drawn uniformly from a
        class drawn from those present (then moved inside the volume). A case without foreground gives plain
        random patches.
    foreground_classes : sequence of str, or mapping of str to float, optional
        By default every class but the one whose only value is 0. A mapping gives the weight >= 0 with which each class
        is drawn among those present.
    overlap : int or tuple of ints
        For mode "grid": voxels that neighbouring patches share at least.
    seed : int
        Of all random choices, >= 0.
    alpha, delta, epsilon : float, optional
        Replaces the parameter of the target's blend; not that of further targets.
    image_pad : float
        Intensity outside the volume. 0 is the mean after zscore and the minimum after minmax.
    transform : callable, optional
        `transform(sample, rng)` returns the sample to use; rng is the sample's own numpy Generator. If it has an
        attribute `augmentations` (names such as "flip"), every target must allow each. It sees the names above.
    keys : mapping of str to str, optional
        Other names for parts of the sample, such as ``{"labels": "label"}`` for MONAI's engines.
    dtype : torch.dtype
        Of image and soft_label.
    blend_on_device : bool
        Leave the blend to `device_blend`, on the GPU: instead of soft_label, samples have `stored_map` (C, d, h, w), of
        the integers in the store, and `inside` (d, h, w) bool, and `labels` are uint8 or int32. Not for a calibrated
        target, and transforms may only mirror and rotate by right angles.

    sparse : bool
        Give `soft_label` by its few classes a voxel, a `softlabels.losses.SparseLabel` with `classes` (K, d, h, w),
        `shares` (K, d, h, w) dtype and `floor` (0 or 1,); K is the same in all samples. For targets that are stored
        sparse or derived from the labels; transforms may only mirror and rotate by right angles.

    Attributes
    ----------
    classes : tuple of C LabelClass
        The channels of `soft_label`: names, and the label values of each.
    channels : tuple of M str
        The channels of `image`.
    kind : {"probability", "signed", "distance"}
        What the values of `soft_label` are.
    is_overlapping : bool
        Whether a voxel may belong to several classes.
    blend : softlabels.blend.Blend
        How hard labels and stored map are put together.
    pad_value : tuple of C floats
        `soft_label` outside the volume.
    augmentation : mapping of str to bool
        Which augmentations leave the target valid.
    ignore_label : int or None
        The label value where `valid` is False.

    Raises
    ------
    FormatError
        If the index is damaged; at reading, if an entry is missing, damaged or not the one of the index.
    InputError
        If an argument is wrong, no case is left, or the transform would make the target invalid.

    Notes
    -----
    Give the DataLoader `sampler=EpochSampler(dataset)` (`softlabels.training.sampler`), and every epoch has patches of
    its own. Without it, call `set_epoch` before each epoch; it reaches the workers of `persistent_workers=True` too.
    A random patch that is requested twice in one epoch causes one `RepeatedPatchWarning`.
    """

    def __init__(
        self,
        index: str | Path,
        *,
        target: str,
        further_targets: Sequence[str] = (),
        store: str | Path | None = None,
        mode: str = "random",
        patch_size: Sequence[int] | None = None,
        split: str | None = None,
        cases: Sequence[str] | None = None,
        patches_per_case: int = 1,
        foreground_fraction: float = 1 / 3,
        foreground_classes: Sequence[str] | Mapping[str, float] | None = None,
        overlap: int | Sequence[int] = 0,
        seed: int = 0,
        alpha: float | None = None,
        delta: float | None = None,
        epsilon: float | None = None,
        image_pad: float = 0.0,
        transform: Callable[[Sample, np.random.Generator], Sample] | None = None,
        keys: Mapping[str, str] | None = None,
        dtype: torch.dtype = torch.float32,
        blend_on_device: bool = False,
        sparse: bool = False,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"mode: got {mode!r}, expected one of {', '.join(MODES)}")
        if not 0.0 <= foreground_fraction <= 1.0:
            raise InputError(f"foreground_fraction: got {foreground_fraction}, expected a number in [0, 1]")
        if patches_per_case < 1:
            raise InputError(f"patches_per_case: got {patches_per_case}, expected an integer >= 1")
        sample_rng(seed, 0, 0)  # refuses a wrong seed here, not in a worker
        self._cohort = IndexedCohort.open(index, store)
        described = self._cohort.index.target(target).with_blend(alpha=alpha, delta=delta, epsilon=epsilon)
        self._described = {target: described} | {name: self._cohort.index.target(name) for name in further_targets}
        if len(self._described) != 1 + len(further_targets):
            raise InputError(
                f"further_targets: got {', '.join(further_targets)}, expected others than {target!r}, once"
            )
        self.mode, self.seed, self.dtype, self.image_pad = mode, seed, dtype, image_pad
        self.target, self.kind, self.classes = target, described.kind, described.classes
        self.is_overlapping, self.blend = described.is_overlapping, described.blend
        self.pad_value, self.augmentation = described.pad_value, described.augmentation
        self.channels, self.ignore_label = self._cohort.index.channels, self._cohort.index.ignore_label
        contracts = {name: one.augmentation for name, one in self._described.items()}
        pads = {f"soft_label{self._suffix(name)}": one.pad_value for name, one in self._described.items()}
        parts = tuple(pads)
        self.form = checked_form(self._described, blend_on_device=blend_on_device, sparse=sparse)
        if self.form != "dense":
            check_exact(transform, EXACT[self.form])
            pads = {}
        if self.form == "stored":
            parts = ("inside", *(f"stored_map{self._suffix(name)}" for name in self._described))
        self.transform = bound_transform(transform, contracts, {"image": image_pad, **pads})
        self._names = checked_keys(keys or {}, (*SAMPLE, *parts))
        self.patches_per_case, self.foreground_fraction = patches_per_case, foreground_fraction
        self.foreground, self._weights = foreground_values(self.classes, foreground_classes)
        self.is_2d, self.patch_size = checked_patch(mode, patch_size)
        self._cases = chosen_cases(self._cohort.index, split, cases, index)
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._asked = RepeatWatch(len(self)) if mode == "random" else None
        self._open: dict[int, list[CaseTarget]] = {}
        self._tables: dict[int, ForegroundTable] = {}
        self._encodings: list[Encoding | None] = []
        if self.form == "stored":
            self._encodings = [map_encoding(target) for target in self._targets(0)]
            for name in self._described:
                self.device_blend(name)  # refuses here what cannot be blended there
        if mode == "grid":
            self._grid_case, self._grid_origin = self._grid(overlap)

    @property
    def case_ids(self) -> list[str]:
        """The cases, in the order of the index."""
        return list(self._cases.ids)

    def set_epoch(self, epoch: int) -> None:
        """Choose the random patches of another epoch; call it before each one."""
        self._epoch[0] = epoch

    def shape_of(self, case_id: str) -> tuple[int, int, int]:
        """Return the size (z, y, x) of a case's volume."""
        positions = {known: position for position, known in enumerate(self.case_ids)}
        return self._shape(chosen(positions, case_id, "case", "the dataset"))

    def device_blend(self, target: str | None = None) -> DeviceBlend:
        """Return what makes the soft label of a target from a batch, for a data set with `blend_on_device`.

        Parameters
        ----------
        target : str, optional
            One of `further_targets`; by default `target`.

        Raises
        ------
        InputError
            If the data set was made without `blend_on_device`, or has no such target.
        """
        if self.form != "stored":
            raise InputError(
                "device_blend: the samples are blended already. Make the data set with blend_on_device=True"
            )
        name = self.target if target is None else target
        described = chosen(self._described, name, "target", "the dataset")
        encoding = dict(zip(self._described, self._encodings, strict=True))[name]
        n_axes = 2 if self.is_2d else 3
        return DeviceBlend(described, encoding, self._suffix(name), n_axes=n_axes, keys=self._names)

    def __len__(self) -> int:
        if self.mode == "grid":
            return len(self._grid_case)
        return len(self._cases) * (self.patches_per_case if self.mode == "random" else 1)

    def __getitem__(self, index: SupportsIndex | tuple[SupportsIndex, SupportsIndex]) -> Sample:
        """Return a sample by its index, or by (epoch, index) as `EpochSampler` yields.

        In a pair the index may exceed the length: ``i + k * len(dataset)`` is the k-th further random patch of the
        case that sample i belongs to.
        """
        epoch, number = self._epoch_and_number(index)
        if self._asked is not None:
            self._asked.note(epoch, number, is_pair=isinstance(index, tuple))
        rng = sample_rng(self.seed, epoch, number)
        position, origin = self._place(number % len(self), rng)
        sample = self._sample(position, origin)
        sample = sample if self.transform is None else self.transform(sample, rng)
        return {self._names.get(name, name): value for name, value in sample.items()} if self._names else sample

    def _epoch_and_number(self, index: SupportsIndex | tuple[SupportsIndex, SupportsIndex]) -> tuple[int, int]:
        """Return the two numbers that, with the seed, say what the sample is."""
        if isinstance(index, tuple):
            epoch, number = map(operator.index, index)
            return epoch, number
        number = operator.index(index)
        number += len(self) if number < 0 else 0
        if not 0 <= number < len(self):
            raise IndexError(f"sample {index}: expected an index below {len(self)}")
        return int(self._epoch[0]), number

    def _suffix(self, target: str) -> str:
        """Return what follows "soft_label" or "stored_map" in the names of a target's arrays."""
        return "" if target == self.target else f"_{target}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_tables": {}}

    def _targets(self, position: int) -> list[CaseTarget]:
        """Return an open case with each target. Entries hold no open file: a forked worker may go on with them."""
        targets = self._open.pop(position, None)
        if targets is None:
            case = self._cases[position]
            first, *others = self._described.items()
            targets = [self._cohort.target(case, *first)]
            targets += [self._cohort.target(case, *other, prepared=targets[0].case) for other in others]
            self._check_encodings(targets)
        self._open[position] = targets
        if len(self._open) > MAX_OPEN:
            oldest = next(iter(self._open))  # the one that was used longest ago
            del self._open[oldest]
            self._tables.pop(oldest, None)
        return targets

    def _check_encodings(self, targets: list[CaseTarget]) -> None:
        """Raise FormatError if a map is stored otherwise than that of the first case, which `device_blend` knows."""
        for target, encoding in zip(targets, self._encodings, strict=False):
            if (found := map_encoding(target)) != encoding:
                raise FormatError(
                    f"case {target.case.id}, target {target.name!r}: got a map stored as {found}, expected {encoding} "
                    f"as in case {self._cases.ids[0]}. Leave blend_on_device out"
                )

    def _case(self, position: int) -> PreparedCase:
        """Return an open case."""
        return self._targets(position)[0].case

    def _grid(self, overlap: int | Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the case position and the origin of every patch of the grid."""
        sizes = np.broadcast_to(overlap, 2 if self.is_2d and np.ndim(overlap) else 3).tolist()
        shared = (0, *sizes[-2:]) if self.is_2d else tuple(sizes)
        shapes = map(self._shape, range(len(self._cases)))
        origins = [grid_origins(shape, self.patch_size or shape, shared) for shape in shapes]
        return np.repeat(np.arange(len(origins)), [len(own) for own in origins]), np.concatenate(origins)

    def _place(self, number: int, rng: np.random.Generator) -> tuple[int, tuple[int, int, int]]:
        """Return the position of the case and the origin of a sample."""
        if self.mode == "grid":
            z, y, x = self._grid_origin[number].tolist()
            return int(self._grid_case[number]), (z, y, x)
        if self.mode == "whole":
            return number, (0, 0, 0)
        position = number // self.patches_per_case
        shape, centre = self._case(position).shape, None
        if rng.random() < self.foreground_fraction:
            centre = self._foreground_table(position).draw(rng, self._case(position).labels)
        return position, random_origin(shape, self.patch_size or shape, rng, centre)

    def _shape(self, position: int) -> tuple[int, int, int]:
        """Return the size of a case's volume; only for an older index is the case opened."""
        labels = self._cases[position].labels
        return self._case(position).shape if labels is None else labels.shape

    def _foreground_table(self, position: int) -> ForegroundTable:
        """Return how many voxels of each foreground class each chunk of a case's labels holds."""
        if position not in self._tables:
            labels = self._cases[position].labels
            if labels is None:  # an older index: counted when a process opens the case
                case = self._case(position)
                labels = LabelBlocks.count(case.shape, case.labels, block_shape(case.shape))
            self._tables[position] = ForegroundTable.of_blocks(labels, self.foreground, self._weights)
        return self._tables[position]

    def _sample(self, position: int, origin: tuple[int, int, int]) -> Sample:
        """Return the sample of one patch, before any transform."""
        targets = self._targets(position)
        case, size = targets[0].case, self.patch_size or targets[0].case.shape
        reader = PatchReader(case, origin, size, is_pooled=self.mode != "whole")
        named = {self._suffix(target.name): target for target in targets}
        volumes = read_volumes(reader, named, image_pad=self.image_pad, form=self.form)
        sample = {name: self._tensor(name, volume) for name, volume in volumes.items()}
        return {
            **sample,
            "case_id": case.id,
            "origin": torch.tensor(origin),
            "spacing": torch.tensor(case.grid.spacing, dtype=torch.float64),
            "affine": torch.from_numpy(case.grid.cropped(origin, size).affine_ras),
        }

    def _tensor(self, name: str, volume: NDArray[Any] | SparseLabel[NDArray[Any]]) -> Any:
        """Return a volume of a sample as a tensor, or as one for each part of a sparse label."""
        if isinstance(volume, SparseLabel):
            classes, shares = (
                self._tensor(*part) for part in (("classes", volume.classes), ("soft_label", volume.shares))
            )
            return SparseLabel(classes, shares, torch.from_numpy(volume.floor).to(self.dtype))
        tensor = torch.from_numpy(volume.squeeze(-3) if self.is_2d else volume)
        return tensor.to(self.dtype) if name == "image" or name.startswith("soft_label") else tensor
