"""The inner boundary of a mask, against its definition voxel by voxel."""

import itertools

import numpy as np
import pytest

from softlabels._shared.boundary import inner_boundary


def by_definition(mask):
    """Return the voxels of a mask with one of their six neighbours inside the volume and not in the mask."""
    boundary = np.zeros(mask.shape, bool)
    for voxel in np.argwhere(mask):
        for axis, step in itertools.product(range(3), (-1, 1)):
            neighbour = voxel.copy()
            neighbour[axis] += step
            if 0 <= neighbour[axis] < mask.shape[axis] and not mask[tuple(neighbour)]:
                boundary[tuple(voxel)] = True
    return boundary


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 7), (4, 5, 6), (2, 9, 1)])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95, 1.0])
def test_it_is_what_the_definition_says(shape, share):
    mask = np.random.default_rng(0).random(shape) < share
    np.testing.assert_array_equal(inner_boundary(mask), by_definition(mask))
    np.testing.assert_array_equal(inner_boundary(~mask), by_definition(~mask))
