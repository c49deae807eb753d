"""An array from a file that has no geometry of its own: b2nd, PNG, TIFF and NumPy. Its spacing is in the case sheet."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.inputs.header import Header, checked_sizes

#: Types of samples that are real numbers or masks.
_KINDS = "iufb"


@dataclass(frozen=True)
class Frame:
    """An array that was opened, but not unpacked.

    Parameters
    ----------
    header : Header
        With the spacing of the sheet along the axes of the array; the first voxel is at the origin.
    decode : callable
        Returns the samples, (M, D, H, W), or raises InputError.
    is_palette : bool
        Whether the samples are numbers of colours in a table: labels, but no intensities.
    """

    header: Header
    decode: Callable[[], NDArray[Any]]
    is_palette: bool = False

    def read(self) -> tuple[NDArray[Any], str]:
        """Return the samples, (D, H, W) if there is one channel, and their digest.

        The digest is the sha256 of shape, dtype, spacing and samples: however the file is packed, it is the same.

        Raises
        ------
        InputError
            If the samples cannot be unpacked.
        """
        samples = self.decode()
        spacing = list(self.header.spacing_xyz[::-1])
        described = {"shape": list(samples.shape), "dtype": samples.dtype.str, "spacing_mm": spacing}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(samples).data)
        return samples[0] if len(samples) == 1 else samples, digest.hexdigest()


def frame_header(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    spacing: tuple[float, float, float],
    origin: str,
) -> Header:
    """Return the header of an array with the spacing of its case.

    Parameters
    ----------
    path : path-like
    shape : tuple of int
        (M, D, H, W).
    dtype : numpy dtype
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    origin : str
        What the array should be like, for the error.

    Raises
    ------
    InputError
        If it is no 4D array of real numbers.
    """
    if len(shape) != 4 or dtype.kind not in _KINDS:
        raise InputError(f"{path}: got {dtype} {tuple(shape)}, expected real numbers {origin}")
    n_channels, *size = shape
    size_xyz, spacing_xyz = checked_sizes(path, size[::-1]), checked_spacing(spacing)[::-1]
    return Header(
        dtype=dtype,
        size_xyz=(size_xyz[0], size_xyz[1], size_xyz[2]),
        n_channels=n_channels,
        channels_first=False,
        affine=np.diag([*spacing_xyz, 1.0]),
        spacing_xyz=(spacing_xyz[0], spacing_xyz[1], spacing_xyz[2]),
    )
