"""Headers of GIPL files (`.gipl`, `.gipl.gz`), in the layout that ITK reads and writes.

The format has no orientation: axes are taken as left, posterior, superior, as ITK takes them.
"""

from __future__ import annotations

import struct

import numpy as np

from softlabels.errors import InputError
from softlabels.inputs.header import Header, checked_geometry, checked_sizes, shortest_decimal
from softlabels.inputs.stream import Stream

#: The last four bytes of the header, of two kinds of writers.
MAGIC_AT, MAGICS = 252, (b"\x2a\xe3\x89\xb8", b"\xef\xff\xe9\xb0")
_DTYPES = {7: "i1", 8: "u1", 15: "i2", 16: "u2", 31: "u4", 32: "i4", 64: "f4", 65: "f8"}
_SIZE = 256
#: Where sizes, type, voxel size and position of the first voxel are.
_SIZES, _TYPE, _SPACING, _ORIGIN = (0, ">4H"), (8, ">H"), (10, ">3f"), (204, ">3d")


def is_gipl(stream: Stream) -> bool:
    """Whether a file is GIPL, by its magic number."""
    return stream.start[MAGIC_AT : MAGIC_AT + 4] in MAGICS


def read_header(stream: Stream, start: bytes) -> Header:
    """Read the header of a GIPL file whose first 4 bytes, `start`, are already read.

    Raises
    ------
    InputError
        A field makes no sense.
    """
    path = stream.path
    block = start + stream.read(_SIZE - len(start))
    # An axis that is not used has size 0 or 1.
    sizes = checked_sizes(path, [n or 1 for n in struct.unpack_from(_SIZES[1], block, _SIZES[0])])
    (code,) = struct.unpack_from(_TYPE[1], block, _TYPE[0])
    if code not in _DTYPES:
        raise InputError(f"{path}: got GIPL type {code}, expected one of {sorted(_DTYPES)}; its header is damaged")
    spacing = [shortest_decimal(v) for v in struct.unpack_from(_SPACING[1], block, _SPACING[0])]
    checked_geometry(path, np.array(spacing), "voxel size")
    if sizes[2] == 1 and spacing[2] == 0:
        spacing[2] = 1.0
    if min(spacing) <= 0:
        raise InputError(f"{path}: got voxel size {spacing}, expected values > 0; its header is damaged")
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = np.array(struct.unpack_from(_ORIGIN[1], block, _ORIGIN[0])) * (-1.0, -1.0, 1.0)
    checked_geometry(path, affine, "origin")
    return Header(
        dtype=np.dtype(">" + _DTYPES[code]),
        size_xyz=(sizes[0], sizes[1], sizes[2]),
        n_channels=sizes[3],
        channels_first=False,
        affine=affine,
        spacing_xyz=(spacing[0], spacing[1], spacing[2]),
        notes=["no orientation in the format: axes taken as left, posterior, superior"],
    )
