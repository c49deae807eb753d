"""Headers of FreeSurfer volumes (`.mgh`, `.mgz`).

Written from the format's definition (surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat).
"""

from __future__ import annotations

import struct

import numpy as np

from softlabels.errors import InputError
from softlabels.inputs.header import Header, checked_geometry, checked_sizes, shortest_decimal
from softlabels.inputs.stream import Stream

#: First 4 bytes by which the format is recognised: its version.
START = b"\0\0\0\1"
_DTYPES = {0: ">u1", 1: ">i4", 3: ">f4", 4: ">i2", 10: ">u2"}
_SIZE = 284
_LAYOUT = ">6i h 3f 9f 3f"


def read_header(stream: Stream, start: bytes) -> Header:
    """Read the header of an MGH file whose first 4 bytes, `start`, are already read.

    Raises
    ------
    InputError
        A field makes no sense.
    """
    path = stream.path
    block = stream.read(_SIZE - len(start))
    width, height, depth, frames, code, _, has_geometry, *numbers = struct.unpack_from(_LAYOUT, block)
    checked_sizes(path, (width, height, depth, frames))
    if code not in _DTYPES:
        raise InputError(f"{path}: got MGH type {code}, expected one of {sorted(_DTYPES)}; its header is damaged")
    spacing = np.array([shortest_decimal(v) for v in numbers[:3]])
    directions, centre = np.reshape(numbers[3:12], (3, 3)).T, np.array(numbers[12:15])
    notes = []
    if has_geometry != 1:
        notes.append("no orientation in the header: FreeSurfer's default axes and 1 mm taken")
        spacing, centre = np.ones(3), np.zeros(3)
        # In columns: x to the left, y to inferior, z to anterior, as in a coronal slice.
        directions = np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
    checked_geometry(path, np.concatenate([spacing, directions.ravel(), centre]), "MGH geometry")
    if spacing.min() <= 0:
        raise InputError(f"{path}: got voxel size {spacing.tolist()}, expected values > 0; its header is damaged")
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    # The header gives the position of the point in the middle of the volume, by its own convention voxel n / 2.
    affine[:3, 3] = centre - affine[:3, :3] @ (np.array([width, height, depth]) / 2.0)
    return Header(
        dtype=np.dtype(_DTYPES[code]),
        size_xyz=(width, height, depth),
        n_channels=frames,
        channels_first=False,
        affine=affine,
        spacing_xyz=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        notes=notes,
        has_footer=True,
    )
