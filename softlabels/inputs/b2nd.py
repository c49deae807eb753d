"""Arrays as nnU-Net's preprocessing writes them: `CASE.b2nd` (M, D, H, W) and `CASE_seg.b2nd` (1, D, H, W).

They are contiguous frames of Blosc2 without any geometry, so the spacing comes from the case sheet. A frame has no
checksum: its length is compared with its header, but a flipped bit within may pass.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.inputs.header import Header, checked_sizes
from softlabels.inputs.stream import Stream

#: How a frame begins, after which comes its name; offset of its length, a big-endian int64.
START, _NAME, _LENGTH_AT = b"\x9e\xa8b2", b"frame\0", 16
#: What Blosc2 raises on a damaged frame, depending on where the damage is.
_DAMAGE = (RuntimeError, ValueError, MemoryError, SyntaxError, TypeError, KeyError)
_KINDS = "iuf"


@dataclass(frozen=True)
class Frame:
    """An array that was opened, but not decompressed.

    Parameters
    ----------
    path : path-like
    array : blosc2.NDArray
        (M, D, H, W).
    header : Header
        With the spacing of the sheet along the axes of the array; the first voxel is at the origin.
    """

    path: Any
    array: Any
    header: Header

    def read(self) -> tuple[NDArray[Any], str]:
        """Return the samples, (D, H, W) if there is one channel, and their digest.

        The digest is the sha256 of shape, dtype, spacing and samples: however the frame is compressed, it is the same.

        Raises
        ------
        InputError
            If the frame cannot be decompressed.
        """
        try:
            samples = self.array[...]
        except _DAMAGE as error:
            raise InputError(f"{self.path}: damaged ({error}); run nnU-Net's preprocessing again") from error
        spacing = list(self.header.spacing_xyz[::-1])
        described = {"shape": list(samples.shape), "dtype": samples.dtype.str, "spacing_mm": spacing}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        digest.update(np.ascontiguousarray(samples).data)
        return samples[0] if len(samples) == 1 else samples, digest.hexdigest()


def open_frame(stream: Stream, start: bytes, spacing: tuple[float, float, float]) -> Frame:
    """Return the array in a file whose first 4 bytes, `start`, are already read.

    Parameters
    ----------
    stream : Stream
    start : bytes
    spacing : 3 floats
        Voxel size in mm, (z, y, x).

    Raises
    ------
    InputError
        If the file is cut short or too long, is no 4D array of real numbers, or blosc2 is not installed.
    """
    frame = start + stream.read(stream.n_available)
    stream.finish()
    array = _opened(stream.path, frame)
    return Frame(stream.path, array, _header(stream.path, array, checked_spacing(spacing)))


def without_marks(samples: NDArray[Any]) -> NDArray[Any]:
    """Return label samples with 0 for -1, by which nnU-Net marks voxels outside of the nonzero region of the image.

    Examples
    --------
    >>> without_marks(np.array([-1, 0, 2], np.int8)).tolist()
    [0, 0, 2]
    """
    return np.where(samples == -1, samples.dtype.type(0), samples) if samples.dtype.kind == "i" else samples


def _opened(path: Any, frame: bytes) -> Any:
    """Return the array of a frame, not decompressed yet."""
    try:
        import blosc2
    except ImportError as error:
        raise InputError(f"{path}: reading b2nd needs blosc2: pip install 'softlabels[nnunet]'") from error

    length = struct.unpack_from(">q", frame, _LENGTH_AT)[0] if len(frame) >= _LENGTH_AT + 8 else None
    if frame[len(START) : len(START) + len(_NAME)] != _NAME or length != len(frame):
        raise InputError(
            f"{path}: got {len(frame)} bytes, but its header says {length}; run nnU-Net's preprocessing again"
        )
    try:
        # Without a copy, older versions read the frame after Python has freed it.
        return blosc2.ndarray_from_cframe(frame, copy=True)
    except _DAMAGE as error:
        raise InputError(f"{path}: damaged ({error}); run nnU-Net's preprocessing again") from error


def _header(path: Any, array: Any, spacing: tuple[float, float, float]) -> Header:
    """Return the header of an array with the spacing of its case."""
    if len(array.shape) != 4 or array.dtype.kind not in _KINDS:
        raise InputError(
            f"{path}: got {array.dtype} {tuple(array.shape)}, expected real numbers (channels, z, y, x), as nnU-Net "
            "writes them"
        )
    n_channels, *size = array.shape
    size_xyz, spacing_xyz = checked_sizes(path, size[::-1]), spacing[::-1]
    return Header(
        dtype=array.dtype,
        size_xyz=(size_xyz[0], size_xyz[1], size_xyz[2]),
        n_channels=n_channels,
        channels_first=False,
        affine=np.diag([*spacing_xyz, 1.0]),
        spacing_xyz=(spacing_xyz[0], spacing_xyz[1], spacing_xyz[2]),
    )
