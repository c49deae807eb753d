"""Several raters: the mean by hand, STAPLE against SimpleITK and against its own definition."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.multi_rater import mean_map, staple


def noisy_raters(n_raters, n_classes, shape=(4, 15, 16), seed=0, noise=0.1):
    """Return raters (R, C, D, H, W) who each err at random, the first the most."""
    rng = np.random.default_rng(seed)
    truth = np.zeros(shape, int)
    truth[1:3, 3:10, 4:12] = 1
    if n_classes > 2:
        truth[1:3, 5:8, 6:14] = 2
    found = []
    for rater in range(n_raters):
        wrong = rng.random(shape) < noise * (2 if rater == 0 else 0.5)
        found.append(np.where(wrong, rng.integers(0, n_classes, shape), truth))
    return np.stack([[one == c for c in range(n_classes)] for one in found]), truth


def inputs_of(raters, background=0):
    """Return the inputs of a case with raters."""
    names = tuple(f"class{c}" for c in range(raters.shape[1]))
    return TargetInputs(raters[0], (1, 1, 1), names, background, raters=raters)


def test_the_mean_is_the_share_of_votes():
    raters, _ = noisy_raters(5, 3)
    found = METHODS["multi_rater"]().compute(inputs_of(raters))
    np.testing.assert_allclose(found.values, raters.mean(axis=0), atol=1e-7)
    np.testing.assert_allclose(found.values.sum(axis=0), 1, atol=1e-6)
    assert mean_map(raters).dtype == np.float32 and found.notes == {"n_raters": 5}


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), n_raters=st.integers(3, 7))
def test_staple_of_two_classes_is_that_of_simpleitk(seed, n_raters):
    raters, _ = noisy_raters(n_raters, 2, seed=seed)
    itk = sitk.STAPLEImageFilter()
    itk.SetMaximumIterations(2000)
    votes = [sitk.GetImageFromArray(one[1].astype(np.uint8)) for one in raters]
    theirs = sitk.GetArrayFromImage(itk.Execute(votes))
    values, confusion = staple(raters)
    np.testing.assert_allclose(values[1], theirs, atol=2e-4)
    np.testing.assert_allclose(confusion[:, 1, 1], itk.GetSensitivity(), atol=1e-3)
    np.testing.assert_allclose(confusion[:, 0, 0], itk.GetSpecificity(), atol=1e-3)


def staple_word_for_word(raters, n_rounds):
    """Return multi-label STAPLE with plain loops over voxels and raters."""
    n_raters, n_classes = raters.shape[:2]
    votes = raters.reshape(n_raters, n_classes, -1).argmax(axis=1)
    prior = np.bincount(votes.ravel(), minlength=n_classes) / votes.size
    theta = np.full((n_raters, n_classes, n_classes), 0.00001 / n_classes)
    theta[:, range(n_classes), range(n_classes)] = 0.99999
    for _ in range(n_rounds):
        weight = np.tile(prior, (votes.shape[1], 1))
        for rater in range(n_raters):
            weight = weight * theta[rater][votes[rater]]
        weight /= weight.sum(axis=1, keepdims=True)
        for rater in range(n_raters):
            for decided in range(n_classes):
                theta[rater, decided] = weight[votes[rater] == decided].sum(axis=0) / weight.sum(axis=0)
    return weight.T.reshape(raters.shape[1:]), theta


def test_staple_of_three_classes_is_its_definition():
    raters, truth = noisy_raters(5, 3)
    expected, theta = staple_word_for_word(raters, 200)
    values, confusion = staple(raters)
    np.testing.assert_allclose(values, expected, atol=1e-5)
    np.testing.assert_allclose(confusion[:, :3], theta, atol=1e-5)
    np.testing.assert_allclose(values.sum(axis=0), 1, atol=1e-6)
    assert (values.argmax(axis=0) == truth).mean() > 0.99


def test_staple_trusts_the_careless_rater_least():
    raters, _ = noisy_raters(5, 3)
    _, confusion = staple(raters)
    assert confusion[:, 1, 1].argmin() == 0


def test_overlapping_regions_are_binary_problems_of_their_own():
    raters, _ = noisy_raters(4, 3)
    whole = raters[:, 1] | raters[:, 2]
    regions = np.stack([raters[:, 2], whole], axis=1)
    found = METHODS["multi_rater"](fusion="staple").compute(inputs_of(regions, None)).values
    for index in range(2):
        alone = staple(np.stack([~regions[:, index], regions[:, index]], axis=1))[0][1]
        np.testing.assert_allclose(found[index], alone, atol=1e-6)


def test_a_class_that_no_rater_marks_keeps_its_columns_and_takes_no_voxel():
    raters, _ = noisy_raters(4, 2)
    padded = np.concatenate([raters, np.zeros_like(raters[:, :1])], axis=1)
    values, confusion = staple(padded)
    assert not values[2].any()
    np.testing.assert_allclose(confusion.sum(axis=1), 1, atol=1e-9)
    np.testing.assert_allclose(values[:2], staple(raters)[0], atol=1e-6)


def test_raters_who_agree_are_their_own_consensus():
    raters = np.repeat(noisy_raters(1, 3)[0], 3, axis=0)
    for fusion in ("mean", "staple"):
        found = METHODS["multi_rater"](fusion=fusion).compute(inputs_of(raters)).values
        np.testing.assert_allclose(found, raters[0], atol=1e-6)


def test_a_voxel_without_a_class_is_no_vote_for_any():
    raters = np.repeat(noisy_raters(1, 2)[0], 3, axis=0)
    raters[0, :, 0, 0, 0] = False
    mean = METHODS["multi_rater"]().compute(inputs_of(raters)).values
    assert mean[:, 0, 0, 0].sum() == pytest.approx(1), "the mean is that of the other two"
    values, confusion = staple(raters)
    assert values[:, 0, 0, 0].sum() == pytest.approx(1) and confusion[0, 2, 0] > 0


def test_one_rater_or_an_unknown_fusion_is_refused():
    raters, _ = noisy_raters(1, 2)
    with pytest.raises(InputError, match="got 1 rater"):
        METHODS["multi_rater"]().compute(inputs_of(raters))
    with pytest.raises(ValueError, match="'mean' or 'staple'"):
        METHODS["multi_rater"](fusion="vote")
