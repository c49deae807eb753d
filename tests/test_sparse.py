"""Laws of sparse labels: blending them is blending the dense ones, bit for bit; others are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.blend import Blend
from softlabels.calibration import Calibration
from softlabels.errors import InputError
from softlabels.sparse import NO_FLOOR, SparseLabel, blended, class_dtype, one_class, to_dense

SHAPE = (3, 4, 5)
few = settings(max_examples=40, deadline=None, derandomize=True)


def drawn(seed, n_classes, n_slots):
    """Return a sparse label of random distributions, as the store gives it, and random numbers of classes."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((n_classes, *SHAPE)), axis=0)[:n_slots]
    shares = rng.dirichlet(np.ones(n_slots), SHAPE)
    shares = -np.sort(-np.moveaxis(shares, -1, 0), axis=0).astype(np.float32)
    n_used = rng.integers(1, n_slots + 1, SHAPE)
    shares[np.arange(n_slots).reshape(-1, 1, 1, 1) >= n_used] = 0
    classes = np.where(shares > 0, order, 0).astype(np.uint8)
    hard = rng.integers(-1, n_classes, SHAPE, dtype=np.int32)
    return SparseLabel(classes, shares, NO_FLOOR), hard


def masks_of(hard, n_classes):
    return np.stack([hard == c for c in range(n_classes)])


@few
@given(seed=st.integers(0, 10**6), n_classes=st.integers(1, 9), alpha=st.sampled_from([0.0, 0.1, 1 / 3, 1.0]))
def test_a_mixture_is_that_of_the_dense_maps_bit_for_bit(seed, n_classes, alpha):
    stored, hard = drawn(seed, n_classes, min(n_classes, 1 + seed % 4))
    before = [part.copy() for part in (stored.classes, stored.shares, hard)]
    for blend in (Blend("mix_onehot", alpha), Blend("none")):
        label = blended(blend, hard, n_classes, stored)
        expected = blend.soft_label(masks_of(hard, n_classes), to_dense(stored, n_classes))
        np.testing.assert_array_equal(to_dense(label, n_classes).view(np.uint32), expected.view(np.uint32))
        assert len(label.shares) == len(stored.shares) + (blend.rule == "mix_onehot")
        for voxel in np.ndindex(SHAPE):
            used = label.classes[:, *voxel][label.shares[:, *voxel] > 0]
            assert len(set(used.tolist())) == len(used)
    for part, copy in zip((stored.classes, stored.shares, hard), before, strict=True):
        np.testing.assert_array_equal(part, copy)


@pytest.mark.parametrize("blend", [Blend("onehot"), Blend("label_smoothing", 0.3), Blend("label_smoothing", 0.0)])
def test_hard_labels_need_one_class_a_voxel_and_smoothing_a_floor(blend):
    _, hard = drawn(1, 6, 2)
    label = blended(blend, hard, 6)
    assert label.classes.shape == (1, *SHAPE) and label.floor.size == (blend.rule == "label_smoothing")
    np.testing.assert_array_equal(to_dense(label, 6), blend.soft_label(masks_of(hard, 6)))


@pytest.mark.parametrize("rule", ["mix_onehot", "none"])
def test_a_calibration_of_the_few_is_that_of_all(rule):
    stored, hard = drawn(2, 5, 3)
    blend = Blend(rule, 0.4 if rule == "mix_onehot" else None, Calibration(0.7, (0.0, 0.5, -0.5, 1.0, 0.2), "rater 2"))
    expected = blend.soft_label(masks_of(hard, 5), to_dense(stored, 5))
    np.testing.assert_allclose(to_dense(blended(blend, hard, 5, stored), 5), expected, rtol=0, atol=1e-6)


def test_one_class_is_a_channel_of_the_dense_form():
    stored, hard = drawn(3, 7, 3)
    for label in (stored, blended(Blend("label_smoothing", 0.3), hard, 7)):
        dense = to_dense(label, 7)
        for number in range(7):
            np.testing.assert_array_equal(one_class(label, number), dense[number])


def test_mirroring_the_few_is_mirroring_all():
    stored, _ = drawn(4, 6, 3)
    mirrored = SparseLabel(stored.classes[:, ::-1, :, ::-1], stored.shares[:, ::-1, :, ::-1], NO_FLOOR)
    np.testing.assert_array_equal(to_dense(mirrored, 6), to_dense(stored, 6)[:, ::-1, :, ::-1])


def test_what_has_a_value_for_every_class_is_refused():
    stored, hard = drawn(5, 3, 2)
    smoothed = Blend("label_smoothing", 0.1, Calibration(0.7, (0.0, 0.5, -0.5), "a"))
    for blend, map_given, message in (
        (Blend("signed_margin", 0.5), stored, "'signed_margin': a signed map has a value for every class"),
        (smoothed, None, "a calibration of smoothed labels has a value for every class. Use the dense"),
        (Blend("none"), None, "stored map missing"),
        (Blend("onehot"), stored, "stored map given, but not used"),
    ):
        with pytest.raises(InputError, match=message):
            blended(blend, hard, 3, map_given)


def test_numbers_of_classes_take_as_few_bytes_as_they_need():
    assert [class_dtype(n) for n in (2, 256, 257, 65536)] == [np.uint8, np.uint8, np.uint16, np.uint16]
    with pytest.raises(InputError, match="65537 classes, expected at most 65536"):
        class_dtype(65537)
