"""BIDS data sets: images, and masks or segmentations in the raw data or in derivatives.

Written from the specification (bids-specification.readthedocs.io). pybids answers many more questions than which
files belong together, and brings a database for them.
"""

from __future__ import annotations

import csv
import io
import os
import re
from dataclasses import dataclass
from pathlib import Path

from softlabels._shared.files import read_small_text
from softlabels.errors import ConfigError
from softlabels.inputs.importers.base import Dataset, Labels, checked_cases, files_below, identifiers, with_safe_ids
from softlabels.inputs.sheet import Case

_FILE = re.compile(r"(?P<entities>sub-[^_]+(?:_[A-Za-z]+-[^_]+)*)_(?P<suffix>[A-Za-z0-9]+)\.nii(\.gz)?")
_LABELS = ("dseg", "mask")
_NO_CHANNELS = (*_LABELS, "probseg", "bold", "dwi", "sbref", "boldref", "dwiref", "epi")


@dataclass(frozen=True)
class _File:
    """A file of a BIDS data set: path, entities in the order of its name, suffix."""

    path: Path
    entities: dict[str, str]
    suffix: str

    @property
    def case(self) -> str:
        """Subject and session."""
        return "_".join(f"{key}-{self.entities[key]}" for key in ("sub", "ses") if key in self.entities)

    @property
    def kind(self) -> str:
        """Suffix with the entities that do not name the case: `T1w`, `acq-tse_T2w`."""
        rest = [f"{key}-{value}" for key, value in self.entities.items() if key not in ("sub", "ses", "space")]
        return "_".join([*rest, self.suffix])

    def is_a(self, wanted: str) -> bool:
        """Whether the file has the suffix and all entities of `acq-tse_T2w`."""
        *entities, suffix = wanted.split("_")
        has = {f"{key}-{value}" for key, value in self.entities.items()}
        return suffix == self.suffix and set(entities) <= has


def import_bids(folder: str | os.PathLike[str], channels: list[str] | None = None, label: str | None = None) -> Dataset:
    """Read a BIDS data set: one case for each subject and session that has a mask or a segmentation.

    Parameters
    ----------
    folder : path-like
        The raw data set, with its `derivatives` below, or a derivative data set that contains images.
    channels : list of str, optional
        Suffixes of the images, with entities where a suffix is not enough: `["T1w", "acq-tse_T2w"]`. By default all
        suffixes that every labelled case has exactly once.
    label : str, optional
        The same for the label file: `dseg`, `label-lesion_mask`. By default the only kind there is.

    Returns
    -------
    Dataset
        Labels come from the TSV of a `dseg`, or are one class for a `mask`, named after its entity `label` or `desc`.
        Images are taken from the space of the label (its entity `space`, or none).

    Raises
    ------
    ConfigError
        There are no labels, or several kinds and none is chosen.
    """
    folder = Path(folder)
    files = [file for path in files_below(folder) if (file := _parsed(path))]
    kinds = sorted({one.kind for one in files if one.suffix in _LABELS})
    if label is None:
        if len(kinds) != 1:
            raise ConfigError(
                f"{folder}: got label files of kinds {', '.join(kinds) or '(none)'}, expected one; choose it with "
                "--label-file"
            )
        label = kinds[0]
    masks: dict[str, list[_File]] = {}
    for one in files:
        if one.suffix in _LABELS and one.is_a(label):
            masks.setdefault(one.case, []).append(one)
    if not masks:
        raise ConfigError(f"{folder}: no label file is {label!r}; got kinds {', '.join(kinds) or '(none)'}")
    images = _images(files, masks)
    left_out = [f"{case}: images without a label" for case in sorted({one.case for one in files} - set(masks))]
    chosen = channels or _common(images, masks)
    if not chosen:
        raise ConfigError(
            f"{folder}: no suffix is found exactly once in every labelled case; choose with --channels, of "
            f"{', '.join(sorted({one.kind for found in images.values() for one in found})) or '(none)'}"
        )
    cases = []
    for case, found in masks.items():
        picked = [_chosen(images[case], channel) for channel in chosen]
        counts = [f"{len(some)} images {name}" for name, some in zip(chosen, picked, strict=True) if len(some) != 1]
        counts += [f"{len(found)} label files"] * (len(found) != 1)
        if counts:
            left_out.append(
                f"{case}: {', '.join(counts)}, expected 1 each; name entities in --channels or --label-file"
            )
        else:
            cases.append(Case(case, tuple(str(of_one[0].path) for of_one in picked), str(found[0].path)))
    renamed, originals = with_safe_ids(cases)
    labels = _labels(folder, [found[0] for found in masks.values()])
    return Dataset(checked_cases(folder, renamed), identifiers(chosen), labels, left_out, originals)


def _parsed(path: Path) -> _File | None:
    """Return the parts of a file name; None for a file that is no image of a subject."""
    match = _FILE.fullmatch(path.name)
    if match is None:
        return None
    pairs = [(entity.partition("-")[0], entity.partition("-")[2]) for entity in match["entities"].split("_")]
    return _File(path, dict(pairs), match["suffix"])


def _images(files: list[_File], masks: dict[str, list[_File]]) -> dict[str, list[_File]]:
    """Return the images of each labelled case that are in the space of its label."""
    found: dict[str, list[_File]] = {case: [] for case in masks}
    for one in files:
        if one.case not in masks or one.suffix in _NO_CHANNELS:
            continue
        if one.entities.get("space") == masks[one.case][0].entities.get("space"):
            found[one.case].append(one)
    return found


def _chosen(images: list[_File], wanted: str) -> list[_File]:
    """Return the images of this kind; of none is, those that have further entities."""
    return [one for one in images if one.kind == wanted] or [one for one in images if one.is_a(wanted)]


def _common(images: dict[str, list[_File]], masks: dict[str, list[_File]]) -> list[str]:
    """Return the kinds of which every labelled case has exactly one image, sorted; those without entities, if any."""
    counts = [[one.kind for one in images[case]] for case in masks]
    common = sorted(kind for kind in set(counts[0]) if all(of_case.count(kind) == 1 for of_case in counts))
    plain = [kind for kind in common if "_" not in kind]
    suffixes = [kind.rpartition("_")[2] for kind in common]
    return plain or (common if len(set(suffixes)) == len(suffixes) else [])


def _labels(folder: Path, files: list[_File]) -> Labels:
    """Return label names to values; empty if the data set does not say."""
    first = files[0]
    if first.suffix == "mask":
        (name,) = identifiers([first.entities.get("label") or first.entities.get("desc") or "foreground"])
        return {"background": 0, name if name != "background" else "foreground": 1}
    tables = {table for one in files if (table := _table(folder, one))}
    if not tables:
        return {}
    found = [_read_table(table) for table in sorted(tables)]
    if any(one != found[0] for one in found):
        raise ConfigError(f"{folder}: {sorted(tables)[0]} and others give different labels; give one with --labels")
    return found[0]


def _table(folder: Path, file: _File) -> Path | None:
    """Return the nearest TSV that applies to a segmentation, by the specification's inheritance principle."""
    own = {(key, value) for key, value in file.entities.items()}
    here = file.path.parent
    while True:
        for path in sorted(here.glob("*dseg.tsv")):
            entities = path.name.removesuffix("dseg.tsv").rstrip("_")
            pairs = {tuple(entity.split("-", 1)) for entity in entities.split("_") if entity}
            if pairs <= own:
                return path
        if here == folder or here == here.parent:
            return None
        here = here.parent


def _read_table(path: Path) -> Labels:
    """Return name to value from the columns `index` (or `mapping`) and `name`."""
    rows = list(csv.DictReader(io.StringIO(read_small_text(path)), delimiter="\t"))
    try:
        values = [int(row["index"]) for row in rows]
        given = [row["name"] or "" for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: expected columns 'index' and 'name', with integers ({error!r})") from error
    kept = [(value, name) for value, name in zip(values, given, strict=True) if value != 0]
    names = identifiers(["background", *(name for _, name in kept)])[1:]
    return {"background": 0, **{name: value for name, (value, _) in zip(names, kept, strict=True)}}
