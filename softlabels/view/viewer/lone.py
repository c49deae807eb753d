"""The viewer's page in one file: no server, no network, 8 bits per voxel, its errors stated in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from softlabels import __version__
from softlabels._shared.files import write_atomically
from softlabels.errors import InputError
from softlabels.view.viewer.case_view import CaseView
from softlabels.view.viewer.fields import Field, label_field, whole_field
from softlabels.view.viewer.layers import ViewLayer
from softlabels.view.viewer.nifti import nifti_bytes
from softlabels.view.viewer.page import lone_page

BITS = 8
#: Voxels drawn of one channel, at most; more are thinned, which the page says.
MAX_VOXELS = 4_000_000
#: Voxels of all channels, at most: a browser must hold them, and the page is about as many bytes before compression.
MAX_TOTAL = 400_000_000


@dataclass(frozen=True)
class Written:
    """What a page holds of one layer: number of channels, bytes in the page, and the largest error of a value."""

    case: str
    layer: str
    n_channels: int
    n_bytes: int
    error: float
    scale: tuple[float, float]


def write_page(
    cases: Sequence[CaseView], path: Path, *, classes: Sequence[str] = (), is_whole: bool = False
) -> list[Written]:
    """Write cases as one self-contained HTML file, in one step.

    Parameters
    ----------
    cases : sequence of CaseView
    path : path
        Its folder is made.
    classes : sequence of str
        Names of classes to keep; all if empty. Channels that belong to no class are always kept.
    is_whole : bool
        The whole grid instead of the box around the labels, which has a margin of `fields.MARGIN_MM`.

    Returns
    -------
    list of Written
        One per layer and case.

    Raises
    ------
    InputError
        If a class does not exist, or the page would be too large for a browser; says how to make it smaller.
    StoreError
        If the file cannot be written.
    """
    fields = [_field(case, is_whole) for case in cases]
    chosen = [_chosen(case, set(classes)) for case in cases]
    _check_size(fields, chosen)
    files: dict[str, bytes] = {}
    written = []
    for number, (case, field, layers) in enumerate(zip(cases, fields, chosen, strict=True)):
        for layer, channels in layers:
            before, errors, scales = len(files), list[float](), list[tuple[float, float]]()
            for channel in channels:
                drawn, scale = case.drawn(layer.id, channel, field, BITS)
                files[f"{number}/{layer.id}/{channel}"] = nifti_bytes(drawn, field.grid(case.grid), scale, field.step)
                errors.append(drawn.error)
                scales.append(scale)
            size = sum(len(content) for content in list(files.values())[before:])
            ends = (min(low for low, _ in scales), max(high for _, high in scales))
            written.append(Written(case.id, layer.id, len(channels), size, max(errors), ends))
    facts = {
        "made by": f"softlabels {__version__}",
        "part": "; ".join(_spoken(case, field) for case, field in zip(cases, fields, strict=True)),
        "values": "8 bits per voxel; each value under the cursor is shown with its largest error",
    }
    write_atomically(path, lone_page([case.describe() for case in cases], files, facts))
    return written


def _field(case: CaseView, is_whole: bool) -> Field:
    """Return the part of a case that is written."""
    shape, spacing = case.grid.shape, case.grid.spacing
    if is_whole:
        return whole_field(shape, spacing, MAX_VOXELS)
    return label_field(case.foreground, shape, spacing, MAX_VOXELS)


def _chosen(case: CaseView, classes: set[str]) -> list[tuple[ViewLayer, list[int]]]:
    """Return each layer of a case with the channels that are written."""
    known = {one.class_name for layer in case.layers.values() for one in layer.channels if one.class_name is not None}
    if missing := sorted(classes - known):
        raise InputError(f"class {', '.join(missing)}: not in case {case.id}, which has {', '.join(sorted(known))}")
    found = []
    for layer in case.layers.values():
        kept = [
            number
            for number, one in enumerate(layer.channels)
            if not classes or one.class_name is None or one.class_name in classes
        ]
        if kept:
            found.append((layer, kept))
    return found


def _check_size(fields: list[Field], chosen: list[list[tuple[ViewLayer, list[int]]]]) -> None:
    """Raise InputError if the page would hold more voxels than a browser takes."""
    n_channels = [sum(len(channels) for _, channels in layers) for layers in chosen]
    total = sum(field.n_voxels * n for field, n in zip(fields, n_channels, strict=True))
    if total > MAX_TOTAL:
        raise InputError(
            f"view --html: got {sum(n_channels)} maps of up to {max(f.n_voxels for f in fields):,} voxels, "
            f"{total / 1e6:.0f} million together, expected at most {MAX_TOTAL / 1e6:.0f}. "
            "Choose with --target and --class-name, or leave --html out and look at the served page"
        )


def _spoken(case: CaseView, field: Field) -> str:
    """Return which part of a case is written, in words."""
    box = ", ".join(f"{name} {a} to {b - 1}" for name, a, b in zip("zyx", field.start, field.stop, strict=True))
    thinned = "" if max(field.step) == 1 else f", every {' x '.join(map(str, field.step))} voxel"
    return f"{case.id} voxels {box}{thinned}"
