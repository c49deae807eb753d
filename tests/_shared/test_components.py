"""Components are those of SciPy, by hand and at random."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels._shared.components import label_components


def test_voxels_that_share_a_corner_are_one_component():
    mask = np.zeros((2, 3, 4), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True  # they share a corner
    mask[0, 0, 3] = mask[1, 2, 3] = True  # a voxel apart
    components, n_components = label_components(mask)
    assert n_components == 3 and components.dtype == np.int32
    assert [int(components[voxel]) for voxel in ((0, 0, 0), (1, 1, 1), (0, 0, 3), (1, 2, 3))] == [1, 1, 2, 3]
    assert not components[~mask].any()


def test_a_component_that_later_rows_join_has_the_number_of_its_first_voxel():
    # Three prongs of a fork, then a voxel of its own between two of them.
    mask = np.array([[[1, 0, 1, 0, 0, 0, 1], [1, 0, 1, 0, 0, 0, 1], [1, 1, 1, 1, 1, 1, 1]]], bool)
    mask = np.concatenate([mask, np.zeros((1, 3, 7), bool), mask[:, ::-1]])
    components, n_components = label_components(mask)
    assert n_components == 2
    np.testing.assert_array_equal(components, mask * np.array([1, 0, 2])[:, None, None])


@pytest.mark.parametrize("shape", [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1), (2, 1, 5)])
def test_empty_and_full_masks(shape):
    assert label_components(np.zeros(shape, bool))[1] == 0
    components, n_components = label_components(np.ones(shape, bool))
    assert components.shape == shape and n_components == (components.size > 0) and (components == 1).all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.tuples(*3 * [st.integers(1, 9)]),
    share=st.sampled_from([0.02, 0.1, 0.2, 0.5, 0.9]),
    axes=st.permutations([0, 1, 2]),
    seed=st.integers(0, 10**6),
)
def test_components_are_those_of_scipy_whatever_the_memory_layout(shape, share, axes, seed):
    mask = (np.random.default_rng(seed).random(shape) < share).transpose(axes)
    expected, n_expected = ndimage.label(mask, np.ones((3, 3, 3)))
    components, n_components = label_components(mask)
    assert n_components == n_expected
    np.testing.assert_array_equal(components, expected)
