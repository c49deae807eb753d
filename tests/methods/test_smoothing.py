"""SVLS, Gaussian, dilation and partial volume: by hand, against SciPy and torch, and in millimetres."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels._shared.boxed import BoxedVolumes
from softlabels.errors import InputError
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.arrays import BoxedInputs
from softlabels.methods.dilation import shell
from softlabels.methods.gaussian import gaussian_map
from softlabels.methods.partial_volume import partial_volume_map
from softlabels.methods.svls import svls_map


def blobs(shape, seed, n_classes=3):
    """Return masks (C, D, H, W) of a random smooth label, one class rare."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1)
    labels = np.digitize(smooth, np.quantile(smooth, [0.6, 0.95][: n_classes - 1]))
    return np.stack([labels == c for c in range(n_classes)])


def inputs_of(masks, spacing=(1.0, 1.0, 1.0), background=0):
    """Return the inputs that label-only methods need."""
    return TargetInputs(masks, spacing, tuple(f"class{c}" for c in range(len(masks))), background)


def svls_kernel(size, sigma, spacing, shape):
    """Return the SVLS kernel as the paper builds it: neighbours of a Gaussian, as heavy together as the centre."""
    axes = [np.arange(size) - size // 2 if n > 1 else np.zeros(1) for n in shape]
    grid = np.meshgrid(*axes, indexing="ij")
    kernel = np.exp(-sum((g * s) ** 2 for g, s in zip(grid, spacing, strict=True)) / (2 * sigma**2))
    centre = tuple(n // 2 for n in kernel.shape)
    kernel[centre] = 0
    kernel /= kernel.sum()
    kernel[centre] = 1
    return kernel / 2


@pytest.mark.parametrize(
    ("size", "sigma", "spacing"), [(3, 1.0, (1, 1, 1)), (5, 1.7, (1, 1, 1)), (7, 2.0, (3, 1, 0.7))]
)
@pytest.mark.parametrize("shape", [(6, 11, 12), (1, 9, 10), (2, 5, 1)])
def test_svls_is_a_convolution_with_the_papers_kernel_and_a_repeated_border(size, sigma, spacing, shape):
    masks = blobs(shape, 3)
    kernel = svls_kernel(size, sigma, spacing, shape)
    expected = np.stack([ndimage.correlate(m.astype(np.float64), kernel, mode="nearest") for m in masks])
    found = svls_map(masks, kernel_size=size, sigma=sigma, spacing=spacing)
    np.testing.assert_allclose(found, expected, atol=2e-6)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_svls_official_is_the_authors_filter_in_torch(seed):
    torch = pytest.importorskip("torch")
    masks = blobs((4, 6, 7), seed)
    # Their steps: a Gaussian of sum 1, its centre replaced by the sum of the others, divided by it, then by the total.
    axis = torch.arange(3.0) - 1
    kernel = torch.exp(-(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 2)
    kernel = kernel / kernel.sum()
    others = 1 - kernel[1, 1, 1].clone()
    kernel[1, 1, 1] = others
    kernel = kernel / others
    padded = torch.nn.functional.pad(torch.from_numpy(masks.astype(np.float32))[:, None], (1,) * 6, mode="replicate")
    theirs = torch.nn.functional.conv3d(padded, kernel[None, None])[:, 0] / kernel.sum()
    found = METHODS["svls"](variant="official").compute(inputs_of(masks)).values
    np.testing.assert_allclose(found, theirs.numpy(), atol=1e-6)
    np.testing.assert_array_equal(found, METHODS["svls"](variant="paper").compute(inputs_of(masks)).values)


def test_svls_by_hand_keeps_a_half_at_the_centre():
    mask = np.zeros((1, 3, 3, 3), bool)
    mask[0, 1, 1, 1] = True
    faces, edges, corners = np.exp(-0.5), np.exp(-1.0), np.exp(-1.5)
    total = 6 * faces + 12 * edges + 8 * corners
    found = svls_map(mask, kernel_size=3, sigma=1.0)[0]
    assert found[1, 1, 1] == 0.5 and found.sum() == pytest.approx(1)
    np.testing.assert_allclose(
        [found[0, 1, 1], found[0, 0, 1], found[0, 0, 0]], np.divide([faces, edges, corners], 2 * total), rtol=1e-5
    )


def test_svls_never_moves_the_decision_except_to_a_tie():
    masks = blobs((6, 20, 20), 1)
    found = svls_map(masks, kernel_size=3, sigma=1.0)
    assert (np.where(masks, found, 0).max(axis=0) >= 0.5 - 1e-6).all()


def test_svls_official_refuses_what_the_authors_code_gets_wrong():
    for wrong in ({"kernel_size": 5}, {"spacing_aware": True}):
        with pytest.raises(ValueError, match="the authors' code"):
            METHODS["svls"](variant="official", **wrong)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("svls", {"kernel_size": 4}),
        ("svls", {"sigma": 0.0}),
        ("gaussian", {"sigma_mm": 0.0}),
        ("gaussian", {"sigma_mm": float("nan")}),
        ("dilation", {"radius_mm": -1.0}),
        ("dilation", {"shell_value": 1.0}),
    ],
)
def test_a_parameter_out_of_its_range_is_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        METHODS[name](**wrong)


@pytest.mark.parametrize(
    "call",
    [
        lambda masks: svls_map(masks, kernel_size=4, sigma=1.0),
        lambda masks: svls_map(masks, kernel_size=3, sigma=0.0),
        lambda masks: gaussian_map(masks, (1, 1, 1), sigma_mm=float("nan")),
        lambda masks: shell(masks[0], (1, 1, 1), radius_mm=-1.0),
    ],
)
def test_functions_of_arrays_refuse_what_makes_no_sense(call):
    with pytest.raises(InputError, match="expected"):
        call(blobs((2, 4, 4), 0))


def test_in_voxels_svls_blurs_thick_slices_as_far_as_thin_ones_and_spacing_aware_it_does_not():
    masks = np.zeros((2, 9, 9, 9), bool)
    masks[1, 4:, 4:, 4:] = True
    masks[0] = ~masks[1]
    inputs = inputs_of(masks, (5.0, 1.0, 1.0))
    plain = METHODS["svls"]().compute(inputs).values[1]
    aware = METHODS["svls"](spacing_aware=True).compute(inputs).values[1]
    # A plane of 9 neighbours holds 0.2741 of the Gaussian, whose centre holds 0.4519^3.
    assert plain[3, 6, 6] == plain[6, 3, 6] == pytest.approx(0.5 * 0.2741 / (1 - 0.4519**3), abs=1e-4)
    assert aware[3, 6, 6] < 1e-5 and aware[6, 3, 6] > 0.1


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 1.0, 0.5)])
@pytest.mark.parametrize("shape", [(6, 15, 14), (1, 12, 13)])
def test_gaussian_in_a_box_is_scipys_filter_on_the_volume(spacing, shape):
    masks = blobs(shape, 5)
    expected = [ndimage.gaussian_filter(m.astype(np.float64), 1.5 / np.array(spacing), mode="nearest") for m in masks]
    found = gaussian_map(masks, spacing, sigma_mm=1.5)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-6)


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), size=st.integers(3, 40), at=st.integers(0, 39))
def test_a_small_or_nearly_full_mask_is_smoothed_as_any_other(seed, size, at):
    mask = np.zeros((1, 2, 40, 9), bool)
    mask[0, :, at : at + size, seed % 9 :] = True
    for one in (mask, ~mask):
        expected = ndimage.gaussian_filter(one[0].astype(np.float64), 2.0, mode="nearest")
        np.testing.assert_allclose(gaussian_map(one, (1, 1, 1), sigma_mm=2.0)[0], expected, atol=2e-6)


def test_dilation_gives_the_shell_its_value_and_leaves_every_expert_voxel():
    masks = np.zeros((3, 1, 1, 9), bool)
    masks[1, ..., 1] = masks[2, ..., [4, 5]] = True
    masks[0] = ~masks[1:].any(axis=0)
    found = METHODS["dilation"](radius_mm=2.0, shell_value=0.4).compute(inputs_of(masks, (9, 9, 1)))
    # Voxels 2 and 3 lie in both shells: 0.2 each.
    np.testing.assert_allclose(found.values[1, 0, 0], [0.4, 1, 0.2, 0.2, 0, 0, 0, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(found.values[2, 0, 0], [0, 0, 0.2, 0.2, 1, 1, 0.4, 0.4, 0], rtol=1e-6)
    np.testing.assert_allclose(found.values.sum(axis=0), 1, rtol=1e-6)
    assert found.notes["shell_voxels"] == [3, 4]


def test_overlapping_regions_have_their_own_shells():
    masks = np.zeros((2, 1, 1, 6), bool)
    masks[0, ..., 2] = masks[1, ..., 2:4] = True
    found = METHODS["dilation"](radius_mm=1.0, shell_value=0.5).compute(inputs_of(masks, background=None)).values
    np.testing.assert_array_equal(found[:, 0, 0], [[0, 0.5, 1, 0.5, 0, 0], [0, 0.5, 1, 1, 0.5, 0]])


@settings(max_examples=10, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), radius=st.floats(0.3, 6))
def test_a_shell_is_all_that_a_ball_in_mm_reaches(seed, radius):
    rng, spacing = np.random.default_rng(seed), np.array([3.0, 1.0, 0.7])
    mask = rng.random((4, 7, 8)) < 0.03
    points = np.argwhere(mask) * spacing
    grid = np.indices(mask.shape).reshape(3, -1).T * spacing
    apart = np.sqrt(((grid[:, None] - points) ** 2).sum(-1)).min(1, initial=np.inf).reshape(mask.shape)
    sure = np.abs(apart - radius) > 1e-9
    np.testing.assert_array_equal(shell(mask, spacing, radius_mm=radius)[sure], ((apart <= radius) & ~mask)[sure])


def test_partial_volume_on_the_same_grid_is_one_hot():
    masks = blobs((3, 5, 6), 2)
    np.testing.assert_array_equal(partial_volume_map(masks, masks.shape[1:], np.eye(4), antialias=True), masks)


def test_partial_volume_of_half_covered_voxels_is_a_half():
    fine = np.zeros((1, 1, 1, 8), bool)
    fine[..., 3:] = True
    # Target voxel i covers fine voxels 2i and 2i + 1: voxel 1 is half and half.
    twice = np.eye(4)
    twice[2, 2], twice[2, 3] = 2, 0.5
    found = partial_volume_map(fine, (1, 1, 4), twice, antialias=False)
    np.testing.assert_allclose(found.ravel(), [0, 0.5, 1, 1])


def test_without_antialias_a_thin_structure_falls_between_the_samples():
    fine = np.zeros((1, 1, 1, 40), bool)
    fine[..., 18] = True
    factor = np.eye(4)
    factor[2, 2], factor[2, 3] = 8, 3.5
    coarse = partial_volume_map(fine, (1, 1, 5), factor, antialias=False)
    kept = partial_volume_map(fine, (1, 1, 5), factor, antialias=True)
    assert coarse.sum() == 0
    assert 8 * kept.sum() == pytest.approx(1, rel=0.25)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), antialias=st.booleans())
def test_partial_volume_stays_a_distribution_under_any_affine_map(seed, antialias):
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] += rng.normal(0, 0.4, (3, 3))
    matrix[:3, 3] = rng.normal(0, 2, 3)
    found = partial_volume_map(blobs((4, 8, 9), seed), (5, 6, 7), matrix, antialias=antialias)
    np.testing.assert_allclose(found.sum(axis=0), 1, atol=2e-6)
    assert found.min() >= 0 and found.max() <= 1


def test_partial_volume_near_the_block_mean_of_an_integer_factor():
    fine = blobs((16, 32, 32), 8, n_classes=2)
    block = fine.reshape(2, 8, 2, 16, 2, 16, 2).mean(axis=(2, 4, 6))
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    matrix[:3, 3] = 0.5
    soft = partial_volume_map(fine, block.shape[1:], matrix, antialias=False)
    # Halving, the eight voxels that linear interpolation reads are the block.
    np.testing.assert_allclose(soft, block, atol=1e-6)


def test_a_mapping_that_is_none_is_refused():
    with pytest.raises(InputError, match="invertible"):
        partial_volume_map(blobs((2, 3, 3), 0), (2, 3, 3), np.zeros((4, 4)), antialias=True)


# Many classes, each in its box


@pytest.mark.parametrize(
    "method",
    [METHODS["svls"](), METHODS["svls"](kernel_size=5), METHODS["gaussian"](), METHODS["gaussian"](sigma_mm=9.0)],
)
@pytest.mark.parametrize("shape", [(9, 31, 28), (1, 40, 33), (2, 3, 50)])
def test_many_classes_in_boxes_are_the_bits_of_the_dense_map(method, shape):
    masks, names = many_masks(shape)
    same = {"spacing": (3.0, 1.0, 0.7), "class_names": names, "background": 0}
    dense = method.compute(TargetInputs(masks=masks, **same))
    for threads in (1, 3):
        inputs = BoxedInputs(masks=BoxedVolumes.of_array(masks, fill=False), **same, threads=threads)
        boxed = method.compute_boxed(inputs)
        np.testing.assert_array_equal(boxed.values.dense(), dense.values)
        assert boxed.flags == dense.flags and "class 'c20' absent" in boxed.flags


@pytest.mark.parametrize("background", [0, None])
@pytest.mark.parametrize("shape", [(9, 31, 28), (1, 40, 33), (2, 3, 50)])
def test_dilation_in_boxes_is_what_its_shells_say_of_the_whole_volume(shape, background):
    masks, names = many_masks(shape)
    spacing = (3.0, 1.0, 0.7)
    inputs = TargetInputs(masks=masks, spacing=spacing, class_names=names, background=background)
    found = METHODS["dilation"](radius_mm=2.5, shell_value=0.3).compute(inputs)
    shells = np.stack([shell(mask, spacing, radius_mm=2.5) for mask in masks])
    expected = masks.astype(np.float32)
    if background is None:
        expected[shells] = 0.3
    else:
        shells = shells[1:] & masks[0]
        n_shells = shells.sum(axis=0)
        expected[1:] += (
            np.divide(np.float32(0.3), n_shells, where=n_shells > 0, out=np.zeros(shape, np.float32)) * shells
        )
        expected[0][n_shells > 0] = 1 - np.float32(0.3)
    np.testing.assert_array_equal(found.values, expected)
    assert found.notes["shell_voxels"] == shells.sum(axis=(1, 2, 3)).tolist()


def many_masks(shape):
    """Return the masks of 21 classes of boxes, the last one absent, and their names; some voxels have no class."""
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    for value in range(1, 20):
        corners = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
        labels[tuple(slice(a, min(b, a + 9)) for a, b in corners)] = value
    # Voxels of no class take up mass, which is shared out.
    labels[rng.random(shape) < 0.02] = 99
    masks = np.stack([labels == value for value in range(21)])
    return masks, tuple(f"c{value}" for value in range(21))
