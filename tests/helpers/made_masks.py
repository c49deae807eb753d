"""Masks for the tests of seeds, and what many of those tests do with one."""

import numpy as np
from hypothesis import settings
from hypothesis.extra.numpy import array_shapes, arrays
from scipy import ndimage

from softlabels.seeds import STRATEGIES, make_seeds

ALL_26 = np.ones((3, 3, 3), bool)
SPACINGS = [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (0.7, 1.3, 0.9)]
SHAPES = array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9)
MASKS = arrays(bool, SHAPES)
few = settings(derandomize=True, deadline=None, max_examples=30)


def box_mask(shape, *boxes) -> np.ndarray:
    mask = np.zeros(shape, bool)
    for low, high in boxes:
        mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    return mask


def blobs(shape=(14, 26, 24), seed=0, share=0.45) -> np.ndarray:
    """Smooth random shapes that touch the border of the volume."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    return noise < np.quantile(noise, share)


def seed_one(mask, spacing=(1.0, 1.0, 1.0), **options):
    strategy = STRATEGIES.from_json({"per_component": True, **options})
    seeds, reports = make_seeds(mask[None], spacing, strategy, class_names=["x"], case_id="case")
    return seeds[0], reports[0]


def n_unreached(mask, seeds, *, touching) -> int:
    """Return the components without a seed in them (or beside them), one component at a time."""
    labels, n = ndimage.label(mask, ALL_26)
    return sum(
        not seeds[ndimage.binary_dilation(labels == k, ALL_26) if touching else labels == k].any()
        for k in range(1, n + 1)
    )
