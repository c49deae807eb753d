"""A small oblique case for the tests of preprocessing."""

import numpy as np
from hypothesis import strategies as st

from softlabels.grid import Grid

#: mm
SPACINGS = st.floats(0.3, 8.0, allow_nan=False)
_RNG = np.random.default_rng(5)
IMAGE = _RNG.normal(100, 20, (2, 7, 9, 8)).astype(np.float32)
LABELS = _RNG.integers(0, 4, (7, 9, 8)).astype(np.uint8)
ROTATION = np.array([[2, -2, 1], [1, 2, 2], [-2, -1, 2]]) / 3.0


def oblique_grid(shape=(7, 9, 8), spacing=(3.0, 0.8, 1.1)) -> Grid:
    """Return an oblique anisotropic grid."""
    affine = np.eye(4)
    affine[:3, :3] = ROTATION * np.array(spacing)
    affine[:3, 3] = (5.0, -7.0, 11.0)
    return Grid(shape, spacing, affine)
