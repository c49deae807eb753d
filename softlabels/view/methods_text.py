"""How the soft labels of a project were made, in sentences for the methods section of a paper, with what to cite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softlabels import __version__
from softlabels.config import Config
from softlabels.methods.base import STANDARD, Method
from softlabels.methods.seeded import GeodesicMethod, SeededMethod

_NORMALISATIONS = {"zscore": "scaled to mean 0 and standard deviation 1", "minmax": "scaled to the range 0 to 1"}
_ENGINES = {"fastgeodis": "FastGeodis", "geodistk": "GeodisTK"}
#: Keys of storage, and those that have words of their own.
_NOT_PARAMETERS = {"variant", "labels", "precision", "storage", "max_dropped", "seeds", "distance", "calibrate"}


def methods_text(config: Config, *, n_exact_maps: int = 0, n_maps: int = 0) -> list[str]:
    """Return paragraphs on preprocessing and on each target.

    Parameters
    ----------
    config : Config
    n_exact_maps, n_maps : int
        Distance maps that are certified exact, and all.

    Examples
    --------
    >>> from softlabels.config import parse_config
    >>> labels = {"background": 0, "core": 1}
    >>> config = parse_config({"channels": ["T1"], "labels": labels, "targets": {"soft": {"method": "gaussian"}}})
    >>> print(methods_text(config)[1])
    The target "soft" is Gaussian (after van Engelen et al., PLoS ONE 2014), with sigma_mm 1.
    """
    paragraphs = [_preprocessing(config)]
    paragraphs += [_target(name, method, config) for name, method in config.targets.items()]
    if n_maps:
        share = "all" if n_exact_maps == n_maps else f"{n_exact_maps} of {n_maps}"
        paragraphs.append(
            f"Geodesic distances were computed until no path could be shortened, and {share} distance maps carry a "
            "certificate of exactness."
        )
    return paragraphs


def _preprocessing(config: Config) -> str:
    """Return what was done to the images."""
    prepare = config.prepare
    steps = []
    if prepare.crop != "none":
        what = {"nonzero": "non-zero", "labels": "labelled"}[prepare.crop]
        steps.append(f"cropped to the bounding box of {what} voxels with a margin of {prepare.crop_margin_mm:g} mm")
    if prepare.spacing != "native":
        size = " × ".join(f"{side:g}" for side in prepare.spacing)
        blurred = " after Gaussian smoothing" if prepare.antialias else ""
        steps.append(f"resampled to {size} mm (z, y, x; {prepare.interpolation}){blurred}, labels by nearest neighbour")
    if prepare.clip_percentiles:
        low, high = prepare.clip_percentiles
        steps.append(f"clipped to the percentiles {low:g} and {high:g} of each channel")
    if prepare.normalise != "none":
        within = " inside the non-zero domain" if prepare.domain == "nonzero" else ""
        steps.append(f"{_NORMALISATIONS[prepare.normalise]} for each channel{within}")
    done = f"were {_listed(steps)}" if steps else "were used as stored"
    return f"Soft labels were computed with softlabels {__version__}. The images ({', '.join(config.channels)}) {done}."


def _target(name: str, method: Method, config: Config) -> str:
    """Return what one target is."""
    variant = "" if method.variant_name == STANDARD else f" in the variant {method.variant_name}"
    parameters = _parameters(method.model_dump(mode="json", exclude=_NOT_PARAMETERS))
    words = [f'The target "{name}" is {method.title} ({method.source}){variant}']
    if isinstance(method, SeededMethod):
        seeds = method.seed_strategy
        own = _parameters(seeds.model_dump(mode="json", exclude={"fallback"}))
        words.append(f"from seeds by {seeds.title}" + (f" ({own})" if own else ""))
    if isinstance(method, GeodesicMethod):
        metric = dict(method.metric_parameters())
        engine = _ENGINES.get(method.distance.engine or config.engine)
        solver = f" by {method.distance.iterations} iterations of {engine}" if engine else ""
        words.append(f"with the geodesic distance {metric.pop('metric')} ({_parameters(metric)}){solver}")
    if parameters:
        words.append(f"with {parameters}")
    if method.calibrate is not None:
        words.append(f"calibrated for {method.calibrate.fitted_for}")
    return ", ".join(words) + "."


def _parameters(values: Mapping[str, Any]) -> str:
    """Return names and values that are set, as a list in words."""
    return _listed([f"{name} {_number(value)}" for name, value in values.items() if value is not None])


def _number(value: Any) -> str:
    """Return a value as it is written in running text."""
    if isinstance(value, float):
        return f"{value:g}"
    return "[" + ", ".join(map(_number, value)) + "]" if isinstance(value, list) else str(value)


def _listed(parts: list[str]) -> str:
    """Return parts as in a sentence.

    Examples
    --------
    >>> _listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
