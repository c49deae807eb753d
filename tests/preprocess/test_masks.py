"""The masks of classes in boxes are the masks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.classes import LabelClass, class_masks
from softlabels.preprocess.masks import boxed_class_masks

CLASSES = (LabelClass("background", (0,)), LabelClass("a", (1,)), LabelClass("b", (2, 4)), LabelClass("absent", (9,)))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.int32]),
    values=st.lists(st.sampled_from([0, 1, 2, 4, 7, 200, 70000]), min_size=1, max_size=3, unique=True),
    n_more=st.sampled_from([0, 12]),
    seed=st.integers(0, 10**6),
)
def test_boxed_masks_are_the_masks(dtype, values, n_more, seed):
    choice = np.array([0, 0, 0, 1, 2, 4, 200, 70000 if dtype == np.int32 else 255]).astype(dtype)
    # More than a few values are looked for in another way.
    more = tuple(range(20, 20 + n_more))
    choice = np.concatenate([choice, np.array(more, dtype)])
    labels = np.random.default_rng(seed).choice(choice, (2, 4, 5))
    classes = [LabelClass("any", tuple(values)), *([LabelClass("more", more)] if more else []), *CLASSES]
    masks = boxed_class_masks(labels, classes)
    np.testing.assert_array_equal(masks.dense(), class_masks(labels, classes))
    assert all(values.size == 0 or values.any() for _, values in masks) and masks[-1][1].size == 0
