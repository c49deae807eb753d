"""JSON lists of images and labels: `dataset.json` of the Medical Segmentation Decathlon, and MONAI's datalists."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from softlabels.errors import ConfigError
from softlabels.inputs.importers.base import Dataset, checked_cases, with_safe_ids
from softlabels.inputs.importers.dataset_json import channels_of, labels_of, read_dataset
from softlabels.inputs.sheet import Case

#: Endings of image files, which are no part of a name.
_ENDING = re.compile(r"(\.seg)?\.(nii|nrrd|nhdr|mha|mhd|hdr|mgz|mgh|png|tiff?|npy|b2nd)(\.gz)?$", re.IGNORECASE)


def import_msd(folder: str | os.PathLike[str]) -> Dataset:
    """Read a task of the Medical Segmentation Decathlon: `dataset.json` and 3D or 4D (channels last) images.

    Parameters
    ----------
    folder : path-like
        Such as `Task01_BrainTumour`.

    Raises
    ------
    ConfigError
        With every fault: an unreadable `dataset.json`, missing files.
    """
    path = Path(folder) / "dataset.json"
    dataset = read_dataset(path)
    return import_datalist(path, channels=channels_of(path, dataset))._replace(labels=labels_of(path, dataset))


def import_datalist(path: str | os.PathLike[str], channels: list[str] | None = None) -> Dataset:
    """Read a MONAI datalist: `{"training": [{"image": ..., "label": ..., "fold": 0}, ...], "validation": [...]}`.

    Parameters
    ----------
    path : path-like
        The JSON file. Paths in it are relative to its folder. `image` may be a list, one file for each channel.
    channels : list of str, optional
        Their names; by default those of the file, if it has any, else `image`, or `image_0`, `image_1`, ...

    Returns
    -------
    Dataset
        A case of fold 2 has the split `fold2`, one of the list `validation` the split `val`. Labels are those of the
        file, if it has any. Cases are named after their label files, with as many folders as make the names differ.

    Raises
    ------
    ConfigError
        With every fault: no such list, missing files.
    """
    path = Path(path)
    dataset = read_dataset(path)
    rows = [(row, _split(row, None)) for row in _rows(path, dataset, "training")]
    if "validation" in dataset:
        rows += [(row, "val") for row in _rows(path, dataset, "validation")]
    names = _names([row["label"] for row, _ in rows])
    cases = []
    for (row, split), name in zip(rows, names, strict=True):
        images = [row["image"]] if isinstance(row["image"], str) else row["image"]
        files = tuple(str(path.parent / image) for image in images)
        cases.append(Case(name, files, str(path.parent / row["label"]), split=split))
    renamed, originals = with_safe_ids(cases)
    unlabelled = [f"{path}: {name!r}: {len(dataset[name])} images have no labels" for name in ("testing", "test")
                  if isinstance(dataset.get(name), list) and dataset[name]]  # fmt: skip
    if channels is None:
        channels = _channels(path, dataset, max((len(case.images) for case in cases), default=1))
    labels = labels_of(path, dataset) if dataset.get("labels") else {}
    return Dataset(checked_cases(path, renamed), channels, labels, unlabelled, originals)


def _rows(path: Path, dataset: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return one of the lists."""
    rows = dataset.get(name)
    if not isinstance(rows, list) or not all(map(_is_pair, rows)):
        raise ConfigError(f"{path}: got no list {name!r} of image and label; is this a decathlon task or a datalist?")
    return rows


def _is_pair(row: object) -> bool:
    """Whether a row names a label and one image, or one for each channel."""
    if not isinstance(row, dict) or not isinstance(row.get("label"), str):
        return False
    image = row.get("image")
    return isinstance(image, str) or (
        isinstance(image, list) and bool(image) and all(isinstance(i, str) for i in image)
    )


def _split(row: dict[str, Any], default: str | None) -> str | None:
    """Return the split of a row that names its fold."""
    fold = row.get("fold")
    return f"fold{fold}" if isinstance(fold, int) and not isinstance(fold, bool) else default


def _channels(path: Path, dataset: dict[str, Any], n_files: int) -> list[str]:
    """Return the names of channels in the file, or made ones."""
    if dataset.get("channel_names") or isinstance(dataset.get("modality"), dict):
        return channels_of(path, dataset)
    return ["image"] if n_files == 1 else [f"image_{n}" for n in range(n_files)]


def _names(paths: list[str]) -> list[str]:
    """Return a name for each path: its file, without the ending, and as many folders as make all differ.

    Examples
    --------
    >>> _names(["labels/p1.nii.gz", "labels/p2.nii.gz"])
    ['p1', 'p2']
    >>> _names(["p1/seg.nii.gz", "p2/seg.nii.gz"])
    ['p1_seg', 'p2_seg']
    """
    parts = [Path(_ENDING.sub("", path)).parts for path in paths]
    deepest = max(map(len, parts), default=1)
    for depth in range(1, deepest + 1):
        names = ["_".join(one[-depth:]).strip("/") for one in parts]
        if len(set(names)) == len(names):
            break
    return names
