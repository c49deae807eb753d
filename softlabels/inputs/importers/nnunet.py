"""nnU-Net's raw data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from softlabels._shared.section import shown
from softlabels.errors import ConfigError
from softlabels.inputs.importers.base import Dataset, checked_cases, with_safe_ids
from softlabels.inputs.importers.dataset_json import channels_of, folds_of, labels_of, read_dataset, read_json
from softlabels.inputs.sheet import Case

#: Files that nnU-Net reads as pictures: one file holds all channels, and there is no voxel size.
_PICTURES = (".png", ".bmp", ".tif", ".tiff")
_NO_VOXEL_SIZE = (1.0, 1.0, 1.0)

Files = tuple[list[str], str]


def import_nnunet(folder: str | os.PathLike[str]) -> Dataset:
    """Read an nnU-Net raw data set: `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`.

    Both the present `dataset.json` (`channel_names`, labels by name) and that of nnU-Net 1 are understood, and the
    optional `dataset` entry that names the files of each case. Folds come from `splits_final.json`, in the folder or
    where nnU-Net keeps it, below `$nnUNet_preprocessed`.

    Parameters
    ----------
    folder : path-like
        Such as `nnUNet_raw/Dataset001_BrainTumour`.

    Raises
    ------
    ConfigError
        With every fault: an unreadable `dataset.json`, missing files.
    """
    folder = Path(folder)
    described = folder / "dataset.json"
    dataset = read_dataset(described)
    channels = channels_of(described, dataset)
    ending = dataset.get("file_ending", ".nii.gz")
    if not isinstance(ending, str) or not ending.startswith("."):
        raise ConfigError(f"{described}: file_ending: got {ending!r}, expected a file ending such as '.nii.gz'")
    listed = dataset.get("dataset")
    rows = _listed_files(described, listed) if listed else _found_files(folder, len(channels), ending)
    folds = _folds(folder)
    cases = [
        Case(
            case_id,
            tuple(str(folder / image) for image in images),
            str(folder / label),
            split=folds.get(case_id),
            spacing=_spacing(folder, case_id, images[0], label),
        )
        for case_id, (images, label) in rows.items()
    ]
    renamed, originals = with_safe_ids(cases)
    left_out = [] if listed else _left_out(folder, rows, ending)
    n_expected = dataset.get("numTraining")
    if isinstance(n_expected, int) and n_expected != len(cases):
        left_out.append(f"{described}: numTraining is {n_expected}, but {len(cases)} cases were found")
    return Dataset(checked_cases(folder, renamed), channels, labels_of(described, dataset), left_out, originals)


def _found_files(folder: Path, n_channels: int, ending: str) -> dict[str, Files]:
    """Return case to (images, label), as the names in `labelsTr` have it."""
    ids = sorted(name.removesuffix(ending) for name in _names(folder / "labelsTr") if name.endswith(ending))
    images = set(_names(folder / "imagesTr")) if (folder / "imagesTr").is_dir() else set()
    is_one_file = ending in _PICTURES and not any(f"{one}_0001{ending}" in images for one in ids)
    numbers = range(1 if is_one_file else n_channels)
    return {
        case_id: ([f"imagesTr/{case_id}_{n:04d}{ending}" for n in numbers], f"labelsTr/{case_id}{ending}")
        for case_id in ids
    }


def _left_out(folder: Path, rows: dict[str, Files], ending: str) -> list[str]:
    """Return a line for what was found in the two folders and belongs to no case."""
    taken = {Path(name).name for images, label in rows.values() for name in (*images, label)}
    lines = []
    for part, reason in (("imagesTr", "its case has no label in labelsTr"), ("labelsTr", "is no label of a case")):
        names = _names(folder / part) if (folder / part).is_dir() else []
        for name in names:
            if name not in taken and not name.endswith(".json"):
                lines.append(f"{folder / part / name}: {reason if name.endswith(ending) else f'is no {ending} file'}")
    return lines


def _names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted, without hidden files such as macOS leaves behind."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected the labels of the training cases there")
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _folds(folder: Path) -> dict[str, str]:
    """Return the fold in which each case is validated; empty where no splits are found."""
    kept = os.environ.get("nnUNet_preprocessed")  # noqa: SIM112 (nnU-Net spells it so)
    places = [folder, *([Path(kept) / folder.name] if kept else [])]
    return next((folds for place in places if (folds := folds_of(place / "splits_final.json"))), {})


def _spacing(folder: Path, case_id: str, image: str, label: str) -> tuple[float, float, float] | None:
    """Return the voxel size (z, y, x) of files that have none, None for all others.

    nnU-Net keeps that of TIFF stacks in `CASE.json` beside the image or the label, and gives pictures none.
    """
    if not image.lower().endswith((*_PICTURES, ".npy")):
        return None
    beside = [Path(image).with_name(f"{case_id}.json"), Path(label).with_name(f"{case_id}.json")]
    path = next((folder / one for one in beside if (folder / one).is_file()), None)
    if path is None:
        return _NO_VOXEL_SIZE
    content = read_json(path)
    try:
        z, y, x = (float(side) for side in content["spacing"])
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigError(f"{path}: got {shown(content)}, expected 'spacing' of 3 numbers in mm (z, y, x)") from error
    return z, y, x


def _listed_files(described: Path, listed: Any) -> dict[str, Files]:
    """Return case to (images, label) from the entry `dataset`."""
    try:
        rows = {case_id: (files["images"], files["label"]) for case_id, files in listed.items()}
        return {
            case_id: ([_expanded(one) for one in ([images] if isinstance(images, str) else images)], _expanded(label))
            for case_id, (images, label) in rows.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{described}: 'dataset' needs images and label for each case ({error!r})") from error


def _expanded(path: object) -> str:
    """Return a path of `dataset.json` with `$NAME` replaced, as nnU-Net does."""
    return os.path.expanduser(os.path.expandvars(str(path)))
