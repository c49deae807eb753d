"""Reading image and label files so that nothing false gets in, and what is wrong with the files of a case.

`read_volume` reads one file, `read_case` all files of a case. `check_case` is the same reading with a list of findings
instead of an exception; the command `softlabels check` and the prepare stage use both, so they never disagree.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.cpus import usable_cpus
from softlabels.errors import InputError
from softlabels.grid import MAX_VOXELS, Grid
from softlabels.inputs.labels import label_counts, undeclared
from softlabels.inputs.sheet import Case
from softlabels.inputs.stream import FileState
from softlabels.inputs.volume import Volume, read_volume

__all__ = ["CaseVolumes", "Finding", "Volume", "check_case", "read_case", "read_volume"]


Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class CaseVolumes:
    """All files of a case, on one grid.

    Parameters
    ----------
    image : (M, D, H, W) float32 array
    labels : (D, H, W) array
        uint8, uint16 or int32: the smallest that holds the labels.
    raters : (R, D, H, W) array or None
        `labels` and the further raters' labels, if the case has any.
    grid : Grid
        Of the first image file.
    digests : dict
        Role ("image:0", "label", "rater:1") to the file's digest.
    states : dict
        Role to size and time of last change of the file that was read.
    flags : tuple of str
        Valid but remarkable: `empty_label`, `absent_label:<value>`, `constant_image:<channel>`; those of rater i > 0
        end in `@rater:<i>`.
    notes : tuple of str
        Remarks on headers, for people.
    """

    image: NDArray[np.float32]
    labels: NDArray[Any]
    raters: NDArray[Any] | None
    grid: Grid
    digests: dict[str, str]
    states: dict[str, FileState]
    flags: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One finding in the files of a case.

    Attributes
    ----------
    case_id, role : str
        Which file: ``image:0``, ``label``, ``rater:1``.
    message : str
    severity : {"error", "warning", "note"}
        An error must be repaired before the case can be used. A warning is a valid but remarkable answer, such as
        ``empty_label``; it becomes a flag of the case. A note is for people.
    """

    case_id: str
    role: str
    message: str
    severity: Severity = "error"

    @property
    def is_error(self) -> bool:
        """Whether the case cannot be used before this is repaired."""
        return self.severity == "error"

    def __str__(self) -> str:
        return f"case {self.case_id}, {self.role}: {self.message}"


def read_case(
    case: Case,
    channels: Sequence[str],
    label_values: Collection[int],
    ignore_label: int | None = None,
    *,
    threads: int | None = None,
    max_voxels: int = MAX_VOXELS,
) -> CaseVolumes:
    """Read and verify all files of a case.

    Parameters
    ----------
    case : Case
    channels : sequence of str
        Names of the image channels.
    label_values : collection of int
        Every label that may occur.
    ignore_label : int, optional
        A further label that may occur; it means "unknown".
    threads : int, optional
        Files read, and channels copied, at once; by default the CPUs that this process may use. No effect on the
        result.
    max_voxels : int
        See `read_volume`.

    Returns
    -------
    CaseVolumes

    Raises
    ------
    InputError
        With the case id and every fault of every file.
    """
    volumes, findings = _inspect(case, channels, label_values, ignore_label, threads, max_voxels)
    errors = [finding for finding in findings if finding.is_error]
    if errors:
        raise InputError("; ".join(map(str, errors)))
    images = [volumes[role] for role in volumes if role.startswith("image")]
    labels = [volumes[role].values for role in volumes if not role.startswith("image")]
    widest = np.result_type(*labels)
    return CaseVolumes(
        image=_stacked(images, len(channels), threads),
        labels=labels[0].astype(widest, copy=False),
        raters=np.stack(labels).astype(widest, copy=False) if len(labels) > 1 else None,
        grid=images[0].grid,
        digests={role: volume.digest for role, volume in volumes.items()},
        states={role: volume.state for role, volume in volumes.items()},
        flags=tuple(finding.message for finding in findings if finding.severity == "warning"),
        notes=tuple(f"{finding.role}: {finding.message}" for finding in findings if finding.severity == "note"),
    )


def check_case(
    case: Case,
    *,
    channels: Sequence[str],
    label_values: Collection[int],
    ignore_label: int | None = None,
    threads: int | None = None,
    max_voxels: int = MAX_VOXELS,
) -> list[Finding]:
    """Return everything that is wrong (`is_error`) or remarkable in the files of a case; cost: one pass over them.

    Parameters are those of `read_case`, which raises exactly if one of these findings is an error.
    """
    return _inspect(case, channels, label_values, ignore_label, threads, max_voxels)[1]


def _stacked(images: list[Volume], n_channels: int, threads: int | None) -> NDArray[np.float32]:
    """Return the channels of all image files as one (M, D, H, W) float32 array."""
    stacked = np.empty((n_channels, *images[0].grid.shape), np.float32)
    channels = [values for image in images for values in image.values.reshape(-1, *image.grid.shape)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(np.copyto, stacked, channels))
    return stacked


def _inspect(
    case: Case,
    channels: Sequence[str],
    label_values: Collection[int],
    ignore_label: int | None,
    threads: int | None,
    max_voxels: int,
) -> tuple[dict[str, Volume], list[Finding]]:
    """Read all files of a case; return ({role: Volume} of those that could be read, [Finding])."""
    files = list(case.files())

    def read(item: tuple[str, str]) -> Volume | Finding:
        role, path = item
        try:
            kind = "image" if role.startswith("image") else "label"
            return read_volume(path, role=kind, max_voxels=max_voxels, spacing=case.spacing)
        except InputError as error:
            return Finding(case.id, role, str(error))

    with ThreadPoolExecutor(threads or usable_cpus()) as pool:
        results = dict(zip([role for role, _ in files], pool.map(read, files), strict=True))
    findings = [result for result in results.values() if isinstance(result, Finding)]
    volumes = {role: result for role, result in results.items() if isinstance(result, Volume)}
    findings += [Finding(case.id, role, note, "note") for role, volume in volumes.items() for note in volume.notes]
    findings += _channel_findings(case, channels, volumes)
    findings += _grid_findings(case, volumes)
    for role, volume in volumes.items():
        if not role.startswith("image"):
            findings += _label_findings(case, role, volume, label_values, ignore_label)
    return volumes, findings


def _channel_findings(case: Case, channels: Sequence[str], volumes: dict[str, Volume]) -> list[Finding]:
    """Return findings on the number of channels, and on channels of one value only."""
    findings = []
    expected = len(channels) if len(case.images) == 1 else 1
    if len(case.images) not in (1, len(channels)):
        wanted = f"expected 1 or {len(channels)} ({', '.join(channels)})"
        findings.append(Finding(case.id, "image", f"got {len(case.images)} image files, {wanted}; correct the sheet"))
    for index, path in enumerate(case.images):
        role = f"image:{index}"
        if role not in volumes:
            continue
        values = volumes[role].values.reshape(-1, *volumes[role].grid.shape)
        if len(values) != expected:
            message = f"{path}: got {len(values)} channels, expected {expected}; correct `channels` or the sheet"
            findings.append(Finding(case.id, role, message))
            continue
        for channel, part in enumerate(values, start=index):
            if part.min() == part.max():
                name = channels[channel] if channel < len(channels) else channel
                findings.append(Finding(case.id, role, f"constant_image:{name}", severity="warning"))
    return findings


def _grid_findings(case: Case, volumes: dict[str, Volume]) -> list[Finding]:
    """Return how the files differ from the first readable image in the positions of their voxels."""
    reference = next((role for role in volumes if role.startswith("image")), None)
    findings: list[Finding] = []
    if reference is None:
        return findings
    first = volumes[reference]
    for role, volume in volumes.items():
        tolerance_mm = first.grid.tolerance_mm + first.noise_mm + volume.noise_mm
        differences = first.grid.differences(volume.grid, tolerance_mm)
        if differences:
            notes = " ".join(f"({r}: {note})" for r in (reference, role) for note in volumes[r].notes)
            message = (
                f"not on the grid of {reference}: {', '.join(differences)}; resample it onto that grid {notes}".strip()
            )
            findings.append(Finding(case.id, role, message))
    return findings


def _label_findings(
    case: Case, role: str, volume: Volume, label_values: Collection[int], ignore_label: int | None
) -> list[Finding]:
    """Return findings on the labels that occur or do not."""
    counts = label_counts(volume.values)
    unknown = undeclared(counts, label_values, ignore_label)
    suffix = "" if role == "label" else f"@{role}"
    findings = []
    if unknown:
        shown = ", ".join(f"{value} ({n} of {volume.grid.n_voxels} voxels)" for value, n in list(unknown.items())[:8])
        message = f"labels that are not declared: {shown}; expected {sorted(label_values)}; declare or remap them"
        findings.append(Finding(case.id, role, message))
    # Neither a fully labelled case nor one of which nothing but what to ignore is known lacks the ignore label.
    wanted = [value for value in sorted(label_values) if value not in (0, ignore_label)]
    if not any(value in counts for value in wanted):
        return [*findings, Finding(case.id, role, f"empty_label{suffix}", severity="warning")]
    absent = [value for value in wanted if value not in counts]
    findings += [Finding(case.id, role, f"absent_label:{value}{suffix}", severity="warning") for value in absent]
    return findings
