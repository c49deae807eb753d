"""NIfTI files of what the store holds, at the right place in space, for viewers and tools that do not read Zarr."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from softlabels._shared.files import atomic_writer
from softlabels.cohort.case import CaseTarget
from softlabels.errors import InputError, StoreError
from softlabels.grid import Grid
from softlabels.store.read import Entry

_SUFFIXES = (".nii.gz", ".nii")
#: Largest cosine between two axes of a grid that still counts as orthogonal.
_SHEAR_TOLERANCE = 1e-4


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


def export_target(target: CaseTarget, path: str | Path, **overrides: float | None) -> Path:
    """Write the soft label that training sees, for the whole case; see `write_nifti`.

    Parameters
    ----------
    target : CaseTarget
    path : path
        Ends in .nii.gz or .nii.
    **overrides : float
        alpha, delta or epsilon instead of those of the target's blend.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the target's blend has no such parameter.
    """
    return write_nifti(target.with_blend(**overrides).soft_label(), target.case.grid, path)


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
        If the suffix is another, or the affine is sheared, which qform and ITK cannot express.
    StoreError
        If the file cannot be written.
    """
    path = Path(path)
    suffix = next((s for s in _SUFFIXES if path.name.endswith(s)), None)
    if suffix is None:
        raise InputError(f"export: got {path.name!r}, expected a name that ends in {' or '.join(_SUFFIXES)}")
    image = _sitk_image(values, grid)
    with atomic_writer(path, suffix) as file:
        try:
            sitk.WriteImage(image, str(file.name), useCompression=suffix == ".nii.gz")
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise StoreError(f"{path}: cannot be written ({reason}); check the folder and free space") from error
    return path


def _sitk_image(values: NDArray[Any], grid: Grid) -> sitk.Image:
    """Return a 3D image, or a 4D one with the channels last."""
    values = values.astype(np.uint8) if values.dtype == bool else values
    place = grid.to_sitk()
    rotation = np.reshape(place["direction"], (3, 3))
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > _SHEAR_TOLERANCE:
        raise InputError("export: got a sheared affine, expected orthogonal axes. Resample the case (prepare.spacing)")
    volumes = []
    for volume in values if values.ndim == 4 else [values]:
        image = sitk.GetImageFromArray(volume)
        image.SetOrigin(place["origin"])
        image.SetSpacing(place["spacing"])
        image.SetDirection(place["direction"])
        volumes.append(image)
    return sitk.JoinSeries(volumes) if values.ndim == 4 else volumes[0]
