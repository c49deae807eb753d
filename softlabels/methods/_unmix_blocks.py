"""Unmix block by block: what lies in reach of a block is read, filtered and solved, so that memory stays small.

A voxel's estimate does not depend on the block that it is in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.box import Box, bounding_box
from softlabels.methods import _unmix_kernels as kernels
from softlabels.methods._whitening import Whitening

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
#: The weights at distance 0, 1, ... voxels along z, y and x.
Windows = tuple[Doubles, Doubles, Doubles]

_Scalar = TypeVar("_Scalar", bound=np.generic)

#: Weight of the image's own covariance.
EPS = 1e-3
#: Where a Gaussian window ends, in standard deviations.
_TRUNCATE = 4.0
#: Voxels along each side of the blocks.
_BLOCK = 64


@dataclass(frozen=True)
class Case:
    """What the estimates of one case need, box by box."""

    image: NDArray[np.floating]
    masks: Bools
    prior: Floats
    domain: Bools | None
    whitening: Whitening
    windows: Windows
    rho: float

    def estimates(self, box: Box, band: Bools) -> tuple[list[int], Floats]:
        """Return the classes that have a share in a box, and their shares (C, N) in the N voxels of its band."""
        inside = np.ones(self.masks.shape[1:], bool) if self.domain is None else self.domain
        inside = self._surrounded(inside, box)
        white = self._whitened(box, inside)
        smoothed = Smoother(self.windows, inside.shape)
        classes, sizes, sums, total = [], [], [], np.zeros(inside.shape)
        for index, (mask, prior) in enumerate(zip(self.masks, self.prior, strict=True)):
            is_pure = self._surrounded(mask, box) & inside
            if not (is_pure.any() or prior[box][band].any()):
                continue
            purity = np.where(is_pure, self._surrounded(prior, box), 0.0)
            total += purity
            classes.append(index)
            sizes.append(smoothed(purity)[band])
            sums.append([smoothed(purity * channel)[band] for channel in white])
        products = [smoothed(total * white[a] * white[b])[band] for a in range(len(white)) for b in range(a + 1)]
        shares = np.empty((len(classes), len(sizes[0])), np.float32)
        kernels.estimate(
            np.stack([_core(channel, self.windows)[band] for channel in white]),
            np.stack([self.prior[index][box][band] for index in classes]),
            np.stack(sizes),
            np.array(sums),
            np.stack(products),
            self.rho,
            EPS,
            shares,
        )
        return classes, shares

    def _surrounded(self, volume: NDArray[_Scalar], box: Box) -> NDArray[_Scalar]:
        """Return a box of a volume with all that the windows reach, the volume continued by its border values."""
        wide, pads = [], []
        for side, weights, size in zip(box, self.windows, volume.shape, strict=True):
            start, stop = side.start - len(weights) + 1, side.stop + len(weights) - 1
            wide.append(slice(max(start, 0), min(stop, size)))
            pads.append((max(-start, 0), max(stop - size, 0)))
        part = volume[tuple(wide)]
        return np.pad(part, pads, mode="edge") if np.any(pads) else part

    def _whitened(self, box: Box, inside: Bools) -> Doubles:
        """Return the whitened intensities (K, d, h, w) of a box and its surroundings, 0 outside of the domain."""
        raw = np.stack([self._surrounded(channel, box).ravel() for channel in self.image])
        white = np.empty((len(self.whitening.inverse), raw.shape[1]))
        kernels.whiten(raw, inside.ravel(), self.whitening.mean, self.whitening.inverse, white)
        return white.reshape(-1, *inside.shape)


class Smoother:
    """The window's filter on fields of one shape, with its scratch."""

    def __init__(self, windows: Windows, shape: tuple[int, ...]) -> None:
        depth, height, width = (n - 2 * (len(w) - 1) for n, w in zip(shape, windows, strict=True))
        self.windows = windows
        self.along_z = np.empty((depth, *shape[1:]))
        self.along_y = np.empty((height, shape[2]))
        self.out = np.empty((depth, height, width))

    def __call__(self, field: Doubles) -> Doubles:
        """Return a field filtered where the window lies inside of it; the next call overwrites the result."""
        kernels.smooth(np.ascontiguousarray(field), *self.windows, self.along_z, self.along_y, self.out)
        return self.out


def _core(field: Doubles, windows: Windows) -> Doubles:
    """Return a field without the surroundings that the windows need."""
    return field[tuple(slice(len(w) - 1, n - len(w) + 1) for n, w in zip(field.shape, windows, strict=True))]


def gaussian_windows(window_mm: float, spacing: Sequence[float], shape: tuple[int, ...]) -> Windows:
    """Return the Gaussian's weights at distance 0, 1, ... voxels along each axis; a single slice has no neighbours."""
    found = []
    for side, size in zip(spacing, shape, strict=True):
        sigma = window_mm / side
        reach = 0 if size == 1 else int(_TRUNCATE * sigma + 0.5)
        weights = [math.exp(-0.5 * (j / sigma) ** 2) for j in range(reach + 1)]
        total = weights[0] + 2 * sum(weights[1:])
        found.append(np.array([weight / total for weight in weights]))
    return found[0], found[1], found[2]


def boxes_of(band: Bools, windows: Windows) -> Iterator[Box]:
    """Return blocks, cut to the band within them, that together hold the whole band."""
    sides = [max(_BLOCK, 2 * len(weights)) for weights in windows]
    for corner in product(*(range(0, n, side) for n, side in zip(band.shape, sides, strict=True))):
        block = tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))
        inner = bounding_box(band[block])
        if inner is not None:
            z, y, x = (slice(a + i.start, a + i.stop) for a, i in zip(corner, inner, strict=True))
            yield z, y, x
