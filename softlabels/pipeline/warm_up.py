"""Compiling all kernels that a configuration needs, by computing its targets for a tiny made case."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from softlabels._shared.compile_clock import clock
from softlabels.config import Config
from softlabels.errors import DeviceError, SoftLabelsError
from softlabels.inputs.sheet import Case
from softlabels.pipeline.batch import make_jobs, run_batch
from softlabels.pipeline.plan import make_plan
from softlabels.store import Store

#: Large enough for every seed strategy and filter, and quick.
_SHAPE = (20, 24, 28)
_BLOCK = 5
_SPACING = (1.5, 1.0, 1.0)


def warm_up(config: Config, folder: Path) -> tuple[int, float]:
    """Compile the kernels of a configuration into the cache of this machine, and of all that share it.

    Parameters
    ----------
    config : Config
        Its targets, preprocessing and device decide which kernels there are.
    folder : Path
        An empty folder for the made case and its results.

    Returns
    -------
    n_kernels : int
        Compiled now; 0 if all were in the cache.
    seconds : float
        Spent on that.

    Raises
    ------
    DeviceError
        If a target cannot be computed here, such as on CUDA without a GPU.
    """
    made = config.model_copy(update={"store": str(folder / "store"), "results": str(folder / "results")})
    nodes = list(make_plan(made).nodes.values())
    jobs = make_jobs([_made_case(config, folder)], nodes, Store(made.store), folder / "results", config.device)
    n_before, seconds_before = clock.n_kernels, clock.wall_seconds
    try:
        receipt = run_batch(jobs, folder / "results" / "warm_up" / "stages.json")
    except SoftLabelsError as error:
        raise DeviceError(f"warm-up: {error}") from error
    if not receipt.is_complete:
        raise DeviceError(f"warm-up: {'; '.join(receipt.failed.values())}")
    return clock.n_kernels - n_before, clock.wall_seconds - seconds_before


def _made_case(config: Config, folder: Path) -> Case:
    """Write a case in which every label of the configuration occurs, and return it."""
    rng = np.random.default_rng(0)
    values = sorted({v for value in config.labels.values() for v in (value if isinstance(value, list) else [value])})
    coarse = rng.choice(values, [-(-n // _BLOCK) for n in _SHAPE])
    coarse.flat[: len(values)] = values[: coarse.size]
    labels = coarse.repeat(_BLOCK, 0).repeat(_BLOCK, 1).repeat(_BLOCK, 2)[tuple(slice(n) for n in _SHAPE)]
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(len(config.channels)):
        paths.append(folder / f"image_{number}.npy")
        np.save(paths[-1], (labels + rng.normal(0.0, 0.3, _SHAPE) + 1.0).astype(np.float32))
    for name in ("label", "rater"):
        np.save(folder / f"{name}.npy", labels.astype(np.int32))
    images = tuple(map(str, paths))
    return Case("warm_up", images, str(folder / "label.npy"), (str(folder / "rater.npy"),), spacing=_SPACING)
