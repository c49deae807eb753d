"""BraTS training folders of every release, and of copies that were rearranged."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from softlabels.errors import ConfigError
from softlabels.inputs.importers.base import Dataset, Labels, checked_cases, files_below, with_safe_ids
from softlabels.inputs.sheet import Case

#: Label values of BraTS by release. The same number means different tissues, so a release is never guessed.
BRATS_LABELS: dict[str, Labels] = {
    "2012-2022": {"background": 0, "whole_tumor": [1, 2, 4], "tumor_core": [1, 4], "enhancing_tumor": [4]},
    "2023": {"background": 0, "whole_tumor": [1, 2, 3], "tumor_core": [1, 3], "enhancing_tumor": [3]},
}
#: Channel to the ends of its file names, old and new style; the order is that of the channels.
_CHANNELS = {"FLAIR": ("flair", "t2f"), "T1": ("t1", "t1n"), "T1ce": ("t1ce", "t1c"), "T2": ("t2", "t2w")}
_CHANNEL_OF = {ending: channel for channel, endings in _CHANNELS.items() for ending in endings}
_SEGMENTATIONS = ("seg", "gtv")
_FILE = re.compile(rf"(?P<case>.+)[_-](?P<part>{'|'.join([*_CHANNEL_OF, *_SEGMENTATIONS])})\.nii(\.gz)?", re.IGNORECASE)
_NIFTI = re.compile(r".+\.nii(\.gz)?", re.IGNORECASE)


def import_brats(folder: str | os.PathLike[str], labels: str | Mapping[str, int | list[int]] | None = None) -> Dataset:
    """Read a BraTS training folder: at any depth, cases with their channels and a segmentation.

    Parameters
    ----------
    folder : path-like
        Old names (`CASE_flair.nii.gz`, `_t1`, `_t1ce`, `_t2`, `_seg`) or new ones (`CASE-t2f.nii.gz`, `-t1n`, `-t1c`,
        `-t2w`, `-seg` or `_gtv`), `.nii` and `.nii.gz` mixed; also copies in which `CASE_flair.nii` is a folder that
        holds the file.
    labels : str or mapping
        A release in `BRATS_LABELS`, or the mapping itself. It must be said, because the enhancing tumour is 4 until
        2022 and 3 from 2023 on, 4 is the resection cavity in 2024, and the paediatric order is another: the numbers
        in a file cannot tell.

    Returns
    -------
    Dataset
        Channels are those that the cases have; a case that lacks one of them is left out. A segmentation that is
        misnamed is taken if it is the only other file of its folder whose name contains "seg".

    Raises
    ------
    ConfigError
        `labels` is missing or unknown, or there is no case.
    """
    folder = Path(folder)
    if labels is None or (isinstance(labels, str) and labels not in BRATS_LABELS):
        raise ConfigError(
            f"BraTS labels: got {labels!r}, expected one of {', '.join(BRATS_LABELS)} (--brats-labels), or a "
            "mapping of names to values (--labels); the values differ between releases and are never guessed"
        )
    meaning = BRATS_LABELS[labels] if isinstance(labels, str) else labels
    found, strangers = _found(folder)
    left_out = []
    for (home, case_id), parts in found.items():
        if "seg" not in parts and (lone := _lone_segmentation(strangers.get(home, []))):
            parts["seg"] = lone
            strangers[home].remove(lone)
            left_out.append(f"case {case_id}: {lone.name} taken as its segmentation, which is named otherwise")
    channels = [name for name in _CHANNELS if any(name in parts for parts in found.values() if "seg" in parts)]
    cases = []
    for (home, case_id), parts in found.items():
        missing = [name for name in (*channels, "seg") if name not in parts]
        if missing:
            left_out.append(f"{home / case_id}: no {', no '.join(missing)}")
        else:
            cases.append(Case(case_id, tuple(str(parts[name]) for name in channels), str(parts["seg"])))
    left_out += [f"{path}: not a file of BraTS by its name" for rest in strangers.values() for path in rest]
    renamed, originals = with_safe_ids(cases)
    return Dataset(checked_cases(folder, renamed), channels, dict(meaning), left_out, originals)


def _found(folder: Path) -> tuple[dict[tuple[Path, str], dict[str, Path]], dict[Path, list[Path]]]:
    """Return (folder, case) to its channels and segmentation, and folder to the images of which no name is known."""
    found: dict[tuple[Path, str], dict[str, Path]] = {}
    strangers: dict[Path, list[Path]] = {}
    for path in files_below(folder):
        if not _NIFTI.fullmatch(path.name):
            continue
        # Unpacked by some tools, each file has become a folder of its name that holds it.
        home = path.parent.parent if _NIFTI.fullmatch(path.parent.name) else path.parent
        match = _FILE.fullmatch(path.name)
        if match is None:
            strangers.setdefault(home, []).append(path)
            continue
        part = match["part"].lower()
        found.setdefault((home, match["case"]), {}).setdefault(_CHANNEL_OF.get(part, "seg"), path)
    return found, strangers


def _lone_segmentation(strangers: list[Path]) -> Path | None:
    """Return the one file whose name says that it is a segmentation, if there is one and no other."""
    named = [path for path in strangers if "seg" in path.name.lower()]
    return named[0] if len(named) == 1 else None
