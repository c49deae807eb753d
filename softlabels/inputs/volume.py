"""One image or label file, read in full and verified."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import MAX_VOXELS, Grid
from softlabels.inputs import b2nd, gipl, mgh, npy, pictures
from softlabels.inputs.detached import both, checked_ending, detached_header
from softlabels.inputs.foreign import unknown_format
from softlabels.inputs.frame import Frame
from softlabels.inputs.header import Header
from softlabels.inputs.labels import as_labels
from softlabels.inputs.segments import overlapping_labels
from softlabels.inputs.stream import FileState, Stream

#: Formats without a voxel size, by the first 4 bytes.
_FRAMES: dict[bytes, tuple[str, Callable[..., Frame]]] = {
    b2nd.START: ("b2nd", b2nd.open_frame),
    npy.START: ("NumPy", npy.open_frame),
    pictures.PNG_START: ("PNG", pictures.open_png),
    pictures.BMP_START: ("BMP", pictures.open_bmp),
    **dict.fromkeys(pictures.TIFF_STARTS, ("TIFF", pictures.open_tiff)),
}
#: The most bytes that a format may have after its samples.
_MOST_FOOTER = 1 << 24


@dataclass(frozen=True)
class Volume:
    """One file's values and their grid.

    Parameters
    ----------
    values : array
        (D, H, W), or (M, D, H, W) if the file holds several channels.
    grid : Grid
        Shape, spacing and affine.
    digest : str
        sha256 (hex) of the header and samples, unpacked: equal for a file and its gzipped copy.
    state : FileState
        Size and time of last change of the file that was read; see `detached.file_state` for an image in two files.
    noise_mm : float
        How far in mm the rounding of the header's fields may have moved a corner.
    notes : tuple of str
        Unusual but valid header fields.
    """

    values: NDArray[Any]
    grid: Grid
    digest: str
    state: FileState
    noise_mm: float = 0.0
    notes: tuple[str, ...] = ()


def read_volume(
    path: str | os.PathLike[str],
    *,
    role: str = "image",
    max_voxels: int = MAX_VOXELS,
    spacing: tuple[float, float, float] | None = None,
) -> Volume:
    """Read an image or label file in full, and believe nothing that was not verified.

    The format is recognised from the content. A file whose samples do not end exactly where its header says, whose gzip
    or zlib checksum is wrong, or whose geometry makes no sense is refused. Memory is taken only for what the file can
    really hold. Arrays stay as stored, in (z, y, x): the grid's affine carries the orientation.

    Parameters
    ----------
    path : path-like
        NIfTI, NRRD, MetaImage, MGH, GIPL, PNG, BMP, TIFF, NumPy, or b2nd as nnU-Net's preprocessing writes it. Of an
        image in two files, the header.
    role : {"image", "label"}
        A label must be one channel of exact integers, and comes as uint8, uint16 or int32. An image must be finite;
        it keeps its type, but becomes float32 (rounded once) if it has 64 bits or its header scales it.
    max_voxels : int
        A larger file is refused before it is unpacked.
    spacing : 3 floats, optional
        Voxel size in mm, (z, y, x): required for formats that have none (b2nd, PNG, TIFF, NumPy), and refused for all
        others.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        With the path and what is wrong.
    """
    try:
        with Stream(path) as stream:
            start = stream.read(4)
            given = _sheet_spacing(path, start, spacing)
            state = stream.state
            if given is not None:
                frame = _open_frame(stream, start, given)
                header = _of_lawful_size(path, frame.header, max_voxels)
                samples, digest = frame.read()
                if role == "image" and frame.is_palette:
                    raise InputError(f"{path}: got numbers of a colour table, expected intensities; save it as RGB")
                samples = b2nd.without_marks(samples) if role == "label" and start == b2nd.START else samples
            else:
                header = _of_lawful_size(path, _read_header(stream, start), max_voxels)
                samples, digest, state = _read_samples(stream, header)
        grid = Grid.from_xyz(header.size_xyz, header.affine, header.spacing_xyz)
        values = (_label_values if role == "label" else _image_values)(path, samples, header)
    except MemoryError as error:
        raise InputError(f"{path}: not enough memory for its voxels; give the job more memory") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}; the file system could not read it") from error
    except InputError as error:
        if str(error).startswith(str(path)):
            raise
        raise InputError(f"{path}: {error}") from error
    return Volume(values, grid, digest, state, header.noise_mm, tuple(header.notes))


def read_header(path: str | os.PathLike[str], spacing: tuple[float, float, float] | None = None) -> Header:
    """Return what the header of a file says of its samples, which are not unpacked.

    Parameters
    ----------
    path, spacing
        As for `read_volume`.

    Raises
    ------
    InputError
        With the path and what is wrong with the header.
    """
    with Stream(path) as stream:
        start = stream.read(4)
        given = _sheet_spacing(path, start, spacing)
        return _read_header(stream, start) if given is None else _open_frame(stream, start, given).header


def has_voxel_size(path: str | os.PathLike[str]) -> bool:
    """Whether a file's format gives the voxel size, so that the sheet must not; see `read_volume` for errors."""
    with Stream(path) as stream:
        return _frame_format(stream.read(4)) is None


def _sheet_spacing(
    path: str | os.PathLike[str], start: bytes, spacing: tuple[float, float, float] | None
) -> tuple[float, float, float] | None:
    """Return the spacing of the sheet where a file has none, else None; raise unless exactly one of them gives it."""
    name, _ = _frame_format(start) or (None, None)
    if name and spacing is None:
        raise InputError(f"{path}: {name} has no voxel size; give it in the sheet's column 'spacing' (z y x, mm)")
    if not name and spacing is not None:
        raise InputError(f"{path}: has a voxel size of its own; leave the sheet's column 'spacing' empty")
    return spacing


def _frame_format(start: bytes) -> tuple[str, Callable[..., Frame]] | None:
    """Return name and opener of a format without a voxel size, by the first 4 bytes; None for all others."""
    # The two letters of BMP are followed by the length of the file.
    return _FRAMES.get(pictures.BMP_START if start.startswith(pictures.BMP_START) else start)


def _open_frame(stream: Stream, start: bytes, spacing: tuple[float, float, float]) -> Frame:
    """Return the array of a file without a voxel size, of whichever format the first bytes are."""
    found = _frame_format(start)
    assert found is not None  # the sheet gives a spacing for these formats only
    return found[1](stream, start, spacing)


def _of_lawful_size(path: str | os.PathLike[str], header: Header, max_voxels: int) -> Header:
    """Return the header, or raise if it promises more voxels than allowed."""
    if header.n_voxels > max_voxels:
        raise InputError(f"{path}: got {header.n_voxels} voxels, expected at most {max_voxels}; crop it")
    return header


def _read_header(stream: Stream, start: bytes) -> Header:
    """Return the header, of whichever format the first bytes are."""
    header: Header | None
    if gipl.is_gipl(stream):
        header = gipl.read_header(stream, start)
    elif start == mgh.START:
        header = mgh.read_header(stream, start)
    else:
        header = detached_header(stream, start)
    if header is None:
        raise InputError(unknown_format(stream.path, stream.start))
    return checked_ending(stream.path, header)


def _read_samples(stream: Stream, header: Header) -> tuple[NDArray[Any], str, FileState]:
    """Return the samples as (D, H, W) or (M, D, H, W), the digest of all that was read, and the state of the file."""
    if header.data is None:
        values = _unpacked(stream, header)
        return values, stream.finish(), stream.state
    of_header = stream.finish()
    with Stream(*header.data) as data:
        values = _unpacked(data, header)
        digest = hashlib.sha256(f"{of_header} {data.finish()}".encode()).hexdigest()
        return values, digest, both(stream.state, data.state)


def _unpacked(stream: Stream, header: Header) -> NDArray[Any]:
    """Return the samples that follow in a stream."""
    n_bytes = header.n_voxels * header.dtype.itemsize
    if n_bytes + header.skip > stream.n_available:
        raise InputError(
            f"{stream.path}: truncated: its header promises {n_bytes} bytes of voxels, "
            f"the file can hold at most {stream.n_available}; copy the file again from its source"
        )
    stream.read(header.skip)
    buffer = np.empty(n_bytes, np.uint8)
    stream.read_into(buffer.data)
    if header.has_footer:
        stream.read_rest(_MOST_FOOTER)
    values = buffer.view(header.dtype)
    values = values.astype(header.dtype.newbyteorder("="), copy=False)
    shape = header.size_xyz[::-1]
    if header.n_channels == 1:
        return values.reshape(shape)
    if header.channels_first:
        return np.ascontiguousarray(np.moveaxis(values.reshape(*shape, -1), -1, 0))
    return values.reshape(-1, *shape)


def _scaled(values: NDArray[Any], header: Header) -> NDArray[Any]:
    """Return slope * values + intercept in float64, or the values themselves if the header does not scale them."""
    if header.scale is None:
        return values
    with np.errstate(over="ignore", invalid="ignore"):
        return values * np.float64(header.scale[0]) + np.float64(header.scale[1])


def _image_values(path: str | os.PathLike[str], values: NDArray[Any], header: Header) -> NDArray[Any]:
    """Return image values, finite."""
    values = _scaled(values, header)
    if header.scale is not None or values.dtype.itemsize == 8:
        with np.errstate(over="ignore"):
            values = values.astype(np.float32)
    if values.dtype.kind == "f":
        wrong = ~np.isfinite(values)
        if wrong.any():
            index = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
            order = "(z, y, x)" if values.ndim == 3 else "(channel, z, y, x)"
            raise InputError(
                f"{path}: {int(wrong.sum())} voxels are NaN, infinite or beyond float32, the first at {order} = "
                f"{index}; replace them, for example by 0 outside the body"
            )
    return values


def _label_values(path: str | os.PathLike[str], values: NDArray[Any], header: Header) -> NDArray[Any]:
    """Return label values as integers; where segments overlap, one value for each combination of them."""
    if values.ndim != 3 and header.segments:
        return overlapping_labels(values, header.segments, str(path))
    if values.ndim != 3:
        raise InputError(
            f"{path}: got a label of {values.shape[0]} channels, expected one; merge them into one label map"
        )
    return as_labels(_scaled(values, header), str(path), is_scaled=header.scale is not None)
