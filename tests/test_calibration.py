"""Slope and class offsets: by hand, and what they leave alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.calibration import Calibration
from softlabels.errors import InputError


def a_soft_label(seed, shape=(3, 4, 5, 6)):
    """Return a distribution over 3 classes that is certain in a part of the volume."""
    rng = np.random.default_rng(seed)
    soft = rng.dirichlet((0.3,) * shape[0], shape[1:]).transpose(3, 0, 1, 2)
    soft[:, :2] = np.eye(shape[0])[rng.integers(0, shape[0], (2, *shape[2:]))].transpose(3, 0, 1, 2)
    return soft.astype(np.float32)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10**6),
    slope=st.floats(0.2, 5),
    offsets=st.tuples(*[st.floats(-3, 3)] * 3),
    shift=st.floats(-5, 5),
)
def test_it_is_the_formula_and_leaves_certainty_alone(seed, slope, offsets, shift):
    soft = a_soft_label(seed)
    weight = soft.astype(np.float64) ** slope * np.exp(np.reshape(offsets, (3, 1, 1, 1)))
    found = Calibration(slope, offsets, "a").applied(soft)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, weight / weight.sum(axis=0), atol=1e-5)
    np.testing.assert_array_equal(found[:, :2], soft[:, :2])
    # Only differences of offsets matter.
    moved = Calibration(slope, tuple(b + shift for b in offsets), "a").applied(soft)
    np.testing.assert_allclose(moved, found, atol=1e-5)


def test_neutral_parameters_change_nothing():
    soft = a_soft_label(1)
    np.testing.assert_allclose(Calibration(1.0, (0.0,) * 3, "a").applied(soft), soft, atol=1e-6)


def test_regions_are_calibrated_each_against_its_complement():
    soft = np.float32([[0.2, 0.5, 1.0], [0.9, 0.5, 0.0]])
    found = Calibration(2.0, (0.5, -1.0), "a").applied(soft, is_overlapping=True)
    for p, b, one in zip(soft.astype(float), (0.5, -1.0), found, strict=True):
        np.testing.assert_allclose(one, p**2 * np.exp(b) / (p**2 * np.exp(b) + (1 - p) ** 2), atol=1e-6)


def test_a_voxel_of_no_class_stays_of_no_class():
    soft = np.zeros((2, 1, 1, 1), np.float32)
    np.testing.assert_array_equal(Calibration(0.5, (1.0, -1.0), "a").applied(soft), 0)


def test_json_keeps_everything():
    calibration = Calibration(0.75, (0.0, -0.5, 2.0), "rater 2")
    assert Calibration.from_json(calibration.to_json()) == calibration


def test_what_makes_no_sense_is_refused():
    for slope, offsets, name in (
        (0.0, (0.0,), "a"),
        (float("nan"), (0.0,), "a"),
        (1.0, (), "a"),
        (1.0, (np.inf,), "a"),
        (1.0, (0.0,), " "),
    ):
        with pytest.raises(InputError, match="calibrate"):
            Calibration(slope, offsets, name)
    with pytest.raises(InputError, match="2 offsets for 3 classes"):
        Calibration(1.0, (0.0, 1.0), "a").applied(a_soft_label(0))
