"""Boxed volumes are the dense array that they represent."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.boxed import NO_BOX, BoxedVolumes, boxed, hull, moved, widened


def a_stack(seed, fill=np.inf, shape=(4, 5, 6, 7)):
    """Return a dense stack whose volumes are mostly `fill`: one empty, one full, the rest random boxes."""
    rng = np.random.default_rng(seed)
    dense = np.full(shape, fill, np.float32)
    dense[1] = rng.random(shape[1:])
    for volume in dense[2:]:
        corners = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape[1:]]
        volume[tuple(slice(a, b) for a, b in corners)] = 3.0
    return dense


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), data=st.data())
def test_any_region_is_that_of_the_dense_array(seed, data):
    dense = a_stack(seed)
    maps = BoxedVolumes.of_array(dense, fill=np.inf)
    assert maps.shape == dense.shape and maps.dtype == dense.dtype and len(maps) == 4
    np.testing.assert_array_equal(maps.dense(), dense)
    region = []
    for n in dense.shape:
        start = data.draw(st.integers(0, n - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, n))))
    np.testing.assert_array_equal(maps[tuple(region)], dense[tuple(region)])
    for c in range(len(dense)):
        np.testing.assert_array_equal(maps.region(c, tuple(region[1:])), dense[c][tuple(region[1:])])
        if maps.is_filled(c, tuple(region[1:])):
            assert np.isinf(dense[c][tuple(region[1:])]).all()


def test_memory_is_that_of_the_boxes():
    dense = np.zeros((2, 10, 10, 10), np.uint8)
    dense[1, 2:4, 3:5, 1:4] = 1
    maps = BoxedVolumes.of_array(dense, fill=0)
    assert maps.nbytes == 2 * 2 * 3 and maps[0][0] == NO_BOX
    dense[1] = 0
    assert maps[1][1].all(), "the values are copies"


def test_a_box_and_values_that_do_not_fit_are_refused():
    box = (slice(0, 1), slice(0, 1), slice(0, 2))
    with pytest.raises(ValueError, match=r"got float32 \(1, 1, 3\), expected float32 \(1, 1, 2\)"):
        BoxedVolumes((2, 2, 2), [(box, np.zeros((1, 1, 3), np.float32))], fill=0, dtype=np.float32)
    with pytest.raises(ValueError, match="got float64"):
        BoxedVolumes((2, 2, 2), [(box, np.zeros((1, 1, 2)))], fill=0, dtype=np.float32)


def test_boxes_of_nothing():
    assert hull([]) == hull([NO_BOX, NO_BOX]) == NO_BOX
    assert widened(NO_BOX, (3, 3, 3), (9, 9, 9)) == NO_BOX
    box, values = moved(boxed(np.zeros((2, 2, 2)), fill=0), (slice(4, 6),) * 3)
    assert box == NO_BOX and values.shape == (0, 0, 0)
