"""Intensities without unit: an image's own mean and covariance taken out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.methods._unmix_kernels import mirrored_sum

Bools = NDArray[np.bool_]
Doubles = NDArray[np.float64]

#: A channel that the channels before it explain to this share of its variance has nothing of its own.
_LEAST_OWN_VARIANCE = 1e-6
#: float32 intensities have 7 digits: a spread below this share of the mean is rounding.
_ROUNDING = 1e-7


@dataclass(frozen=True)
class Whitening:
    """The affine map of intensities that gives an image mean 0 and covariance 1.

    Attributes
    ----------
    mean : (M,) float64 array
    inverse : (K, M) float64 array
        ``inverse (I - mean)`` has K <= M channels; those that are constant or follow from others are left out.
    """

    mean: Doubles
    inverse: Doubles


def whitening_of(image: NDArray[np.floating], domain: Bools | None = None) -> Whitening:
    """Return the whitening of an image by its own mean and covariance W_0 within a domain.

    Parameters
    ----------
    image : (M, D, H, W) float array
        Not modified.
    domain : (D, H, W) bool array, optional

    Returns
    -------
    Whitening
        The same bits for a flipped image.

    Raises
    ------
    InputError
        If an intensity of the domain is NaN or infinite.

    Examples
    --------
    >>> image = np.array([[[[1.0, 3.0]]], [[[5.0, 5.0]]], [[[0.0, 4.0]]]])
    >>> found = whitening_of(image)  # the second channel is constant, the third twice the first
    >>> found.mean.tolist(), found.inverse.tolist()
    ([2.0, 5.0, 2.0], [[1.0, 0.0, 0.0]])
    """
    inside = np.ones(image.shape[1:], bool) if domain is None else domain
    n_voxels = int(np.count_nonzero(inside))
    mean = mean_of(image, inside)
    covariance = np.zeros((len(image), len(image)))
    for a in range(len(image)):
        for b in range(a + 1):
            covariance[a, b] = mirrored_sum(image[a], mean[a], image[b], mean[b], inside) / max(n_voxels, 1)
    return Whitening(mean, _inverse_factor(covariance, mean))


def mean_of(image: NDArray[np.floating], inside: Bools) -> Doubles:
    """Return the mean of each channel of (M, D, H, W) within (D, H, W), 0 if that is nowhere; refuse NaN and Inf."""
    n_voxels = max(int(np.count_nonzero(inside)), 1)
    mean = np.array([mirrored_sum(one, 0.0, inside, 0.0, inside) / n_voxels for one in image])
    for channel in np.flatnonzero(~np.isfinite(mean)):
        n_bad = int(np.count_nonzero(~np.isfinite(image[channel]) & inside))
        raise InputError(
            f"image: got {n_bad} NaN or infinite voxels in channel {channel} inside the domain, expected finite "
            "intensities; repair the image, or exclude these voxels by prepare.domain"
        )
    return mean


def deviation_of(image: NDArray[np.floating], mean: Doubles, inside: Bools) -> Doubles:
    """Return the standard deviation of each channel within (D, H, W); 0 for one that is constant but for rounding."""
    n_voxels = max(int(np.count_nonzero(inside)), 1)
    sums = [mirrored_sum(one, m, one, m, inside) for one, m in zip(image, mean, strict=True)]
    found = np.sqrt(np.array(sums) / n_voxels)
    return np.where(found > _ROUNDING * np.abs(mean), found, 0.0)


def _inverse_factor(covariance: Doubles, mean: Doubles) -> Doubles:
    """Return the rows of the inverse of the Cholesky factor, but for channels without variance of their own.

    Written out, because LAPACK's last bits depend on the processor.
    """
    rows: list[Doubles] = []
    factor: dict[int, list[float]] = {}
    for a in range(len(covariance)):
        row: list[float] = []
        for k, b in enumerate(factor):
            explained = sum(x * y for x, y in zip(row, factor[b][:k], strict=True))
            row.append((float(covariance[a, b]) - explained) / factor[b][k])
        variance = float(covariance[a, a])
        own = variance - sum(x * x for x in row)
        if own <= max(_LEAST_OWN_VARIANCE * variance, (_ROUNDING * float(mean[a])) ** 2):
            continue
        factor[a] = [*row, math.sqrt(own)]
        inverse = np.zeros(len(covariance))
        inverse[a] = 1.0
        for x, before in zip(row, rows, strict=True):
            inverse = inverse - x * before
        rows.append(inverse / factor[a][-1])
    return np.array(rows).reshape(len(rows), len(covariance))
