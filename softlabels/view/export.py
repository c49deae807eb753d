"""NIfTI files of what the store holds, at the right place in space, for viewers and tools that do not read Zarr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels import __version__
from softlabels._shared.files import write_atomically
from softlabels._shared.nifti import write_nifti_file
from softlabels.cohort.case import CaseTarget
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.store.read import Entry
from softlabels.view.entries import CaseEntries, TargetEntries
from softlabels.view.sidecars import itksnap_labels, label_names, layer_sidecar, slicer_colours, target_sidecar

#: Largest cosine between two axes of a grid that still counts as orthogonal.
_SHEAR_TOLERANCE = 1e-4


def write_prepared(entries: CaseEntries, folder: Path) -> Iterator[Path]:
    """Write image, labels and what else the prepared case has, with names and colours beside them; yield the paths."""
    case_id, prepared = entries.case.id, entries.case.entry
    for layer in prepared.layers:
        path = export_layer(prepared, layer, folder / f"{case_id}_{layer}.nii.gz")
        yield from (path, _write_sidecar(path, layer_sidecar(case_id, prepared, layer)))
    classes = list(dict.fromkeys(c for one in entries.targets.values() for c in one.target.description.classes))
    names = label_names(classes)
    for ending, text in ((".label.txt", itksnap_labels(names)), (".ctbl", slicer_colours(names))):
        path = folder / f"{case_id}_labels{ending}"
        write_atomically(path, text)
        yield path


def write_target(
    entries: TargetEntries, folder: Path, *, class_names: Sequence[str] | None = None, is_whole: bool = False
) -> Iterator[Path]:
    """Write the soft label of a target with its sidecar; yield the paths.

    Parameters
    ----------
    entries : TargetEntries
    folder : Path
    class_names : sequence of str, optional
        A file for each of these classes, instead of one for all.
    is_whole : bool
        Also seeds and distances.
    """
    target, case_id = entries.target, entries.target.case.id
    for class_name in class_names or (None,):
        path = folder / f"{case_id}_{target.name}{f'_{class_name}' if class_name else ''}.nii.gz"
        yield export_target(target, path, class_name=class_name)
        names = target.description.class_names if class_name is None else [class_name]
        yield _write_sidecar(path, target_sidecar(target, names))
    for layer, entry in (("seeds", entries.seeds), ("distance", entries.distance)) if is_whole else ():
        if entry is not None:
            path = export_layer(entry, layer, folder / f"{case_id}_{target.name}_{layer}.nii.gz")
            yield from (path, _write_sidecar(path, layer_sidecar(case_id, entry, layer)))


def _write_sidecar(path: Path, content: Mapping[str, Any]) -> Path:
    """Write the JSON file beside a NIfTI file and return its path."""
    beside = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    write_atomically(beside, json.dumps({**content, "software": f"softlabels {__version__}"}, indent=2) + "\n")
    return beside


def export_layer(entry: Entry, layer: str, path: str | Path) -> Path:
    """Write one layer of an entry as it is stored; see `write_nifti`.

    Parameters
    ----------
    entry : Entry
    layer : str
        One of `entry.layers`, such as "image", "labels", "seeds", "distance" or "target".
    path : path
        Ends in .nii.gz or .nii.

    Returns
    -------
    Path
    """
    return write_nifti(entry.read(layer), entry.grid, path)


def export_target(
    target: CaseTarget, path: str | Path, *, class_name: str | None = None, **overrides: float | None
) -> Path:
    """Write the soft label that training sees, for the whole case; see `write_nifti`.

    Parameters
    ----------
    target : CaseTarget
    path : path
        Ends in .nii.gz or .nii.
    class_name : str, optional
        Only this class, as a 3D image.
    **overrides : float
        alpha, delta or epsilon instead of those of the target's blend.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the target's blend has no such parameter, or the target no such class.
    """
    names = target.description.class_names
    if class_name is not None and class_name not in names:
        raise InputError(f"export: target {target.name} has no class {class_name!r}, but {', '.join(names)}")
    soft_label = target.with_blend(**overrides).soft_label()
    values = soft_label if class_name is None else soft_label[names.index(class_name)]
    return write_nifti(values, target.case.grid, path)


def write_nifti(values: NDArray[Any], grid: Grid, path: str | Path) -> Path:
    """Write a volume as NIfTI-1, in one step.

    Parameters
    ----------
    values : (D, H, W) or (C, D, H, W) ndarray
        bool is written as uint8. Channels become the fourth NIfTI axis. Not modified.
    grid : Grid
        Of the last three axes.
    path : path
        Ends in .nii.gz or .nii; its folder is made.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the suffix or the dtype is another, or the affine is sheared, which qform and ITK cannot express.
    StoreError
        If the file cannot be written.
    """
    rotation = grid.affine_ras[:3, :3] / np.linalg.norm(grid.affine_ras[:3, :3], axis=0)
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > _SHEAR_TOLERANCE:
        raise InputError("export: got a sheared affine, expected orthogonal axes. Resample the case (prepare.spacing)")
    return write_nifti_file(values, grid.to_nifti_affine(), path)
