"""Reading parts of an entry: windows, channels, and arrays that are given."""

import numpy as np
import pytest
from helpers.stored_layers import GRID, RECORDS, example_layers, key_of
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.store import Store


@pytest.fixture(scope="module")
def shared_entry(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("shared")).publish(key_of(), example_layers(), grid=GRID, **RECORDS)[0]


WINDOWS = st.tuples(
    *[st.tuples(st.integers(0, n - 1), st.integers(1, n)).filter(lambda w: w[0] < w[1]) for n in GRID.shape]
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(window=WINDOWS, name=st.sampled_from(["target", "distance", "labels", "seeds"]))
def test_a_window_is_that_part_of_the_whole(shared_entry, window, name):
    slices = tuple(slice(*part) for part in window)
    whole = shared_entry.read(name)[(..., *slices)]
    np.testing.assert_array_equal(shared_entry.read(name, window), whole)
    np.testing.assert_array_equal(shared_entry.read(name, slices), whole)


def test_threads_read_what_one_thread_reads(shared_entry):
    window = (slice(2, 19), slice(5, 70), slice(0, 66))
    for name in shared_entry.layers:
        whole = shared_entry.read(name)
        for n_threads in (2, 3, 50):
            np.testing.assert_array_equal(shared_entry.read(name, n_threads=n_threads), whole)
            found = shared_entry.read(name, window, n_threads)
            np.testing.assert_array_equal(found, whole[(..., *window)])


def test_open_slices_reach_to_the_border(shared_entry):
    part = shared_entry.read("labels", (slice(None, 4), slice(60, None), slice(None)))
    np.testing.assert_array_equal(part, shared_entry.read("labels")[:4, 60:])


@pytest.mark.parametrize(
    "window",
    [
        ((0, 22), (0, 1), (0, 1)),
        ((-1, 2), (0, 1), (0, 1)),
        ((3, 3), (0, 1), (0, 1)),
        ((0, 1), (0, 1)),
        (slice(0, 4, 2),) * 3,
    ],
)
def test_a_window_outside_the_grid_is_refused(shared_entry, window):
    with pytest.raises(InputError, match=r"window: got .* inside the grid \(21, 70, 67\)"):
        shared_entry.read("target", window)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(window=WINDOWS, name=st.sampled_from(["target", "distance", "labels", "seeds"]), as_stored=st.booleans())
def test_a_window_is_read_into_part_of_an_array(shared_entry, window, name, as_stored):
    expected = shared_entry.read(name, window, as_stored=as_stored)
    around = np.zeros([n + 3 for n in expected.shape], expected.dtype)
    around[...] = 3
    out = around[tuple(slice(1, -2) for _ in expected.shape)]
    assert shared_entry.read(name, window, out=out, as_stored=as_stored) is out
    np.testing.assert_array_equal(out, expected)
    out[...] = 3
    assert (around == around.flat[0]).all()


def test_stored_integers_are_those_that_zarr_reads(shared_entry):
    for name in ("target", "labels"):
        as_stored = shared_entry.read(name, as_stored=True)
        np.testing.assert_array_equal(as_stored, shared_entry.stored(name)[...])
        assert as_stored.dtype == shared_entry.stored_dtype(name)
    decoded = shared_entry.encoding("target").decode(shared_entry.read("target", as_stored=True))
    np.testing.assert_array_equal(decoded, shared_entry.read("target"))


def test_an_array_of_another_shape_or_dtype_is_refused(shared_entry):
    window = ((0, 2), (0, 3), (0, 4))
    for out in (np.empty((2, 3, 5), np.uint16), np.empty((2, 3, 4), np.float32)):
        with pytest.raises(InputError, match=r"out: got .*, expected uint16 \(2, 3, 4\) for layer 'labels'"):
            shared_entry.read("labels", window, out=out)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(window=WINDOWS, channels=st.tuples(st.integers(0, 2), st.integers(1, 3)).filter(lambda c: c[0] < c[1]))
def test_some_channels_are_that_part_of_all(shared_entry, window, channels):
    for name in ("target", "distance"):
        n_channels = shared_entry.shape(name)[0]
        if channels[1] <= n_channels:
            whole = shared_entry.read(name, window)
            np.testing.assert_array_equal(shared_entry.read(name, window, channels=channels), whole[slice(*channels)])


@pytest.mark.parametrize(("name", "channels"), [("target", (0, 99)), ("target", (1, 1)), ("labels", (0, 1))])
def test_channels_that_do_not_exist_are_refused(shared_entry, name, channels):
    with pytest.raises(InputError, match="channels: got"):
        shared_entry.read(name, channels=channels)


def test_an_unknown_layer_is_refused_with_the_names_there_are(shared_entry):
    with pytest.raises(InputError, match="got layer 'image', expected one of target, distance, labels, seeds"):
        shared_entry.read("image")
