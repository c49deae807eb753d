"""What a header says about a file's samples, in one form for all formats."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError

MAX_SIZE = 32_767
_FARTHEST_MM = 1e9

Number = TypeVar("Number", int, float)


class DataFile(NamedTuple):
    """Where the samples are if not in the file of the header: a file, and how it is compressed (`stream.GZIP`, ...)."""

    path: Path
    packing: int | None = None


@dataclass(frozen=True)
class Segment:
    """One segment of a Slicer segmentation.

    Parameters
    ----------
    name : str
    value : int
        Of its voxels, within its layer.
    layer : int
        Which channel of the file holds it.
    colour : str or None
        ``#rrggbb``.
    """

    name: str
    value: int
    layer: int = 0
    colour: str | None = None


@dataclass(frozen=True)
class Header:
    """Layout and geometry of the samples of one file.

    Parameters
    ----------
    dtype : numpy dtype
        Of the stored samples, with their byte order.
    size_xyz : tuple of 3 ints
        Voxels along the three axes in space, the fastest first.
    n_channels : int
        Samples of a voxel.
    channels_first : bool
        Whether the channels of a voxel are next to each other (fastest axis) or whole volumes follow each other.
    affine : (4, 4) float64 array
        Voxel index (x, y, z, 1) to RAS+ mm.
    spacing_xyz : tuple of 3 floats
        Voxel size in mm.
    skip : int
        Bytes between the header and the samples, or, if they are in another file, from its beginning.
    scale : tuple of 2 floats, or None
        (slope, intercept) that turn stored samples into values.
    noise_mm : float
        How far in mm the rounding of the header's fields may move a corner of the volume.
    notes : list of str
        Unusual but valid header fields.
    data : DataFile or None
        The file that holds the samples, if it is another one.
    has_footer : bool
        Whether the format allows further bytes after the samples.
    segments : tuple of Segment
        Of a Slicer segmentation.
    """

    dtype: np.dtype[Any]
    size_xyz: tuple[int, int, int]
    n_channels: int
    channels_first: bool
    affine: NDArray[np.float64]
    spacing_xyz: tuple[float, float, float]
    skip: int = 0
    scale: tuple[float, float] | None = None
    noise_mm: float = 0.0
    notes: list[str] = field(default_factory=list)
    data: DataFile | None = None
    has_footer: bool = False
    segments: tuple[Segment, ...] = ()

    @property
    def n_voxels(self) -> int:
        """Samples in the file, all channels together."""
        return int(self.size_xyz[0]) * int(self.size_xyz[1]) * int(self.size_xyz[2]) * int(self.n_channels)


def shortest_decimal(value: float) -> float:
    """Return the shortest decimal that rounds to a float32: 0.9 mm is stored as 0.89999998, and meant as 0.9.

    Examples
    --------
    >>> shortest_decimal(0.8999999761581421)
    0.9
    """
    return float(str(np.float32(value)))


def checked_sizes(path: str | os.PathLike[str], sizes: Sequence[int]) -> tuple[int, ...]:
    """Return `sizes` if each is in 1..32767, else raise InputError."""
    if not all(1 <= n <= MAX_SIZE for n in sizes):
        raise InputError(f"{path}: got sizes {list(sizes)}, expected each in 1..{MAX_SIZE}; its header is damaged")
    return tuple(sizes)


def parse_numbers(path: str | os.PathLike[str], text: str, kind: Callable[[str], Number], what: str) -> list[Number]:
    """Return the numbers of a text header's field, or raise InputError."""
    try:
        return [kind(word) for word in text.split()]
    except (ValueError, OverflowError) as error:
        raise InputError(f"{path}: {what}: got {text[:60]!r}, expected numbers; its header is damaged") from error


def data_file_beside(path: Path, name: str) -> Path:
    """Return the data file that the header in `path` names, or raise InputError.

    A name that leads elsewhere is refused: headers come from others, and data moves along with them.
    """
    if not name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{path}: got data file {name!r}, expected a file in the folder of the header; move it there")
    return path.parent / name


def checked_geometry(path: str | os.PathLike[str], numbers: NDArray[np.float64], what: str) -> NDArray[np.float64]:
    """Return `numbers` of an affine (in mm) if none is beyond 1e9 or not finite, else raise InputError."""
    if not (np.abs(numbers) <= _FARTHEST_MM).all():
        raise InputError(f"{path}: {what}: got {numbers.tolist()}, expected finite mm; repair its header")
    return numbers
