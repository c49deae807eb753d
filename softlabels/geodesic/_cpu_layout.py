"""How volumes lie in memory while the CPU engine works on them.

Each volume is one flat float32 buffer whose rows are padded so that no kernel tests for a border: LANES voxels in front
of each row, a row behind each plane, and a plane on either side. A row's padding on the right is the next row's padding
on the left. In the image the padding is NaN, as are walls: a NaN candidate never wins a minimum, so nothing leaves or
enters.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from softlabels.geodesic._problem import Problem
from softlabels.geodesic._simd import LANES

#: Rows are cut into segments of at most this many voxels, the unit of the bookkeeping of changes.
_SEGMENT = 64

#: Sizes n_*, the row pitch, plane pitch and size of a volume's buffer (floats), the flat index `origin` of voxel
#: (0, 0, 0), the padded row length `width`, the segments of a row, and the indices of the `classes` solved at once.
#: The number of classes, and whether there is one channel, are thereby part of the type and known to the compiler.
Layout = namedtuple("Layout", "n_z n_y n_x pitch plane volume origin width n_segments segment n_channels classes")
OneChannelLayout = namedtuple("OneChannelLayout", Layout._fields)


def layout_of(shape, n_channels: int, n_classes: int) -> Layout | OneChannelLayout:
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


def voxels(buffer: np.ndarray, layout: Layout) -> np.ndarray:
    """Return the voxels (K, D, H, W) of K volumes as a view of their buffer."""
    padded = buffer.reshape(-1, layout.volume)
    item = buffer.itemsize
    return np.lib.stride_tricks.as_strided(
        padded[:, layout.origin :],
        (len(padded), layout.n_z, layout.n_y, layout.n_x),
        (layout.volume * item, layout.plane * item, layout.pitch * item, item),
    )


def pack(problem: Problem, layout: Layout, bound: np.float32, image, distance, initial, lo: int, hi: int) -> None:
    """Fill planes lo..hi-1 of both buffers, and the planes of padding beside the first and the last.

    The image is scaled, and NaN in the padding and, in channel 0, at walls. The maps are 0 at seeds, else as `initial`
    (C, D, H, W) has it, or `bound` where it is None.
    """
    first = 0 if lo == 0 else layout.origin - LANES + lo * layout.plane
    last = layout.volume if hi == layout.n_z else layout.origin - LANES + hi * layout.plane
    image.reshape(-1, layout.volume)[:, first:last] = np.nan
    distance.reshape(-1, layout.volume)[:, first:last] = bound
    planes = slice(lo, hi)
    scaled, maps = voxels(image, layout)[:, planes], voxels(distance, layout)[:, planes]
    np.multiply(problem.image[:, planes], problem.cost.scale, out=scaled)
    if initial is not None:
        np.minimum(initial[:, planes], bound, out=maps)
    np.copyto(maps, np.float32(0), where=problem.seeds[:, planes])
    if problem.domain is not None:
        walls = ~problem.domain[planes]
        np.copyto(scaled[0], np.float32(np.nan), where=walls)
        np.copyto(maps, bound, where=walls)


def unpack(buffer: np.ndarray, layout: Layout, bound: np.float32) -> np.ndarray:
    """Return the maps (C, D, H, W), moved to the front of their own buffer, with inf where they reach `bound`.

    A voxel never moves backwards in memory, so plane after plane can be moved without a second buffer.
    """
    padded = voxels(buffer, layout)
    maps = buffer[: padded.size].reshape(padded.shape)
    for label in layout.classes:
        for z in range(layout.n_z):
            maps[label, z] = padded[label, z]
            if np.isfinite(bound):
                np.putmask(maps[label, z], maps[label, z] >= bound, np.float32(np.inf))
    return maps
