"""Where each class's distances start: one pure function per strategy, and a chain that leaves no present class without.

`make_seeds` seeds all classes of a case; `interior` and `edges` hold the strategies. A change of the seeds needs a new
`version` in `softlabels.pipeline.stages.seeds`.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from scipy import ndimage

from softlabels.errors import InputError
from softlabels.grid import checked_spacing
from softlabels.seeds.edges import boundary_seeds, canny_seeds
from softlabels.seeds.interior import (
    centre_voxel,
    deepest_voxels,
    erosion_seeds,
    random_key,
    random_seeds,
    skeleton_seeds,
)

__all__ = [
    "STRATEGIES",
    "boundary_seeds",
    "canny_seeds",
    "centre_voxel",
    "deepest_voxels",
    "erosion_seeds",
    "make_seeds",
    "random_key",
    "random_seeds",
    "skeleton_seeds",
]

#: The parameters of each strategy, with their defaults.
STRATEGIES = {
    "skeleton": {},
    "erosion": {"radius_vox": 1, "iterations": 1},
    "random": {"n": 3, "seed": 0},
    "canny": {"mode": "volume", "sigma": 1.0},
    "boundary": {"side": "both"},
}
#: Strategies whose seeds may lie beside a component instead of in it.
_ON_THE_EDGE = ("canny", "boundary")
_ALL_26 = np.ones((3, 3, 3), bool)


def make_seeds(
    masks: np.ndarray,
    spacing,
    *,
    strategy: str,
    class_names,
    case_id: str,
    background: int | None = None,
    fallback: bool = True,
    per_component: bool = True,
    threads: int = 1,
    **params,
) -> tuple[np.ndarray, list[dict]]:
    """Return the seeds of every class of a case, and what became of each class.

    Where the strategy leaves a unit without seeds, the chain fills in for that unit: its deepest voxels (its inner
    boundary for the strategies that seed the boundary), and for a class that fills the volume, which has neither, the
    voxel at its centre. A unit is a 26-connected component or, with ``per_component=False``, the whole class. An edge
    seed counts for a component that it lies in or touches. A class without voxels gets no seeds.

    Parameters
    ----------
    masks : (C, D, H, W) bool array
        One mask per class; they may overlap. An image (H, W) is (C, 1, H, W).
    spacing : 3 floats
        Voxel size in mm (z, y, x); steers the fallback, the strategies work on the voxel grid.
    strategy : {"skeleton", "erosion", "random", "canny", "boundary"}
        Which function gives the seeds.
    class_names : sequence of C str
        Names for the reports; the random draw of a class depends on its name, not its place.
    case_id : str
        Enters the random draw and the error messages.
    background : int, optional
        A class that is to get no seeds, as GeoLS's code leaves out the background.
    fallback : bool
        False leaves things as the strategy has them (the authors' codes).
    per_component : bool
        Whether every component of a class is to have a seed, or only every class. False with ``random`` keeps the
        count at exactly n.
    threads : int
        Classes seeded at a time, >= 1; no effect on the result.
    **params
        Parameters of the strategy: `STRATEGIES` lists them with their defaults.

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
        For arrays, names or parameters that do not fit.

    Examples
    --------
    >>> masks = np.zeros((1, 3, 8, 8), bool)
    >>> masks[0, 1, 1, 1] = masks[0, :, 4:7, 4:7] = True
    >>> seeds, reports = make_seeds(masks, (1, 1, 1), strategy="erosion", class_names=["lesion"], case_id="p1")
    >>> reports[0]["used"], reports[0]["n_components_missed"], int(seeds.sum())
    ('erosion + distance_maxima', 1, 4)
    """
    masks = np.asarray(masks)
    names = [str(name) for name in class_names]
    if masks.ndim != 4 or masks.dtype != bool or masks.size == 0:
        raise InputError(f"case {case_id}: masks got {masks.dtype} {masks.shape}, expected bool (C, D, H, W)")
    if len(names) != len(masks) or len(set(names)) != len(names):
        raise InputError(f"case {case_id}: class names got {names}, expected {len(masks)} different names")
    if background is not None and background not in range(len(masks)):
        raise InputError(f"case {case_id}: background got {background!r}, expected a class index below {len(masks)}")
    spacing = checked_spacing(spacing)
    params = _checked_params(strategy, params, case_id)

    def seed_one(index: int) -> tuple[np.ndarray, dict]:
        """Seed one class."""
        mask, name = masks[index], names[index]
        if index == background:
            seeds, figures = np.zeros(mask.shape, bool), _SKIPPED
        else:
            draw = _strategy(strategy, params, case_id, name)
            seeds, figures = _seed_class(mask, spacing, strategy, draw, fallback, per_component)
        counts = {"n_voxels": mask.sum(), "n_seeds": seeds.sum(), "n_seeds_outside": (seeds & ~mask).sum()}
        return seeds, {"class": name, "strategy": strategy} | {k: int(v) for k, v in counts.items()} | figures

    with ThreadPoolExecutor(threads) as pool:
        results = list(pool.map(seed_one, range(len(masks))))
    return np.stack([seeds for seeds, _ in results]), [report for _, report in results]


def _checked_params(strategy: str, params: dict, case_id: str) -> dict:
    """Return the strategy's parameters with defaults filled in; refuse unknown ones."""
    if strategy not in STRATEGIES:
        raise InputError(f"case {case_id}: seed strategy got {strategy!r}, expected one of {', '.join(STRATEGIES)}")
    if unknown := sorted(set(params) - set(STRATEGIES[strategy])):
        known = ", ".join(STRATEGIES[strategy]) or "none"
        raise InputError(f"case {case_id}: {strategy} seeds got parameters {unknown}, expected only: {known}")
    return STRATEGIES[strategy] | params


def _strategy(strategy: str, params: dict, case_id: str, class_name: str):
    """Return the function mask -> seeds of one class."""
    if strategy == "random":
        return partial(random_seeds, n=params["n"], key=random_key(case_id, class_name, params["seed"]))
    functions = {
        "skeleton": skeleton_seeds,
        "erosion": erosion_seeds,
        "canny": canny_seeds,
        "boundary": boundary_seeds,
    }
    return partial(functions[strategy], **params)


def _seed_class(mask, spacing, strategy, draw, fallback, per_component) -> tuple[np.ndarray, dict]:
    """Return the seeds of one class and what gave them."""
    components, n_components = ndimage.label(mask, _ALL_26)
    seeds = draw(mask) if n_components else np.zeros(mask.shape, bool)
    used = [strategy] if seeds.any() else []
    reached = ndimage.binary_dilation(seeds, _ALL_26) if strategy in _ON_THE_EDGE else seeds
    n_missed = n_components - _which_reached(components, n_components, reached).sum()
    units, n_units = (components, n_components) if per_component else (mask.astype(np.int8), min(n_components, 1))
    for name, fill in _CHAINS[strategy in _ON_THE_EDGE] if fallback else ():
        is_lacking = ~_which_reached(units, n_units, reached)
        if not is_lacking.any():
            break
        added = fill(np.where(np.r_[False, is_lacking][units], units, 0), spacing)
        seeds, reached = seeds | added, reached | added
        used += [name] * bool(added.any())
    return seeds, {
        "used": " + ".join(used) or "none",
        "fallback": used not in ([], [strategy]),
        "n_components": n_components,
        "n_components_missed": int(n_missed),
        "n_components_without_seed": int(n_components - _which_reached(components, n_components, reached).sum()),
    }


def _which_reached(units: np.ndarray, n_units: int, reached: np.ndarray) -> np.ndarray:
    """Return for unit 1 .. n_units whether any of its voxels is reached."""
    found = np.zeros(n_units + 1, bool)
    found[units[reached]] = True
    return found[1:]


def _inner_boundary(units: np.ndarray, spacing) -> np.ndarray:
    """Return the inner boundary of all units."""
    return boundary_seeds(units > 0, "inner")


def _centre(units: np.ndarray, spacing) -> np.ndarray:
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
#: What fills in, in order: for strategies that seed the inside (False) and the boundary (True) of a class.
_CHAINS = {
    False: (("distance_maxima", deepest_voxels), ("centre", _centre)),
    True: (("boundary", _inner_boundary), ("centre", _centre)),
}
