"""Laws of the masks of classes: those of `numpy.isin`, for every type of label and any value."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.classes import LabelClass, LabelSet, class_masks, class_numbers, foreground, value_mask

EXCLUSIVE = (LabelClass("background", (0,)), LabelClass("a", (1,)), LabelClass("b", (2, 4)))
REGIONS = (LabelClass("whole", (1, 2, 4)), LabelClass("core", (1, 4)))


def test_the_mask_of_a_class_is_where_its_values_are():
    labels = np.random.default_rng(0).choice(np.array([0, 1, 2, 4], np.uint8), (3, 4, 5))
    masks = class_masks(labels, REGIONS)
    assert masks.dtype == bool and masks.shape == (2, 3, 4, 5)
    np.testing.assert_array_equal(masks[0], labels > 0)
    np.testing.assert_array_equal(masks[1], (labels == 1) | (labels == 4))


def test_a_label_of_no_class_is_in_no_mask():
    assert class_masks(np.array([255]), EXCLUSIVE).ravel().tolist() == [False, False, False]


def test_no_voxels_and_no_classes_have_empty_masks():
    assert class_masks(np.zeros((0, 3), np.uint8), EXCLUSIVE).shape == (3, 0, 3)
    assert class_masks(np.zeros((2, 3), np.uint8), ()).shape == (0, 2, 3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from([np.uint8, np.int8, np.uint16, np.int32, np.int64]),
    values=st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 300), max_size=4),
    seed=st.integers(0, 10**6),
)
def test_a_mask_is_that_of_isin_also_for_values_that_the_type_cannot_hold(dtype, values, seed):
    low, high = max(np.iinfo(dtype).min, -300), min(np.iinfo(dtype).max, 300)
    labels = np.random.default_rng(seed).integers(low, high, (4, 5), dtype, endpoint=True)
    np.testing.assert_array_equal(value_mask(labels, values), np.isin(labels.astype(np.int64), values))


def test_the_labels_are_not_modified():
    labels = np.arange(5, dtype=np.uint8)
    class_masks(labels, REGIONS)[...] = True
    assert labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("classes", [EXCLUSIVE, REGIONS])
def test_classes_survive_json(classes):
    assert tuple(LabelClass.from_json(c.to_json()) for c in classes) == classes


def test_the_background_is_the_class_of_zero_alone():
    assert foreground(EXCLUSIVE) == EXCLUSIVE[1:] and foreground(REGIONS) == REGIONS
    assert not LabelClass("with zero", (0, 1)).is_background
    labels = LabelSet.parse({"background": 0, "a": 1})
    assert labels.background == 0 and labels.foreground().background is None


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "int64"])
def test_the_number_of_a_class_is_where_its_mask_is_true(dtype):
    classes = (*EXCLUSIVE, LabelClass("far", (70000, 300)), LabelClass("last", (100,)))
    labels = np.random.default_rng(1).choice(np.array([-1, 0, 1, 2, 3, 4, 100, 127]).astype(dtype), (3, 4, 50))
    labels[0, 0, :2] = np.array([300, 255]).astype(dtype)
    numbers, masks = class_numbers(labels, classes), class_masks(labels, classes)
    for number, mask in enumerate(masks):
        np.testing.assert_array_equal(numbers == number, mask)
    np.testing.assert_array_equal(numbers == -1, ~masks.any(axis=0))
