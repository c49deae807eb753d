"""Seeds that lie inside a class: skeleton, erosion, a random draw, and the two that the fallback chain uses."""

from __future__ import annotations

import hashlib

import numpy as np
from scipy import ndimage

from softlabels.errors import InputError
from softlabels.seeds.thinning import thin

#: Distances closer than this are one distance: the last bits of a sum of squares are no reason to prefer a voxel.
_RELATIVE_TIE = 1e-9


def skeleton_seeds(mask: np.ndarray) -> np.ndarray:
    """Return the voxels of the medial skeleton of a class, the main seeds of GeoLS (Sec. 2.2).

    Thinning of Lee, Kashyap and Chu (1994) in 3D and of Zhang and Suen (1984) for a single slice, both with the
    result of scikit-image, which is what the authors run. It works on the voxel grid (no spacing) and takes what lies
    beyond the volume as background. It may return nothing for a class that is present: cubes with sides of 2, 4, 8 or
    16 voxels vanish.

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.

    Returns
    -------
    (D, H, W) bool array
        A subset of `mask`.

    Notes
    -----
    Cost: about 0.2 us for each voxel of the mask (`softlabels.seeds.thinning`).

    Examples
    --------
    >>> bar = np.zeros((5, 5, 9), bool)
    >>> bar[1:4, 1:4, 1:8] = True
    >>> [tuple(map(int, voxel)) for voxel in np.argwhere(skeleton_seeds(bar))]
    [(2, 2, 2), (2, 2, 3), (2, 2, 4), (2, 2, 5), (2, 2, 6)]
    """
    seeds = np.zeros(mask.shape, bool)
    if mask.any():
        box = bounding_box(mask)
        seeds[box] = _thin_slice(mask[box]) if len(mask) == 1 else thin(mask[box])
    return seeds


def _thin_slice(mask: np.ndarray) -> np.ndarray:
    """Return the skeleton of a single slice."""
    # Slow to import, and volumes do without it.
    from skimage.morphology import skeletonize

    return skeletonize(mask[0])[None]


def erosion_seeds(mask: np.ndarray, radius_vox: int = 1, iterations: int = 1) -> np.ndarray:
    """Return what is left of a class after erosion by a ball (GeoLS, Table 3; radius and repeats are not in the paper).

    The border of the volume does not erode: a class that runs out of the field of view goes on beyond it. On a single
    slice the ball acts as a disk. Anything up to `2 * radius_vox` voxels thick vanishes.

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.
    radius_vox : int
        Radius of the ball in voxels, >= 1: offsets with dz^2 + dy^2 + dx^2 <= radius^2.
    iterations : int
        How often to erode, >= 1.

    Returns
    -------
    (D, H, W) bool array
        A subset of `mask`.

    Notes
    -----
    A voxel survives a ball exactly if no voxel outside the mask is within the radius, so one exact distance transform
    of the bounding box per iteration does it at any radius.

    Examples
    --------
    >>> erosion_seeds(np.array([[[0, 1, 1, 1, 1, 0, 1, 1]]], bool)).astype(int).tolist()
    [[[0, 0, 1, 1, 0, 0, 0, 1]]]
    """
    _refuse_below_one(radius_vox=radius_vox, iterations=iterations)
    seeds = mask.copy()
    for _ in range(iterations):
        if seeds.all() or not seeds.any():
            break
        box = bounding_box(seeds, margin=1)
        seeds[box] = ndimage.distance_transform_edt(seeds[box]) > radius_vox
    return seeds


def random_seeds(mask: np.ndarray, n: int, *, key: str) -> np.ndarray:
    """Return n distinct voxels of a class, each set of n equally likely (GeoLS, Table 3: 3, 5 or 7 of them).

    The draw depends on `key` and the mask alone, not on NumPy, the machine or other classes. Algorithm: number the N
    voxels of the mask in C order; for i = 0 .. n-1 swap number i with number i + (h mod (N - i)), h being the SHA-256
    digest of ``f"{key}:{i}"`` as a big-endian integer; the first n numbers are the seeds (Fisher and Yates; the bias of
    the remainder is below 2^-200).

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.
    n : int
        How many voxels, >= 1; all of them if the class has fewer.
    key : str
        Names the draw; `random_key` makes it from case, class and seed.

    Returns
    -------
    (D, H, W) bool array
        A subset of `mask` of min(n, N) voxels.

    Examples
    --------
    >>> random_seeds(np.ones((1, 2, 4), bool), 3, key="a").astype(int).tolist()
    [[[0, 0, 1, 0], [0, 1, 0, 1]]]
    """
    _refuse_below_one(n=n)
    voxels = np.flatnonzero(mask)
    swapped: dict[int, int] = {}
    chosen = []
    for i in range(min(n, voxels.size)):
        j = i + int.from_bytes(hashlib.sha256(f"{key}:{i}".encode()).digest(), "big") % (voxels.size - i)
        chosen.append(swapped.get(j, j))
        swapped[j] = swapped.get(i, i)
    seeds = np.zeros(mask.shape, bool)
    seeds.flat[voxels[chosen]] = True
    return seeds


def random_key(case_id: str, class_name: str, seed: int) -> str:
    """Return the key of a random draw: the SHA-256 of case, class and seed, so that no other class enters.

    Examples
    --------
    >>> random_key("case1", "tumour", 0)[:8]
    '78d1467e'
    """
    parts = [str(case_id), str(class_name), str(int(seed))]
    # The length before each part keeps ("ab", "c") and ("a", "bc") apart.
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


def deepest_voxels(units: np.ndarray, spacing) -> np.ndarray:
    """Return the voxels of each unit that lie furthest from its outside, all of them where several tie.

    Parameters
    ----------
    units : (D, H, W) int array
        0 outside, the number of the unit inside. Units do not touch each other (26 neighbours), as components do not.
    spacing : 3 floats
        Voxel size in mm (z, y, x).

    Returns
    -------
    (D, H, W) bool array
        At least one voxel of each unit; none at all if a unit fills the volume, for then there is no outside.

    Notes
    -----
    Cost: one exact Euclidean distance transform of the units' bounding box. The voxel outside a unit that is nearest to
    one inside always touches the unit, so it is in the box and in no other unit. The volume's border is no outside.

    Examples
    --------
    >>> deepest_voxels(np.array([[[0, 1, 1, 1, 0, 2, 2]]]), (1, 1, 1)).astype(int).tolist()
    [[[0, 0, 1, 0, 0, 0, 1]]]
    """
    seeds = np.zeros(units.shape, bool)
    inside = units > 0
    if inside.all() or not inside.any():
        return seeds
    box = bounding_box(inside, margin=1)
    depth = ndimage.distance_transform_edt(inside[box], sampling=spacing)
    numbers = np.arange(units.max() + 1)
    deepest = np.asarray(ndimage.maximum(depth, units[box], numbers))
    seeds[box] = inside[box] & (depth >= deepest[units[box]] * (1 - _RELATIVE_TIE))
    return seeds


def centre_voxel(mask: np.ndarray, spacing) -> np.ndarray:
    """Return the one voxel of a mask nearest (mm) to its centroid; of several, the first in C order.

    Examples
    --------
    >>> centre_voxel(np.ones((1, 2, 5), bool), (1, 1, 1)).astype(int).tolist()
    [[[0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]]
    """
    seeds = np.zeros(mask.shape, bool)
    if mask.any():
        voxels = np.argwhere(mask)
        apart = (((voxels - voxels.mean(0)) * spacing) ** 2).sum(1)
        first = np.flatnonzero(apart <= apart.min() * (1 + _RELATIVE_TIE))[0]
        seeds[tuple(voxels[first])] = True
    return seeds


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Return the slices of the smallest box around the True voxels, `margin` voxels wider where the volume allows."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(max(0, int(hit[0]) - margin), int(hit[-1]) + 1 + margin))
    return tuple(box)


def _refuse_below_one(**numbers) -> None:
    """Raise InputError for a value that is not an integer >= 1."""
    for name, value in numbers.items():
        if isinstance(value, bool) or int(value) != value or value < 1:
            raise InputError(f"seeds: {name} got {value!r}, expected an integer >= 1; change it in the target's seeds")
