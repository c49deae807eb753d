"""Unmix: against a direct transcription of its formula, what it promises, and the scores it must reach."""

import numpy as np
import pytest
from helpers.soft_truth import averaged, best_gaussian, brier, masks_of, read, tissue_shares
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels.errors import InputError
from softlabels.methods._whitening import whitening_of
from softlabels.methods.gaussian import gaussian_map
from softlabels.methods.unmix import unmix, unmix_map

#: Shape, spacing, classes, channels: a thin slab, an anisotropic grid, a single slice, a row of voxels.
CASES = [
    ((6, 9, 8), (1.0, 1.0, 1.0), 3, 2),
    ((4, 10, 7), (3.0, 1.0, 0.7), 2, 1),
    ((1, 12, 11), (5.0, 0.8, 0.8), 4, 3),
    ((2, 1, 30), (1.0, 1.0, 1.0), 2, 1),
]


def a_case(shape, n_classes, n_channels, seed=0):
    """Return an image (M, D, H, W), whose channels are noisy mixtures of class intensities, and masks."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1)
    labels = np.digitize(smooth, np.quantile(smooth, np.linspace(0, 1, n_classes + 1)[1:-1]))
    levels = rng.normal(0, 3, (n_channels, n_classes))
    image = levels[:, labels] + rng.normal(0, 0.7, (n_channels, *shape))
    return image.astype(np.float32), np.stack([labels == c for c in range(n_classes)])


def formula(image, masks, prior, spacing, window_mm, rho, domain):
    """Return the module's formula, transcribed in float64 and evaluated at every voxel of the domain and the band."""
    n_classes, shape, image = len(masks), masks.shape[1:], image.astype(np.float64)
    sigmas = [window_mm / side if n > 1 else 0 for side, n in zip(spacing, shape, strict=True)]
    window = lambda field: ndimage.gaussian_filter(field, sigmas, mode="nearest", truncate=4.0)  # noqa: E731
    purity = masks * prior.astype(np.float64) * domain
    size = np.stack([window(v) for v in purity])
    first = np.stack([[window(v * channel) for channel in image] for v in purity])
    second = np.stack([[window(purity.sum(0) * a * b) for a in image] for b in image])
    own = np.cov(image[:, domain], bias=True).reshape(len(image), len(image))
    found = prior.astype(np.float64)
    for at in zip(*np.nonzero(domain & (prior.max(axis=0) < 0.9995)), strict=True):
        n, sums, pi, intensity = size[:, *at], first[:, :, *at], prior[:, *at], image[:, *at]
        near = [c for c in range(n_classes) if n[c] > 0 and n[c] >= 1e-5 * n.sum()]
        if not pi[near].sum() > 0:
            continue
        mean = {c: sums[c] / n[c] for c in near}
        centre = sum(pi[c] * mean[c] for c in near) / pi[near].sum()
        apart = np.array([mean[c] - centre if c in near else 0 * centre for c in range(n_classes)])
        inside = second[:, :, *at] - sum(np.outer(sums[c], sums[c]) / n[c] for c in range(n_classes) if n[c] > 0)
        between = sum(pi[c] * np.outer(apart[c], apart[c]) for c in range(n_classes))
        gain = np.linalg.solve(between + rho * inside / n.sum() + 1e-3 * own, intensity - centre)
        share = np.clip(pi * (1 + apart @ gain), 0, 1)
        found[:, *at] = share / share.sum()
    return found


@pytest.mark.parametrize(("shape", "spacing", "n_classes", "n_channels"), CASES)
@pytest.mark.parametrize(("window", "rho"), [(2.0, 3.0), (1.0, 1.0)])
def test_the_map_is_the_formula(shape, spacing, n_classes, n_channels, window, rho):
    image, masks = a_case(shape, n_classes, n_channels)
    prior = gaussian_map(masks, spacing, sigma_mm=0.8)
    expected = formula(image, masks, prior, spacing, 0.8 * window, rho, np.ones(shape, bool))
    found = unmix_map(image, masks, spacing, sigma_mm=0.8, window=window, rho=rho)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.abs(found - prior).max() > 0.1


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), window_mm=st.floats(0.5, 3), rho=st.floats(0.5, 300), ignored=st.booleans())
def test_any_prior_any_domain_and_voxels_of_no_class_follow_the_formula(seed, window_mm, rho, ignored):
    rng = np.random.default_rng(seed)
    shape, spacing = (4, 7, 8), (2.0, 1.0, 1.5)
    image, masks = a_case(shape, 3, 2, seed)
    if ignored:
        masks = masks & (rng.random(shape) > 0.2)
    prior = rng.dirichlet((0.4, 0.4, 0.4), shape).astype(np.float32).transpose(3, 0, 1, 2)
    domain = rng.random(shape) > 0.3
    image[:, ~domain] = np.nan
    clean = np.where(domain, image, 0)
    expected = formula(clean, masks, prior, spacing, window_mm, rho, domain)
    found = unmix(image, masks, prior, spacing, window_mm=window_mm, rho=rho, domain=domain)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(found[:, ~domain], prior[:, ~domain])


def test_blocks_and_threads_leave_no_trace(monkeypatch):
    image, masks = a_case((20, 40, 33), 3, 2)
    whole = unmix_map(image, masks, (2.0, 1.0, 1.0))
    monkeypatch.setattr("softlabels.methods._unmix_blocks._BLOCK", 11)
    np.testing.assert_array_equal(unmix_map(image, masks, (2.0, 1.0, 1.0), threads=3), whole)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), case=st.sampled_from(CASES), axis=st.integers(-3, -1))
def test_a_flipped_case_has_the_flipped_bits(seed, case, axis):
    shape, spacing, n_classes, n_channels = case
    image, masks = a_case(shape, n_classes, n_channels, seed)
    found = unmix_map(image, masks, spacing)
    mirrored = unmix_map(np.flip(image, axis), np.flip(masks, axis), spacing)
    np.testing.assert_array_equal(np.flip(mirrored, axis), found)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), case=st.sampled_from(CASES))
def test_the_map_is_a_distribution(seed, case):
    shape, spacing, n_classes, n_channels = case
    image, masks = a_case(shape, n_classes, n_channels, seed)
    found = unmix_map(image, masks, spacing, rho=1.0)
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)


@pytest.mark.parametrize("scale_and_offset", [(-3.0, 7.0), (1e-4, 0.0), (250.0, 1e4)])
def test_neither_unit_nor_offset_of_the_image_matters(scale_and_offset):
    scale, offset = scale_and_offset
    image, masks = a_case((6, 12, 12), 3, 2)
    image = image.astype(np.float64)
    found = unmix_map(image, masks, (1, 1, 1))
    np.testing.assert_allclose(unmix_map(scale * image + offset, masks, (1, 1, 1)), found, atol=1e-5)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_mixing_the_channels_changes_nothing(seed):
    image, masks = a_case((4, 9, 9), 3, 3, seed)
    image = image.astype(np.float64)
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0] * [[1.0], [20.0], [0.1]]
    mixed = np.einsum("ab,bzyx->azyx", turn, image)
    np.testing.assert_allclose(unmix_map(mixed, masks, (1, 1, 1)), unmix_map(image, masks, (1, 1, 1)), atol=2e-5)


def test_a_channel_that_is_constant_or_follows_from_others_changes_nothing():
    image, masks = a_case((4, 9, 9), 2, 2)
    more = np.stack([image[0], np.full_like(image[0], 1234.5), 2 * image[0] - 3, image[1]])
    assert len(whitening_of(more).inverse) == 2
    np.testing.assert_allclose(unmix_map(more, masks, (1, 1, 1)), unmix_map(image, masks, (1, 1, 1)), atol=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.1, -1234.567])
def test_a_constant_image_gives_the_gaussian_bit_for_bit(level):
    _, masks = a_case((6, 20, 20), 3, 1)
    image = np.full((2, 6, 20, 20), level, np.float32)
    np.testing.assert_array_equal(unmix_map(image, masks, (1, 1, 1)), gaussian_map(masks, (1, 1, 1), sigma_mm=1.0))


def test_where_the_image_is_flat_the_map_is_the_gaussian_bit_for_bit():
    image, masks = a_case((3, 20, 60), 2, 1)
    image[..., 30:] = 5.0
    gaussian = gaussian_map(masks, (1, 1, 1), sigma_mm=1.0)
    found = unmix_map(image, masks, (1, 1, 1))
    # The window of 2 mm ends 8 voxels away.
    np.testing.assert_array_equal(found[..., 38:], gaussian[..., 38:])
    assert np.abs(found[..., :30] - gaussian[..., :30]).max() > 0.1


def test_as_rho_grows_the_map_becomes_the_gaussian():
    image, masks = a_case((6, 15, 15), 3, 2)
    gaussian = gaussian_map(masks, (1, 1, 1), sigma_mm=1.0)
    apart = [np.abs(unmix_map(image, masks, (1, 1, 1), rho=rho) - gaussian).max() for rho in (1, 10, 1e3, 1e7)]
    assert apart == sorted(apart, reverse=True) and apart[-1] < 1e-5


def test_half_a_voxel_of_each_class_is_told_from_its_intensity():
    shares = np.array([0, 0, 0, 0, 0, 0.3, 1, 1, 1, 1, 1, 1])
    image = (100 * shares)[None, None, None]
    masks = np.stack([shares < 0.5, shares >= 0.5])[:, None, None]
    gaussian = gaussian_map(masks, (1, 1, 1), sigma_mm=0.7)[1, 0, 0]
    found = unmix_map(image, masks, (1, 1, 1), sigma_mm=0.7, rho=1.0)[1, 0, 0]
    assert np.abs(found - shares).sum() < 0.4 * np.abs(gaussian - shares).sum()


def test_an_absent_class_is_0_and_changes_nothing():
    image, masks = a_case((5, 10, 10), 2, 1)
    more = np.stack([masks[0], np.zeros_like(masks[0]), masks[1]])
    found = unmix_map(image, more, (1, 1, 1))
    assert not found[1].any()
    np.testing.assert_array_equal(found[[0, 2]], unmix_map(image, masks, (1, 1, 1)))


def test_a_class_without_voxels_in_reach_keeps_its_prior():
    image, masks = a_case((1, 6, 60), 2, 1)
    prior = np.stack([0.6 * masks[0], 0.6 * masks[1], np.full(masks.shape[1:], 0.4)]).astype(np.float32)
    far = np.zeros((1, *masks.shape[1:]), bool)
    far[..., -1] = True
    found = unmix(image, np.concatenate([masks & ~far, far]), prior, (1, 1, 1), window_mm=1.0)
    np.testing.assert_allclose(found[2, ..., :50], 0.4, atol=1e-6)


def test_overlapping_regions_are_estimated_each_against_its_complement():
    image, masks = a_case((5, 10, 10), 3, 2)
    regions = np.stack([masks[1] | masks[2], masks[2]])
    found = unmix_map(image, regions, (1, 1, 1), are_exclusive=False)
    for region, one in zip(regions, found, strict=True):
        np.testing.assert_allclose(one, unmix_map(image, np.stack([region, ~region]), (1, 1, 1))[0], atol=1e-6)


def test_beside_the_ignore_label_shares_sum_to_one():
    image, masks = a_case((5, 10, 10), 2, 1)
    masks[:, 2:4, 3:7] = False
    found = unmix_map(image, masks, (1, 1, 1))
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    other = image.copy()
    other[:, 2:4, 3:7] += 1e-3
    np.testing.assert_allclose(unmix_map(other, masks, (1, 1, 1))[:, masks.any(0)], found[:, masks.any(0)], atol=1e-4)


def test_wrong_arguments_are_refused():
    image, masks = a_case((3, 5, 5), 2, 1)
    prior = gaussian_map(masks, (1, 1, 1), sigma_mm=1.0)
    for wrong in ({"sigma_mm": 0.0}, {"window": -1.0}, {"rho": float("nan")}, {"rho": 0.0}):
        with pytest.raises(InputError, match="expected"):
            unmix_map(image, masks, (1, 1, 1), **wrong)
    image[0, 1, 2, 3] = np.nan
    with pytest.raises(InputError, match="1 NaN or infinite voxels in channel 0"):
        unmix_map(image, masks, (1, 1, 1))
    for bad_prior in (prior * 1.5, np.full_like(prior, np.nan), prior[:1]):
        with pytest.raises(InputError, match="prior"):
            unmix(image, masks, bad_prior, (1, 1, 1), window_mm=1.0)
    with pytest.raises(InputError, match="image"):
        unmix_map(image[:, 1:], masks, (1, 1, 1))


@pytest.fixture(scope="module")
def brain():
    """Return T1 of ICBM152 and its tissue shares."""
    return tissue_shares()


def test_tissue_shares_are_told_far_better_than_by_the_best_gaussian(brain):
    image, shares = brain
    masks = masks_of(shares)
    gaussian = brier(gaussian_map(masks, (1, 1, 1), sigma_mm=1.25), shares)
    found = brier(unmix_map(image, masks, (1, 1, 1), sigma_mm=2.0, window=1.0, threads=2), shares)
    assert round(gaussian.brier, 4) == 0.0067
    assert found.brier <= 0.0053 and found.mae <= 0.0192 and found.cross_entropy <= 0.188


@pytest.mark.parametrize("seed", [0, 1])
def test_an_image_of_noise_costs_at_most_one_per_cent(brain, seed):
    _, shares = brain
    shares = shares[:, :, 100:140]
    masks = masks_of(shares)
    noise = np.random.default_rng(seed).normal(size=(1, *shares.shape[1:]))
    for sigma_mm, window in ((1.25, 2.0), (2.0, 1.0)):
        found = brier(unmix_map(noise, masks, (1, 1, 1), sigma_mm=sigma_mm, window=window), shares)
        assert found.brier <= 1.01 * brier(gaussian_map(masks, (1, 1, 1), sigma_mm=sigma_mm), shares).brier


_TUMOUR = "brain1_tumour/crop_committable"
#: Images, label, block, spacing of the blocks, and the least gain over the best Gaussian.
BLOCKS = {
    "cord T1": (["spinal_cord/t1w"], "spinal_cord/t1w_seg-manual", (2, 2, 2), (1, 1, 1), 0.30),
    # Four of the eight ways to lay blocks gain more than 10 %, none less than 5 %.
    "cord T2": (["spinal_cord/t2"], "spinal_cord/t2_seg-manual", (2, 2, 2), (1, 1, 1), 0.085),
    "tumour": ([f"{_TUMOUR}/t1_post"], f"{_TUMOUR}/label", (1, 3, 3), (2.78, 1, 1), 0.10),
    "lesions": (
        [f"ms_p19/{name}" for name in ("flair", "t1", "t1post", "t2")],
        "ms_p19/label_lesion",
        (2, 2, 2),
        (1, 1, 1),
        0.30,
    ),
    "organs": (["ct_organs_small/ct"], "ct_organs_small/label", (2, 2, 2), (1, 1, 1), 0.15),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_averaged_blocks_are_told_better_than_by_the_best_gaussian(shared_data, name):
    images, label, block, spacing, least_gain = BLOCKS[name]
    image = np.stack([read(shared_data / f"{one}.nii.gz") for one in images])
    labels = read(shared_data / f"{label}.nii.gz")
    # Where blocks begin matters on small structures, so all ways count.
    starts = np.ndindex(block) if labels.size < 300_000 else [(0, 0, 0)]
    gains = []
    for start in starts:
        coarse, shares = averaged(image, labels, block, start)
        masks = masks_of(shares)
        found = brier(unmix_map(coarse, masks, spacing, sigma_mm=0.5), shares).brier
        gains.append(1 - found / best_gaussian(masks, spacing, shares))
    assert np.mean(gains) >= least_gain and min(gains) > 0


@pytest.mark.parametrize(("cells", "sigma_mm"), [("d1", 5.0), ("d3", 3.5)])
def test_where_annotators_disagree_it_is_farther_from_their_mean_as_documented(shared_data, cells, sigma_mm):
    scores = []
    for folder in sorted((shared_data / "cells_tune" / cells).iterdir()):
        image, labels = read(folder / "image.nii.gz").astype(np.float32), read(folder / "label.nii.gz")
        truth, masks = read(folder / "reference.nii.gz").astype(np.float32), np.stack([labels == 0, labels > 0])
        gaussian = gaussian_map(masks, (1, 1, 1), sigma_mm=sigma_mm)
        unmixed = unmix_map(image[None], masks, (1, 1, 1), sigma_mm=sigma_mm)
        scores.append([brier(gaussian, truth).brier, brier(unmixed, truth).brier])
    gaussian, unmixed = np.mean(scores, axis=0)
    assert 1.03 * gaussian < unmixed < 1.2 * gaussian
