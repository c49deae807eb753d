"""The case sheet: which files make up which case.

A sheet is a table, tab separated (or comma separated if its name ends in `.csv`), with one row for each case. Only the
standard library is used, and no image is opened, because the workflow parses the sheet in each of its jobs.
"""

from __future__ import annotations

import csv
import difflib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from softlabels._shared.counts import bounded, counted
from softlabels._shared.files import read_small_text, write_atomically
from softlabels._shared.plain_json import canonical_json
from softlabels.errors import ConfigError

MAX_CASE_ID = 100
CASE_ID = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{MAX_CASE_ID - 1}}}")
#: Names that the results folder uses itself; a case may not be called so, nor so with an extension.
RESERVED = frozenset(
    {"batches", "benchmarks", "cohort", "index", "logs", "montage", "rank", "report", "status", "store", "tune"}
)
#: In the column `reference`: the mean of the further raters.
RATERS = "raters"
#: A row for each case, with some paths of a few hundred characters: enough for a million cases.
_MOST_BYTES = 2**30
_WORD = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Parameters
    ----------
    id : str
        Unique name, safe as a folder name and in a shell.
    images : tuple of str
        One path per channel, or a single path to a file that holds all channels.
    label : str
        Path of the label file.
    raters : tuple of str
        Paths of further label files of the same image; `label` is rater 0.
    split : str or None
        For example "train"; None if the sheet does not say.
    spacing : 3 floats or None
        Voxel size in mm, (z, y, x), of files that have no geometry of their own (`.b2nd`).
    reference : tuple of str
        Paths of the true soft label, which no target is computed from: one file for all classes, or one for each of
        `reference_classes`. Or `RATERS`: the mean of `raters`. Empty if it is not known.
    reference_classes : tuple of str
        The class of each of several reference files.
    """

    id: str
    images: tuple[str, ...]
    label: str
    raters: tuple[str, ...] = ()
    split: str | None = None
    spacing: tuple[float, float, float] | None = None
    reference: tuple[str, ...] = ()
    reference_classes: tuple[str, ...] = ()

    @property
    def has_rater_reference(self) -> bool:
        """Whether the reference is the mean of the further raters."""
        return self.reference == (RATERS,)

    def files(self) -> Iterator[tuple[str, str]]:
        """Yield (role, path) of every file that targets are computed from: `image:0`, ..., `label`, `rater:1`, ...

        Examples
        --------
        >>> list(Case("a", ("a.nii.gz",), "a_seg.nii.gz").files())
        [('image:0', 'a.nii.gz'), ('label', 'a_seg.nii.gz')]
        """
        yield from ((f"image:{i}", path) for i, path in enumerate(self.images))
        yield "label", self.label
        yield from ((f"rater:{i}", path) for i, path in enumerate(self.raters, start=1))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Case:
        """Return the case whose `dataclasses.asdict` went through JSON, which has no tuples."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        return cls(**values)


def cases_to_json(cases: Iterable[Case]) -> str:
    """Return cases as canonical JSON without their splits and references: no result depends on those."""
    contents = [asdict(replace(case, split=None)) for case in cases]
    for content in contents:
        del content["reference"], content["reference_classes"]
    return canonical_json(contents).decode()


def cases_from_json(text: str) -> list[Case]:
    """Return the cases that `cases_to_json` wrote.

    Examples
    --------
    >>> cases = [Case("a", ("a.b2nd",), "a_seg.b2nd", spacing=(3.0, 1.0, 1.0))]
    >>> cases_from_json(cases_to_json(cases)) == cases
    True
    """
    return [Case.from_json(content) for content in json.loads(text)]


def case_id_fault(case_id: str) -> str | None:
    """Return what is wrong with a case id, or None if it may be used.

    Examples
    --------
    >>> case_id_fault("BraTS-GLI-00000-000") is None
    True
    >>> case_id_fault("../x")
    "case id '../x': expected a letter or digit, then at most 99 of A-Z a-z 0-9 _ . -"
    """
    shown = repr(case_id if len(case_id) <= 40 else case_id[:37] + "...")
    if not CASE_ID.fullmatch(case_id):
        return f"case id {shown}: expected a letter or digit, then at most 99 of A-Z a-z 0-9 _ . -"
    if case_id.endswith("."):
        return f"case id {shown}: may not end with a dot"
    if case_id.split(".")[0].lower() in RESERVED:
        return f"case id {shown}: the results folder uses this name itself; choose another, such as 'case_{case_id}'"
    return None


def read_sheet(path: str | os.PathLike[str], channels: Sequence[str], *, check_files: bool = False) -> list[Case]:
    """Read a case sheet, in the order of its rows.

    Columns: `case`; one `image:<channel>` for each channel, or one `image` for a file that holds all channels; `label`;
    any number of `label:<rater>` (an empty cell: this rater did not label the case); `split` (may be empty); `spacing`
    (z y x in mm, for files without a geometry of their own); `reference` (a file with a channel per class, or the word
    `raters`) or one `reference:<class>` for each class, the background omitted or not (empty: not known). Columns
    `meta:<anything>` are not read. Empty lines and lines that begin with `#` are skipped. Relative paths count from the
    folder of the sheet.

    Parameters
    ----------
    path : path-like
        The sheet, UTF-8.
    channels : sequence of str
        Names of the image channels, in the order in which they are to be stored.
    check_files : bool
        Also look whether each file exists (one `stat` for each).

    Returns
    -------
    list of Case
        At least one.

    Raises
    ------
    ConfigError
        With every fault of the sheet and its line numbers.
    """
    lines = _read_lines(Path(path))
    header = lines.pop(0)[1] if lines else []
    faults = _header_faults(header, channels)
    if faults:
        raise ConfigError(_listed(path, faults))
    folder = os.path.dirname(os.path.abspath(path))
    image_columns = ["image"] if "image" in header else [f"image:{c}" for c in channels]
    cases = []
    first_line: dict[str, int] = {}
    for number, cells in lines:
        if len(cells) != len(header):
            faults.append(f"line {number}: got {len(cells)} cells, expected {len(header)} as in the header")
            continue
        case, found = _parse_row(dict(zip(header, cells, strict=True)), image_columns, folder, check_files)
        seen = first_line.setdefault(case.id.lower(), number)
        if seen != number:
            found.append(f"case id {case.id!r}: already used in line {seen} (upper and lower case count as equal)")
        faults += [f"line {number}: {fault}" for fault in found]
        cases.append(case)
    if not cases and not faults:
        faults.append("no case: got a header only, expected one row for each case")
    if faults:
        raise ConfigError(_listed(path, faults))
    return cases


def read_meta(path: str | os.PathLike[str]) -> dict[str, dict[str, str]]:
    """Return the columns `meta:<name>` of a sheet that `read_sheet` accepts: case id to name to cell, "" if empty.

    Raises
    ------
    ConfigError
        If the sheet cannot be read as a table.
    """
    (_, header), *lines = _read_lines(Path(path))
    rows = (dict(zip(header, cells, strict=True)) for _, cells in lines)
    return {
        row["case"]: {column.removeprefix("meta:"): row[column] for column in header if column.startswith("meta:")}
        for row in rows
    }


def write_sheet(
    cases: Iterable[Case],
    path: str | os.PathLike[str],
    channels: Sequence[str],
    originals: Mapping[str, str] | None = None,
) -> None:
    """Write a sheet that `read_sheet` reads back; files below the folder of the sheet are named relative to it.

    Without cases it is a header to fill in.

    Parameters
    ----------
    cases : iterable of Case
        All with the same number of image files: one for each channel, or one.
    path : path-like
        Where to write; an existing file is replaced. Commas separate the columns if it ends in `.csv`, else tabs.
    channels : sequence of str
        Names of the image channels.
    originals : mapping of str to str, optional
        Case id to the name that the case had before, for the column `meta:original`.

    Raises
    ------
    ConfigError
        The cases have different numbers of image files, or neither one nor one for each channel.
    """
    cases = list(cases)
    counts = sorted({len(case.images) for case in cases})
    if counts not in ([], [1], [len(channels)]):
        raise ConfigError(f"sheet {path}: got cases with {counts} image files, expected all 1 or all {len(channels)}")
    images = ["image"] if counts == [1] else [f"image:{c}" for c in channels]
    n_raters = max((len(case.raters) for case in cases), default=0)
    has_split, has_spacing = any(case.split for case in cases), any(case.spacing for case in cases)
    folder = Path(os.path.abspath(path)).parent
    table = io.StringIO(newline="")
    writer = csv.writer(table, delimiter=_delimiter(path), lineterminator="\n")
    raters = [f"label:{i}" for i in range(1, n_raters + 1)]
    references = list(dict.fromkeys(column for case in cases for column in _reference_cells(case, folder)))
    meta = ["meta:original"] if originals else []
    optional = [*["split"] * has_split, *["spacing"] * has_spacing, *references, *meta]
    writer.writerow(["case", *images, "label", *raters, *optional])
    for case in cases:
        files = [_relative(p, folder) for p in (*case.images, case.label, *case.raters)]
        files += [""] * (n_raters - len(case.raters))
        spacing = " ".join(map(repr, case.spacing or ()))
        cells = [_reference_cells(case, folder).get(column, "") for column in references]
        cells += [(originals or {}).get(case.id, case.id)] * len(meta)
        writer.writerow([case.id, *files, *[case.split or ""] * has_split, *[spacing] * has_spacing, *cells])
    write_atomically(path, table.getvalue())


def _delimiter(path: str | os.PathLike[str]) -> str:
    """Return the character between the cells of a sheet of this name."""
    return "," if str(path).lower().endswith(".csv") else "\t"


def _reference_cells(case: Case, folder: Path) -> dict[str, str]:
    """Return what a sheet says of the reference of a case: column to cell."""
    if not case.reference:
        return {}
    if case.has_rater_reference:
        return {"reference": RATERS}
    columns = [f"reference:{name}" for name in case.reference_classes] or ["reference"]
    return {column: _relative(path, folder) for column, path in zip(columns, case.reference, strict=True)}


def _relative(path: str, folder: Path) -> str:
    """Return `path`, relative to `folder` if it is below it, else absolute, as a sheet in UTF-8 has it."""
    absolute = Path(os.path.abspath(path))
    shortest = absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute
    return os.fsencode(shortest).decode("utf-8", "surrogateescape")


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line number, cells) of each line that is neither empty nor a comment."""
    try:
        table = io.StringIO(read_small_text(path, _MOST_BYTES), newline="")
        reader = csv.reader(table, delimiter=_delimiter(path), strict=True)
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except OSError as error:
        raise ConfigError(f"sheet {path}: {error.strerror}; give the path of an existing table") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"sheet {path}: {error}; save it as UTF-8 text, tab or (.csv) comma separated") from error
    return [(number, row) for number, row in rows if any(row) and not row[0].startswith("#")]


def _header_faults(header: list[str], channels: Sequence[str]) -> list[str]:
    """Return what is wrong with the header line."""
    per_channel = [f"image:{c}" for c in channels]
    if len(header) == 1 and ";" in header[0]:
        return ["got semicolons between the cells, as Excel writes them in some countries; save it separated by tabs"]
    faults = [f"column {c!r}: given {header.count(c)} times" for c in sorted(set(header)) if header.count(c) > 1]
    faults += [f"column {c!r}: missing" for c in ("case", "label") if c not in header]
    named = [c for c in per_channel if c in header]
    if "image" in header and named:
        faults.append(f"columns 'image' and {named[0]!r}: expected one file for all channels or one for each, not both")
    elif "image" not in header:
        faults += [f"column {c!r}: missing" for c in per_channel if c not in header]
    if "reference" in header and (of_class := next((c for c in header if c.startswith("reference:")), None)):
        faults.append(
            f"columns 'reference' and {of_class!r}: expected one file for all classes or one for each, not both"
        )
    known = ["case", "image", *per_channel, "label", "split", "spacing", "reference"]
    for column in header:
        kind, _, name = column.partition(":")
        if column in known or (kind == "meta" and name) or (kind in ("label", "reference") and _WORD.fullmatch(name)):
            continue
        close = difflib.get_close_matches(column, known, n=1, cutoff=0.7)
        hint = f"did you mean {close[0]!r}? If not," if close else "if it is not for softlabels,"
        faults.append(f"column {column!r}: unknown; {hint} call it 'meta:{column}'")
    return faults


def _parse_row(
    row: dict[str, str], image_columns: Sequence[str], folder: str, check_files: bool
) -> tuple[Case, list[str]]:
    """Return the case of one row and what is wrong with it."""
    faults = [fault] if (fault := case_id_fault(row["case"])) else []
    rater_columns = [c for c in row if c.startswith("label:") and row[c]]
    reference_columns, found = _reference_columns(row, len(rater_columns))
    faults += found
    paths = {}
    for column in (*image_columns, "label", *rater_columns, *reference_columns):
        cell = row[column]
        # A sheet is UTF-8 whatever the locale, and so are the names in it: their bytes are those of the file's name.
        paths[column] = os.path.join(folder, os.fsdecode(cell.encode("utf-8")))
        if not cell or not cell.isprintable():
            faults.append(f"case {row['case']!r}, column {column!r}: got {cell!r}, expected a path")
        elif check_files and not os.path.isfile(paths[column]):
            faults.append(f"case {row['case']!r}, column {column!r}: no file {paths[column]}")
    split = row.get("split") or None
    if split and not _WORD.fullmatch(split):
        faults.append(f"case {row['case']!r}, column 'split': got {split!r}, expected one word")
    spacing = parsed_spacing(row.get("spacing", ""))
    if row.get("spacing") and spacing is None:
        faults.append(
            f"case {row['case']!r}, column 'spacing': got {row['spacing']!r}, expected 3 numbers > 0 in mm (z y x)"
        )
    images, raters, reference = (
        tuple(paths[c] for c in columns) for columns in (image_columns, rater_columns, reference_columns)
    )
    if row.get("reference") == RATERS:
        reference = (RATERS,)
    classes = tuple(name for c in reference_columns if (name := c.partition(":")[2]))
    return Case(row["case"], images, paths["label"], raters, split, spacing, reference, classes), faults


def _reference_columns(row: dict[str, str], n_raters: int) -> tuple[list[str], list[str]]:
    """Return the columns with the paths of the reference of one row, and what is wrong with them."""
    columns = [c for c in row if c.partition(":")[0] == "reference"]
    filled = [c for c in columns if row[c]]
    if row.get("reference") == RATERS:
        if n_raters >= 2:
            return [], []
        return [], [
            f"case {row['case']!r}, column 'reference': got raters, but {n_raters} label:<rater> files, expected at "
            "least 2 besides label"
        ]
    if filled and len(filled) < len(columns):
        empty = ", ".join(c for c in columns if c not in filled)
        return filled, [f"case {row['case']!r}: {empty} empty, expected a path in all reference columns or in none"]
    return filled, []


def parsed_spacing(cell: str) -> tuple[float, float, float] | None:
    """Return the three numbers of a cell, or None if they are not three numbers in (0, 10**6].

    Examples
    --------
    >>> parsed_spacing("3 0.5 0.5"), parsed_spacing("3 0.5"), parsed_spacing("3 nan 1")
    ((3.0, 0.5, 0.5), None, None)
    """
    try:
        z, y, x = (float(word) for word in cell.split())
    except ValueError:
        return None
    return (z, y, x) if all(0 < side <= 1e6 for side in (z, y, x)) else None


def _listed(path: str | os.PathLike[str], faults: list[str]) -> str:
    """Return one message for all faults of a sheet."""
    return f"sheet {path}: {counted(len(faults), 'error')}: " + "; ".join(bounded(faults))
