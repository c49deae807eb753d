"""GeoLS, geodesic label smoothing (Adiga Vasudeva, Dolz, Lombaert, MIDL 2023): Eqs. 3-6 and the authors' script.

What is stored is the geodesic map g of each class; the loader mixes it with the one-hot label,
``(1 - alpha) y + alpha g`` (Eq. 6), so alpha (0.1 in the paper) is a load-time parameter.

============== ============================================ ======================================================
property       paper                                        official
============== ============================================ ======================================================
distance       ``pythagorean``, gamma 1, to convergence     ``harmonic``, lamb 1 (GeodisTK's cost)
map            exp(-D), min-max per class, divided by sum   exp(-D / mean D), min-max per class
background     a class like any other, with its own seeds   1 - mean of the maps of the foreground classes
range          [0, 1]                                       [0, 1]
sums to one    yes                                          no: up to K with K foreground classes, and the target of
                                                            Eq. 6 up to 1 + alpha (K - 1). A hidden weight of the
                                                            voxel in the loss; divide by the sum to be rid of it
absent class   0 everywhere, flagged                        0 everywhere, flagged
channels       mean of the maps                             mean of the maps, background included
============== ============================================ ======================================================

Padding is 1 for the background and 0 elsewhere. Flips, quarter turns and rescaling of image and map alike keep it
valid; elastic deformation does not, because distances follow the intensities of the undeformed image.

**Many classes.** From 8 classes on, the paper's map uses only distances that are at most a gap above the least of all
classes (`distance.gap`), and everything is computed and held in the boxes in which classes are near. No share differs
from that of all distances by more than ``2 C exp(-gap)``, which `auto` keeps below a sixteenth of the encoding's own
error; QUALITY.json has the gap and the bound. `gap: none` computes all distances, for looking at them. Fewer classes
are solved faster as a whole than in boxes. The authors' script has the mean distance over the volume in its exponent,
and so depends on every distance.

The paper is silent on several channels and on the background; the first follows the authors' code, the second is the
reading of Eq. 5 in which c runs over all classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels._shared.box import Box
from softlabels._shared.boxed import BoxedVolumes, blocks_of, hull, intersection, within
from softlabels._shared.in_order import map_in_order
from softlabels._shared.rate import Rate
from softlabels.augmentation import NOT_ELASTIC
from softlabels.errors import InputError
from softlabels.methods.arrays import BoxedInputs, BoxedMap, Need, TargetInputs, TargetMap
from softlabels.methods.keys import TuningGrid
from softlabels.methods.seeded import Distance, GeodesicMethod
from softlabels.seeds import SeedStrategy, SkeletonSeeds

#: Voxels that a thread takes at a time.
_SLAB = 1 << 18
#: Sides of the blocks in which many classes are computed.
_BLOCK_SIDE = 40


class GeoLS(GeodesicMethod):
    """Geodesic label smoothing (Adiga Vasudeva, Dolz, Lombaert, MIDL 2023)."""

    name: ClassVar[str] = "geols"
    title: ClassVar[str] = "GeoLS"
    source: ClassVar[str] = "Adiga Vasudeva, Dolz and Lombaert, MIDL 2023"
    version: ClassVar[str] = "2"
    needs: ClassVar[frozenset[Need]] = frozenset({"distance"})
    reads_by_channel: ClassVar[bool] = True
    blend: ClassVar[str] = "mix_onehot"
    grid: ClassVar[TuningGrid] = {"alpha": (0.02, 0.05, 0.1, 0.2, 0.4)}
    unnormalised: ClassVar[frozenset[str]] = frozenset({"official"})
    allows_overlap: ClassVar[bool] = False
    needs_background: ClassVar[bool] = True
    augmentation: ClassVar[Mapping[str, bool]] = NOT_ELASTIC
    cost: ClassVar[Rate] = Rate(us=0.025, memory_bytes=9.5, disk_bytes=0.2, volume_bytes=15)
    boxed_cost: ClassVar[Rate] = Rate(us=0.003, memory_bytes=0.3, disk_bytes=0.04, volume_us=0.1, volume_bytes=45)
    default_seeds: ClassVar[Mapping[str, SeedStrategy]] = {
        "paper": SkeletonSeeds(),
        "official": SkeletonSeeds(fallback=False, per_component=False, lone_slice="3d"),
    }
    gap_variants: ClassVar[frozenset[str]] = frozenset({"paper"})
    default_distance: ClassVar[Mapping[str, Distance]] = {
        "paper": Distance(metric="pythagorean", gamma=1.0),
        "official": Distance(metric="harmonic", lamb=1.0),
    }

    variant: Literal["paper", "official"] = Field("paper", description="Eqs. 3-6, or what the authors' script does")
    alpha: float = Field(0.1, ge=0, le=1, description="share of the geodesic map in the target; applied by the loader")

    @property
    def seeds_background(self) -> bool:
        """Not in the authors' script, whose background map is one minus the others."""
        return self.variant != "official"

    def soft_map(self, inputs: TargetInputs) -> TargetMap:
        """Return the geodesic map g of a case."""
        distance, is_present = inputs.required("distance"), inputs.masks.any(axis=(1, 2, 3))
        flags = inputs.absent_flags()
        if self.variant == "official":
            background = int(inputs.background or 0)
            values, means = official_map(distance, background=background, threads=inputs.threads)
            blank = [c for c in np.flatnonzero(is_present) if c != background and not values[c].any()]
            flags += [
                f"class '{inputs.class_names[c]}' present, but its map is 0 (no seed, or no distance)" for c in blank
            ]
            return TargetMap(values, flags, {"mean_distance": means})
        reached: set[int] = set()

        def channels() -> Iterator[NDArray[np.float32]]:
            """Yield the distances of each channel, and note which classes are reached in it."""
            for channel in distance:
                # Plane by plane: mostly the first one answers.
                reached.update(c for c, one in enumerate(channel) if any(np.isfinite(plane).any() for plane in one))
                yield channel
                del channel

        values = paper_map(channels(), inputs.masks, farthest=inputs.farthest, threads=inputs.threads)
        for index in np.flatnonzero(is_present):
            if index not in reached:
                raise self.out_of_reach(inputs.class_names[index])
        return TargetMap(values, flags)

    def voxel_map(
        self, distance: NDArray[np.float32], masks: NDArray[np.bool_], farthest: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the geodesic map g of the paper of some voxels."""
        return paper_map(distance, masks, farthest=farthest)

    def boxed_map(self, inputs: BoxedInputs) -> BoxedMap:
        """Return the geodesic map g of the paper for many classes, each in its box."""
        for index, (_, mask) in enumerate(inputs.masks):
            if mask.any() and not any(np.isfinite(channel[index][1]).any() for channel in inputs.distance):
                raise self.out_of_reach(inputs.class_names[index])
        if inputs.farthest is None:
            raise InputError("farthest: missing, and boxed distances do not tell how far a class reaches")
        values = boxed_paper_map(inputs.distance, inputs.masks, inputs.farthest, threads=inputs.threads)
        return BoxedMap(values, inputs.absent_flags())


def paper_map(
    distance: Iterable[NDArray[np.float32]],
    masks: NDArray[np.bool_],
    *,
    farthest: NDArray[np.float32] | None = None,
    threads: int = 1,
) -> NDArray[np.float32]:
    """Return g of Eqs. 5-6: exp(-D) of each class, normalised to [0, 1] and divided by the sum over classes.

    Parameters
    ----------
    distance : (M, C, D, H, W) float32 array, or M arrays (C, D, H, W)
        Geodesic distance (Eqs. 3-4) for each channel to the seeds of each class, >= 0; inf where none is reached. A
        class that is inf everywhere has weight 0. Not modified. Each channel is read once, and then forgotten.
    masks : (C, D, H, W) bool array
        The hard label, taken where no class can be reached.
    farthest : (M, C) float32 array, optional
        The largest finite distance of each map, where the maps do not hold it.
    threads : int
        Slabs handled at once; no effect on the result.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1], sums to 1 wherever masks do.

    Notes
    -----
    With M_c the largest finite D_c, min-max normalisation of exp(-D_c) is
    ``exp(-D_c) (1 - exp(D_c - M_c)) / (1 - exp(-M_c))``, and the ratio of Eq. 6 does not change when all classes are
    multiplied by the exponential of the smallest D_c. Written so, no voxel is lost to underflow, however far it is from
    all seeds (float32 exp(-D) is 0 from 104 on). Two cases have no value in the paper: where every class is at its
    own maximum the ratio is 0/0, and the softmax of -D is taken; a class with M_c = 0 keeps exp(-D_c) = 1.

    Cost: 2 exponentials per channel, class and voxel; about 1 s for 4 channels, 4 classes and 9 M voxels on a core.

    Examples
    --------
    >>> distance = np.float32([[[[[0.0, 1.0, 2.0]]], [[[2.0, 1.0, 0.0]]]]])
    >>> paper_map(distance, distance[0] == 0).round(3).tolist()
    [[[[1.0, 0.5, 0.0]]], [[[0.0, 0.5, 1.0]]]]
    """
    hard = np.ascontiguousarray(masks).reshape(len(masks), -1)
    total, n_channels = np.zeros(hard.shape, np.float32), 0
    with ThreadPoolExecutor(threads) as pool:
        # Not enumerated: that holds the last one while the next is made.
        for channel in distance:
            maxima = None if farthest is None else np.asarray(farthest[n_channels], np.float32)
            _add_channel(channel.reshape(hard.shape), maxima, hard, total, pool)
            n_channels += 1
            # The next channel takes its memory.
            del channel
    total /= np.float32(n_channels)
    return total.reshape(masks.shape)


def _add_channel(
    distance: NDArray[np.float32],
    largest: NDArray[np.float32] | None,
    hard: NDArray[np.bool_],
    total: NDArray[np.float32],
    pool: Executor,
) -> None:
    """Add the distribution over classes of one channel, (C, n), to `total`; `largest` distances are found if None."""
    # Compiled.
    from softlabels.methods._geols_kernels import add_distribution

    if largest is None:
        largest = np.array(list(pool.map(_largest_finite, distance)), np.float32)
    factor, n_voxels = _factors(largest), hard.shape[1]

    def add_slab(start: int) -> None:
        """Add the channel to one slab."""
        add_distribution(distance, largest, factor, hard, total, start, min(start + _SLAB, n_voxels))

    list(pool.map(add_slab, range(0, n_voxels, _SLAB)))


def boxed_paper_map(
    distance: Sequence[BoxedVolumes], masks: BoxedVolumes, farthest: NDArray[np.float32], *, threads: int = 1
) -> BoxedVolumes:
    """Return what `paper_map` does of the dense arrays, with each class in the box in which it is near.

    Parameters
    ----------
    distance : sequence of M BoxedVolumes of float32
        inf around the boxes.
    masks : BoxedVolumes of bool
    farthest : (M, C) float32 array
    threads : int
        Blocks handled at once; no effect on the result.

    Returns
    -------
    BoxedVolumes of float32
        0 around the boxes.

    Notes
    -----
    Time and memory follow the boxes: in each block, only the classes that are near in it are computed.

    Examples
    --------
    >>> distance = BoxedVolumes.of_array(np.float32([[[[0.0, 1.0, np.inf]]], [[[np.inf, 1.0, 0.0]]]]), fill=np.inf)
    >>> masks = BoxedVolumes.of_array(distance.dense() == 0, fill=False)
    >>> boxed_paper_map([distance], masks, np.float32([[30, 30]])).dense().tolist()
    [[[[1.0, 0.5, 0.0]]], [[[0.0, 0.5, 1.0]]]]
    """
    # Compiled.
    from softlabels.methods._geols_kernels import add_distribution

    shape, n_classes = masks.shape[1:], len(masks)
    boxes = [hull([part[c][0] for part in (masks, *distance)]) for c in range(n_classes)]
    parts = [(box, np.zeros([side.stop - side.start for side in box], np.float32)) for box in boxes]
    factors = _factors(farthest)

    def add_block(block: Box) -> None:
        """Add up the channels of one block."""
        for channel, maxima, factor in zip(distance, farthest, factors, strict=True):
            near = [c for c in range(n_classes) if not (channel.is_filled(c, block) and masks.is_filled(c, block))]
            values = np.array([channel.region(c, block) for c in near]).reshape(len(near), -1)
            hard = np.array([masks.region(c, block) for c in near]).reshape(len(near), -1)
            if not near:
                continue
            total = np.zeros(values.shape, np.float32)
            add_distribution(values, maxima[near], factor[near], hard, total, 0, total.shape[1])
            for c, share in zip(near, total, strict=True):
                common = intersection(boxes[c], block)
                inside = parts[c][1][within(common, boxes[c])]
                inside += share.reshape([side.stop - side.start for side in block])[within(common, block)]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(add_block, blocks_of(shape, _BLOCK_SIDE)))
    for _, values in parts:
        values /= np.float32(len(distance))
    return BoxedVolumes(shape, parts, fill=0, dtype=np.float32)


def _factors(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return ``1 - exp(-M)`` of the largest distances M, and 1 where M is 0."""
    # Compiled.
    from softlabels._shared.exponential import expm1_nonpositive

    return np.where(largest > 0, -expm1_nonpositive(-largest), np.float32(1))


def official_map(
    distance: Iterable[NDArray[np.float32]], *, background: int, threads: int = 1
) -> tuple[NDArray[np.float32], list[list[float | None]]]:
    """Return g as the authors' script makes it, and the mean distance of each channel and class.

    Parameters
    ----------
    distance : (M, C, D, H, W) float32 array, or M arrays (C, D, H, W)
        Their distance: GeodisTK's cost at lamb 1. The background's is not read. Not modified. Each channel is read
        once, and then forgotten.
    background : int
        Index of the background class.
    threads : int
        Classes handled at once; no effect on the result.

    Returns
    -------
    values : (C, D, H, W) float32 array
        In [0, 1]; sums to anything up to the number of foreground classes.
    means : list of M lists of C floats
        Mean of D over the volume, the scale of the exponential; None where there is none.

    Notes
    -----
    A class without seeds, or whose D is 0 everywhere (their code divides 0 by 0 there), has a map of 0. Where D is inf
    (outside of a domain, which the script does not know) the mean is over the finite part and the map is 0. Without
    any foreground the background is 1. The mean runs over the volume, so a crop changes the map.

    Examples
    --------
    >>> distance = np.float32([[[[[np.inf, np.inf, np.inf]]], [[[0.0, 1.0, 2.0]]]]])
    >>> values, means = official_map(distance, background=0)  # exp(-D) is 1, 0.368, 0.135; (0.368-0.135)/0.865 = 0.269
    >>> values[1].ravel().round(3).astype(str).tolist(), means
    (['1.0', '0.269', '0.0'], [[None, 1.0]])
    """
    total: NDArray[np.float32] | None = None
    means: list[list[float | None]] = []
    for channel in distance:
        if total is None:
            total = np.zeros(channel.shape, np.float32)
        means.append(_add_scaled_exponentials(channel, background, total, threads))
        # The next channel takes its memory.
        del channel
    assert total is not None, "compute has refused inputs without a channel"
    total /= np.float32(len(means))
    return total, means


def _add_scaled_exponentials(
    distance: NDArray[np.float32], background: int, total: NDArray[np.float32], threads: int
) -> list[float | None]:
    """Add the maps of one channel to `total`, and return the mean distance of each class."""
    n_classes = len(distance)
    foreground = [c for c in range(n_classes) if c != background]
    means: list[float | None] = [None] * n_classes
    blank, n_counted = np.zeros(distance.shape[1:], np.float32), 0
    with ThreadPoolExecutor(threads) as pool:
        maps = map_in_order(pool, lambda index: _scaled_exponential(distance[index]), foreground, threads)
        for index, (one, mean) in zip(foreground, maps, strict=True):
            means[index] = mean
            if one is not None:
                total[index] += one
                blank += one
                n_counted += 1
    if n_counted:
        blank /= np.float32(-n_counted)
    blank += np.float32(1.0)
    total[background] += blank
    return means


def _largest_finite(distance: NDArray[np.float32]) -> float:
    """Return the largest finite distance, 0 if there is none."""
    largest = distance.max()
    if np.isfinite(largest):
        return float(largest)
    return float(np.max(distance, where=np.isfinite(distance), initial=0.0))


def _scaled_exponential(distance: NDArray[np.float32]) -> tuple[NDArray[np.float32] | None, float | None]:
    """Return exp(-D / mean D) normalised to [0, 1], and the mean; None, None for a class without seeds or distance."""
    # Compiled.
    from softlabels._shared.exponential import exp_nonpositive

    is_finite = np.isfinite(distance)
    is_whole = bool(is_finite.all())
    if not is_whole and not is_finite.any():
        return None, None
    mean = float(np.mean(distance if is_whole else distance[is_finite], dtype=np.float64))
    if mean == 0:
        return None, mean
    soft = exp_nonpositive(distance * np.float32(-1.0 / mean))
    low = soft.min() if is_whole else np.min(soft, where=is_finite, initial=np.inf)
    soft -= low
    soft /= soft.max()
    if not is_whole:
        np.maximum(soft, 0, out=soft)
    return soft, mean
