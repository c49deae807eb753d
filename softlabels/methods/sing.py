"""SiNG, the signed normalised geodesic transform (Dang, Nguyen, Tiulpin, MICCAI 2024): Eqs. 1-5 and the authors' code.

What is stored is the map before the margin, u in [-1, 1], positive inside. The loader adds the margin delta (0.5 in
the paper), ``S = (1 - delta) u + delta s`` with s = +1 inside and -1 outside, so delta is a load-time parameter. In
both variants S is affine in u with a sign that all channels share, so the mean over channels of the maps with
margin is the margin on the mean of the maps: exact for any delta, also for the authors' code, which averages last.
A stored -1 outside gives S = -1 for any delta, so it can also mark "far away".

============== ============================================ ======================================================
property       paper                                        official
============== ============================================ ======================================================
band B         distance to the seeds, up to its largest     lamb-0 chamfer distance to the seeds, up to its largest
               value inside; ``band`` says which            value inside; without background in B their code fails,
                                                            here max_bg is then 0
inside         G / tau, tau = max of G over B               G / fg_max, fg_max = max of G over the mask; 0 where the
                                                            intensity is 0
outside, in B  -G / tau                                     -min(G / fg_max, 1)
outside B      -1                                           -min(max_bg / fg_max, 1), max_bg = max of G outside, in B;
                                                            the same in B where the intensity is 0
absent class   -1 everywhere, flagged                       -1 everywhere, flagged
whole volume   +1 everywhere, flagged                       0 everywhere, flagged: the margin alone
no seed        an error                                     0 everywhere, flagged: the margin alone
channels       mean of u                                    mean of u
============== ============================================ ======================================================

Range [-1, 1]; it is no distribution and regions may overlap. Padding is -1 (+1 for a background class). Flips, quarter
turns and rescaling of image and map alike keep it valid; elastic deformation does not.

The paper is silent on several channels; here they are averaged, as in the authors' code. Its text calls G^0, from which
the band is made, the spatial distance, and ``band: euclidean``, the default, follows the text. Read literally, Eq. 2 at
lambda 0 is the L1 length, which ``band: l1`` takes: S then differs in 1 to 2 % of the voxels, by up to 0.48. The
difference of intensity in the cost of a path is that of each step, not divided by its length.

The authors' band is made by their engine. On FastGeodis it has converged after its 4 iterations, and ours equals it. On
GeodisTK it has not: with ``engine: geodistk`` the official band is GeodisTK's own, after as many iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator

from softlabels._shared.box import bounding_box
from softlabels._shared.rate import Rate
from softlabels._shared.section import faults_error
from softlabels.augmentation import NOT_ELASTIC
from softlabels.errors import SeedError
from softlabels.geodesic import euclidean_distance, geodesic_distance
from softlabels.methods.arrays import Need
from softlabels.methods.by_class import ClassInputs, ClassMap, MethodByClass
from softlabels.methods.seeded import Distance, GeodesicMethod
from softlabels.seeds import CannySeeds, SeedStrategy

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Spacing = Sequence[float]
Box = tuple[slice, slice, slice]

#: What the authors' code adds to the largest foreground distance before it divides.
_TINY = np.float32(1e-8)


class SiNG(MethodByClass, GeodesicMethod):
    """Signed normalised geodesic transform (Dang, Nguyen, Tiulpin, MICCAI 2024)."""

    name: ClassVar[str] = "sing"
    title: ClassVar[str] = "SiNG"
    source: ClassVar[str] = "Dang, Nguyen and Tiulpin, MICCAI 2024"
    version: ClassVar[str] = "1"
    kind: ClassVar[Literal["signed"]] = "signed"
    needs: ClassVar[frozenset[Need]] = frozenset({"image", "seeds", "distance"})
    blend: ClassVar[str] = "signed_margin"
    #: Far inside, or what the authors' code leaves where it finds no seed.
    filling: ClassVar[Mapping[str, float]] = {"official": 0.0}
    augmentation: ClassVar[Mapping[str, bool]] = NOT_ELASTIC
    cost: ClassVar[Rate] = Rate(us=0.05, memory_bytes=10, disk_bytes=0.1, volume_bytes=50)
    by_class_cost: ClassVar[Rate] = Rate(us=0.016, memory_bytes=0.1, disk_bytes=0.05, volume_bytes=110)
    default_seeds: ClassVar[Mapping[str, SeedStrategy]] = {
        "paper": CannySeeds(),
        "official": CannySeeds(mode="slices", fallback=False, per_component=False),
    }
    default_distance: ClassVar[Mapping[str, Distance]] = {
        "paper": Distance(metric="l1", lamb=0.5),
        "official": Distance(metric="sum", lamb=0.5),
    }

    variant: Literal["paper", "official"] = Field("paper", description="Eqs. 1-5, or what the authors' code does")
    delta: float = Field(0.5, ge=0, lt=1, description="margin between the two signs; applied by the loader")
    band: Literal["euclidean", "l1"] = Field(
        "euclidean", description="paper only: length of the band, Euclidean as its text reads, or L1 as Eq. 2 does"
    )

    @field_validator("band")
    @classmethod
    def _check_band(cls, band: str, info: ValidationInfo) -> str:
        """Refuse it where the authors' engine makes the band."""
        if band == "l1" and info.data.get("variant") == "official":
            raise faults_error([": only variant paper has a choice of bands. Remove it, or set the variant"])
        return band

    def node_parameters(self) -> dict[str, Any]:
        """Return what the map depends on: of the band what is not the default, which older keys do not hold."""
        parameters = super().node_parameters()
        if self.band == "euclidean":
            del parameters["band"]
        if self.variant == "official" and self.distance.engine == "geodistk":
            parameters["geodistk_band"] = self.distance.iterations
        return parameters

    @classmethod
    def from_node_parameters(cls, parameters: Mapping[str, Any]) -> Self:
        """Return the method that `node_parameters` described."""
        own = dict(parameters)
        iterations = own.pop("geodistk_band", None)
        method = super().from_node_parameters(own)
        if iterations is None:
            return method
        return method.model_copy(update={"distance": Distance(engine="geodistk", iterations=iterations)})

    def class_map(self, inputs: ClassInputs) -> ClassMap:
        """Return the map u of one class."""
        name, mask, seeds = inputs.name, inputs.mask, inputs.seeds
        assert seeds is not None and inputs.image is not None, "compute has refused inputs without them"
        if not mask.any():
            return _constant(mask.shape, self.absent_value, f"class '{name}' absent: -1 everywhere")
        if mask.all():
            # The seeds that a fallback may have put inside are no boundary.
            flag = f"class '{name}' fills the volume, it has no boundary: {self.filling_value:+g} everywhere"
            return _constant(mask.shape, self.filling_value, flag)
        if not seeds.any():
            if self.variant == "paper":
                raise SeedError(f"class '{name}': present, but it has no seed; set seeds.fallback to true")
            return _constant(mask.shape, 0, f"class '{name}' present, but it has no seed: 0 everywhere")
        if self.variant == "paper":
            u, beta, tau = paper_map(inputs.distance, mask, seeds, inputs.spacing, band=self.band)
        else:
            spatial = self._spatial(seeds, inputs.spacing)
            u, beta, tau = official_map(
                inputs.distance, mask, seeds, inputs.spacing, image=inputs.image, spatial=spatial
            )
        return ClassMap(u, notes={"beta": beta, "tau": tau})

    def _spatial(self, seeds: Bools, spacing: Spacing) -> Floats | None:
        """Return GeodisTK's own lamb-0 distance where it is the engine, which need not have converged."""
        if self.distance.engine != "geodistk":
            return None
        from softlabels.geodesic.engines import solve_with_engine

        flat = np.zeros(seeds.shape, np.float32)
        found, _ = solve_with_engine(
            flat, seeds, spacing, engine="geodistk", metric="harmonic", lamb=0.0, iterations=self.distance.iterations
        )
        return found


def _constant(shape: tuple[int, ...], value: float, flag: str) -> ClassMap:
    """Return a map of one value, with what a person should know about it."""
    return ClassMap(np.full(shape, value, np.float32), [flag], {"beta": None, "tau": None})


def paper_map(
    distance: Floats, mask: Bools, seeds: Bools, spacing: Spacing, *, band: Literal["euclidean", "l1"] = "euclidean"
) -> tuple[Floats, float, list[float]]:
    """Return u of Eq. 5, and the constants beta (Eq. 4) and tau.

    Parameters
    ----------
    distance : (M, D, H, W) float32 array
        G, the geodesic distance (Eqs. 1-2) of each channel to the seeds. Not modified.
    mask : (D, H, W) bool array
        M, not empty.
    seeds : (D, H, W) bool array
        R_B, not empty.
    spacing : 3 floats
        Voxel size in mm, (z, y, x).
    band : {"euclidean", "l1"}
        The length that G^0 is read as.

    Returns
    -------
    u : (D, H, W) float32 array
        ``s G / tau`` in the band B, -1 outside of it; the mean over channels.
    beta : float
        Half width of the band in mm.
    tau : list of M floats
        Largest G in the band. Where it is 0 (all of the band are seeds), u is 0 in the band.

    Notes
    -----
    Where G is inf in the band (no path within the domain), u is +1 inside and -1 outside.

    Examples
    --------
    >>> mask = np.array([[[1, 1, 1, 0, 0, 0, 0]]], bool)
    >>> seeds = np.array([[[0, 0, 1, 0, 0, 0, 0]]], bool)
    >>> distance = np.float32([[[[5, 3, 0, 1, 4, 8, 9]]]])
    >>> paper_map(distance, mask, seeds, (1, 1, 1))  # beta is 2 mm: 2 voxels outside; tau is 5
    (array([[[ 1. ,  0.6,  0. , -0.2, -0.8, -1. , -1. ]]], dtype=float32), 2.0, [5.0])
    """
    length = euclidean_distance if band == "euclidean" else _l1_distance
    box, is_near, beta = _band(mask, seeds, spacing, length)
    u, taus = np.zeros(is_near.shape, np.float32), []
    for channel in distance:
        depth = channel[box]
        is_reached = is_near & np.isfinite(depth)
        tau = np.float32(np.max(depth, where=is_reached, initial=0.0))
        taus.append(float(tau))
        scaled = np.zeros(is_near.shape, np.float32)
        np.divide(depth, tau, out=scaled, where=is_reached & (tau > 0))
        scaled[is_near & ~is_reached] = 1
        u += scaled
    u /= np.float32(len(distance))
    np.negative(u, out=u, where=~mask[box])
    u[~is_near] = -1
    return _placed(u, box, mask.shape, -1), beta, taus


def official_map(
    distance: Floats, mask: Bools, seeds: Bools, spacing: Spacing, *, image: Floats, spatial: Floats | None = None
) -> tuple[Floats, float, list[float]]:
    """Return u of the authors' two scripts before their margin, and the constants beta and fg_max.

    Parameters
    ----------
    distance, mask, seeds, spacing
        As for `paper_map`; their distance is FastGeodis' cost at lamb 0.5 on raw intensities.
    image : (M, D, H, W) float32 array
        Raw intensities, for the rule on voxels that are exactly 0. With one distance map of the vector image, a voxel
        is 0 if all channels are.
    spatial : (D, H, W) float32 array, optional
        The lamb-0 distance of the authors' engine; by default the one that it converges to.

    Returns
    -------
    u : (D, H, W) float32 array
    beta : float
        Half width of the band, chamfer distance in mm.
    largest : list of M floats
        Largest G of each channel over voxels of the mask whose intensity is not 0.

    Examples
    --------
    >>> mask = np.array([[[1, 1, 1, 0, 0, 0, 0]]], bool)
    >>> seeds = np.array([[[0, 0, 1, 0, 0, 0, 0]]], bool)
    >>> distance = np.float32([[[[5, 3, 0, 1, 4, 8, 9]]]])
    >>> image = np.float32([[[[7, 0, 7, 7, 7, 7, 7]]]])
    >>> official_map(distance, mask, seeds, (1, 1, 1), image=image)[0].ravel().astype(str).tolist()
    ['1.0', '0.0', '0.0', '-0.2', '-0.8', '-0.8', '-0.8']
    """
    if spatial is None:
        box, band, beta = _band(mask, seeds, spacing, _chamfer_distance)
    else:
        beta = float(np.max(spatial, where=mask, initial=0.0))
        box, band = (slice(None), slice(None), slice(None)), spatial <= beta
    zeros = image == 0 if len(image) == len(distance) else (image == 0).all(axis=0, keepdims=True)
    total, largest, outside = np.zeros(mask.shape, np.float32), [], ~mask
    for channel, is_zero in zip(distance, zeros, strict=True):
        depth = channel[box]
        max_bg = np.float32(np.max(depth, where=band & outside[box] & np.isfinite(depth), initial=0.0))
        signed = _placed(np.where(band, depth, max_bg), box, mask.shape, max_bg)
        np.negative(signed, out=signed, where=outside)
        signed[is_zero] = -max_bg
        # Their clamp, which lifts zero-intensity voxels of the mask from -max_bg to 0.
        np.maximum(signed, 0, out=signed, where=mask)
        fg_max = np.float32(np.max(signed, where=mask & np.isfinite(signed), initial=0.0))
        largest.append(float(fg_max))
        np.clip(signed, -fg_max, fg_max, out=signed)
        signed /= fg_max + _TINY
        total += signed
    total /= np.float32(len(distance))
    return np.clip(total, -1, 1, out=total), beta, largest


def _band(
    mask: Bools, seeds: Bools, spacing: Spacing, distance_of: Callable[[Bools, Spacing], Floats]
) -> tuple[Box, Bools, float]:
    """Return a box that holds the band B, B within the box, and beta, for a distance to seeds on a convex grid."""
    box = bounding_box(mask | seeds)
    assert box is not None, "an absent class has no band"
    depth = distance_of(seeds[box], spacing)
    beta = np.max(depth, where=mask[box], initial=0.0)
    reach = [int(np.ceil(float(beta) / side)) + 1 for side in spacing]
    z, y, x = (
        slice(max(0, part.start - extra), min(size, part.stop + extra))
        for part, extra, size in zip(box, reach, mask.shape, strict=True)
    )
    wide = (z, y, x)
    if wide != box:
        depth = distance_of(seeds[wide], spacing)
    return wide, depth <= beta, float(beta)


def _chamfer_distance(seeds: Bools, spacing: Spacing) -> Floats:
    """Return the lamb-0 geodesic distance of the authors' engine, made to converge."""
    return geodesic_distance(np.zeros(seeds.shape, np.float32), seeds, spacing, metric="sum", lamb=0.0)


def _l1_distance(seeds: Bools, spacing: Spacing) -> Floats:
    """Return the L1 length of the shortest path to a seed, Eq. 2 at lambda 0."""
    return geodesic_distance(np.zeros(seeds.shape, np.float32), seeds, spacing, metric="l1", lamb=0.0)


def _placed(values: Floats, box: Box, shape: tuple[int, ...], elsewhere: float | np.float32) -> Floats:
    """Return a volume with the values of a box and one value elsewhere."""
    volume = np.full(shape, elsewhere, np.float32)
    volume[box] = values
    return volume
