"""SiNG: Eqs. 3-5 and the authors' two scripts by hand, one quirk at a time, and the margin that stays load-time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels.blend import blend
from softlabels.errors import SeedError
from softlabels.geodesic import geodesic_distance
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.sing import official_map, paper_map
from softlabels.seeds import boundary_seeds

MASK = np.array([[[1, 1, 1, 0, 0, 0, 0]]], bool)
SEEDS = np.array([[[0, 0, 1, 0, 0, 0, 0]]], bool)
DISTANCE = np.float32([[[[5, 3, 0, 1, 4, 8, 9]]]])
ONES = np.ones((1, 1, 1, 7), np.float32)


def margin(u, mask, delta):
    """Return S from a stored map, as the loader does."""
    return blend(mask[None], u[None], rule="signed_margin", delta=delta)[0]


def ball_case(shape=(7, 20, 18), spacing=(2.0, 1.0, 1.0), n_channels=2, seed=0):
    """Return mask, boundary seeds, image and distances of an ellipsoid in a noisy image."""
    rng = np.random.default_rng(seed)
    grid = np.meshgrid(*(np.arange(n) - n // 2 for n in shape), indexing="ij")
    mask = sum((g * s / r) ** 2 for g, s, r in zip(grid, spacing, (4, 5, 4), strict=True)) <= 1
    seeds = boundary_seeds(mask, "inner")
    image = (rng.random((n_channels, *shape)) * 4 + 1).astype(np.float32)
    distance = np.stack([geodesic_distance(one, seeds, spacing) for one in image])
    return mask, seeds, image, distance, spacing


def paper_in_float64(distance, mask, seeds, spacing, delta):
    """Return Eqs. 3-5 word for word in float64, the mean over channels."""
    depth = ndimage.distance_transform_edt(~seeds, sampling=spacing)
    band = depth <= depth[mask].max()
    sign = np.where(mask, 1.0, -1.0)
    return np.mean(
        [np.where(band, (1 - delta) * sign * g / g[band].max() + delta * sign, -1) for g in distance], axis=0
    )


def test_paper_by_hand():
    # beta = 2 mm, so B is the first 5 voxels; tau = 5; S = 0.5 s G / 5 + 0.5 s in B, -1 elsewhere.
    u, beta, tau = paper_map(DISTANCE, MASK, SEEDS, (1, 1, 1))
    assert (beta, tau) == (2.0, [5.0])
    np.testing.assert_allclose(margin(u, MASK, 0.5)[0, 0], [1, 0.8, 0.5, -0.6, -0.9, -1, -1], rtol=1e-6)


def test_the_band_of_eq_2_read_literally_is_that_of_the_l1_length():
    mask, seeds, _, distance, spacing = ball_case()
    places = np.argwhere(seeds) * spacing
    grid = np.moveaxis(np.indices(mask.shape), 0, -1) * spacing
    depth = np.abs(grid[..., None, :] - places).sum(axis=-1).min(axis=-1)
    band = depth <= depth[mask].max() + 1e-6
    sign = np.where(mask, 1.0, -1.0)
    expected = np.mean([np.where(band, sign * g / g[band].max(), -1) for g in distance], axis=0)
    u, beta, _ = paper_map(distance, mask, seeds, spacing, band="l1")
    assert beta == pytest.approx(depth[mask].max())
    np.testing.assert_allclose(u, expected, atol=1e-6)
    assert np.abs(u - paper_map(distance, mask, seeds, spacing)[0]).max() > 0.1


def test_the_band_is_a_parameter_of_the_paper_alone_and_in_the_key_only_where_it_is_not_the_default():
    sing = METHODS["sing"]
    assert "band" not in sing().node_parameters() and sing(band="l1").node_parameters()["band"] == "l1"
    assert sing.from_node_parameters(sing(band="l1").node_parameters()).band == "l1"
    with pytest.raises(ValueError, match="only variant paper has a choice of bands"):
        sing(variant="official", band="l1")


def test_on_geodistk_the_official_band_is_that_engines_own():
    sing = METHODS["sing"]
    official = sing(variant="official", distance={"metric": "harmonic", "iterations": 7})
    parameters = official.with_engine("geodistk").node_parameters()
    assert parameters["geodistk_band"] == 7
    assert sing.from_node_parameters(parameters).distance.iterations == 7
    for other in (official.with_engine("softlabels"), sing().with_engine("geodistk")):
        assert "geodistk_band" not in other.node_parameters()


def test_the_band_is_in_millimetres():
    _, beta, _ = paper_map(DISTANCE, MASK, SEEDS, (1, 1, 2.5))
    assert beta == 5.0
    assert (paper_map(DISTANCE, MASK, SEEDS, (1, 1, 2.5))[0] > -1).sum() == 5


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), delta=st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_paper_agrees_with_the_formulas_in_double_precision_for_any_delta(seed, delta):
    mask, seeds, _, distance, spacing = ball_case(seed=seed)
    u, _, _ = paper_map(distance, mask, seeds, spacing)
    expected = paper_in_float64(distance.astype(np.float64), mask, seeds, spacing, delta)
    np.testing.assert_allclose(margin(u, mask, delta), expected, atol=1e-6)


def authors_map(distance, chamfer, mask, image, delta):
    """Return the authors' two scripts, step by step in float64, the mean over channels of the maps with margin."""
    maps = []
    for g, one in zip(distance.astype(np.float64), image, strict=True):
        signed, roi = g.copy(), chamfer <= chamfer[mask].max()
        max_bg = g[roi & ~mask].max()
        signed[~roi] = max_bg
        signed[~mask] *= -1
        signed[one == 0] = -max_bg
        signed[mask] = np.maximum(signed[mask], 0)
        signed[~mask] = np.minimum(signed[~mask], 0)
        fg_max = signed[mask].max()
        signed[~mask] = np.maximum(signed[~mask], -fg_max)
        signed /= fg_max + 1e-8
        signed[mask] = signed[mask] * (1 - delta) + delta
        signed[~mask] = signed[~mask] * (1 - delta) - delta
        maps.append(np.clip(signed, -1, 1))
    return np.mean(maps, axis=0)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), delta=st.sampled_from([0.0, 0.3, 0.5, 0.9]))
def test_official_with_the_margin_at_load_is_the_authors_margin_before_the_mean_for_any_delta(seed, delta):
    mask, seeds, image, distance, spacing = ball_case(seed=seed, n_channels=3)
    image[:, :, :3] = 0
    image[1, 3, 9:11] = 0
    chamfer = geodesic_distance(np.zeros(mask.shape), seeds, spacing, lamb=0.0)
    u, _, _ = official_map(distance, mask, seeds, spacing, image=image)
    np.testing.assert_allclose(margin(u, mask, delta), authors_map(distance, chamfer, mask, image, delta), atol=1e-6)


def test_official_by_hand():
    # max_bg = 4 in B; fg_max = 5.
    u, beta, largest = official_map(DISTANCE, MASK, SEEDS, (1, 1, 1), image=ONES)
    assert (beta, largest) == (2.0, [5.0])
    np.testing.assert_allclose(u[0, 0], [1, 0.6, 0, -0.2, -0.8, -0.8, -0.8], rtol=1e-6)


def test_quirk_far_voxels_of_the_official_map_miss_minus_one():
    official = margin(official_map(DISTANCE, MASK, SEEDS, (1, 1, 1), image=ONES)[0], MASK, 0.5)
    paper = margin(paper_map(DISTANCE, MASK, SEEDS, (1, 1, 1))[0], MASK, 0.5)
    assert paper[0, 0, -1] == -1
    assert official[0, 0, -1] == pytest.approx(-(0.5 * 4 / 5 + 0.5))


def test_quirk_the_official_background_saturates_inside_the_band():
    distance = np.float32([[[[2, 1, 0, 3, 8, 9, 9]]]])
    official = official_map(distance, MASK, SEEDS, (1, 1, 1), image=ONES)[0]
    paper = paper_map(distance, MASK, SEEDS, (1, 1, 1))[0]
    np.testing.assert_allclose(official[0, 0], [1, 0.5, 0, -1, -1, -1, -1], rtol=1e-6)
    # Eq. 5 divides by the largest of B, inside or outside.
    np.testing.assert_allclose(paper[0, 0], [0.25, 0.125, 0, -0.375, -1, -1, -1], rtol=1e-6)


def test_quirk_zero_intensity_gives_exactly_the_margin_inside_and_the_far_value_outside():
    image = ONES.copy()
    image[..., [1, 3]] = 0
    official = margin(official_map(DISTANCE, MASK, SEEDS, (1, 1, 1), image=image)[0], MASK, 0.5)
    paper = margin(paper_map(DISTANCE, MASK, SEEDS, (1, 1, 1))[0], MASK, 0.5)
    assert official[0, 0, 1] == 0.5 and official[0, 0, 3] == official[0, 0, -1]
    assert paper[0, 0, 1] == pytest.approx(0.8) and paper[0, 0, 3] == pytest.approx(-0.6)


def test_quirk_the_official_band_is_wider_by_the_chamfer_error():
    # From the corner of a 3 x 2 plate: sqrt(2^2 + 1) mm as the crow flies, 1 + sqrt(2) over grid steps.
    mask = np.zeros((1, 9, 9), bool)
    mask[0, 3:6, 3:5] = True
    seeds = np.zeros_like(mask)
    seeds[0, 3, 3] = True
    distance = geodesic_distance(np.ones(mask.shape), seeds, (1, 1, 1))[None]
    assert paper_map(distance, mask, seeds, (1, 1, 1))[1] == pytest.approx(np.sqrt(5))
    found = official_map(distance, mask, seeds, (1, 1, 1), image=np.ones((1, *mask.shape)))
    assert found[1] == pytest.approx(1 + np.sqrt(2))


def test_quirk_raw_intensities_decide_how_much_millimetres_count():
    mask, seeds, image, _, spacing = ball_case()
    found = []
    for scale in (1.0, 100.0):
        distance = np.stack([geodesic_distance(one * np.float32(scale), seeds, spacing) for one in image])
        found.append(official_map(distance, mask, seeds, spacing, image=image)[0])
    assert np.abs(found[0] - found[1])[mask].mean() > 0.02


def test_a_band_without_background_has_a_value_where_the_authors_code_fails():
    # All seeds on the mask and beta 0: B holds no background, and the authors take the maximum of nothing.
    mask = SEEDS.copy()
    u, beta, largest = official_map(DISTANCE, mask, mask, (1, 1, 1), image=ONES)
    assert (beta, largest) == (0.0, [0.0]) and not u.any()
    u, _, tau = paper_map(DISTANCE, mask, mask, (1, 1, 1))
    assert tau == [0.0]
    np.testing.assert_array_equal(margin(u, mask, 0.5)[0, 0], [-1, -1, 0.5, -1, -1, -1, -1])


def test_seeds_beside_a_lone_voxel_still_make_a_band():
    mask = np.zeros((3, 5, 5), bool)
    mask[1, 2, 2] = True
    seeds = ndimage.binary_dilation(mask) & ~mask
    distance = geodesic_distance(np.ones(mask.shape), seeds, (1, 1, 1))[None]
    u, beta, tau = paper_map(distance, mask, seeds, (1, 1, 1))
    assert beta == 1.0 and u[1, 2, 2] == pytest.approx(1.0) and (u[~mask] <= 0).all() and u[0, 0, 0] == -1


def test_unreached_voxels_of_the_band_are_deep_inside_or_far_outside():
    distance = DISTANCE.copy()
    distance[..., [0, 4]] = np.inf
    u, _, tau = paper_map(distance, MASK, SEEDS, (1, 1, 1))
    assert tau == [3.0]
    np.testing.assert_allclose(u[0, 0], [1, 1, 0, -1 / 3, -1, -1, -1], rtol=1e-6)
    u, _, largest = official_map(distance, MASK, SEEDS, (1, 1, 1), image=ONES)
    assert largest == [3.0] and u[0, 0, 0] == 1 and u[0, 0, 4] == -1


def test_a_band_as_large_as_the_volume_equals_one_found_in_a_box():
    # The box only saves work: the same case inside a larger volume has the same map.
    mask, seeds, image, distance, spacing = ball_case()
    wide = ((0, 0), (9, 12), (10, 8))
    u, beta, _ = paper_map(distance, mask, seeds, spacing)
    padded = [np.pad(a, wide) for a in (mask, seeds)]
    far = np.pad(distance, ((0, 0), *wide), constant_values=99)
    wide_u, wide_beta, _ = paper_map(far, *padded, spacing)
    assert beta == wide_beta
    np.testing.assert_array_equal(wide_u[:, 9:-12, 10:-8], u)
    assert (wide_u[:, :9] <= u.min()).all()


def test_several_channels_are_the_mean_of_maps_normalised_each_by_itself():
    mask, seeds, image, distance, spacing = ball_case(n_channels=2)
    distance[1] *= 50
    for make in (
        lambda m: paper_map(distance[m], mask, seeds, spacing)[0],
        lambda m: official_map(distance[m], mask, seeds, spacing, image=image[m])[0],
    ):
        both, alone = make(slice(None)), (make(slice(0, 1)) + make(slice(1, 2))) / 2
        np.testing.assert_allclose(both, alone, atol=1e-6)


def test_one_map_of_the_vector_image_calls_a_voxel_zero_if_all_its_channels_are():
    image = np.ones((2, 1, 1, 7), np.float32)
    image[0] = 0
    image[1, ..., 1] = 0
    u, _, _ = official_map(DISTANCE, MASK, SEEDS, (1, 1, 1), image=image)
    assert u[0, 0, 1] == 0 and u[0, 0, 0] == 1


def compute(mask, seeds, variant):
    """Return the target of one class."""
    inputs = TargetInputs(
        mask[None],
        (1, 1, 1),
        ("organ",),
        None,
        ONES,
        None,
        seeds[None],
        np.full((1, 1, *mask.shape), np.inf, np.float32),
    )
    return METHODS["sing"](variant=variant).compute(inputs)


def test_a_present_class_without_seeds_is_an_error_in_the_paper_form_and_the_bare_margin_in_the_official():
    with pytest.raises(SeedError, match="'organ': present, but it has no seed"):
        compute(MASK, np.zeros_like(SEEDS), "paper")
    found = compute(MASK, np.zeros_like(SEEDS), "official")
    assert not found.values.any() and "no seed" in found.flags[0]
    np.testing.assert_array_equal(margin(found.values[0], MASK, 0.5), np.where(MASK, 0.5, -0.5))


def test_an_absent_class_stays_minus_one_after_any_margin():
    found = compute(np.zeros_like(MASK), np.zeros_like(SEEDS), "paper")
    for delta in (0.0, 0.5, 0.9):
        assert (margin(found.values[0], np.zeros_like(MASK), delta) == -1).all()
