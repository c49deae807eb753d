"""Volumes of a computed cohort as MONAI loads images: an ImageReader, and the data list that names what it reads.

A volume has an address that looks like a path within index.json::

    results/index.json/image@<entry>/<case id>
    results/index.json/labels@<entry>/<case id>
    results/index.json/valid@<entry>/<case id>
    results/index.json/soft_label@<entry>/<target>/<case id>

The last part is the case id, after which SaveImaged names its files. The entry, 12 digits of its key, changes when the
volume is computed again: a PersistentDataset then reads it again instead of what it has cached. It may be left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.image_reader import ImageReader
from monai.transforms.io.array import SUPPORTED_READERS
from numpy.typing import NDArray

from softlabels.cohort.case import CaseTarget, IndexedCohort, PreparedCase
from softlabels.cohort.case_table import IndexedCase
from softlabels.cohort.index import INDEX_FILE
from softlabels.errors import FormatError, InputError
from softlabels.training.augmentation import checked_keys
from softlabels.training.folds import chosen_cases

VOLUMES = ("image", "labels", "valid", "soft_label")
_KEY_DIGITS = 12


@dataclass(frozen=True)
class VolumeAddress:
    """Which volume of a cohort to read.

    Parameters
    ----------
    index : Path
        index.json.
    volume : {"image", "labels", "valid", "soft_label"}
    target : str or None
        For a soft label.
    case_id : str
    entry : str
        The first digits of the key that the volume's entry had; empty if any will do.
    """

    index: Path
    volume: str
    target: str | None
    case_id: str
    entry: str = ""

    def __str__(self) -> str:
        volume = f"{self.volume}@{self.entry}" if self.entry else self.volume
        return "/".join([str(self.index), volume, *([self.target] if self.target else []), self.case_id])

    @classmethod
    def parse(cls, text: str) -> VolumeAddress | None:
        """Return the address that a text is; None if it is none."""
        parts = Path(text).parts
        for n_after in (2, 3):
            if len(parts) <= n_after:
                return None
            volume, _, entry = parts[-n_after].partition("@")
            is_soft = volume == "soft_label"
            if volume in VOLUMES and is_soft == (n_after == 3) and parts[-n_after - 1].endswith(".json"):
                target = parts[-2] if n_after == 3 else None
                return cls(Path(*parts[:-n_after]), volume, target, parts[-1], entry)
        return None


class SoftLabelReader(ImageReader):
    """Read image, hard labels, soft label or `valid` of a case into MONAI; LoadImaged finds it by itself.

    Arrays are in MONAI's order (x, y, z), the image and the soft label with their channels first; the affine is RAS.

    Parameters
    ----------
    store : path, optional
        Where the store is now; by default where it was when the index was written, relative to the index.
    **blend : float
        alpha, delta or epsilon: replaces that parameter of the blend of all soft labels.

    Notes
    -----
    `LoadImaged(keys, ensure_channel_first=True)` needs no reader to be named. To pass arguments, use
    ``LoadImaged(keys, reader="softlabels.training.monai.SoftLabelReader", alpha=0.05)``. A cache of PersistentDataset
    does not know of these arguments: give it another folder after a change.

    It holds no open file: it may be pickled, and used after a fork.
    """

    def __init__(self, store: str | Path | None = None, **blend: float) -> None:
        if unknown := sorted(set(blend) - {"alpha", "delta", "epsilon"}):
            raise TypeError(f"SoftLabelReader: got {unknown[0]}, expected store, alpha, delta or epsilon")
        self._store, self._blend = store, blend
        self._cohorts: dict[Path, IndexedCohort] = {}

    def verify_suffix(self, filename: Any) -> bool:
        """Return whether this names volumes of an index, and nothing else."""
        return all(VolumeAddress.parse(str(name)) is not None for name in _as_list(filename))

    def read(self, data: Any, **kwargs: Any) -> VolumeAddress:
        """Return the address of the one volume that is named."""
        names = _as_list(data)
        address = VolumeAddress.parse(str(names[0]))
        if len(names) != 1 or address is None:
            raise InputError(
                f"SoftLabelReader: got {names}, expected one volume, such as {INDEX_FILE}/image/CASE. "
                "softlabels.training.monai.data_list gives them"
            )
        return address

    def get_data(self, img: VolumeAddress) -> tuple[NDArray[Any], dict[str, Any]]:
        """Return the array and what MONAI must know of it.

        Raises
        ------
        FormatError
            If a byte that is read is not what was published; the message names case and entry. Also if the volume was
            computed again since the data list was made.
        InputError
            If the index has no such case or target.
        """
        cohort = self._cohort(img.index)
        case = cohort.index.case(img.case_id)
        target = None if img.target is None else _described(cohort, case, img.target, self._blend)
        _check_entry(img, case)
        prepared = target.case if target else cohort.case(case)
        volume = _volume(img.volume, prepared, target)
        axes = (0, 3, 2, 1) if volume.ndim == 4 else (2, 1, 0)
        affine = prepared.grid.to_nifti_affine()
        return np.ascontiguousarray(volume.transpose(axes)), {
            "affine": affine,
            "original_affine": affine.copy(),
            "space": "RAS",
            "spatial_shape": np.array(prepared.shape[::-1]),
            "original_channel_dim": 0 if volume.ndim == 4 else float("nan"),
        }

    def _cohort(self, index: Path) -> IndexedCohort:
        """Return the cohort of an index, read once."""
        if index not in self._cohorts:
            self._cohorts[index] = IndexedCohort.open(index, self._store)
        return self._cohorts[index]


# For LoadImage without `reader`, which then passes our errors on instead of trying all others.
SUPPORTED_READERS["softlabelreader"] = SoftLabelReader


def data_list(
    index: str | Path,
    *,
    target: str,
    further_targets: Sequence[str] = (),
    split: str | None = None,
    cases: Sequence[str] | None = None,
    keys: Mapping[str, str] | None = None,
) -> list[dict[str, str]]:
    """Return the cases of an index as MONAI's data lists: one dict per case for LoadImaged, CacheDataset and the like.

    Parameters
    ----------
    index : path
        The index.json that the workflow wrote.
    target, further_targets, split, cases
        As for `softlabels.loader.SoftLabelDataset`.
    keys : mapping of str to str, optional
        Other names for image, labels, valid, soft_label or soft_label_<name>, such as ``{"labels": "label"}``.

    Returns
    -------
    list of dict
        With the addresses of `image`, `labels`, `valid`, `soft_label` and each further soft label, and the `case_id`.

    Raises
    ------
    FormatError
        If the index is damaged.
    InputError
        If a target, split, case or key does not exist.

    Examples
    --------
    Whole volumes with their soft labels, in memory::

        items = data_list("results/index.json", target="geols", split="train", keys={"labels": "label"})
        loaded = ["image", "label", "soft_label"]
        dataset = CacheDataset(items, Compose([LoadImaged(loaded, ensure_channel_first=True), ...]))
    """
    path = Path(index).absolute()
    cohort = IndexedCohort.open(path)
    soft_labels = {"soft_label": target} | {f"soft_label_{name}": name for name in further_targets}
    for name in soft_labels.values():
        cohort.index.target(name)
    names = checked_keys(keys or {}, (*VOLUMES[:-1], *soft_labels, "case_id"))
    items = []
    for case in chosen_cases(cohort.index, split, cases, index):
        volumes = {name: (name, None) for name in VOLUMES[:-1]} | {k: ("soft_label", v) for k, v in soft_labels.items()}
        item = {
            name: str(VolumeAddress(path, volume, of, case.id, _entry_of(case, of)))
            for name, (volume, of) in volumes.items()
        }
        items.append({names.get(name, name): value for name, value in {**item, "case_id": case.id}.items()})
    return items


def _entry_of(case: IndexedCase, target: str | None) -> str:
    """Return the digits of the key by which a volume of the case is known."""
    address = case.targets.get(target, case.prepare) if target else case.prepare
    return address.key[:_KEY_DIGITS]


def _check_entry(address: VolumeAddress, case: IndexedCase) -> None:
    """Raise FormatError if a volume is not the one that the data list meant."""
    found = _entry_of(case, address.target)
    if address.entry and address.entry != found:
        raise FormatError(
            f"case {case.id}, {address.volume}: got entry {found}, expected {address.entry}: {address.index} was "
            "written again since the data list was made. Make the data list again"
        )


def _described(cohort: IndexedCohort, case: IndexedCase, name: str, blend: Mapping[str, float]) -> CaseTarget:
    """Return a case with a target whose blend has other parameters."""
    return cohort.target(case, name, cohort.index.target(name).with_blend(**blend))


def _volume(name: str, case: PreparedCase, target: CaseTarget | None) -> NDArray[Any]:
    """Return a volume, (channels, z, y, x) or (z, y, x)."""
    if target is not None:
        return target.soft_label()
    if name == "image":
        return case.image()
    return case.labels() if name == "labels" else case.valid().astype(np.uint8)


def _as_list(names: Any) -> list[Any]:
    """Return one name or several as a list."""
    return list(names) if isinstance(names, list | tuple) else [names]
