"""What a flag means for the reader of a report: how serious it is, and which flags have one cause.

Stages and methods flag what they see, each in its own words, so that one cause may appear several times in a case: a
class that does not occur is flagged by the input check, by the seeds and by every target.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

#: In the order in which they are shown. An alarm must not be trained on unseen; a note is no reason to look.
Severity = Literal["alarm", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("alarm", "warning", "note")


class Flag(NamedTuple):
    """A flag of a case, as a report shows it."""

    severity: Severity
    text: str


class _Kind(NamedTuple):
    """Flags that match a pattern: their severity, and the text that all of one cause share."""

    pattern: re.Pattern[str]
    severity: Severity
    text: str


def _kind(pattern: str, severity: Severity, text: str) -> _Kind:
    return _Kind(re.compile(pattern), severity, text)


_KINDS = (
    _kind(r"map (?P<what>.+): not certified exact", "alarm", "distance not certified exact: {what}"),
    _kind(r"class '(?P<what>.+)' present, but .*", "alarm", "class {what} is labelled, but its map is empty"),
    _kind(r"lost_label:(?P<what>\d+)", "alarm", "class {what} was lost in resampling"),
    _kind(r"empty_label(@(?P<what>.+))?", "warning", "no labelled voxel"),
    _kind(r"constant_image:(?P<what>.+)", "warning", "channel {what} is constant"),
    _kind(r"constant_in_domain:(?P<what>.+)", "warning", "channel {what} is constant inside the domain"),
    _kind(r"class '(?P<what>.+)' fills the volume.*", "warning", "class {what} fills the volume"),
    _kind(r"class (?P<what>\S+): (?P<used>.+), where (?P<strategy>.+) left none", "note",
          "class {what}: seeds by {used}, because {strategy} left none"),
    _kind(r"absent_label:(?P<what>\d+)(@.+)?", "note", "class {what} does not occur"),
    _kind(r"class '(?P<what>.+)' absent.*", "note", "class {what} does not occur"),
)  # fmt: skip


def case_flags(flags: Iterable[str], class_names: Mapping[int, str] | None = None) -> tuple[Flag, ...]:
    """Return the flags of a case by severity, each cause once.

    Parameters
    ----------
    flags : iterable of str
        As in the receipts. One that no stage of softlabels writes is a warning in its own words.
    class_names : mapping of int to str, optional
        Label values to names of classes.

    Examples
    --------
    >>> absent = ["absent_label:3", "class 'cyst' absent", "class 'cyst' absent: -1 everywhere"]
    >>> for flag in case_flags([*absent, "map T1:core: not certified exact"], {3: "cyst"}):
    ...     print(*flag)
    alarm distance not certified exact: T1:core
    note class cyst does not occur
    """
    names = {str(value): name for value, name in (class_names or {}).items()}
    seen = {_parsed(flag, names) for flag in flags}
    # Where a class does not occur, that no seed was found for it is the same cause.
    absent = {flag.text.split()[1] for flag in seen if flag.text.endswith("does not occur")}
    kept = {flag for flag in seen if not any(flag.text.startswith(f"class {name}: seeds by") for name in absent)}
    return tuple(sorted(kept, key=lambda flag: (SEVERITIES.index(flag.severity), flag.text)))


def worst(flags: Iterable[Flag]) -> Severity | None:
    """Return the highest severity, or None without flags."""
    return min((flag.severity for flag in flags), key=SEVERITIES.index, default=None)


def _parsed(flag: str, names: Mapping[str, str]) -> Flag:
    """Return a flag of a receipt in words, with its severity."""
    for kind in _KINDS:
        if match := kind.pattern.fullmatch(flag):
            fields = {key: value or "" for key, value in match.groupdict().items()}
            what = fields.get("what", "")
            return Flag(kind.severity, kind.text.format_map(fields | {"what": names.get(what, what)}))
    return Flag("warning", flag)
