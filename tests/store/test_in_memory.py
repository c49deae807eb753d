"""A layer that is not written has the values that the store would have given back."""

import numpy as np
import pytest

from softlabels._shared.boxed import BoxedVolumes
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.store import BitRound, Layer, Lossless, ScaleOffset, Store, entry_key
from softlabels.store.in_memory import in_memory

GRID = Grid((3, 130, 70), (2.0, 1.0, 1.0))


def values(dtype=np.float32, n_channels=2):
    made = np.random.default_rng(0).random((n_channels, *GRID.shape)) * 200
    made[0, 0, 0, :5] = 0
    return (made > 100) if dtype is bool else made.astype(dtype)


def far(made):
    made[0, 1, :7] = np.inf
    return made


LAYERS = {
    "rounded": lambda: (far(values()), BitRound(15)),
    "coarsely rounded": lambda: (values(), BitRound(3)),
    "quantised": lambda: (values() / 200, ScaleOffset("uint8", 0, 1)),
    "float64 quantised": lambda: (values(np.float64) / 200, ScaleOffset("uint16", 0, 1)),
    "bool": lambda: (values(bool), Lossless()),
    "integers": lambda: (values(np.uint16), Lossless()),
    "image": lambda: (values(), Lossless()),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_values_are_those_that_a_reader_of_the_store_gets(kind, tmp_path):
    made, encoding = LAYERS[kind]()
    store = Store(tmp_path / "store")
    key = entry_key(stage="seeds", algorithm="1", params={}, inputs={})
    records = {"attributes": {}, "quality": {}, "provenance": {}}
    entry, _ = store.publish(key, [Layer("one", made.copy(), "ab", encoding)], grid=GRID, **records)
    read = entry.read("one")
    for threads in (1, 3):
        held = in_memory(Layer("one", made.copy(), "ab", encoding), threads)
        assert held.values.dtype == read.dtype and held.channels == "ab"
        np.testing.assert_array_equal(held.values, read)
        assert not held.values.flags.writeable


def test_a_volume_without_channels_is_rounded_too():
    made = values()[0]
    held = in_memory(Layer("one", made.copy(), encoding=BitRound(3)))
    np.testing.assert_array_equal(held.values, BitRound(3).encode(made)[0])


def test_what_is_handed_over_is_used_up_and_not_doubled():
    whole = values()
    assert np.shares_memory(in_memory(Layer("one", whole, "ab", BitRound(15))).values, whole)


@pytest.mark.parametrize(("kind", "fill"), [("rounded", np.inf), ("quantised", 0.3), ("bool", False)])
def test_boxes_stay_boxes_with_the_values_of_the_dense_layer(kind, fill):
    made, encoding = LAYERS[kind]()
    around = np.ones(made.shape[1:], bool)
    around[1:2, 20:60, 3:33] = False
    made[0, around] = fill
    made[1] = fill
    boxes = BoxedVolumes.of_array(made, fill=fill)
    held = in_memory(Layer("one", boxes, "ab", encoding)).values
    assert isinstance(held, BoxedVolumes) and held.nbytes <= boxes.nbytes < made.nbytes / 3
    np.testing.assert_array_equal(held.dense(), in_memory(Layer("one", made, "ab", encoding)).values)


def test_what_cannot_be_stored_cannot_be_held_either():
    made = values()
    made[1, 2, 3, 4] = np.nan
    with pytest.raises(InputError, match="NaN"):
        in_memory(Layer("one", made, "ab", BitRound(15)))
