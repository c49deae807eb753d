"""Arrays as nnU-Net's preprocessing writes them: `CASE.b2nd` (M, D, H, W) and `CASE_seg.b2nd` (1, D, H, W).

They are contiguous frames of Blosc2 without any geometry, so the spacing comes from the case sheet. A frame has no
checksum: its length is compared with its header, but a flipped bit within may pass.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.frame import Frame, frame_header
from softlabels.inputs.stream import Stream

#: How a frame begins, after which comes its name; offset of its length, a big-endian int64.
START, _NAME, _LENGTH_AT = b"\x9e\xa8b2", b"frame\0", 16
#: What Blosc2 raises on a damaged frame, depending on where the damage is.
_DAMAGE = (RuntimeError, ValueError, MemoryError, SyntaxError, TypeError, KeyError)


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

    def decode() -> NDArray[Any]:
        try:
            samples: NDArray[Any] = array[...]
        except _DAMAGE as error:
            raise InputError(f"{stream.path}: damaged ({error}); run nnU-Net's preprocessing again") from error
        return samples

    expected = "(channels, z, y, x), as nnU-Net writes them"
    return Frame(frame_header(stream.path, tuple(array.shape), array.dtype, spacing, expected), decode)


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
