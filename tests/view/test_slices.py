"""The slices of a case that are shown: which ones, and what choosing them takes."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest

from softlabels.classes import LabelClass
from softlabels.grid import Grid
from softlabels.view.slices import case_slices

SHAPE = (12, 40, 50)


def case_of(labels):
    """Return as much of a prepared case as choosing slices needs."""
    return SimpleNamespace(labels=lambda: labels, shape=labels.shape, grid=Grid(labels.shape, (3.0, 1.0, 1.0)))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_the_slice_with_most_foreground_of_any_class_is_shown(dtype):
    labels = np.zeros(SHAPE, dtype)
    labels[7, 10:30, 10:20], labels[7, 10:30, 20:40], labels[3, 10:30, 10:30] = 1, 2, 2
    labels[9] = 5  # of no class
    classes = [LabelClass("background", (0,)), LabelClass("one", (1, 300)), LabelClass("two", (2,))]
    (found,) = case_slices(case_of(labels), classes, None, 1)
    assert found.index == 7
    (found,) = case_slices(case_of(labels), [classes[0], classes[2]], None, 1)
    assert found.index == 3  # the first of equals
    (found,) = case_slices(case_of(np.zeros(SHAPE, dtype)), classes, None, 1)
    assert found.index == SHAPE[0] // 2 and found.box == (slice(0, 40), slice(0, 50))


def test_memory_does_not_follow_the_number_of_classes():
    labels = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.uint8)
    classes = [LabelClass(f"organ_{value}", (value,)) for value in range(1, 100)]
    tracemalloc.start()
    try:
        case_slices(case_of(labels), classes, None, 1)
        assert tracemalloc.get_traced_memory()[1] < 5 * labels.size
    finally:
        tracemalloc.stop()
