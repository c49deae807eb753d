"""NumPy files (`.npy`): an array of (H, W), (D, H, W) or (M, D, H, W), whose spacing is in the case sheet."""

from __future__ import annotations

import io
import tokenize
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.frame import Frame, frame_header
from softlabels.inputs.stream import Stream

#: First 4 bytes by which the format is recognised.
START = b"\x93NUM"
_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}
_MOST_HEADER = 1 << 16


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
        If the file is shorter or longer than its header says, or no array of real numbers in C order.
    """
    path = stream.path
    version = start + stream.read(4)
    n_length = 2 if version[6:7] == b"\x01" else 4
    length = stream.read(n_length)
    text = stream.read(min(int.from_bytes(length, "little"), _MOST_HEADER))
    try:
        read = _READERS[(version[6], version[7])]
        shape, is_fortran, dtype = read(io.BytesIO(length + text), max_header_size=_MOST_HEADER)
    except (KeyError, ValueError, TypeError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise InputError(f"{path}: got a NumPy header that cannot be read; save the array again") from error
    if is_fortran and len(shape) > 1:
        raise InputError(f"{path}: got an array in Fortran order; save it with np.save(np.ascontiguousarray(array))")
    if not 2 <= len(shape) <= 4:
        raise InputError(f"{path}: got shape {shape}, expected (y, x), (z, y, x) or (channels, z, y, x)")
    native = dtype.newbyteorder("=")
    whole = (1,) * (4 - len(shape)) + tuple(shape)
    header = frame_header(path, whole, native, spacing, "(y, x), (z, y, x) or (channels, z, y, x)")
    if header.n_voxels * dtype.itemsize > stream.n_available:
        raise InputError(
            f"{path}: truncated: its header promises {header.n_voxels * dtype.itemsize} bytes of voxels, "
            f"the file can hold at most {stream.n_available}; save the array again"
        )

    def decode() -> NDArray[Any]:
        buffer = np.empty(header.n_voxels * dtype.itemsize, np.uint8)
        stream.read_into(buffer.data)
        stream.finish()
        return buffer.view(dtype).astype(native, copy=False).reshape(whole)

    return Frame(header, decode)
