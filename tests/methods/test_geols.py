"""GeoLS: Eqs. 5-6 and the authors' script by hand, where they differ and how much, and the cases without a formula."""

import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.exponential import exp_nonpositive, expm1_nonpositive
from softlabels.blend import blend
from softlabels.errors import SeedError
from softlabels.geodesic import geodesic_distance
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.geols import official_map, paper_map

E = np.exp


def row(*classes):
    """Return a distance map (1, C, 1, 1, W) from one row per class."""
    return np.float32(classes)[None, :, None, None, :]


def paper_in_float64(distance, masks):
    """Return Eqs. 5-6 word for word in float64."""
    maps = []
    for channel in distance.astype(np.float64):
        g = E(-channel)
        low, high = g.min(axis=(1, 2, 3), keepdims=True), g.max(axis=(1, 2, 3), keepdims=True)
        g = (g - low) / (high - low)
        maps.append(g / g.sum(axis=0))
    return np.mean(maps, axis=0)


def official_in_float64(distance, background=0):
    """Return the authors' steps word for word in float64: exponent of the mean, min-max, background, mean."""
    maps = []
    for channel in distance.astype(np.float64):
        g = np.zeros(channel.shape)
        for c in range(len(g)):
            if c != background and np.isfinite(channel[c]).any():
                g[c] = E(-channel[c] / channel[c].mean())
                g[c] -= g[c].min()
                g[c] /= g[c].max()
        filled = [g[c] for c in range(len(g)) if c != background and g[c].sum() != 0]
        g[background] = 1 - sum(filled) / len(filled) if filled else 1
        maps.append(g)
    return np.mean(maps, axis=0)


def a_case(shape=(4, 7, 6), spacing=(2.5, 2.0, 2.0), seed=0, n_classes=4, n_channels=2, scale=1.0, **cost):
    """Return distances, masks and the image of a random case."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, shape)
    labels.ravel()[:n_classes] = range(n_classes)
    masks = np.stack([labels == c for c in range(n_classes)])
    image = (rng.random((n_channels, *shape)) * scale).astype(np.float32)
    seeds = masks & (rng.random(masks.shape) < 0.2)
    for mask, own in zip(masks, seeds, strict=True):
        own[tuple(np.argwhere(mask)[0])] = True
    cost = cost or {"metric": "pythagorean", "gamma": 1.0}
    return np.stack([geodesic_distance(one, seeds, spacing, **cost) for one in image]), masks, image


def test_paper_by_hand():
    # exp(-D): 1, e^-1, e^-2, min-max over 1 - e^-2 for both classes, mirrored.
    found = paper_map(row([0, 1, 2], [2, 1, 0]), np.ones((2, 1, 1, 3), bool))
    np.testing.assert_allclose(found[0, 0, 0], [1, 0.5, 0], atol=1e-7)
    # Class 1 reaches 3: N = (e^-D - e^-3) / (1 - e^-3).
    found = paper_map(row([0, 1, 2], [3, 1, 0]), np.ones((2, 1, 1, 3), bool))
    a, b = (E(-1) - E(-2)) / (1 - E(-2)), (E(-1) - E(-3)) / (1 - E(-3))
    np.testing.assert_allclose(found[:, 0, 0, 1], [a / (a + b), b / (a + b)], rtol=1e-6)


def test_official_by_hand():
    # mean D = 1; exp(-D) = 1, e^-1, e^-2; min-max; the other class has mean 2.
    found, means = official_map(row([9, 9, 9], [0, 1, 2], [4, 2, 0]), background=0)
    first = (E(-1) - E(-2)) / (1 - E(-2))
    np.testing.assert_allclose(found[:, 0, 0, 1], [1 - first, first, first], rtol=1e-6)
    np.testing.assert_allclose(found[0, 0, 0], [0.5, 1 - first, 0.5], rtol=1e-6)
    assert means == [[None, 1.0, 2.0]]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.0, 1.0, 10.0]))
def test_both_agree_with_the_formulas_in_double_precision(seed, scale):
    distance, masks, _ = a_case(seed=seed, scale=scale)
    # Outside of the points where every class is at its own maximum, 0/0 in the formula.
    expected = paper_in_float64(distance, masks)
    assert np.isfinite(expected).mean() > 0.9
    np.testing.assert_allclose(
        paper_map(distance, masks)[np.isfinite(expected)], expected[np.isfinite(expected)], atol=2e-5
    )
    np.testing.assert_allclose(official_map(distance, background=0)[0], official_in_float64(distance), atol=2e-6)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([100.0, 5000.0]), n_classes=st.integers(2, 4))
def test_raw_intensities_that_underflow_the_exponential_keep_the_ratio(seed, scale, n_classes):
    distance, masks, _ = a_case(seed=seed, scale=scale, n_classes=n_classes, n_channels=1)
    wide = distance[0].astype(np.float64)
    largest = wide.max(axis=(1, 2, 3), keepdims=True)
    with np.errstate(divide="ignore"):
        logs = -wide + np.log(-np.expm1(wide - largest)) - np.log(-np.expm1(-largest))
    is_lost = np.isinf(logs).all(axis=0)
    logs = np.where(is_lost, -wide, logs)
    logs -= logs.max(axis=0)
    expected = np.exp(logs) / np.exp(logs).sum(axis=0)
    found = paper_map(distance, masks)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)


def test_far_from_all_seeds_the_paper_map_is_the_ratio_not_0_over_0():
    # exp(-500) is 0 in float32 and the plain formula 0/0; the exact ratio is 1 / (1 + e^-1).
    distance = row([0, 500, 900], [900, 501, 0])
    assert not np.exp(-distance)[0, :, 0, 0, 1].any()
    found = paper_map(distance, np.ones((2, 1, 1, 3), bool))
    np.testing.assert_allclose(found[:, 0, 0, 1], [1 / (1 + E(-1)), 1 / (1 + E(1))], rtol=1e-6)


def test_where_every_class_is_at_its_maximum_the_softmax_of_minus_d_decides():
    found = paper_map(row([0, 2], [0, 3]), np.ones((2, 1, 1, 2), bool))
    np.testing.assert_allclose(found[:, 0, 0, 1], [1 / (1 + E(-1)), 1 / (1 + E(1))], rtol=1e-6)


def test_a_class_at_its_maximum_has_weight_0_even_where_it_is_by_far_the_nearest():
    # Class 0 never gets farther than 200, class 1 is at 500 there: exp(500 - 200) is inf in float32.
    found = paper_map(row([0, 200], [900, 500]), np.ones((2, 1, 1, 2), bool))
    np.testing.assert_array_equal(found[:, 0, 0], [[1, 0], [0, 1]])


def test_a_class_that_is_seeded_everywhere_keeps_one():
    found = paper_map(row([0, 0], [0, 1]), np.ones((2, 1, 1, 2), bool))
    np.testing.assert_allclose(found[:, 0, 0], [[0.5, 1.0], [0.5, 0.0]])


def test_outside_of_the_domain_the_hard_label_stands():
    masks = np.array([[[[1, 0, 0]]], [[[0, 1, 1]]]], bool)
    found = paper_map(row([0, 1, np.inf], [1, 0, np.inf]), masks)
    np.testing.assert_array_equal(found[:, 0, 0, 2], [0, 1])
    np.testing.assert_array_equal(found[:, 0, 0, 0], [1, 0])
    assert official_map(row([0, 1, np.inf], [1, 0, np.inf]), background=0)[0][1, 0, 0, 2] == 0


def distribution_step_by_step(distance, largest, hard):
    """Return what `add_distribution` adds, (C, n), a NumPy line for each step of its definition."""
    largest = largest[:, None]
    is_reached = np.isfinite(distance.min(axis=0))
    with np.errstate(invalid="ignore"):
        weight = -expm1_nonpositive(np.minimum(distance - largest, 0))
        weight /= np.where(largest > 0, -expm1_nonpositive(-largest), 1)
        weight[np.ravel(largest == 0)] = 1
        weight[np.isinf(distance)] = 0
        weight[:, is_reached & (weight.max(axis=0) == 0)] = 1
        nearest = np.where(weight > 0, distance, np.inf).min(axis=0)
        weight *= exp_nonpositive(np.minimum(nearest - distance, 0))
        weight /= weight.sum(axis=0)
    weight[:, ~is_reached] = hard[:, ~is_reached]
    return weight


@pytest.mark.parametrize("scale", [0.1, 1, 50, 3000])
def test_compiled_distribution_is_that_of_the_steps_bit_for_bit(scale):
    rng = np.random.default_rng(int(scale))
    for n_classes, spoil in itertools.product((2, 3, 4), ("nothing", "walls", "no seeds", "all seeds", "ties")):
        distance = rng.exponential(scale, (n_classes, 2500)).astype(np.float32)
        distance[rng.random(distance.shape) < 0.1] = 0
        if spoil == "walls":
            distance[:, :900] = distance[0, 1000:1500] = np.inf
        elif spoil in ("no seeds", "all seeds"):
            distance[1] = np.inf if spoil == "no seeds" else 0
        elif spoil == "ties":
            distance[:, ::3] = distance.max(axis=1, keepdims=True)
        hard = rng.integers(0, n_classes, 2500) == np.arange(n_classes)[:, None]
        largest = np.max(distance, axis=1, where=np.isfinite(distance), initial=0)
        found = paper_map(distance.reshape(1, n_classes, 1, 50, 50), hard.reshape(n_classes, 1, 50, 50))
        np.testing.assert_array_equal(found.reshape(hard.shape), distribution_step_by_step(distance, largest, hard))


def test_threads_change_no_bit():
    rng = np.random.default_rng(0)
    distance = rng.exponential(5, (2, 3, 3, 160, 161)).astype(np.float32)
    distance[:, :, 1, :7] = np.inf
    masks = rng.integers(0, 3, distance.shape[2:]) == np.arange(3)[:, None, None, None]
    np.testing.assert_array_equal(paper_map(distance, masks, threads=3), paper_map(distance, masks))
    one, several = (official_map(distance, background=0, threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one[0], several[0])
    assert one[1] == several[1]


def compute(distance, masks, variant):
    """Return the target of distances and masks."""
    names = tuple("abcdef"[: len(masks)])
    return METHODS["geols"](variant=variant).compute(TargetInputs(masks, (1, 1, 1), names, 0, distance=distance))


def test_a_present_class_without_seeds_is_an_error_in_the_paper_form_and_a_flagged_blank_in_the_official():
    masks = np.array([[[[1, 0, 0]]], [[[0, 1, 0]]], [[[0, 0, 1]]]], bool)
    distance = row([0, 1, 2], [np.inf] * 3, [2, 1, 0])
    with pytest.raises(SeedError, match="'b': present, but none of its seeds"):
        compute(distance, masks, "paper")
    found = compute(distance, masks, "official")
    assert not found.values[1].any() and "'b' present, but its map is 0" in found.flags[0]
    # Their background is 1 - mean over the classes that have a map.
    np.testing.assert_allclose(found.values[0], 1 - found.values[2], atol=1e-7)


def test_without_foreground_the_official_background_is_one():
    masks = np.array([[[[1, 1]]], [[[0, 0]]]], bool)
    assert (compute(row([0, 1], [np.inf] * 2), masks, "official").values[:, 0, 0] == [[1, 1], [0, 0]]).all()
    assert (compute(row([0, 1], [np.inf] * 2), masks, "paper").values[:, 0, 0] == [[1, 1], [0, 0]]).all()


def test_a_distance_of_zero_everywhere_is_a_flagged_blank_not_nan():
    masks = np.array([[[[1, 0]]], [[[0, 1]]]], bool)
    found = compute(row([0, 0], [0, 0]), masks, "official")
    assert not found.values[1].any() and found.flags == [
        "class 'b' present, but its map is 0 (no seed, or no distance)"
    ]


def test_the_official_sum_is_the_hidden_weight_of_its_formula():
    distance, masks, _ = a_case(n_classes=4, n_channels=1)
    found, _ = official_map(distance, background=0)
    n_foreground = 3
    expected = 1 + (n_foreground - 1) / n_foreground * found[1:].sum(axis=0)
    np.testing.assert_allclose(found.sum(axis=0), expected, atol=1e-6)
    assert found.sum(axis=0).max() > 1.5
    target = blend(masks, found, rule="mix_onehot", alpha=0.1)
    assert 1.05 < target.sum(axis=0).max() <= 1 + 0.1 * (n_foreground - 1)
    ours = blend(masks, paper_map(distance, masks), rule="mix_onehot", alpha=0.1)
    np.testing.assert_allclose(ours.sum(axis=0), 1, atol=1e-6)


def test_cropping_away_air_changes_the_official_map_far_more_than_the_paper_map():
    image = np.ones((1, 1, 1, 60), np.float32)
    image[..., 20:] = 0
    seeds = np.zeros((2, 1, 1, 60), bool)
    seeds[0, ..., 15] = seeds[1, ..., 3] = True
    whole = np.stack([geodesic_distance(i, seeds, (1, 1, 1), metric="pythagorean") for i in image])
    crop = np.stack([geodesic_distance(i[..., :20], seeds[..., :20], (1, 1, 1), metric="pythagorean") for i in image])
    hard = np.ones(seeds.shape, bool)
    paper = np.abs(paper_map(whole, hard)[..., :20] - paper_map(crop, hard[..., :20])).max()
    official = np.abs(official_map(whole, background=0)[0][..., :20] - official_map(crop, background=0)[0]).max()
    # exp(-16) is what min-max takes from the paper's map at the far end of the crop.
    assert paper < 1e-4 and official > 0.3


def test_in_a_constant_image_the_official_cost_stretches_its_epsilon_to_a_full_map():
    image = np.zeros((1, 3, 9, 9), np.float32)
    seeds = np.zeros((2, 3, 9, 9), bool)
    seeds[0, 0, 0, 0] = seeds[1, 1, 4, 4] = True
    theirs = geodesic_distance(image[0], seeds, (1, 1, 1), metric="harmonic", lamb=1.0)[None]
    ours = geodesic_distance(image[0], seeds, (1, 1, 1), metric="pythagorean")[None]
    assert theirs[:, 1].max() < 1e-4 and ours[:, 1].max() > 5
    found, _ = official_map(theirs, background=0)
    assert found[1].min() == 0 and found[1].max() == 1


def test_the_official_product_cost_scales_out_and_the_paper_cost_does_not():
    # exp(-D / mean D) forgets the unit of the intensities; Eq. 5 weighs them against millimetres.
    shape, spacing = (4, 7, 6), (2.5, 2.0, 2.0)
    official, paper = [], []
    for scale in (1.0, 100.0):
        harmonic, masks, _ = a_case(shape, spacing, scale=scale, metric="harmonic", lamb=1.0)
        pythagorean, _, _ = a_case(shape, spacing, scale=scale)
        official.append(official_map(harmonic, background=0)[0])
        paper.append(paper_map(pythagorean, masks))
    assert np.abs(official[0] - official[1]).max() < 1e-3
    assert np.abs(paper[0] - paper[1]).max() > 0.3


def test_several_channels_are_the_mean_of_their_maps_not_the_map_of_their_mean():
    distance, masks, _ = a_case(n_channels=3, scale=10.0)
    for make in (lambda d: paper_map(d, masks), lambda d: official_map(d, background=0)[0]):
        alone = np.mean([make(distance[m : m + 1]) for m in range(3)], axis=0)
        np.testing.assert_allclose(make(distance), alone, atol=1e-6)
        assert np.abs(make(distance) - make(distance.mean(axis=0, keepdims=True))).max() > 1e-3


def test_alpha_is_a_load_time_parameter():
    distance, masks, _ = a_case()
    stored = paper_map(distance, masks)
    for alpha in (0.05, 0.1, 1.0):
        target = blend(masks, stored, rule="mix_onehot", alpha=alpha)
        np.testing.assert_allclose(target, (1 - alpha) * masks + alpha * stored, atol=1e-6)


def test_our_exponentials_are_right_to_the_last_bits():
    x = -np.concatenate([np.geomspace(1e-8, 87, 100_000), np.linspace(0.001, 87, 200_001)]).astype(np.float32)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(exp_nonpositive(x), np.exp(wide), rtol=1e-7)
    np.testing.assert_allclose(expm1_nonpositive(x), np.expm1(wide), rtol=1e-7)
    ends = np.float32([0, -87.5, -np.inf])
    assert exp_nonpositive(ends).tolist() == [1, 0, 0] and expm1_nonpositive(ends).tolist() == [0, -1, -1]


@pytest.mark.parametrize("n", [1, 3, 7, 49])
def test_means_over_any_number_of_channels_and_classes_end_at_1_and_0_exactly(n):
    distance = np.zeros((n, 2, 1, 1, 2), np.float32)
    distance[:, 0, ..., 1] = distance[:, 1, ..., 0] = 9
    masks = np.array([[[[1, 0]]], [[[0, 1]]]], bool)
    for variant in ("paper", "official"):
        np.testing.assert_array_equal(compute(distance, masks, variant).values, masks)
    many = np.zeros((1, n + 1, 1, 1, 2), np.float32)
    many[..., 1] = 9
    assert official_map(many, background=0)[0][0, 0, 0].tolist() == [0, 1]


def test_the_official_map_takes_the_memory_of_its_result_alone_for_each_class():
    shape = (20, 30, 40)

    def peak_of(n_classes):
        distance = np.ones((1, n_classes, *shape), np.float32) + np.arange(shape[-1], dtype=np.float32)
        tracemalloc.start()
        official_map(distance, background=0, threads=2)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / np.prod(shape)

    peak_of(2)  # compiles or loads kernels
    assert peak_of(40) - peak_of(10) < 4.5 * 30
