"""The seeds of all classes of a case, and the chain that leaves no present class without."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boundary import inner_boundary
from softlabels._shared.box import Box, bounding_box
from softlabels._shared.boxed import NO_BOX, BoxedVolumes, boxed, moved, widened
from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.seeds.base import SeedStrategy

Spacing = tuple[float, float, float]

#: Distances closer than this are one distance: the last bits of a sum of squares are no reason to prefer a voxel.
_RELATIVE_TIE = 1e-9
_ALL_26 = np.ones((3, 3, 3), bool)


def make_seeds(
    masks: NDArray[np.bool_],
    spacing: Sequence[float],
    strategy: SeedStrategy,
    *,
    class_names: Sequence[object],
    case_id: str,
    background: int | None = None,
    threads: int = 1,
) -> tuple[NDArray[np.bool_], list[dict[str, Any]]]:
    """Return the seeds of every class of a case, and what became of each class.

    Where the strategy leaves a unit without seeds, the chain fills in for that unit: its deepest voxels (its inner
    boundary for the strategies that seed the boundary), and for a class that fills the volume, which has neither, the
    voxel at its centre. A unit is a 26-connected component or, with ``per_component=False``, the whole class. An edge
    seed counts for a component that it is in or touches. A class without voxels gets no seeds.

    Parameters
    ----------
    masks : (C, D, H, W) bool array
        One mask per class; they may overlap. An image (H, W) is (C, 1, H, W).
    spacing : 3 floats
        Voxel size in mm (z, y, x); steers the fallback, the strategies work on the voxel grid.
    strategy : SeedStrategy
        Which voxels are seeds, and whether the chain fills in: without `fallback` things are as the strategy has them,
        and without `per_component` only a whole class is filled.
    class_names : sequence of C str
        Names for the reports; the random draw of a class depends on its name, not its place.
    case_id : str
        Enters the random draw and the error messages.
    background : int, optional
        A class that is to get no seeds, as GeoLS's code leaves out the background.
    threads : int
        Classes seeded at a time, >= 1; no effect on the result.

    Returns
    -------
    seeds : (C, D, H, W) bool array
        The seeds of each class.
    reports : list of C dicts
        JSON values: ``class``, ``strategy`` (``none`` for the skipped class), ``used`` (what gave seeds, such as
        ``skeleton + distance_maxima``), ``fallback`` (whether the chain filled in), ``n_voxels``, ``n_seeds``,
        ``n_seeds_outside`` (the mask), ``n_components``, ``n_components_missed`` (by the strategy) and
        ``n_components_without_seed`` (in the end).

    Raises
    ------
    InputError
        For arrays or names that do not fit.

    Examples
    --------
    >>> masks = np.zeros((1, 3, 8, 8), bool)
    >>> masks[0, 1, 1, 1] = masks[0, :, 4:7, 4:7] = True
    >>> from softlabels.seeds import ErosionSeeds
    >>> seeds, reports = make_seeds(masks, (1, 1, 1), ErosionSeeds(), class_names=["lesion"], case_id="p1")
    >>> reports[0]["used"], reports[0]["n_components_missed"], int(seeds.sum())
    ('erosion + distance_maxima', 1, 4)
    """
    masks = np.asarray(masks)
    if masks.ndim != 4 or masks.dtype != bool or masks.size == 0:
        raise InputError(f"case {case_id}: masks got {masks.dtype} {masks.shape}, expected bool (C, D, H, W)")
    seeds, reports = make_boxed_seeds(
        BoxedVolumes.of_array(masks, fill=False),
        spacing,
        strategy,
        class_names=class_names,
        case_id=case_id,
        background=background,
        threads=threads,
    )
    return seeds.dense(), reports


def make_boxed_seeds(
    masks: BoxedVolumes,
    spacing: Sequence[float],
    strategy: SeedStrategy,
    *,
    class_names: Sequence[object],
    case_id: str,
    background: int | None = None,
    threads: int = 1,
) -> tuple[BoxedVolumes, list[dict[str, Any]]]:
    """Return what `make_seeds` does, each class in its box.

    Parameters
    ----------
    masks : BoxedVolumes of bool
        One mask per class, as `softlabels.classes.boxed_class_masks` gives them.
    spacing, strategy, class_names, case_id, background, threads
        As in `make_seeds`.

    Returns
    -------
    seeds : BoxedVolumes of bool
    reports : list of C dicts
        As in `make_seeds`.

    Notes
    -----
    Time and memory follow the boxes of the classes, except for a strategy without `margin_vox`, which gets one whole
    volume for each thread.
    """
    names = [str(name) for name in class_names]
    if len(names) != len(masks) or len(set(names)) != len(names):
        raise InputError(f"case {case_id}: class names got {names}, expected {len(masks)} different names")
    if background is not None and background not in range(len(masks)):
        raise InputError(f"case {case_id}: background got {background!r}, expected a class index below {len(masks)}")
    spacing = checked_spacing(spacing)

    def seed_one(index: int) -> tuple[tuple[Box, NDArray[np.bool_]], dict[str, Any]]:
        """Seed one class."""
        space = _space_of(masks[index][0], masks.shape[1:], strategy.margin_vox)
        mask, name = masks.region(index, space), names[index]
        if index == background:
            seeds, figures = np.zeros(mask.shape, bool), _SKIPPED
        else:
            seeds, figures = _seed_class(mask, spacing, strategy, case_id, name)
        counts = {"n_voxels": mask.sum(), "n_seeds": seeds.sum(), "n_seeds_outside": (seeds & ~mask).sum()}
        report = {"class": name, "strategy": strategy.name} | {k: int(v) for k, v in counts.items()} | figures
        return moved(boxed(seeds, fill=False), space), report

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(seed_one, range(len(masks))))
    found = BoxedVolumes(masks.shape[1:], [part for part, _ in results], fill=False, dtype=bool)
    return found, [report for _, report in results]


def _space_of(box: Box, shape: Sequence[int], margin_vox: int | None) -> Box:
    """Return what of the volume the seeds of a class in `box` depend on; the chain itself looks one voxel beyond."""
    if margin_vox is None:
        z, y, x = (slice(0, n) for n in shape)
        return z, y, x
    # A class without voxels is an empty mask of one voxel.
    return widened(box if box != NO_BOX else (slice(0, 1),) * 3, (max(margin_vox, 1),) * 3, shape)


def _seed_class(
    mask: NDArray[np.bool_], spacing: Spacing, strategy: SeedStrategy, case_id: str, name: str
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Return the seeds of one class and what gave them."""
    from softlabels._shared.components import label_components

    components, n_components = label_components(mask)
    seeds = np.zeros(mask.shape, bool)
    if n_components:
        seeds = strategy.seeds(mask, case_id=case_id, class_name=name)
    used = [strategy.name] if seeds.any() else []
    reached = _with_neighbours(seeds) if strategy.is_on_boundary else seeds
    n_missed = n_components - _which_reached(components, n_components, reached).sum()
    units, n_units = (
        (components, n_components) if strategy.per_component else (mask.astype(np.int8), min(n_components, 1))
    )
    for filler, fill in _CHAINS[strategy.is_on_boundary] if strategy.fallback else ():
        is_lacking = ~_which_reached(units, n_units, reached)
        if not is_lacking.any():
            break
        added = fill(np.where(np.r_[False, is_lacking][units], units, 0), spacing)
        seeds, reached = seeds | added, reached | added
        used += [filler] * bool(added.any())
    return seeds, {
        "used": " + ".join(used) or "none",
        "fallback": used not in ([], [strategy.name]),
        "n_components": n_components,
        "n_components_missed": int(n_missed),
        "n_components_without_seed": int(n_components - _which_reached(components, n_components, reached).sum()),
    }


def _with_neighbours(seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the seeds with the 26 voxels around each."""
    from scipy import ndimage

    reached: NDArray[np.bool_] = ndimage.binary_dilation(seeds, _ALL_26)
    return reached


def _which_reached(units: NDArray[np.integer], n_units: int, reached: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return for unit 1 .. n_units whether any of its voxels is reached."""
    found = np.zeros(n_units + 1, bool)
    found[units[reached]] = True
    return found[1:]


def deepest_voxels(units: NDArray[np.integer], spacing: Spacing) -> NDArray[np.bool_]:
    """Return the voxels of each unit that are furthest from its outside, all of them where several tie.

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
    from scipy import ndimage

    seeds = np.zeros(units.shape, bool)
    inside = units > 0
    if inside.all() or not inside.any():
        return seeds
    box = bounding_box(inside, (1, 1, 1))
    depth = ndimage.distance_transform_edt(inside[box], sampling=spacing)
    numbers = np.arange(units.max() + 1)
    deepest = np.asarray(ndimage.maximum(depth, units[box], numbers))
    seeds[box] = inside[box] & (depth >= deepest[units[box]] * (1 - _RELATIVE_TIE))
    return seeds


def centre_voxel(mask: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.bool_]:
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


def _inner_boundary(units: NDArray[np.integer], spacing: Spacing) -> NDArray[np.bool_]:
    """Return the inner boundary of all units."""
    return inner_boundary(units > 0)


def _centre(units: NDArray[np.integer], spacing: Spacing) -> NDArray[np.bool_]:
    """Return the centre of the unit that fills the volume; no other comes this far down the chain."""
    return centre_voxel(units > 0, spacing)


#: The report of the class that is to get no seeds; its components are not counted.
_SKIPPED = {
    "strategy": "none",
    "used": "none",
    "fallback": False,
    "n_components": None,
    "n_components_missed": None,
    "n_components_without_seed": None,
}
_Fill = Callable[[NDArray[np.integer], Spacing], NDArray[np.bool_]]
#: What fills in, in order: for strategies that seed the inside (False) and the boundary (True) of a class.
_CHAINS: dict[bool, tuple[tuple[str, _Fill], ...]] = {
    False: (("distance_maxima", deepest_voxels), ("centre", _centre)),
    True: (("boundary", _inner_boundary), ("centre", _centre)),
}
