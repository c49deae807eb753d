"""Images and masks that are found by patterns of their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from softlabels.errors import ConfigError
from softlabels.inputs.importers.base import Dataset, checked_cases, files_below, identifiers, with_safe_ids
from softlabels.inputs.sheet import Case

_FIELDS = ("case", "channel", "rater")


def import_pairs(images: str, labels: str, channels: list[str] | None = None) -> Dataset:
    """Read cases by two patterns, such as `images/{case}_{channel}.nii.gz` and `masks/{case}.nii.gz`.

    Parameters
    ----------
    images : str
        A path in which `{case}` stands for the name of the case and `{channel}` for that of a channel; `*` is any text
        and `**` any folders. Without `{channel}`, one file holds all channels.
    labels : str
        The same for labels; `{rater}` instead of `{channel}`, where several people labelled a case.
    channels : list of str, optional
        The channels to take, in this order; by default all, sorted.

    Returns
    -------
    Dataset
        Without labels, which the files must tell. Images without a label, labels without an image and cases that lack
        a channel are left out.

    Raises
    ------
    ConfigError
        A pattern without `{case}` or with another field, or nothing that matches.
    """
    found_labels = _matches(labels, "labels", allowed=("case", "rater"))
    found_images = _matches(images, "images", allowed=("case", "channel"), cases={case for case, _ in found_labels})
    by_case: dict[str, dict[str, Path]] = {}
    masks: dict[str, dict[str, Path]] = {}
    masks_of_all = set(found_labels.values())
    for (case, channel), path in found_images.items():
        # In a folder of its own, the label of a case often matches the pattern of its images too.
        if path not in masks_of_all:
            by_case.setdefault(case, {})[channel] = path
    for (case, rater), path in found_labels.items():
        masks.setdefault(case, {})[rater] = path
    has_channels = "{channel}" in images
    names = sorted({channel for files in by_case.values() for channel in files})
    wanted = channels if channels and has_channels else names
    left_out = [
        f"{next(iter(masks[case].values()))}: no image of case {case!r}" for case in masks if case not in by_case
    ]
    cases = []
    for case, files in by_case.items():
        missing = [name for name in wanted if name not in files]
        if case not in masks:
            left_out.append(f"{next(iter(files.values()))}: no label of case {case!r}")
        elif missing:
            left_out.append(f"case {case!r}: no channel {', '.join(missing)}")
        else:
            label, *raters = (str(path) for _, path in sorted(masks[case].items()))
            cases.append(Case(case, tuple(str(files[name]) for name in wanted), label, tuple(raters)))
    if not cases:
        raise ConfigError(
            f"--pairs: {len(by_case)} cases with images match {images!r}, {len(masks)} with labels match {labels!r}, "
            f"and none has both; for example: {_example(by_case)}; {_example(masks)}"
        )
    renamed, originals = with_safe_ids(cases)
    return Dataset(
        checked_cases(Path.cwd(), renamed),
        identifiers(wanted) if has_channels else list(channels or []),
        {},
        left_out,
        originals,
    )


def _example(found: Iterable[str]) -> str:
    """Return some names of cases, for an error."""
    return ", ".join(map(repr, sorted(found)[:3])) or "none"


def _matches(
    pattern: str, what: str, *, allowed: tuple[str, ...], cases: set[str] | None = None
) -> dict[tuple[str, str], Path]:
    """Return (case, other field or "") to the file that matches a pattern.

    Where `{case}_{channel}` can be divided in several ways, the longest case wins, unless only another is in `cases`.
    """
    unknown = sorted(set(re.findall(r"\{([^{}]*)\}", pattern)) - set(allowed))
    if "{case}" not in pattern or unknown:
        raise ConfigError(
            f"--pairs: {what}: got {pattern!r}, expected a path with {{case}}, and of other fields only "
            f"{{{allowed[1]}}}"
        )
    absolute = os.path.abspath(os.path.expanduser(os.path.expandvars(pattern)))
    fixed = re.split(r"[{*?]", absolute, maxsplit=1)[0]
    root = Path(fixed) if fixed.endswith("/") else Path(fixed).parent
    expressions = [_expression(absolute, is_greedy) for is_greedy in (True, False)]
    found: dict[tuple[str, str], Path] = {}
    for path in files_below(root):
        matches = [match for one in expressions if (match := one.fullmatch(str(path)))]
        if matches:
            match = next((one for one in matches if cases is None or one["case"] in cases), matches[0])
            fields = match.groupdict()
            key = (fields["case"], fields.get(allowed[1]) or "")
            if key in found:
                raise ConfigError(f"--pairs: {what}: {found[key]} and {path} are both {key}; make the pattern narrower")
            found[key] = path
    if not found:
        raise ConfigError(f"--pairs: {what}: no file matches {absolute!r}; quote the pattern, and check its folder")
    return found


def _expression(pattern: str, is_greedy: bool) -> re.Pattern[str]:
    """Return the regular expression of a pattern; a field that comes twice must be the same text.

    Examples
    --------
    >>> _expression("/d/{case}_{channel}.nii.gz", True).fullmatch("/d/a_b_T1.nii.gz").groupdict()
    {'case': 'a_b', 'channel': 'T1'}
    >>> _expression("/d/{case}/**/{case}.png", True).fullmatch("/d/a/b/c/a.png")["case"]
    'a'
    """
    parts, seen = [], set()
    for token in re.split(r"(\{\w+\}|\*\*/|\*|\?)", pattern):
        field = token[1:-1] if token.startswith("{") else ""
        if field in _FIELDS:
            length = "+" if is_greedy == (field == "case") else "+?"
            parts.append(f"(?P={field})" if field in seen else f"(?P<{field}>[^/]{length})")
            seen.add(field)
        else:
            parts.append({"**/": r"(?:[^/]+/)*", "*": r"[^/]*", "?": r"[^/]"}.get(token, re.escape(token)))
    return re.compile("".join(parts))
