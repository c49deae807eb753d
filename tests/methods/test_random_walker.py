"""The random walker: against a dense solver, against scikit-image's exact mode, and by hand."""

import numpy as np
import pytest
from helpers.made_masks import blobs, box_mask
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.segmentation import random_walker

from softlabels.errors import InputError, SeedError
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.random_walker import random_walker_map

FLOOR = 1e-6


def a_case(shape, n_channels=1, n_classes=2, share=0.2, seed=0):
    """Return noise of mean 0 and deviation 1, masks that cover the volume, and a share of each as seeds."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(n_channels, *shape))
    image -= image.mean(axis=(1, 2, 3), keepdims=True)
    image /= image.std(axis=(1, 2, 3), keepdims=True)
    labels = rng.integers(0, n_classes, shape)
    labels.flat[:n_classes] = range(n_classes)
    masks = np.stack([labels == c for c in range(n_classes)])
    is_seed = rng.random(shape) < share
    is_seed.flat[:n_classes] = True
    return image.astype(np.float32), masks & is_seed, masks


def dense_solution(image, seeds, spacing, beta, inside):
    """Return the probabilities by elimination on the full matrix; only voxels that a seed reaches may be inside."""
    voxels = [tuple(v) for v in np.argwhere(inside)]
    number = {voxel: i for i, voxel in enumerate(voxels)}
    scaled = image / np.array([channel[inside].std() or 1.0 for channel in image])[:, None, None, None]
    laplacian = np.zeros((len(voxels), len(voxels)))
    for voxel, i in number.items():
        for axis in range(3):
            other = tuple(x + (a == axis) for a, x in enumerate(voxel))
            if other in number:
                contrast = (((scaled[:, *voxel] - scaled[:, *other]) / spacing[axis]) ** 2).sum()
                weight = np.exp(-beta / (10 * np.sqrt(len(image))) * contrast) + FLOOR
                j = number[other]
                laplacian[[i, j], [i, j]] += weight
                laplacian[[i, j], [j, i]] -= weight
    hard = np.array([[mask[voxel] for mask in seeds] for voxel in voxels], float)
    is_seed = hard.any(axis=1)
    hard[~is_seed] = np.linalg.solve(
        laplacian[np.ix_(~is_seed, ~is_seed)], -laplacian[np.ix_(~is_seed, is_seed)] @ hard[is_seed]
    )
    found = np.zeros(seeds.shape)
    found[:, inside] = hard.T
    return found


@pytest.mark.parametrize(
    ("shape", "spacing"), [((4, 5, 6), (3.0, 1.0, 0.7)), ((1, 9, 8), (1, 1, 1)), ((2, 1, 9), (0.5, 2, 1))]
)
@pytest.mark.parametrize(("n_channels", "n_classes", "beta"), [(1, 2, 0.0), (2, 3, 20.0), (3, 4, 130.0)])
def test_it_solves_the_equations(shape, spacing, n_channels, n_classes, beta):
    image, seeds, masks = a_case(shape, n_channels, n_classes)
    found, n_unreached = random_walker_map(image, seeds, masks, spacing, beta=beta)
    expected = dense_solution(image, seeds, spacing, beta, np.ones(shape, bool))
    np.testing.assert_allclose(found, expected, atol=3e-6)
    assert n_unreached == 0
    np.testing.assert_array_equal(found[:, seeds.any(axis=0)], seeds[:, seeds.any(axis=0)])


@pytest.mark.parametrize("n_channels", [1, 3])
def test_it_agrees_with_the_exact_mode_of_scikit_image(n_channels):
    image, seeds, masks = a_case((6, 9, 8), n_channels, 3, seed=1)
    inside = np.ones(masks.shape[1:], bool)
    inside[:2, 3:6] = False
    # Theirs scales by the deviation of all voxels, those outside of the domain too.
    image[:, ~inside] = 0
    image[:, inside] -= image[:, inside].mean(axis=1, keepdims=True)
    image /= image[:, inside].std(axis=1)[:, None, None, None]
    whole = image.std()
    markers = np.where(inside, (seeds * np.array([1, 2, 3])[:, None, None, None]).sum(axis=0), -1)
    found, _ = random_walker_map(image, seeds & inside, masks, (2.0, 1.0, 1.0), beta=3.0, domain=inside)
    theirs = random_walker(
        image.astype(np.float64),
        markers,
        beta=3.0 * whole,
        mode="bf",
        return_full_prob=True,
        spacing=(2.0, 1.0, 1.0),
        channel_axis=0,
    )
    is_reached = inside & (theirs.sum(axis=0) > 0)
    assert is_reached.sum() > 300
    np.testing.assert_allclose(found[:, is_reached], theirs[:, is_reached], atol=2e-5)


def test_between_two_seeds_it_is_a_chain_of_resistors():
    seeds = np.zeros((2, 1, 1, 6), bool)
    seeds[0, ..., 0] = seeds[1, ..., 5] = True
    row = np.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
    contrast = (np.diff(row) / row.std()) ** 2
    resistance = 1 / (np.exp(-0.5 * contrast / 2.0**2) + FLOOR)
    expected = 1 - np.r_[0, resistance.cumsum()] / resistance.sum()
    found, _ = random_walker_map(row[None, None, None], seeds, seeds, (1.0, 1.0, 2.0), beta=5.0)
    np.testing.assert_allclose(found[0, 0, 0], expected, atol=2e-6)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(seed=st.integers(0, 999), scale=st.floats(1e-3, 1e4), offset=st.floats(-1e3, 1e3))
def test_unit_and_offset_of_the_intensities_do_not_matter(seed, scale, offset):
    image, seeds, masks = a_case((3, 6, 7), 2, 2, seed=seed)
    one, _ = random_walker_map(image, seeds, masks, (1, 1, 1), beta=20.0)
    other, _ = random_walker_map(image.astype(np.float64) * scale + offset, seeds, masks, (1, 1, 1), beta=20.0)
    np.testing.assert_allclose(one, other, atol=1e-3)


def test_a_constant_channel_counts_for_nothing_but_the_number_of_channels():
    image, seeds, masks = a_case((3, 6, 7))
    with_constant = np.concatenate([image, np.full_like(image, 7)])
    one, _ = random_walker_map(image, seeds, masks, (1, 1, 1), beta=20.0)
    two, _ = random_walker_map(with_constant, seeds, masks, (1, 1, 1), beta=20.0 * np.sqrt(2))
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_voxel_that_resembles_no_neighbour_is_the_mean_of_them():
    """Solvers that look at the size of the residual leave it at 0 for every class."""
    image = np.zeros((1, 3, 3, 4))
    image[0, 1, 1, 1] = 1e6
    seeds = np.zeros((2, 3, 3, 4), bool)
    seeds[0, ..., 0] = seeds[1, ..., 2:] = True
    values, _ = random_walker_map(image, seeds, seeds, (1, 1, 1), beta=1e4)
    beside = [values[:, 0, 1, 1], values[:, 2, 1, 1], values[:, 1, 0, 1], values[:, 1, 2, 1], (1, 0), (0, 1)]
    np.testing.assert_allclose(values[:, 1, 1, 1], np.mean(beside, axis=0), atol=1e-5)


def test_an_edge_holds_the_walker_up_and_more_so_with_more_beta():
    mask = box_mask((1, 20, 40), ((0, 0, 0), (1, 20, 20)))
    rng = np.random.default_rng(0)
    image = (mask * 4 + rng.normal(size=mask.shape))[None]
    masks = np.stack([~mask, mask])
    seeds = masks & box_mask(mask.shape, ((0, 0, 0), (1, 20, 5)), ((0, 0, 30), (1, 20, 40)))
    wrong = [
        np.abs(random_walker_map(image, seeds, masks, (1, 1, 1), beta=beta)[0] - masks).mean()
        for beta in (0.0, 10.0, 100.0)
    ]
    assert wrong[0] > wrong[1] > wrong[2]


def inputs_of(image, seeds, masks, **more):
    names = tuple(f"class{c}" for c in range(len(masks)))
    return TargetInputs(masks, (1.0, 1.0, 1.0), names, 0, image=image, seeds=seeds, **more)


def test_what_no_seed_reaches_keeps_its_hard_label():
    image, seeds, masks = a_case((3, 8, 12), share=0.3)
    domain = np.ones(masks.shape[1:], bool)
    domain[:, :, 5] = domain[:, :, 8] = False
    seeds[:, :, :, 6:8] = False
    found = METHODS["random_walker"]().compute(inputs_of(image, seeds, masks, domain=domain))
    np.testing.assert_array_equal(found.values[..., 5:9], masks[..., 5:9])
    assert found.notes["n_unreached"] == 3 * 8 * 2


def test_a_seed_outside_of_its_class_is_passed_over():
    image, seeds, masks = a_case((3, 6, 7))
    everywhere = np.ones_like(seeds)
    found = METHODS["random_walker"]().compute(inputs_of(image, everywhere, masks))
    np.testing.assert_array_equal(found.values, masks)
    beside = seeds | (np.roll(seeds, 1, 0) & np.roll(masks, 1, 0))
    np.testing.assert_array_equal(
        METHODS["random_walker"]().compute(inputs_of(image, beside, masks)).values,
        METHODS["random_walker"]().compute(inputs_of(image, seeds, masks)).values,
    )


def test_a_present_class_without_a_seed_is_an_error_and_an_absent_one_is_not():
    image, seeds, masks = a_case((3, 6, 7))
    seeds[1] = False
    with pytest.raises(SeedError, match="class 'class1': present, but it has no seed"):
        METHODS["random_walker"]().compute(inputs_of(image, seeds, masks))
    masks = np.stack([masks.any(axis=0), np.zeros_like(masks[1])])
    found = METHODS["random_walker"]().compute(inputs_of(image, seeds, masks))
    assert (found.values[0] == 1).all() and not found.values[1].any()
    assert found.flags == ["class 'class1' absent"]


def test_intensities_matter_inside_of_the_domain_only():
    image, seeds, masks = a_case((3, 6, 7))
    domain = np.ones(masks.shape[1:], bool)
    domain[1, 2, 3] = False
    seeds[:, 1, 2, 3] = False
    image[0, 1, 2, 3] = np.nan
    with pytest.raises(InputError, match="got 1 NaN or Inf"):
        METHODS["random_walker"]().compute(inputs_of(image, seeds, masks))
    values = METHODS["random_walker"]().compute(inputs_of(image, seeds, masks, domain=domain)).values
    np.testing.assert_array_equal(values[:, 1, 2, 3], masks[:, 1, 2, 3])


def test_seeds_of_the_strategy_leave_a_soft_rim():
    mask = blobs((8, 20, 20))
    masks = np.stack([~mask, mask])
    image = (mask + np.random.default_rng(0).normal(0, 0.3, mask.shape))[None].astype(np.float32)
    method = METHODS["random_walker"](beta=3)
    seeds = np.stack([method.seed_strategy.seeds(m, case_id="", class_name="") for m in masks])
    soft = method.compute(inputs_of(image, seeds, masks)).values[1]
    assert 0.05 < ((soft > 0.02) & (soft < 0.98)).mean() < 0.6
    assert ((soft > 0.5) == mask).mean() > 0.9
