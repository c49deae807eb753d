"""Known folder layouts, read into the case sheet: nnU-Net raw, Medical Segmentation Decathlon, BraTS.

Each importer looks at file names and `dataset.json` only and returns ``(cases, channels, labels)``: the cases sorted by
id, the channel names in stored order, and the label mapping in nnU-Net's grammar (an integer, a list of integers for a
region, `ignore`). Names become what a config takes: letters, digits and `_` ("left kidney" becomes `left_kidney`).
`softlabels check` then reads the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from softlabels._shared.files import read_small_text
from softlabels._shared.plain_json import parsed_json
from softlabels._shared.section import shown
from softlabels.classes import BACKGROUND, grammar_faults
from softlabels.errors import ConfigError
from softlabels.inputs.sheet import Case, case_id_fault

#: A name that config.yaml takes as it is.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")

Imported = tuple[list[Case], list[str], dict[str, int | list[int]]]

#: Label values of BraTS by release. The same number means different tissues, so a release is never guessed.
BRATS_LABELS: dict[str, dict[str, int | list[int]]] = {
    "2012-2022": {"background": 0, "whole_tumor": [1, 2, 4], "tumor_core": [1, 4], "enhancing_tumor": [4]},
    "2023": {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [1, 3], "enhancing_tumor": [3]},
}
#: File name endings of the four channels (FLAIR, T1, T1 with contrast, T2), old and new style.
_BRATS_ENDINGS = (("_flair", "_t1", "_t1ce", "_t2", "_seg"), ("-t2f", "-t1n", "-t1c", "-t2w", "-seg"))
_BRATS_CHANNELS = ["FLAIR", "T1", "T1ce", "T2"]


def import_nnunet(folder: str | os.PathLike[str]) -> Imported:
    """Read an nnU-Net raw data set: `dataset.json`, `imagesTr/CASE_0000.nii.gz`, `labelsTr/CASE.nii.gz`.

    Both the present `dataset.json` (`channel_names`, labels by name) and that of nnU-Net 1 are understood, and the
    optional `dataset` entry that names the files of each case.

    Parameters
    ----------
    folder : path-like
        Such as `nnUNet_raw/Dataset001_BrainTumour`.

    Returns
    -------
    cases, channels, labels

    Raises
    ------
    ConfigError
        With every fault: an unreadable `dataset.json`, missing files, unusable case ids.
    """
    folder = Path(folder)
    dataset = read_dataset(folder)
    channels = channels_of(folder, dataset)
    ending = dataset.get("file_ending", ".nii.gz")
    listed = dataset.get("dataset")
    if listed:
        rows = _listed_files(folder, listed)
    else:
        ids = sorted(p.name.removesuffix(ending) for p in _files(folder / "labelsTr") if p.name.endswith(ending))
        rows = {
            case_id: (
                [f"imagesTr/{case_id}_{channel:04d}{ending}" for channel in range(len(channels))],
                f"labelsTr/{case_id}{ending}",
            )
            for case_id in ids
        }
    cases = [
        Case(case_id, tuple(str(folder / image) for image in images), str(folder / label))
        for case_id, (images, label) in sorted(rows.items())
    ]
    return checked_cases(folder, cases), channels, labels_of(folder, dataset)


def import_msd(folder: str | os.PathLike[str]) -> Imported:
    """Read a task of the Medical Segmentation Decathlon: `dataset.json` and 3D or 4D (channels last) images.

    Parameters
    ----------
    folder : path-like
        Such as `Task01_BrainTumour`.

    Returns
    -------
    cases, channels, labels

    Raises
    ------
    ConfigError
        With every fault: an unreadable `dataset.json`, missing files, unusable case ids.
    """
    folder = Path(folder)
    dataset = read_dataset(folder)
    training = dataset.get("training")
    if not isinstance(training, list) or not all(map(_is_pair, training)):
        raise ConfigError(
            f"{folder / 'dataset.json'}: got no list 'training' of image and label; is this a decathlon task?"
        )
    cases = []
    for row in training:
        image, label = folder / row["image"], folder / row["label"]
        cases.append(Case(re.sub(r"\.nii(\.gz)?$", "", label.name), (str(image),), str(label)))
    return (
        checked_cases(folder, sorted(cases, key=lambda case: case.id)),
        channels_of(folder, dataset),
        labels_of(folder, dataset),
    )


def import_brats(folder: str | os.PathLike[str], labels: str | Mapping[str, int | list[int]] | None = None) -> Imported:
    """Read a BraTS training folder: one folder a case, at any depth, with four channels and a segmentation.

    Parameters
    ----------
    folder : path-like
        Old names (`CASE_flair.nii.gz`, `_t1`, `_t1ce`, `_t2`, `_seg`) or new ones (`CASE-t2f.nii.gz`, `-t1n`, `-t1c`,
        `-t2w`, `-seg`).
    labels : str or mapping
        A release in `BRATS_LABELS`, or the mapping itself. It must be said, because the enhancing tumour is 4 until
        2022 and 3 from 2023 on, 4 is the resection cavity in 2024, and the paediatric order is another: the numbers
        in a file cannot tell.

    Returns
    -------
    cases, channels, labels

    Raises
    ------
    ConfigError
        `labels` is missing or unknown, or with every case that lacks a file.
    """
    folder = Path(folder)
    if labels is None or (isinstance(labels, str) and labels not in BRATS_LABELS):
        raise ConfigError(
            f"BraTS labels: got {labels!r}, expected one of {', '.join(BRATS_LABELS)} (--brats-labels), or a "
            "mapping of names to values; the values differ between releases and are never guessed"
        )
    meaning = BRATS_LABELS[labels] if isinstance(labels, str) else labels
    cases = []
    for path in sorted(folder.rglob("*seg.nii*")):
        for *images, segmentation in _BRATS_ENDINGS:
            case_id, found, extension = path.name.partition(f"{segmentation}.nii")
            if found and extension in ("", ".gz") and not case_id.startswith("."):
                files = tuple(str(path.with_name(f"{case_id}{ending}.nii{extension}")) for ending in images)
                cases.append(Case(case_id, files, str(path)))
    return checked_cases(folder, cases), list(_BRATS_CHANNELS), dict(meaning)


def _is_pair(row: object) -> bool:
    """Whether a row of a decathlon's list names one image and one label."""
    return isinstance(row, dict) and isinstance(row.get("image"), str) and isinstance(row.get("label"), str)


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder, without hidden ones such as macOS leaves behind."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected the labels of the training cases there")
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]


def read_dataset(folder: Path) -> dict[str, Any]:
    """Return `dataset.json`."""
    path = folder / "dataset.json"
    try:
        dataset = parsed_json(read_small_text(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the folder that holds dataset.json") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})") from error
    if not isinstance(dataset, dict):
        raise ConfigError(f"{path}: got {type(dataset).__name__}, expected an object")
    return dataset


def channels_of(folder: Path, dataset: dict[str, Any]) -> list[str]:
    """Return channel names, in the order of their numbers."""
    names = dataset.get("channel_names") or dataset.get("modality")
    if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))) or not names:
        raise ConfigError(f"{folder / 'dataset.json'}: got channels {names!r}, expected {{'0': name, '1': name, ...}}")
    return _identifiers([str(names[str(i)]) for i in range(len(names))])


def labels_of(folder: Path, dataset: dict[str, Any]) -> dict[str, int | list[int]]:
    """Return label names to values, also from the older form, values to names."""
    given = dataset.get("labels")
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{folder / 'dataset.json'}: got labels {given!r}, expected names and values")
    where = f"{folder / 'dataset.json'}: labels"
    # Pairs, not a mapping: the older form, values to names, may give one name to two values.
    pairs = list(given.items())
    try:
        if all(str(key).isdigit() for key in given):
            pairs = sorted(((str(name), int(value)) for value, name in given.items()), key=lambda pair: pair[1])
        values = [[_integer(one) for one in v] if isinstance(v, list) else _integer(v) for _, v in pairs]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {error}; expected integers or lists of integers") from error
    # Whatever the value 0 is called ("Background", "Clear Label"), and if it has no name: it is the background.
    rest = [(name, value) for (name, _), value in zip(pairs, values, strict=True) if value not in (0, [0])]
    if len(rest) < len(pairs) - 1 or BACKGROUND in [name for name, _ in rest]:
        raise ConfigError(
            f"{where}: got {shown(given)}, expected one name for the value 0, and no other value called 'background'"
        )
    names = _identifiers([BACKGROUND, *(name for name, _ in rest)])
    labels: dict[str, int | list[int]] = dict(zip(names, [0, *(value for _, value in rest)], strict=True))
    if faults := grammar_faults(labels):
        raise ConfigError(f"{where}: {'; '.join(faults)}")
    return labels


def _integer(value: Any) -> int:
    """Return an integer, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"got {shown(value)}")
    return int(value)


def _identifiers(names: list[str]) -> list[str]:
    """Return names made of letters, digits and `_` that begin with a letter and differ; good ones stay as they are.

    Examples
    --------
    >>> _identifiers(["node_3", "node+", "node-", "left kidney"])
    ['node_3', 'node', 'node_2', 'left_kidney']
    """
    made: list[str] = []
    kept = {name for name in names if _NAME.fullmatch(name)}
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:48]
        plain = name if name in kept else plain if plain[:1].isalpha() else f"n{plain}"
        numbers = count(len(made))
        unique = plain
        while unique in made or (unique in kept and unique != name):
            unique = f"{plain}_{next(numbers)}"
        made.append(unique)
    return made


def _listed_files(folder: Path, listed: Any) -> dict[str, tuple[list[str], str]]:
    """Return case id to (images, label) from the entry `dataset`."""
    try:
        rows = {case_id: (files["images"], files["label"]) for case_id, files in listed.items()}
        return {
            case_id: ([_expanded(one) for one in ([images] if isinstance(images, str) else images)], _expanded(label))
            for case_id, (images, label) in rows.items()
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder / 'dataset.json'}: 'dataset' needs images and label for each case ({error!r})"
        ) from error


def _expanded(path: object) -> str:
    """Return a path of `dataset.json` with `$NAME` replaced, as nnU-Net does."""
    return os.path.expanduser(os.path.expandvars(str(path)))


def checked_cases(folder: Path, cases: list[Case]) -> list[Case]:
    """Return `cases`, or raise ConfigError with every unusable id and missing file."""
    faults = [fault for case in cases if (fault := case_id_fault(case.id))]
    seen: set[str] = set()
    for case in cases:
        if case.id.lower() in seen:
            faults.append(f"case id {case.id!r}: found twice")
        seen.add(case.id.lower())
        faults += [f"case {case.id}, {role}: no file {path}" for role, path in case.files() if not Path(path).is_file()]
    if not cases:
        faults.append("no case found")
    if faults:
        shown = "; ".join(faults[:20]) + (f"; and {len(faults) - 20} more" if len(faults) > 20 else "")
        raise ConfigError(f"{folder}: {len(faults)} error{'s' * (len(faults) > 1)}: {shown}")
    return cases
