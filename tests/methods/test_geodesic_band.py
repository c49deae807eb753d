"""Geodesic band: against distances and cores found by brute force, what it promises, and real annotators."""

from itertools import product

import numpy as np
import pytest
from helpers.soft_truth import brier, read
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from softlabels.errors import InputError
from softlabels.methods.gaussian import gaussian_map
from softlabels.methods.geodesic_band import DEPTHS, geodesic_band_map, relative_shares, sure_cores

CASES = [((5, 6, 7), (1.0, 1.0, 1.0), 3, 2), ((3, 8, 6), (3.0, 1.0, 0.7), 2, 1), ((1, 9, 10), (5.0, 0.8, 0.8), 3, 1)]


def a_case(shape, n_classes, n_channels, seed=0):
    """Return an image (M, D, H, W) and masks of blobs, some of them small."""
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), 1)
    labels = np.digitize(smooth, np.quantile(smooth, np.linspace(0, 1, n_classes + 1)[1:-1]))
    image = rng.normal(0, 3, (n_channels, n_classes))[:, labels] + rng.normal(0, 1, (n_channels, *shape))
    return image, np.stack([labels == c for c in range(n_classes)])


def cores_by_hand(mask, spacing, least):
    """Return the core of one depth from all pairs of voxels."""
    inside, outside = np.argwhere(mask), np.argwhere(~mask)
    depth = np.zeros(mask.shape)
    for at in inside:
        depth[tuple(at)] = np.sqrt((((outside - at) * spacing) ** 2).sum(axis=1)).min()
    core = depth > least
    for at in inside:
        around = tuple(slice(max(i - 1, 0), i + 2) for i in at)
        core[tuple(at)] |= depth[tuple(at)] > least / 2 and depth[tuple(at)] >= depth[around].max() - 1e-9
    component, n = ndimage.label(mask, np.ones((3, 3, 3)))
    for number in range(1, n + 1):
        own = component == number
        if not core[own].any():
            core |= own & (depth >= depth[own].max() - 1e-9)
    return core


def distances_by_hand(features, cores, spacing, gamma):
    """Return the distance of every voxel to the core of each class, by Dijkstra's algorithm in float64."""
    shape = cores.shape[1:]
    index = np.arange(np.prod(shape)).reshape(shape)
    rows, columns, costs = [], [], []
    for offset in product((-1, 0, 1), repeat=3):
        if offset == (0, 0, 0):
            continue
        here = tuple(slice(max(-o, 0), n - max(o, 0)) for o, n in zip(offset, shape, strict=True))
        there = tuple(slice(max(o, 0), n - max(-o, 0)) for o, n in zip(offset, shape, strict=True))
        jump = ((features[:, *here] - features[:, *there]) ** 2).sum(axis=0)
        rows.append(index[here].ravel())
        columns.append(index[there].ravel())
        costs.append(np.sqrt(((np.array(offset) * spacing) ** 2).sum() + gamma**2 * jump).ravel())
    graph = coo_matrix((np.concatenate(costs), (np.concatenate(rows), np.concatenate(columns))))
    found = np.full(cores.shape, np.inf)
    for core, out in zip(cores, found, strict=True):
        if core.any():
            out[...] = dijkstra(graph, indices=index[core], min_only=True).reshape(shape)
    return found


def formula(image, masks, spacing, sigma_mm, gamma, power):
    """Return the module's formula on a volume that its box covers."""
    score = (image - image.mean((1, 2, 3), keepdims=True)) / image.std((1, 2, 3), keepdims=True)
    sigmas = [min(spacing) / side if n > 1 else 0 for side, n in zip(spacing, masks.shape[1:], strict=True)]
    features = np.stack([ndimage.gaussian_filter(one, sigmas, mode="nearest", truncate=4.0) for one in score])
    total = np.zeros(masks.shape)
    for depth in DEPTHS:
        cores = np.stack([cores_by_hand(mask, spacing, depth * sigma_mm) for mask in masks])
        distance = distances_by_hand(features, cores, spacing, gamma)
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = distance**-power
            share = np.where(distance == 0, 1.0, weight / weight.sum(axis=0))
        total += np.where((distance == 0).any(axis=0), distance == 0, share)
    return gaussian_map(masks, spacing, sigma_mm=sigma_mm) / 2 + total / (2 * len(DEPTHS))


@pytest.mark.parametrize(("shape", "spacing", "n_classes", "n_channels"), CASES)
@pytest.mark.parametrize(("gamma", "power"), [(10.0, 1.0), (3.0, 1.5), (0.0, 2.0)])
def test_the_map_is_the_formula(shape, spacing, n_classes, n_channels, gamma, power):
    image, masks = a_case(shape, n_classes, n_channels)
    expected = formula(image, masks, np.array(spacing), 0.9, gamma, power)
    found, twin_distance = geodesic_band_map(image, masks, spacing, sigma_mm=0.9, gamma=gamma, power=power)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (twin_distance > 0) == (gamma > 0)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), least=st.floats(0.3, 4), case=st.sampled_from(CASES))
def test_cores_are_those_found_by_hand_and_no_component_is_without(seed, least, case):
    shape, spacing, _, _ = case
    mask = np.random.default_rng(seed).random(shape) < 0.6
    (core,) = sure_cores(mask, spacing, [least])
    np.testing.assert_array_equal(core, cores_by_hand(mask, np.array(spacing), least))
    component, n = ndimage.label(mask, np.ones((3, 3, 3)))
    assert set(np.unique(component[core])) == set(range(1, n + 1)) and not (core & ~mask).any()


def test_shares_by_hand():
    distance = np.float32([[0, 1, 4, np.inf, np.inf], [3, 1, 1, 2, np.inf]])
    np.testing.assert_allclose(
        relative_shares(distance, 0.5), [[1, 0.5, 1 / 3, 0, np.nan], [0, 0.5, 2 / 3, 1, np.nan]], rtol=1e-6
    )
    np.testing.assert_allclose(relative_shares(distance, 2.0)[:, 2], [1 / 17, 16 / 17], rtol=1e-6)


def test_two_halves_of_a_row_by_hand():
    masks = np.zeros((2, 1, 1, 16), bool)
    masks[0, ..., :8] = masks[1, ..., 8:] = True
    found, _ = geodesic_band_map(np.zeros((1, 1, 1, 16)), masks, (1, 1, 1), sigma_mm=1.0)
    # Voxel 8 has depth 1. For depths 1.25, 2, 3, 4 its own core is 1, 2, 3, 4 voxels away and the other 2, 3, 4, 5.
    share = np.mean([2 / 3, 3 / 5, 4 / 7, 5 / 9])
    gaussian = gaussian_map(masks, (1, 1, 1), sigma_mm=1.0)[1, 0, 0, 8]
    assert found[1, 0, 0, 8] == pytest.approx((gaussian + share) / 2, abs=1e-6)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), case=st.sampled_from(CASES), axis=st.integers(-3, -1))
def test_it_is_a_distribution_that_flips_with_the_case(seed, case, axis):
    shape, spacing, n_classes, n_channels = case
    image, masks = a_case(shape, n_classes, n_channels, seed)
    found, twin_distance = geodesic_band_map(image, masks, spacing)
    assert found.min() >= 0 and found.max() <= 1
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)
    mirrored, same = geodesic_band_map(np.flip(image, axis), np.flip(masks, axis), spacing, threads=2)
    np.testing.assert_allclose(np.flip(mirrored, axis), found, atol=1e-6)
    assert same == pytest.approx(twin_distance, abs=1e-6)


def test_unit_and_offset_of_the_image_do_not_matter():
    image, masks = a_case((4, 9, 9), 2, 2)
    found, _ = geodesic_band_map(image, masks, (1, 1, 1))
    np.testing.assert_allclose(geodesic_band_map(-250 * image + 1e4, masks, (1, 1, 1))[0], found, atol=1e-5)


@pytest.mark.parametrize("level", [0.1, 0.0, -1234.567])
def test_on_a_constant_image_the_map_is_its_twin(level):
    _, masks = a_case((3, 12, 12), 3, 1)
    image = np.full((1, 3, 12, 12), level, np.float32)
    found, twin_distance = geodesic_band_map(image, masks, (1, 1, 1))
    twin, _ = geodesic_band_map(image, masks, (1, 1, 1), gamma=0.0)
    np.testing.assert_array_equal(found, twin)
    assert twin_distance == 0


def test_far_from_all_boundaries_it_is_the_hard_label():
    image, _ = a_case((1, 60, 60), 2, 1)
    masks = np.zeros((2, 1, 60, 60), bool)
    masks[1, 0, 25:35, 20:30] = True
    masks[0] = ~masks[1]
    found, _ = geodesic_band_map(image, masks, (1, 1, 1))
    np.testing.assert_array_equal(found[0, 0, :18], 1)
    np.testing.assert_array_equal(found[1, 0, :18], 0)


def test_classes_that_are_absent_or_fill_the_volume():
    image, masks = a_case((3, 8, 8), 2, 1)
    more = np.stack([masks[0], np.zeros_like(masks[0]), masks[1]])
    found, _ = geodesic_band_map(image, more, (1, 1, 1))
    assert not found[1].any()
    np.testing.assert_array_equal(found[[0, 2]], geodesic_band_map(image, masks, (1, 1, 1))[0])
    whole, twin_distance = geodesic_band_map(image, np.stack([np.ones_like(masks[0]), more[1]]), (1, 1, 1))
    assert (whole[0] == 1).all() and not whole[1].any() and twin_distance == 0


def test_beyond_the_domain_the_image_may_be_anything_and_the_map_is_the_gaussian():
    image, masks = a_case((1, 14, 14), 2, 1)
    domain = np.ones(masks.shape[1:], bool)
    domain[:, :4] = False
    image[:, ~domain] = np.nan
    found, _ = geodesic_band_map(image, masks, (1, 1, 1), domain=domain)
    np.testing.assert_allclose(found[:, ~domain], gaussian_map(masks, (1, 1, 1), sigma_mm=1.0)[:, ~domain], atol=1e-6)
    image[:, ~domain] = 7
    np.testing.assert_array_equal(geodesic_band_map(image, masks, (1, 1, 1), domain=domain)[0], found)


def test_overlapping_regions_are_treated_each_with_its_complement():
    image, masks = a_case((3, 9, 9), 3, 1)
    regions = np.stack([masks[1] | masks[2], masks[2]])
    found, _ = geodesic_band_map(image, regions, (1, 1, 1), are_exclusive=False)
    for region, one in zip(regions, found, strict=True):
        alone, _ = geodesic_band_map(image, np.stack([region, ~region]), (1, 1, 1))
        np.testing.assert_allclose(one, alone[0], atol=1e-6)


def test_wrong_arguments_are_refused():
    image, masks = a_case((2, 5, 5), 2, 1)
    for wrong in ({"sigma_mm": 0.0}, {"gamma": -1.0}, {"gamma": float("inf")}, {"power": 0.7}, {"power": 0.0}):
        with pytest.raises(InputError, match="expected"):
            geodesic_band_map(image, masks, (1, 1, 1), **wrong)
    with pytest.raises(InputError, match="image"):
        geodesic_band_map(image[:, 1:], masks, (1, 1, 1))
    image[0, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match="1 NaN or infinite voxels in channel 0"):
        geodesic_band_map(image, masks, (1, 1, 1))


def test_annotators_of_fibroblasts_are_met_better_than_by_any_gaussian_or_the_twin(shared_data):
    scores = []
    for folder in sorted((shared_data / "cells_tune" / "d3").iterdir()):
        image, labels = read(folder / "image.nii.gz").astype(np.float32), read(folder / "label.nii.gz")
        truth = read(folder / "reference.nii.gz").astype(np.float32)
        masks = np.stack([labels == 0, labels > 0])
        soft, twin_distance = geodesic_band_map(image[None], masks, (1, 1, 1), sigma_mm=3.0)
        twin, _ = geodesic_band_map(image[None], masks, (1, 1, 1), sigma_mm=3.0, gamma=0.0)
        widths = (2.5, 3.0, 3.5, 4.0)
        gaussians = [brier(gaussian_map(masks, (1, 1, 1), sigma_mm=width), truth).brier for width in widths]
        scores.append([brier(soft, truth).brier, brier(twin, truth).brier, *gaussians])
        assert twin_distance > 0.005
    soft, twin, *gaussians = np.mean(scores, axis=0)
    assert soft < 0.95 * min(gaussians) and soft < 0.95 * twin
