"""Laws of the blends."""

import numpy as np
import pytest

from softlabels.blend import blended, one_hot, resolved_blend
from softlabels.errors import InputError

EXCLUSIVE = [{"name": "background", "values": [0]}, {"name": "a", "values": [1]}, {"name": "b", "values": [2, 4]}]
REGIONS = [{"name": "whole", "values": [1, 2, 4]}, {"name": "core", "values": [1, 4]}]


@pytest.fixture
def labels():
    return np.random.default_rng(0).choice(np.array([0, 1, 2, 4], np.uint8), (3, 4, 5))


@pytest.fixture
def probabilities(labels):
    return np.random.default_rng(1).dirichlet([1, 1, 1], labels.shape).transpose(3, 0, 1, 2).astype(np.float32)


def test_one_hot_is_the_mask_of_each_class(labels):
    masks = one_hot(labels, REGIONS)
    assert masks.dtype == np.float32
    np.testing.assert_array_equal(masks[0], labels > 0)
    np.testing.assert_array_equal(masks[1], (labels == 1) | (labels == 4))


def test_a_label_of_no_class_is_zero_in_every_class():
    assert one_hot(np.array([255]), EXCLUSIVE).ravel().tolist() == [0.0, 0.0, 0.0]


def test_label_smoothing_of_exclusive_classes_sums_to_one(labels):
    soft = blended(labels, EXCLUSIVE, {"rule": "label_smoothing", "epsilon": 0.3})
    assert soft.sum(axis=0) == pytest.approx(1.0, abs=1e-6)
    assert np.unique(soft) == pytest.approx([0.1, 0.8], abs=1e-6)


def test_label_smoothing_of_regions_treats_each_as_a_binary_problem(labels):
    soft = blended(labels, REGIONS, {"rule": "label_smoothing", "epsilon": 0.2}, is_overlapping=True)
    assert np.unique(soft) == pytest.approx([0.1, 0.9], abs=1e-6)


def test_mixing_meets_its_ends(labels, probabilities):
    for alpha, end in ((0.0, one_hot(labels, EXCLUSIVE)), (1.0, probabilities)):
        soft = blended(labels, EXCLUSIVE, {"rule": "mix_onehot", "alpha": alpha}, stored=probabilities)
        np.testing.assert_array_equal(soft, end)


def test_mixing_two_distributions_gives_a_distribution(labels, probabilities):
    soft = blended(labels, EXCLUSIVE, {"rule": "mix_onehot", "alpha": 0.1}, stored=probabilities)
    assert soft.sum(axis=0) == pytest.approx(1.0, abs=1e-6)


def test_the_signed_blend_by_hand():
    labels = np.array([1, 1, 0, 0, 1])
    stored = np.array([[0.5, 0.0, -0.5, -1.0, -1.0]], np.float32)
    soft = blended(labels, REGIONS[1:], {"rule": "signed_margin", "delta": 0.5}, stored=stored)
    assert soft.ravel().tolist() == [0.75, 0.5, -0.75, -1.0, -1.0]


def test_a_signed_blend_takes_its_sign_from_the_labels(labels):
    # a quantised map may hold 0 on both sides of the surface: the margin still tells them apart
    soft = blended(labels, REGIONS, {"rule": "signed_margin", "delta": 0.1}, stored=np.zeros((2, *labels.shape), "f4"))
    np.testing.assert_array_equal(soft > 0, one_hot(labels, REGIONS) > 0)


def test_nothing_is_modified_and_nothing_is_shared(labels, probabilities):
    before = labels.copy(), probabilities.copy()
    for blend in ({"rule": "none"}, {"rule": "mix_onehot", "alpha": 0.5}, {"rule": "signed_margin", "delta": 0.5}):
        blended(labels, EXCLUSIVE, blend, stored=probabilities)[...] = 7
    np.testing.assert_array_equal(labels, before[0])
    np.testing.assert_array_equal(probabilities, before[1])


def test_an_override_replaces_only_the_parameter_of_the_rule():
    stated = {"rule": "signed_margin", "delta": 0.5}
    assert resolved_blend(stated, delta=0.0, alpha=None) == {"rule": "signed_margin", "delta": 0.0}
    assert stated["delta"] == 0.5


@pytest.mark.parametrize(
    ("blend", "overrides", "message"),
    [
        ({"rule": "sharpen"}, {}, "'sharpen', expected one of onehot"),
        ({"rule": "mix_onehot", "alpha": 0.1}, {"delta": 0.2}, "got delta, expected only alpha"),
        ({"rule": "onehot"}, {"alpha": 0.2}, "got alpha, expected no parameter"),
        ({"rule": "mix_onehot"}, {}, "alpha=None, expected a number"),
        ({"rule": "mix_onehot", "alpha": 0.1}, {"alpha": 1.5}, "alpha=1.5"),
        ({"rule": "signed_margin", "delta": float("nan")}, {}, "delta=nan"),
    ],
)
def test_a_blend_that_makes_no_sense_is_refused(blend, overrides, message):
    with pytest.raises(InputError, match=message):
        resolved_blend(blend, **overrides)


def test_a_stored_map_is_required_or_refused_as_the_rule_says(labels, probabilities):
    with pytest.raises(InputError, match="missing"):
        blended(labels, EXCLUSIVE, {"rule": "none"})
    with pytest.raises(InputError, match="not used"):
        blended(labels, EXCLUSIVE, {"rule": "onehot"}, stored=probabilities)
    with pytest.raises(InputError, match=r"\(2, 3, 4, 5\), expected \(3, 3, 4, 5\)"):
        blended(labels, EXCLUSIVE, {"rule": "none"}, stored=probabilities[:2])
