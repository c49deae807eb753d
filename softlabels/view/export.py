"""NIfTI files of what the store holds, at the right place in space, for viewers and tools that do not read Zarr."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from softlabels._shared.files import atomic_writer
from softlabels.blend import RULES, blend, class_masks, resolved_blend
from softlabels.errors import InputError, StoreError

_SUFFIXES = (".nii.gz", ".nii")
#: Largest cosine between two axes of a grid that still counts as orthogonal.
_SHEAR_TOLERANCE = 1e-4


def export_layer(entry, layer: str, path) -> Path:
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


def export_target(prepare, entry, target: dict, path, **parameters) -> Path:
    """Write the soft label that the loader makes of a target, for the whole case; see `write_nifti`.

    Parameters
    ----------
    prepare : Entry
        The case's prepare entry: its labels.
    entry : Entry or None
        The target's entry; None if the loader derives it from the labels.
    target : dict
        The target's description in index.json.
    path : path
        Ends in .nii.gz or .nii.
    **parameters : float
        alpha, delta or epsilon instead of those of the index.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If a parameter is not one of the target's blend.
    """
    rule = resolved_blend(target["blend"], **parameters)
    stored = entry.read("target") if RULES[rule["rule"]][1] else None
    masks = class_masks(prepare.read("labels"), target["classes"])
    return write_nifti(blend(masks, stored, is_overlapping=target["is_overlapping"], **rule), prepare.grid, path)


def write_nifti(values: np.ndarray, grid, path) -> Path:
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


def _sitk_image(values, grid) -> sitk.Image:
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
