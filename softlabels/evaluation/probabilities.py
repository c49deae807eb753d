"""Probabilities of a network from files, on the grid of an image: NPZ as nnU-Net writes it, or NIfTI."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.files import atomic_writer
from softlabels._shared.numpy_files import read_array
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.volume import read_volume


def read_probabilities(paths: Sequence[str | Path], grid: Grid) -> NDArray[np.float32]:
    """Return the probabilities of a case.

    Parameters
    ----------
    paths : sequence of paths
        One NPZ of an array (C, D, H, W), as nnU-Net's ``--save_probabilities`` writes it beside its segmentation; or
        one image file with a channel per class; or an image file per class, in their order.
    grid : Grid
        Of the image. Files with a geometry must agree with it; an NPZ has none, so that its shape must.

    Returns
    -------
    (C, D, H, W) float32 array

    Raises
    ------
    InputError
        If a file cannot be read, or is on another grid.
    """
    if len(paths) == 1 and Path(paths[0]).suffix == ".npz":
        found = _read_npz(Path(paths[0]))
        if found.ndim != 4 or found.shape[1:] != grid.shape:
            raise InputError(
                f"{paths[0]}: got shape {found.shape}, expected (classes, {', '.join(map(str, grid.shape))}) as the "
                "image has. nnU-Net writes NPZ files in the axes of its reader: SimpleITKIO and NibabelIO agree with "
                "the file, NibabelIOWithReorient does not; convert to NIfTI then"
            )
        return found.astype(np.float32)
    channels: list[NDArray[np.float32]] = []
    for path in paths:
        volume = read_volume(path)
        if differences := volume.grid.differences(grid):
            raise InputError(f"{path}: is on another grid than the image: {'; '.join(differences)}. Resample it first")
        values = volume.values if volume.values.ndim == 4 else volume.values[None]
        channels += [np.asarray(one, np.float32) for one in values]
    return np.stack(channels)


def read_image(paths: Sequence[str | Path]) -> tuple[NDArray[np.float32], Grid]:
    """Return the channels of a case (M, D, H, W), and their grid.

    Raises
    ------
    InputError
        If a file cannot be read, or the files are on several grids.
    """
    channels: list[NDArray[np.float32]] = []
    grid: Grid | None = None
    for path in paths:
        volume = read_volume(path)
        grid = grid or volume.grid
        if differences := volume.grid.differences(grid):
            raise InputError(f"{path}: is on another grid than {paths[0]}: {'; '.join(differences)}")
        values = volume.values if volume.values.ndim == 4 else volume.values[None]
        channels += [np.asarray(one, np.float32) for one in values]
    if grid is None:
        raise InputError("image: got no file, expected at least one")
    return np.stack(channels), grid


def read_pairs(path: str | Path) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return probabilities and true soft label of each row of a sheet, to fit a temperature on.

    Parameters
    ----------
    path : path
        Tab separated, or comma separated if it ends in .csv, with the columns ``probabilities`` and ``reference``:
        each one file with all classes. Relative paths start at the sheet's folder.

    Raises
    ------
    InputError
        If the sheet has no such columns or no row, or a file cannot be read.
    """
    path = Path(path)
    delimiter = "," if path.suffix.lower() == ".csv" else "\t"
    with path.open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter=delimiter))
    if not rows or not {"probabilities", "reference"} <= set(rows[0]):
        raise InputError(f"{path}: expected the columns probabilities and reference, and a row for each case")
    pairs = []
    for row in rows:
        truth, grid = read_image([path.parent / row["reference"]])
        pairs.append((read_probabilities([path.parent / row["probabilities"]], grid), truth))
    return pairs


def write_npz(path: str | Path, probabilities: NDArray[np.float32]) -> Path:
    """Write probabilities (C, D, H, W) as nnU-Net's array ``probabilities`` in an NPZ, in one step.

    Raises
    ------
    StoreError
        If the file cannot be written.
    """
    with atomic_writer(path) as file:
        np.savez_compressed(file, probabilities=probabilities)
    return Path(path)


def _read_npz(path: Path) -> NDArray[np.floating]:
    """Return the array of an NPZ: nnU-Net's, or the only one."""
    found = read_array(path)
    if found.dtype.kind != "f":
        raise InputError(f"{path}: got {found.dtype}, expected floating point probabilities")
    return found
