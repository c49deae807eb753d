"""A small volume for the tests of file formats."""

import numpy as np

SHAPE = (5, 6, 7)
#: mm, (z, y, x)
SPACING = (3.0, 0.8, 0.9)


def values(dtype=np.int16, shape=SHAPE):
    """Return integers in 0..199."""
    return np.random.default_rng(3).integers(0, 200, shape).astype(dtype)
