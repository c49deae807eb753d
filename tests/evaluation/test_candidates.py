"""Which targets a reference can judge, and how they are brought into its order."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.made_cohort import CLASSES, SHAPES, make_cohort, open_made, volumes

from softlabels.classes import LabelClass
from softlabels.errors import InputError
from softlabels.evaluation.candidates import candidates


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    """Return the targets of one case by name."""
    return open_made(make_cohort(tmp_path_factory.mktemp("cohort"), {"small": SHAPES["small"]}), "small")[1]


def changed(target, **changes):
    """Return a target that is described otherwise."""
    return replace(target, description=replace(target.description, **changes))


def test_targets_are_judged_in_the_order_of_the_reference(targets):
    turned = changed(targets["onehot"], classes=CLASSES[::-1])
    found = candidates({"geols": targets["geols"], "turned": turned}, 3)
    np.testing.assert_array_equal(found.soft_labels["turned"], found.soft_labels["one-hot"])
    assert found.left_out == {}
    assert list(found.soft_labels) == ["one-hot", "label smoothing 0.1", "geols", "turned"]


def test_candidates_are_what_training_sees(targets):
    found = candidates({"geols": targets["geols"]}, 3).soft_labels
    np.testing.assert_array_equal(found["geols"], targets["geols"].soft_label())
    labels = volumes("small", SHAPES["small"])[1]
    np.testing.assert_array_equal(found["one-hot"], [np.isin(labels, c.values) for c in CLASSES])


def test_a_target_of_other_classes_is_left_out_and_not_compared(targets):
    first, *_ = CLASSES
    other = changed(targets["onehot"], classes=(first, LabelClass("organ", (1, 2)), LabelClass("tumour", (4,))))
    found = candidates({"geols": targets["geols"], "other": other}, 3)
    assert "other" not in found.soft_labels and "background, organ, tumour" in found.left_out["other"]


def test_regions_and_distances_are_left_out_with_the_reason(targets):
    level = changed(targets["svls"], kind="distance")
    found = candidates({"sing": targets["sing"], "level": level, "onehot": targets["onehot"]}, 3)
    assert found.left_out == {
        "sing": "has 2 classes, the reference 3 exclusive ones with the background",
        "level": "a distance is no probability",
    }
    with pytest.raises(InputError, match="no target can be judged: .*'sing': 'has 2 classes"):
        candidates({"sing": targets["sing"]}, 3)
