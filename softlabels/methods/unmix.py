"""Unmix: the Gaussian soft label, corrected by the shares that local intensities show.

A voxel at a boundary holds several tissues, and its intensity is a mixture of theirs. With masks y_c, an image I of M
channels and G_s a normalised Gaussian window of s mm::

    pi_c = G_sigma * y_c                                          prior: the Gaussian soft label
    v_c  = y_c pi_c                                               purity: voxels far inside count most
    n_c  = G_tau * v_c,  tau = window sigma
    mu_c = G_tau * (v_c I) / n_c                                  local mean of each class
    W    = sum_c [G_tau * (v_c I I') - n_c mu_c mu_c'] / sum_c n_c    covariance within classes, pooled
    m    = sum_c pi_c mu_c,  d_c = mu_c - m
    B    = sum_c pi_c d_c d_c'                                    covariance between classes under the prior
    f_c  = pi_c [1 + d_c' (B + rho W + eps W_0)^-1 (I - m)]       clipped to [0, 1], then divided by the sum

**Derivation.** Let f be the shares of a voxel and ``I = sum_c f_c mu_c + noise`` its intensity, the noise of covariance
rho W. The prior says E f = pi, and a voxel of one tissue drawn by pi has Cov f = diag(pi) - pi pi'. Then
Cov(f, I) = (pi_c d_c') and Cov(I) = B + rho W, and the linear estimate of f with the least mean square error (LMMSE,
the update of a Kalman filter) is the last line. The d_c of a distribution average to 0, so f sums to one before it is
clipped. rho > 1 trusts the image less than the model asks: at 1 a noisy image does harm.

eps is 1e-3 and W_0 the covariance of the image within the domain, so that the map depends neither on the unit nor on
the offset of an intensity, nor on an invertible mixture of channels. A channel that is constant, or a linear
combination of the channels before it, has no influence.

``gaussian_distance`` in the notes of a case says how far its map is from the Gaussian.

**Where the image says nothing, the map is the Gaussian**: for a constant image, for classes of equal means, as rho
grows, and outside of the domain. A class without voxels in the window (less than 1e-5 of what is there) keeps its prior
share. So do voxels whose prior is 0.9995 or more for a class: only the band around boundaries is computed. Voxels
outside of the domain have no part in any mean, nor have those of the ignore label if classes exclude each other; to an
overlapping region they are outside, as to every method.

**Relatives.** The mixel model of partial volume (Choi, Haynor and Kim, IEEE TMI 1991), class means from pure voxels
(Tohka, Zijdenbos and Evans, NeuroImage 2004), partial volume in a statistical framework (Van Leemput et al., IEEE TMI
2003). With window 1, rho 1 and v = y it is the guided filter (He, Sun and Tang, TPAMI 2013) of the one-hot label with a
Gaussian window. To our knowledge nobody has made training labels so.

**Where it fails.** It assumes that labels are soft because voxels are mixed. Where they are soft because annotators
disagree, intensities show little, and it is farther from their mean than the Gaussian, by 2 to 12 % on three sets of
cells: use `geodesic_band` or the Gaussian, and compare them on a few cases whose truth is known.

In [0, 1]; sums to one over exclusive classes. Overlapping regions are problems of their own, each of a region and the
rest. An absent class is 0 everywhere. Padding is 1 for the background and 0 elsewhere. A flipped case gives the flipped
bits; quarter turns and rescaling of image and map alike keep the map valid, elastic deformation does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.box import Box
from softlabels._shared.rate import Rate
from softlabels.augmentation import NOT_ELASTIC
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.methods.arrays import Need, TargetInputs, TargetMap
from softlabels.methods.base import Method
from softlabels.methods.gaussian import gaussian_map
from softlabels.methods.keys import Softness, TuningGrid

if TYPE_CHECKING:
    from softlabels.methods._whitening import Whitening

#: A voxel whose prior says this of one class is left as it is.
_SURE = 0.9995
#: How far rounding moves a sum over classes.
_ROUNDING = 1e-4


class Unmix(Method):
    """The Gaussian soft label, corrected by the shares that local intensities show (for partial volume)."""

    name: ClassVar[str] = "unmix"
    title: ClassVar[str] = "unmix"
    source: ClassVar[str] = "softlabels; the mixel model of Choi et al., IEEE TMI 1991"
    version: ClassVar[str] = "1"
    needs: ClassVar[frozenset[Need]] = frozenset({"image"})
    augmentation: ClassVar[Mapping[str, bool]] = NOT_ELASTIC
    cost: ClassVar[Rate] = Rate(us=0.13, memory_bytes=22, disk_bytes=0.1)
    # The last rho is the Gaussian.
    grid: ClassVar[TuningGrid] = {
        "sigma_mm": (0.35, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0),
        "window": (1.0, 2.0, 4.0),
        "rho": (1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 300.0),
    }
    assumes: ClassVar[Softness | None] = "partial_volume"

    sigma_mm: float = Field(
        1.0, gt=0, le=100, description="of the Gaussian in mm; half a voxel side where voxels average finer tissue"
    )
    window: float = Field(2.0, gt=0, le=100, description="width of the window of the class means, in sigmas")
    rho: float = Field(
        3.0, gt=0, le=1e6, description="weight of the noise: higher trusts the image less, 300 not at all"
    )

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the unmixed labels of a case, and how far they are from the Gaussian."""
        values = unmix_map(
            inputs.required("image"),
            inputs.masks,
            inputs.spacing,
            sigma_mm=self.sigma_mm,
            window=self.window,
            rho=self.rho,
            domain=inputs.domain,
            are_exclusive=inputs.background is not None,
            threads=inputs.threads,
        )
        gaussian = gaussian_map(inputs.masks, inputs.spacing, sigma_mm=self.sigma_mm)
        return TargetMap(values, inputs.absent_flags(), {"gaussian_distance": distance_in_band(values, gaussian)})


def distance_in_band(values: NDArray[np.float32], prior: NDArray[np.float32]) -> float:
    """Return how far a map is from its prior, on average over the voxels of which the prior is not sure.

    Parameters
    ----------
    values, prior : (C, D, H, W) float32 arrays

    Returns
    -------
    float
        The mean of half the sum over classes of the absolute difference, six digits; 0 where the prior is sure.

    Examples
    --------
    >>> prior = np.float32([[[[0.5, 1.0]]], [[[0.5, 0.0]]]])
    >>> distance_in_band(np.float32([[[[0.75, 0.9]]], [[[0.25, 0.1]]]]), prior)
    0.25
    """
    band = prior.max(axis=0) < _SURE
    apart = np.zeros(np.count_nonzero(band), np.float64)
    for one, other in zip(values, prior, strict=True):
        apart += np.abs(one[band] - other[band])
    return float(f"{apart.mean() / 2:.6g}") if apart.size else 0.0


def unmix_map(
    image: NDArray[np.floating],
    masks: NDArray[np.bool_],
    spacing: Sequence[float],
    *,
    sigma_mm: float = 1.0,
    window: float = 2.0,
    rho: float = 3.0,
    domain: NDArray[np.bool_] | None = None,
    are_exclusive: bool = True,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return the Gaussian soft label, unmixed with the image.

    Parameters
    ----------
    image : (M, D, H, W) float array
        Intensities in any unit. Not modified.
    masks : (C, D, H, W) bool array
        The hard label, the background among the classes if they are exclusive. A voxel of no class, such as one of the
        ignore label, is divided among its neighbours' classes and has no part in their means.
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    sigma_mm : float
        Standard deviation of the Gaussian soft label in mm, > 0. Half a voxel side suits voxels that average a block.
    window : float
        Width of the window of the class means, in sigmas, > 0.
    rho : float
        Weight of the covariance within classes, > 0.
    domain : (D, H, W) bool array, optional
        Where intensities mean something. Outside, they may be anything, NaN among it.
    are_exclusive : bool
        False for regions that may overlap: each is then estimated against its complement.
    threads : int
        Blocks worked on at a time; no effect on the result.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1].

    Raises
    ------
    InputError
        If shapes or parameters are wrong, or an intensity of the domain is NaN or infinite.

    Notes
    -----
    Cost: the Gaussian soft label, and C (1 + M) + M (M + 1) / 2 Gaussian filters in the band; benchmarks/RESULTS.md.

    Examples
    --------
    A voxel between dark (0) and bright (10) whose intensity is 7 holds more of the bright class than its label says:

    >>> image = np.array([[[[0.0, 0, 0, 0, 7, 10, 10, 10, 10]]]])
    >>> bright = image[0] > 9
    >>> masks = np.stack([~bright, bright])
    >>> gaussian_map(masks, (1, 1, 1), sigma_mm=0.5)[1, 0, 0, 3:6].round(2).astype(str).tolist()
    ['0.0', '0.11', '0.89']
    >>> unmix_map(image, masks, (1, 1, 1), sigma_mm=0.5)[1, 0, 0, 3:6].round(2).astype(str).tolist()
    ['0.0', '0.16', '0.92']
    """
    from softlabels.methods._whitening import whitening_of

    prior = gaussian_map(masks, spacing, sigma_mm=sigma_mm)
    unmixed = partial(
        unmix,
        image,
        spacing=spacing,
        window_mm=_checked("window", window) * sigma_mm,
        rho=rho,
        domain=domain,
        threads=threads,
    )
    if are_exclusive:
        return unmixed(masks, prior)
    whitening = whitening_of(image, domain)
    regions = [
        unmixed(np.stack([mask, ~mask]), np.stack([soft, 1 - soft]), whitening=whitening)[0]
        for mask, soft in zip(masks, prior, strict=True)
    ]
    return np.stack(regions)


def unmix(
    image: NDArray[np.floating],
    masks: NDArray[np.bool_],
    prior: NDArray[np.floating],
    spacing: Sequence[float],
    *,
    window_mm: float,
    rho: float = 3.0,
    domain: NDArray[np.bool_] | None = None,
    whitening: Whitening | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return any probabilities of classes that exclude each other, unmixed with the image.

    Parameters
    ----------
    image : (M, D, H, W) float array
        Intensities in any unit. Not modified.
    masks : (C, D, H, W) bool array
        The voxels that class means are made of, weighted by their prior: the hard label.
    prior : (C, D, H, W) float array
        In [0, 1]: a soft label, or the probabilities of a network. Divided by its sum over classes where that is
        neither 0 nor 1. Not modified.
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    window_mm : float
        Standard deviation of the window of the class means in mm, > 0.
    rho : float
        Weight of the covariance within classes, > 0.
    domain : (D, H, W) bool array, optional
        Where intensities mean something.
    whitening : Whitening, optional
        Of the image within the domain, where it is known already.
    threads : int
        Blocks worked on at a time; no effect on the result.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1]; sums to one wherever the prior does not sum to 0.

    Raises
    ------
    InputError
        If shapes, values or parameters are wrong.
    """
    from softlabels.methods._unmix_blocks import Case, boxes_of, gaussian_windows
    from softlabels.methods._whitening import whitening_of

    _check(image, masks, prior, domain)
    _checked("rho", rho)
    prior = normalised(prior)
    found = prior.copy()
    whitening = whitening_of(image, domain) if whitening is None else whitening
    if not len(whitening.inverse):
        return found
    windows = gaussian_windows(_checked("window_mm", window_mm), checked_spacing(spacing), masks.shape[1:])
    band = (prior.max(axis=0) < _SURE) & prior.any(axis=0)
    if domain is not None:
        band &= domain
    case = Case(image, masks, prior, domain, whitening, windows, float(rho))

    def work(box: Box) -> None:
        """Write the estimates of the voxels of the band in one box."""
        classes, values = case.estimates(box, band[box])
        for index, estimate in zip(classes, values, strict=True):
            found[index][box][band[box]] = estimate

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, boxes_of(band, windows)))
    return found


def normalised(prior: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return a prior divided by its sum, where rounding alone does not make that differ from 1."""
    prior = np.asarray(prior, np.float32)
    total = prior.sum(axis=0)
    is_off = (total > 0) & (np.abs(total - np.float32(1)) > _ROUNDING)
    if is_off.any():
        prior = prior.copy()
        prior[:, is_off] /= total[is_off]
    return prior


def _checked(name: str, value: float) -> float:
    """Return a parameter that must be a finite number above 0."""
    if not (np.isfinite(value) and value > 0):
        raise InputError(f"unmix: {name} got {value!r}, expected a finite number > 0")
    return float(value)


def _check(
    image: NDArray[np.floating],
    masks: NDArray[np.bool_],
    prior: NDArray[np.floating],
    domain: NDArray[np.bool_] | None,
) -> None:
    """Raise unless the arrays of a case fit each other and the prior is one."""
    if masks.ndim != 4 or masks.dtype != bool or masks.size == 0:
        raise InputError(f"unmix: masks got {masks.dtype} {masks.shape}, expected bool (C, D, H, W)")
    if image.ndim != 4 or image.shape[1:] != masks.shape[1:] or not len(image):
        raise InputError(f"unmix: image got shape {image.shape}, expected (M, {', '.join(map(str, masks.shape[1:]))})")
    if prior.shape != masks.shape:
        raise InputError(f"unmix: prior got shape {prior.shape}, expected that of the masks, {masks.shape}")
    low, high = float(prior.min()), float(prior.max())
    # A comparison with NaN is false.
    if not (low >= 0 and high <= 1 + 1e-6):
        raise InputError(f"unmix: prior got values from {low:.6g} to {high:.6g}, expected probabilities in [0, 1]")
    if domain is not None and (domain.dtype != bool or domain.shape != masks.shape[1:]):
        raise InputError(f"unmix: domain got {domain.dtype} {domain.shape}, expected bool {masks.shape[1:]}")
