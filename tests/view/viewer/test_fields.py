"""Laws of what part of a grid is drawn: never too much, always centres of voxels, every voxel once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.view.viewer.fields import Field, detail_field, fitted_field, label_field, nearest_voxel, whole_field

shapes = st.tuples(*[st.integers(1, 40)] * 3)
spacings = st.tuples(*[st.sampled_from([0.4, 1.0, 3.0, 7.5])] * 3)


@st.composite
def fields(draw):
    shape = draw(shapes)
    start = [draw(st.integers(0, n - 1)) for n in shape]
    stop = [draw(st.integers(a + 1, n)) for a, n in zip(start, shape, strict=True)]
    return shape, Field(tuple(start), tuple(stop), draw(st.tuples(*[st.integers(1, 9)] * 3)))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(made=fields(), size=st.tuples(*[st.integers(1, 17)] * 3))
def test_blocks_put_together_are_the_strided_part(made, size):
    shape, field = made
    values = np.arange(np.prod(shape)).reshape(shape)
    expected = values[tuple(slice(*line) for line in zip(field.start, field.stop, field.step, strict=True))]
    assert field.shape == expected.shape
    found, n_written = np.full(field.shape, -1), 0
    for window, inside, target in field.blocks(size):
        assert all(part.stop - part.start <= n for part, n in zip(window, size, strict=True))
        drawn = values[window][inside]
        assert found[target].shape == drawn.shape
        found[target], n_written = drawn, n_written + drawn.size
    np.testing.assert_array_equal(found, expected)
    assert n_written == expected.size


@settings(max_examples=50, deadline=None, derandomize=True)
@given(made=fields())
def test_a_drawn_voxel_lies_where_its_voxel_of_the_grid_lies(made):
    shape, field = made
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] * [3.0, 1.0, 0.5]
    grid = Grid(shape, (3.0, 1.0, 0.5), np.block([[turn, np.array([[5.0], [-7.0], [11.0]])], [0, 0, 0, 1]]))
    drawn = field.grid(grid)
    last = [n - 1 for n in field.shape]
    of_grid = [a + i * s for a, i, s in zip(field.start, last, field.step, strict=True)]
    np.testing.assert_allclose(drawn.position(last), grid.position(of_grid), atol=1e-9)
    assert drawn.shape == field.shape


@settings(max_examples=100, deadline=None, derandomize=True)
@given(shape=shapes, spacing=spacings, most=st.integers(1, 5000))
def test_a_fitted_field_draws_no_more_than_it_may_and_thins_the_densest_axis(shape, spacing, most):
    field = whole_field(shape, spacing, most)
    assert field.n_voxels <= most
    assert (field.start, field.stop) == ((0, 0, 0), shape)
    if np.prod(shape) <= most:
        assert field.step == (1, 1, 1)
    for axis in range(3):
        if field.step[axis] > 1:
            before = (field.step[axis] - 1) * spacing[axis]
            others = [field.step[a] * spacing[a] for a in range(3) if field.step[a] < shape[a]]
            assert before <= min(others, default=np.inf) + 1e-9, "thinned although another axis was denser"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(shape=shapes, spacing=spacings, most=st.integers(1, 5000), data=st.data())
def test_a_detail_holds_its_centre_and_every_voxel_of_its_box(shape, spacing, most, data):
    centre = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    field = detail_field(centre, shape, spacing, most)
    assert field.step == (1, 1, 1)
    assert field.n_voxels <= most
    for a, c, b, n in zip(field.start, centre, field.stop, shape, strict=True):
        assert 0 <= a <= c < b <= n
    if np.prod(shape) <= most:
        assert field.shape == shape


def test_a_detail_is_a_cube_in_mm_where_it_can_be():
    assert detail_field((50, 50, 50), (100, 100, 100), (5.0, 1.0, 1.0), 5 * 25 * 25).shape == (5, 25, 25)


def test_wrong_places_are_refused():
    with pytest.raises(InputError, match=r"voxel: got \(0, 0, 9\), expected one inside the grid \(3, 3, 3\)"):
        detail_field((0, 0, 9), (3, 3, 3), (1.0, 1.0, 1.0), 10)
    with pytest.raises(InputError, match="voxels: got 0, expected at least 1"):
        fitted_field((0, 0, 0), (3, 3, 3), (1.0, 1.0, 1.0), 0)


def test_without_labels_the_whole_grid_is_drawn():
    assert label_field(None, (4, 5, 6), (1.0, 1.0, 1.0), 1000) == Field((0, 0, 0), (4, 5, 6))


def test_the_start_is_in_the_mask_even_where_its_centroid_is_not():
    ring = np.zeros((2, 9, 9), bool)
    ring[1] = True
    ring[1, 1:8, 1:8] = False
    voxel = nearest_voxel(ring)
    assert ring[voxel]
    assert nearest_voxel(np.zeros((2, 3, 4), bool)) is None
