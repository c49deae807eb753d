"""Geodesic problems at random, for the tests of engine and certificate."""

import numpy as np

from softlabels.geodesic._problem import checked_problem

SPACINGS = [(1.0, 1.0, 1.0), (5.0, 1.0, 1.0), (0.7, 0.7, 3.3)]


def random_problem(rng, shape, spacing, *, n_channels=1, n_classes=1, density=0.01, walls=0.0, cap=None, **cost):
    """Return a problem with integer intensities, so that ties and steps of no cost are common."""
    image = rng.integers(0, 12, (n_channels, *shape)).astype(np.float32)
    seeds = rng.random((n_classes, *shape)) < density
    seeds[0].flat[rng.integers(seeds[0].size)] = True
    domain = rng.random(shape) >= walls if walls else None
    return checked_problem(image, seeds, spacing, **{"gamma": 0.3, **cost}, domain=domain, cap=cap)
