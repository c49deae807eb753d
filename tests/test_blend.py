"""Laws of the blends."""

import numpy as np
import pytest

from softlabels.blend import RULES, Blend, blend, entropy_bits
from softlabels.calibration import Calibration
from softlabels.classes import LabelClass, class_masks
from softlabels.errors import InputError

EXCLUSIVE = (LabelClass("background", (0,)), LabelClass("a", (1,)), LabelClass("b", (2, 4)))
REGIONS = (LabelClass("whole", (1, 2, 4)), LabelClass("core", (1, 4)))


@pytest.fixture
def labels():
    return np.random.default_rng(0).choice(np.array([0, 1, 2, 4], np.uint8), (3, 4, 5))


@pytest.fixture
def masks(labels):
    return class_masks(labels, EXCLUSIVE)


@pytest.fixture
def probabilities(labels):
    return np.random.default_rng(1).dirichlet([1, 1, 1], labels.shape).transpose(3, 0, 1, 2).astype(np.float32)


def test_one_hot_is_the_masks(masks):
    soft = blend(masks, rule="onehot")
    assert soft.dtype == np.float32
    np.testing.assert_array_equal(soft, masks)


def test_label_smoothing_of_exclusive_classes_sums_to_one(masks):
    soft = blend(masks, rule="label_smoothing", epsilon=0.3)
    assert soft.sum(axis=0) == pytest.approx(1.0, abs=1e-6)
    assert np.unique(soft) == pytest.approx([0.1, 0.8], abs=1e-6)


def test_label_smoothing_of_regions_treats_each_as_a_binary_problem(labels):
    soft = blend(class_masks(labels, REGIONS), rule="label_smoothing", epsilon=0.2, is_overlapping=True)
    assert np.unique(soft) == pytest.approx([0.1, 0.9], abs=1e-6)


def test_mixing_meets_its_ends(masks, probabilities):
    np.testing.assert_array_equal(blend(masks, probabilities, rule="mix_onehot", alpha=0.0), masks)
    np.testing.assert_array_equal(blend(masks, probabilities, rule="mix_onehot", alpha=1.0), probabilities)


def test_mixing_two_distributions_gives_a_distribution(masks, probabilities):
    soft = blend(masks, probabilities, rule="mix_onehot", alpha=0.1)
    assert soft.sum(axis=0) == pytest.approx(1.0, abs=1e-6)


def test_the_signed_blend_by_hand():
    masks = np.array([[True, True, False, False, True]])
    stored = np.array([[0.5, 0.0, -0.5, -1.0, -1.0]], np.float32)
    soft = blend(masks, stored, rule="signed_margin", delta=0.5)
    assert soft.ravel().tolist() == [0.75, 0.5, -0.75, -1.0, -1.0]


def test_a_signed_blend_takes_its_sign_from_the_labels(masks):
    # a quantised map may hold 0 on both sides of the surface: the margin still tells them apart
    soft = blend(masks, np.zeros(masks.shape, np.float32), rule="signed_margin", delta=0.1)
    np.testing.assert_array_equal(soft > 0, masks)


@pytest.mark.parametrize(
    "rule", [{"rule": "none"}, {"rule": "mix_onehot", "alpha": 0.5}, {"rule": "signed_margin", "delta": 0.5}]
)
def test_nothing_is_modified_and_nothing_is_shared(masks, probabilities, rule):
    before = masks.copy(), probabilities.copy()
    blend(masks, probabilities, **rule)[...] = 7
    np.testing.assert_array_equal(masks, before[0])
    np.testing.assert_array_equal(probabilities, before[1])


def test_an_override_replaces_only_the_parameter_of_the_rule():
    stated = Blend("signed_margin", 0.5)
    assert stated.replaced(delta=0.0, alpha=None) == Blend("signed_margin", 0.0)
    assert stated.replaced(delta=None) == stated == Blend("signed_margin", 0.5)


@pytest.mark.parametrize("rule", RULES)
def test_a_blend_survives_json(rule):
    blend = Blend(rule, None if RULES[rule].parameter is None else 0.25)
    assert Blend.from_json(blend.to_json()) == blend
    assert set(blend.to_json()) == {"rule", RULES[rule].parameter} - {None}


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ({"rule": "sharpen"}, {}, "'sharpen', expected one of onehot"),
        ({}, {}, "None, expected one of onehot"),
        ({"rule": "mix_onehot", "alpha": 0.1}, {"delta": 0.2}, "got delta, expected only alpha"),
        ({"rule": "mix_onehot", "alpha": 0.1, "delta": 0.1}, {}, "got delta, expected only alpha"),
        ({"rule": "onehot"}, {"alpha": 0.2}, "got alpha, expected no parameter"),
        ({"rule": "mix_onehot"}, {}, "alpha=None, expected a number"),
        ({"rule": "mix_onehot", "alpha": 0.1}, {"alpha": 1.5}, "alpha=1.5"),
        ({"rule": "signed_margin", "delta": float("nan")}, {}, "delta=nan"),
    ],
)
def test_a_blend_that_makes_no_sense_is_refused(content, overrides, message):
    with pytest.raises(InputError, match=message):
        Blend.from_json(content).replaced(**overrides)


def test_a_rule_without_a_parameter_takes_no_value():
    with pytest.raises(InputError, match="'onehot': got the value 0.5, expected none"):
        Blend("onehot", 0.5)
    with pytest.raises(InputError, match="'sharpen', expected one of"):
        Blend("sharpen")


@pytest.mark.parametrize("value", [0.0, 0.1, 0.3, 1 / 3, 0.97, 1.0])
@pytest.mark.parametrize("is_overlapping", [False, True])
def test_a_blend_is_its_formula_bit_for_bit(masks, value, is_overlapping):
    hard, share, rest = masks.astype(np.float32), np.float32(value), np.float32(1.0 - value)
    stored = np.random.default_rng(2).choice(np.linspace(-1, 1, 256, dtype=np.float32), masks.shape)
    signed = rest * stored + share * (2 * hard - 1)
    signed[stored == -1] = -1
    uniform = np.float32(0.5 if is_overlapping else 1 / 3)
    for chosen, given, expected in (
        (Blend("mix_onehot", value), np.abs(stored), rest * hard + share * np.abs(stored)),
        (Blend("signed_margin", value), stored, signed),
        (Blend("label_smoothing", value), None, rest * hard + share * uniform),
    ):
        soft = chosen.soft_label(masks, given, is_overlapping=is_overlapping)
        assert soft.dtype == np.float32
        np.testing.assert_array_equal(soft.view(np.uint32), expected.view(np.uint32))


def test_hard_labels_that_are_not_bool_are_refused(masks):
    with pytest.raises(InputError, match="masks: got float32, expected bool"):
        Blend("onehot").soft_label(masks.astype(np.float32))


def test_a_stored_map_is_required_or_refused_as_the_rule_says(masks, probabilities):
    with pytest.raises(InputError, match="missing"):
        blend(masks, rule="none")
    with pytest.raises(InputError, match="not used"):
        blend(masks, probabilities, rule="onehot")
    with pytest.raises(InputError, match=r"\(2, 3, 4, 5\), expected that of the masks, \(3, 3, 4, 5\)"):
        blend(masks, probabilities[:2], rule="none")
    with pytest.raises(InputError, match="'blur', expected one of"):
        blend(masks, probabilities, rule="blur")


def test_entropy_is_none_for_a_decided_voxel_and_full_for_an_even_one():
    even, decided = np.full((4, 1), 0.25), np.eye(4)[:, :1]
    assert entropy_bits(even).tolist() == [2.0]
    assert entropy_bits(decided).tolist() == [0.0]
    assert entropy_bits(np.full((2, 1), 0.5), is_overlapping=True).tolist() == [2.0]
    assert entropy_bits(np.array([[1.0], [-1.0]]), is_signed=True).tolist() == [0.0]


def test_entropy_of_exclusive_classes_ignores_a_common_factor(probabilities):
    assert entropy_bits(probabilities * 0.5) == pytest.approx(entropy_bits(probabilities), abs=1e-5)


def test_entropy_of_nothing_is_zero():
    assert entropy_bits(np.zeros((3, 2))).tolist() == [0.0, 0.0]


def test_a_calibration_follows_the_rule_and_survives_json_and_other_parameters(masks, probabilities):
    calibration = Calibration(0.8, (0.0, 0.5, -0.5), "rater 2")
    calibrated = Blend("mix_onehot", 0.4, calibration)
    plain = blend(masks, probabilities, rule="mix_onehot", alpha=0.4)
    np.testing.assert_array_equal(calibrated.soft_label(masks, probabilities), calibration.applied(plain))
    assert Blend.from_json(calibrated.to_json()) == calibrated
    assert calibrated.replaced(alpha=0.1) == Blend("mix_onehot", 0.1, calibration)


def test_a_signed_map_has_no_calibration():
    with pytest.raises(InputError, match="remove calibrate"):
        Blend("signed_margin", 0.5, Calibration(1.0, (0.0,), "a"))


@pytest.mark.parametrize("chosen", [Blend("mix_onehot", 0.3), Blend("signed_margin", 0.4), Blend("none")])
def test_a_blend_in_place_of_the_map_has_the_same_bits(masks, chosen):
    stored = np.random.default_rng(1).random(masks.shape).astype(np.float32)
    stored.flat[::7] = -1.0
    expected = chosen.soft_label(masks, stored)
    padded = np.zeros((*masks.shape[:-1], masks.shape[-1] + 3), np.float32)
    for given, out in ((stored, np.empty_like(stored)), (stored, padded[..., 2:-1]), (stored, stored)):
        assert chosen.soft_label(masks, given, out=out) is out
        assert np.array_equal(out.view(np.uint32), expected.view(np.uint32))
    assert not padded[..., :2].any() and not padded[..., -1:].any()
