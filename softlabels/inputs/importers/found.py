"""Labels that are given on the command line, or found in the label files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from softlabels._shared.cpus import usable_cpus
from softlabels.classes import BACKGROUND, grammar_faults
from softlabels.errors import ConfigError
from softlabels.inputs.header import Segment
from softlabels.inputs.importers.base import Labels, identifiers
from softlabels.inputs.segments import segment_labels
from softlabels.inputs.sheet import Case
from softlabels.inputs.volume import read_header, read_volume

_MOST_LABELS = 512


def given_labels(text: str) -> Labels:
    """Return labels as they are given on the command line.

    Parameters
    ----------
    text : str
        `NAME=VALUE` or, for a region, `NAME=VALUE,VALUE,...`, separated by spaces. The background may be left out.

    Raises
    ------
    ConfigError
        With every fault of the names and values.

    Examples
    --------
    >>> given_labels("whole_tumor=1,2,3 enhancing=3")
    {'background': 0, 'whole_tumor': [1, 2, 3], 'enhancing': 3}
    """
    labels: Labels = {BACKGROUND: 0}
    for word in text.split():
        name, _, values = word.partition("=")
        try:
            numbers = [int(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not numbers or identifiers([name]) != [name] or (name in labels and name != BACKGROUND):
            raise ConfigError(
                f"--labels: got {word!r}, expected NAME=VALUE or NAME=VALUE,VALUE; a name has letters, digits and _, "
                "begins with a letter, and is given once"
            )
        labels[name] = numbers if len(numbers) > 1 else numbers[0]
    if faults := grammar_faults(labels):
        raise ConfigError(f"--labels: {'; '.join(faults)}")
    return labels


def found_labels(
    cases: list[Case], follow: Callable[[Iterable[set[int]], int], Iterable[set[int]]] = lambda items, _: items
) -> Labels:
    """Return the labels that occur in the label files of all cases.

    Names are those of the segments, if all files are segmentations of 3D Slicer; else `foreground`, or `label_1`, ...

    Parameters
    ----------
    cases : list of Case
    follow : callable, optional
        Gets an iterable and its length, and returns the iterable: a progress bar.

    Raises
    ------
    ConfigError
        Segmentations name the same value differently, or there are so many values that the files are no labels.
    InputError
        A label file cannot be read.

    Notes
    -----
    Cost: reading every label file.
    """
    segments = [read_header(case.label, case.spacing).segments for case in cases]
    if all(segments):
        return _of_segments(cases, segments)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        read = pool.map(_values, cases)
        values = sorted(set().union(*follow(read, len(cases))) | {0})
    if len(values) > _MOST_LABELS:
        raise ConfigError(f"labels: found {len(values)} values; expected label files with at most {_MOST_LABELS}")
    if len(values) == 2:
        return {BACKGROUND: 0, "foreground": values[1]}
    return {BACKGROUND: 0, **{f"label_{value}": value for value in values if value}}


def segment_colours(cases: list[Case], labels: Labels) -> dict[str, str]:
    """Return class name to the colour of its segment in segmentations of 3D Slicer; where they differ, the first.

    Parameters
    ----------
    cases : list of Case
    labels : dict
        As `found_labels` returns them.
    """
    found: dict[str, str] = {}
    for case in cases:
        for segment in read_header(case.label, case.spacing).segments:
            (name,) = identifiers([segment.name])
            if segment.colour and name in labels:
                found.setdefault(name, segment.colour)
    return found


def _values(case: Case) -> set[int]:
    """Return the values in a label file."""
    return {int(v) for v in np.unique(read_volume(case.label, role="label", spacing=case.spacing).values)}


def _of_segments(cases: list[Case], segments: list[tuple[Segment, ...]]) -> Labels:
    """Return the labels of segmentations that all name their values alike."""
    layered = any(segment.layer for of_case in segments for segment in of_case)
    merged: dict[int, str] = {}
    for case, of_case in zip(cases, segments, strict=True):
        if layered and [one.name for one in of_case] != [one.name for one in segments[0]]:
            raise ConfigError(
                f"case {case.id}: got segments {[one.name for one in of_case]}, expected "
                f"{[one.name for one in segments[0]]} in this order as in case {cases[0].id}, because they may overlap"
            )
        for one in of_case:
            if not layered and merged.setdefault(one.value, one.name) != one.name:
                raise ConfigError(
                    f"case {case.id}: value {one.value} is segment {one.name!r}, but {merged[one.value]!r} in others; "
                    "give the same segments the same values"
                )
    of_one = segments[0] if layered else [Segment(name, value) for value, name in sorted(merged.items())]
    given = segment_labels(of_one)
    names = identifiers([BACKGROUND, *given])[1:]
    return {BACKGROUND: 0, **dict(zip(names, given.values(), strict=True))}
