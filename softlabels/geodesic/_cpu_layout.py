"""The layout of volumes in memory while the CPU engine works on them.

Each volume is one flat float32 buffer whose rows are padded so that no kernel tests for a border: LANES voxels in front
of each row, a row behind each plane, and a plane on either side. A row's padding on the right is the next row's padding
on the left. In the image the padding is NaN, as are walls: a NaN candidate never wins a minimum, so nothing leaves or
enters.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from softlabels.geodesic._problem import Problem
from softlabels.geodesic._simd import LANES

#: Rows are cut into segments of at most this many voxels, the unit of the bookkeeping of changes.
_SEGMENT = 64
#: The time of the seeds, later than that of directions that never ran.
FIRST = 1


class Layout(NamedTuple):
    """The arrangement of volumes in their buffers.

    Attributes
    ----------
    n_z, n_y, n_x : int
        D, H and W.
    pitch, plane, volume : int
        The size of a row, of a plane and of the whole buffer, in floats.
    origin : int
        The flat index of voxel (0, 0, 0).
    width : int
        The padded length of a row.
    n_segments, segment : int
        The segments of a row, and the length of one.
    n_channels : int
    classes : tuple of ints
        The indices of the classes solved at once. Their number is part of the type and thereby known to the compiler.
    """

    n_z: int
    n_y: int
    n_x: int
    pitch: int
    plane: int
    volume: int
    origin: int
    width: int
    n_segments: int
    segment: int
    n_channels: int
    classes: tuple[int, ...]


class OneChannelLayout(Layout):
    """The layout for one channel, which is thereby known to the compiler."""


def layout_of(shape: tuple[int, int, int], n_channels: int, n_classes: int) -> Layout:
    """Return the layout for volumes of `shape` (D, H, W)."""
    n_z, n_y, n_x = shape
    width = -(-n_x // LANES) * LANES
    pitch = width + LANES
    plane = (n_y + 1) * pitch
    volume = (n_z + 2) * plane + (LANES + 2) * pitch
    n_vectors = width // LANES
    n_segments = -(-width // _SEGMENT)
    segment = -(-n_vectors // n_segments) * LANES
    n_segments = -(-width // segment)
    origin = pitch + plane + LANES
    kind = OneChannelLayout if n_channels == 1 else Layout
    classes = tuple(range(n_classes))
    return kind(n_z, n_y, n_x, pitch, plane, volume, origin, width, n_segments, segment, n_channels, classes)


def voxels(buffer: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Return the voxels (K, D, H, W) of K volumes as a view of their buffer."""
    padded = buffer.reshape(-1, layout.volume)
    item = buffer.itemsize
    return np.lib.stride_tricks.as_strided(
        padded[:, layout.origin :],
        (len(padded), layout.n_z, layout.n_y, layout.n_x),
        (layout.volume * item, layout.plane * item, layout.pitch * item, item),
    )


def pack(
    problem: Problem,
    layout: Layout,
    far: np.float32 | NDArray[np.float32],
    image: NDArray[np.float32],
    distance: NDArray[np.float32],
    initial: NDArray[np.float32] | None,
    lo: int,
    hi: int,
) -> None:
    """Fill planes lo..hi-1 of both buffers, and the planes of padding beside the first and the last.

    The image is scaled, and NaN in the padding and, in channel 0, at walls. The maps are 0 at seeds, else as `initial`
    (C, D, H, W) has it, or `far` where it is None; `far` is one number or one for each voxel.
    """
    first = 0 if lo == 0 else layout.origin - LANES + lo * layout.plane
    last = layout.volume if hi == layout.n_z else layout.origin - LANES + hi * layout.plane
    image.reshape(-1, layout.volume)[:, first:last] = np.nan
    planes = slice(lo, hi)
    scaled, maps = voxels(image, layout)[:, planes], voxels(distance, layout)[:, planes]
    if isinstance(far, np.ndarray):
        far = far[planes]
        distance.reshape(-1, layout.volume)[:, first:last] = np.inf
        maps[...] = far
    else:
        distance.reshape(-1, layout.volume)[:, first:last] = far
    np.multiply(problem.image[:, planes], problem.cost.scale, out=scaled)
    if initial is not None:
        np.minimum(initial[:, planes], far, out=maps)
    np.copyto(maps, np.float32(0), where=problem.seeds[:, planes])
    if problem.domain is not None:
        walls = ~problem.domain[planes]
        np.copyto(scaled[0], np.float32(np.nan), where=walls)
        np.copyto(maps, far, where=walls)


def mark_below(
    distance: NDArray[np.float32],
    stamps: NDArray[np.int32],
    rows: NDArray[np.int32],
    layout: Layout,
    far: NDArray[np.float32],
) -> None:
    """Stamp, at the time of the seeds, the segments that hold a distance below `far` (D, H, W)."""
    known = np.zeros((layout.n_z, layout.n_y, layout.n_segments * layout.segment), bool)
    known[..., : layout.n_x] = (voxels(distance, layout) < far).any(axis=0)
    segments = known.reshape(layout.n_z, layout.n_y, layout.n_segments, layout.segment).any(axis=-1)
    stamps[1:-1, 1:-1, 1:-1][segments] = FIRST
    rows[1:-1, 1:-1][segments.any(axis=-1)] = FIRST


def unpack(buffer: NDArray[np.float32], layout: Layout, far: np.float32 | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the maps (C, D, H, W), moved to the front of their own buffer, with inf where they are not below `far`.

    A voxel never moves backwards in memory, so plane after plane can be moved without a second buffer.
    """
    padded = voxels(buffer, layout)
    maps = buffer[: padded.size].reshape(padded.shape)
    for label in layout.classes:
        for z in range(layout.n_z):
            maps[label, z] = padded[label, z]
            if isinstance(far, np.ndarray) or np.isfinite(far):
                bound = far[z] if isinstance(far, np.ndarray) else far
                np.putmask(maps[label, z], maps[label, z] >= bound, np.float32(np.inf))
    return maps
