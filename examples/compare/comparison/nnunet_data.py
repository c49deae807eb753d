"""A study's cases as a data set of nnU-Net: its folders, its labels, and the case sheet of its preprocessed arrays."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.files import write_atomically
from softlabels.classes import IGNORE, LabelSet, class_numbers
from softlabels.errors import InputError
from softlabels.inputs.case import read_case
from softlabels.inputs.sheet import Case, read_sheet, write_sheet
from softlabels.view.export import write_nifti

from .study import Study

DATASET, DATASET_ID = "Dataset001_comparison", 1
PLANS, CONFIGURATION = "nnUNetPlans", "3d_fullres"
#: Soft labels are computed on nnU-Net's arrays as they are: they have its crop, spacing and intensities already.
AS_THEY_ARE = {"spacing": "native", "normalise": "none", "crop": "none"}


@dataclass(frozen=True)
class NnunetData:
    """What nnU-Net preprocesses, and where.

    Parameters
    ----------
    root : str
        Folder of its raw data, its arrays and their case sheet.
    sheet : str
        The study's own case sheet.
    channels : sequence of str
    labels : dict
        The study's classes, as in config.yaml.
    spacing : sequence of 3 floats
        Voxel size in mm, (z, y, x), that volumes are resampled to.
    planner : str
        nnU-Net's class that plans network and patches.
    """

    root: str
    sheet: str
    channels: Sequence[str]
    labels: Mapping[str, Any]
    spacing: Sequence[float]
    planner: str

    @classmethod
    def of(cls, study: Study) -> NnunetData | None:
        """Return the data of a study that trains nnU-Net; None if it trains the U-Net."""
        settings, config = study.training.nnunet, study.config
        if settings is None:
            return None
        root = str(Path(study.results) / "nnunet")
        return cls(root, config.cases, config.channels, config.labels, settings.spacing, settings.planner)

    @classmethod
    def from_json(cls, text: str) -> NnunetData:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Return all of it as one line."""
        return json.dumps(asdict(self))

    @property
    def raw(self) -> Path:
        """nnU-Net's raw data set."""
        return Path(self.root, "raw", DATASET)

    @property
    def preprocessed(self) -> Path:
        """nnU-Net's preprocessed data set: plans, and a folder of arrays."""
        return Path(self.root, "preprocessed", DATASET)

    def read_plans(self) -> dict[str, Any]:
        """Return nnU-Net's plans, which it writes when it preprocesses the cases."""
        return _read_json(self.preprocessed / f"{PLANS}.json")

    def read_dataset(self) -> dict[str, Any]:
        """Return the description of the data set that nnU-Net keeps beside its plans."""
        return _read_json(self.preprocessed / "dataset.json")

    @property
    def classes(self) -> LabelSet:
        """The study's classes."""
        return LabelSet.parse(dict(self.labels))

    def set_folders(self, results: Path | None = None) -> None:
        """Set the variables that nnU-Net reads its folders from when it is first imported."""
        folders = {"nnUNet_raw": self.raw.parent, "nnUNet_preprocessed": self.preprocessed.parent}
        folders["nnUNet_results"] = results or Path(self.root, "results")
        os.environ.update({name: str(folder.absolute()) for name, folder in folders.items()})

    def set_training(self, results: Path, index: str, target: str) -> None:
        """Set what nnU-Net and softlabels' trainer read from variables; nothing else must choose the soft label.

        Parameters
        ----------
        results : path
            nnU-Net's folder of this training alone.
        index, target : str
            Of the soft labels.
        """
        self.set_folders(results)
        for name in ("ALPHA", "DELTA", "EPSILON"):
            os.environ.pop(f"SOFTLABELS_{name}", None)
        os.environ |= {"SOFTLABELS_INDEX": index, "SOFTLABELS_TARGET": target}
        # Batches are made by `nnunet_training.SeededBatches`, in its own processes.
        os.environ |= {"nnUNet_n_proc_DA": "0"}

    def array_cases(self) -> list[Case]:
        """Return a case for each of the study's, made of the arrays that nnU-Net will have preprocessed."""
        folder = (self.preprocessed / f"{PLANS}_{CONFIGURATION}").absolute()
        spacing = transposed(self.spacing)
        return [
            Case(one.id, (str(folder / f"{one.id}.b2nd"),), str(folder / f"{one.id}_seg.b2nd"), spacing=spacing)
            for one in read_sheet(self.sheet, self.channels)
        ]

    def write_array_sheet(self, folder: Path | None = None) -> Path:
        """Write the case sheet of the arrays, unless it is in `root` already, and return it.

        Parameters
        ----------
        folder : path, optional
            Where it is written; by default `root`. A dry run gives one that is not of the study.
        """
        path, cases = Path(self.root, "cases.tsv"), self.array_cases()
        if path.exists() and read_sheet(path, self.channels) == cases:
            return path
        path = path if folder is None else folder / path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_sheet(cases, path, self.channels)
        return path

    def array_config(self, config: Mapping[str, Any], sheet: Path) -> dict[str, Any]:
        """Return a study's configuration of softlabels for the arrays: the same targets, nnU-Net's grid and labels."""
        return {**config, "cases": str(sheet), "labels": nnunet_labels(self.classes), "prepare": AS_THEY_ARE}


def _read_json(path: Path) -> dict[str, Any]:
    """Return the content of a file of nnU-Net."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def transposed(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return a spacing in the order of nnU-Net's arrays, whose first axis has the largest.

    Examples
    --------
    >>> transposed([1.0, 0.5, 3.0])
    (3.0, 1.0, 0.5)
    """
    first = int(np.argmax(spacing))
    z, y, x = [spacing[first], *(side for axis, side in enumerate(spacing) if axis != first)]
    return float(z), float(y), float(x)


def nnunet_labels(classes: LabelSet) -> dict[str, int | list[int]]:
    """Return the labels of nnU-Net's data set, which must be consecutive: one for each class, or for each value.

    Examples
    --------
    >>> nnunet_labels(LabelSet.parse({"background": 0, "organ": 7, "tumour": [2, 4], "ignore": 9}))
    {'background': 0, 'organ': 1, 'tumour': 2, 'ignore': 3}
    >>> nnunet_labels(LabelSet.parse({"background": 0, "core": [1, 4], "whole": [1, 2, 4]}))
    {'background': 0, 'core': [1, 3], 'whole': [1, 2, 3]}
    """
    labels: dict[str, int | list[int]]
    if classes.is_overlapping:
        number = {value: place for place, value in enumerate(classes.used_values)}
        labels = {"background": 0} | {one.name: [number[value] for value in one.values] for one in classes.classes}
        highest = len(number)
    else:
        labels = {one.name: place for place, one in enumerate(classes.classes)}
        highest = len(labels)
    return labels if classes.ignore is None else {**labels, IGNORE: highest}


def renumbered(labels: NDArray[np.integer], classes: LabelSet) -> NDArray[np.uint8]:
    """Return a label map with the labels of `nnunet_labels`.

    Examples
    --------
    >>> classes = LabelSet.parse({"background": 0, "organ": 7, "tumour": [2, 4], "ignore": 9})
    >>> renumbered(np.array([0, 2, 4, 7, 9]), classes).tolist()
    [0, 2, 2, 1, 3]
    """
    numbers: NDArray[np.integer] = (
        np.searchsorted(classes.used_values, labels)
        if classes.is_overlapping
        else class_numbers(labels, classes.classes)
    )
    if classes.ignore is not None:
        numbers = np.where(labels == classes.ignore, nnunet_labels(classes)[IGNORE], numbers)
    return numbers.astype(np.uint8)


def write_raw(data: NnunetData) -> None:
    """Write the study's cases as nnU-Net's raw data set; InputError if a file is faulty."""
    classes = data.classes
    cases = read_sheet(data.sheet, data.channels)
    # nnU-Net takes every file that is there, also of a case or channel that the study had before.
    shutil.rmtree(data.raw, ignore_errors=True)
    for one in cases:
        volumes = read_case(one, data.channels, classes.values, classes.ignore)
        for number, channel in enumerate(volumes.image):
            write_nifti(channel, volumes.grid, data.raw / "imagesTr" / f"{one.id}_{number:04d}.nii.gz")
        write_nifti(renumbered(volumes.labels, classes), volumes.grid, data.raw / "labelsTr" / f"{one.id}.nii.gz")
    labels = nnunet_labels(classes)
    description = {
        "channel_names": {str(number): name for number, name in enumerate(data.channels)},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ".nii.gz",
    }
    if classes.is_overlapping:
        # The labels of nnU-Net's own segmentations, which nothing here reads.
        description["regions_class_order"] = list(range(1, len(classes.classes) + 1))
    write_atomically(data.raw / "dataset.json", json.dumps(description, indent=1))


def preprocess(data: NnunetData, threads: int) -> None:
    """Let nnU-Net plan and preprocess a study's cases.

    Raises
    ------
    InputError
        If a file of a case is faulty, nnU-Net is not installed, or it plans another grid than the study expects.
    """
    data.set_folders()
    try:
        from nnunetv2.experiment_planning import plan_and_preprocess_api as nnunet
    except ImportError as error:
        raise InputError(
            "nnunetv2: not installed where this workflow runs, expected 2.6 or newer: pip install nnunetv2"
        ) from error
    write_raw(data)
    nnunet.extract_fingerprints([DATASET_ID], num_processes=threads)
    nnunet.plan_experiments([DATASET_ID], data.planner, None, "DefaultPreprocessor", tuple(data.spacing), PLANS)
    planned = data.read_plans()["configurations"].get(CONFIGURATION)
    if planned is None or not np.allclose(planned["spacing"], transposed(data.spacing)):
        found = "none" if planned is None else f"a spacing of {planned['spacing']} mm"
        raise InputError(
            f"nnU-Net: planned {found} for {CONFIGURATION}, expected {transposed(data.spacing)} mm, as "
            "training.nnunet.spacing says"
        )
    nnunet.preprocess([DATASET_ID], PLANS, (CONFIGURATION,), (threads,))
