"""Superpixel-guided softening: Eq. 1 by hand, and only where a superpixel is divided."""

import numpy as np
import pytest
from scipy import ndimage

from softlabels._shared.box import bounding_box
from softlabels.errors import InputError
from softlabels.methods import METHODS, TargetInputs
from softlabels.methods.superpixel import _scaled, inner_boundary, slic, soften


def a_case(shape=(6, 24, 22), spacing=(2.0, 1.0, 1.0), domain=None, seed=0):
    """Return a case of two structures whose edges the image shows, displaced by a voxel."""
    rng = np.random.default_rng(seed)
    z, y, x = np.indices(shape)
    labels = ((y - 9) ** 2 + (x - 8) ** 2 < 25).astype(int) + 2 * ((y - 15) ** 2 + (x - 16) ** 2 < 16)
    masks = np.stack([labels == c for c in range(3)])
    image = np.stack([np.roll(labels, 1, 2) * 100.0, -np.roll(labels, 1, 1) * 10.0]) + rng.normal(0, 1, (2, *shape))
    return TargetInputs(masks, spacing, ("bg", "a", "b"), 0, image.astype(np.float32), domain)


def test_equation_1_by_hand_in_voxels_and_mm():
    mask = np.array([[[1, 1, 1, 1, 0, 0, 0]]], bool)
    together = np.array([[[0, 1, 1, 1, 1, 1, 2]]])
    found = soften(mask, inner_boundary(mask), together, (1, 1, 1)).ravel()
    # d = 2, 1, 0 inside, -1, -2 outside: q = 0.5 (d / (1 + |d|) + 1).
    np.testing.assert_allclose(found, [1, 5 / 6, 3 / 4, 1 / 2, 1 / 4, 1 / 6, 0], rtol=1e-6)
    found = soften(mask, inner_boundary(mask), together, (1, 1, 3.0)).ravel()
    np.testing.assert_allclose(found, [1, 13 / 14, 7 / 8, 1 / 2, 1 / 8, 1 / 14, 0], rtol=1e-6)


def test_a_superpixel_on_one_side_of_the_boundary_keeps_the_label():
    mask = np.array([[[1, 1, 1, 0, 0, 0]]], bool)
    apart = np.array([[[0, 0, 0, 1, 1, 1]]])
    np.testing.assert_array_equal(soften(mask, inner_boundary(mask), apart, (1, 1, 1)), mask)


def test_the_target_is_equation_1_on_the_superpixels_of_slic():
    inputs = a_case()
    found = METHODS["superpixel"](n_superpixels=40, compactness=0.1).compute(inputs)
    soft = found.values
    assert found.notes["n_softened"] > 50 and 10 < found.notes["n_superpixels"] < 200
    for mask, values in zip(inputs.masks, soft, strict=True):
        depth = ndimage.distance_transform_edt(~inner_boundary(mask))
        expected = 0.5 * (np.where(mask, depth, -depth) / (1 + depth) + 1)
        is_soft = (values > 0) & (values < 1)
        np.testing.assert_allclose(values[is_soft], expected[is_soft], rtol=1e-5)
        np.testing.assert_array_equal(values[~is_soft], mask[~is_soft])


def test_the_sum_is_one_only_after_renormalising():
    inputs = a_case()
    plain = METHODS["superpixel"](n_superpixels=40).compute(inputs).values
    whole = METHODS["superpixel"](n_superpixels=40, renormalise=True).compute(inputs).values
    # A voxel on a boundary has 0.5 for its class and 0.25 for its neighbour's, before.
    assert plain.sum(axis=0).min() == pytest.approx(0.75, abs=0.1)
    np.testing.assert_allclose(whole.sum(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(whole, plain / plain.sum(axis=0), atol=1e-6)


def test_superpixels_follow_an_edge_of_the_image():
    image = np.zeros((1, 1, 40, 40), np.float32)
    image[..., 17:] = 1
    superpixels = slic(image, (1, 10, 10), 0.1)[0]
    assert not set(superpixels[:, :17].ravel()) & set(superpixels[:, 17:].ravel())


def test_the_unit_of_intensity_does_not_matter():
    inputs = a_case()
    scaled = TargetInputs(**{**vars(inputs), "image": inputs.image * 7 + 300})
    one, other = (METHODS["superpixel"](n_superpixels=40).compute(i).values for i in (inputs, scaled))
    assert (one != other).mean() < 0.02


def test_a_case_without_any_boundary_is_left_alone_and_flagged():
    masks = np.zeros((2, 2, 3, 4), bool)
    masks[0] = True
    found = METHODS["superpixel"]().compute(
        TargetInputs(masks, (1, 1, 1), ("bg", "a"), 0, np.ones((1, 2, 3, 4), np.float32))
    )
    np.testing.assert_array_equal(found.values, masks)
    assert found.flags == ["class 'a' absent", "no class has a boundary: nothing to soften"]


def test_the_same_case_gives_the_same_superpixels_every_time():
    inputs = a_case()
    first = METHODS["superpixel"](n_superpixels=30).compute(inputs)
    for _ in range(3):
        np.testing.assert_array_equal(METHODS["superpixel"](n_superpixels=30).compute(inputs).values, first.values)


def test_an_image_with_nan_is_refused():
    inputs = a_case()
    inputs.image[0, 3, 9, 8] = np.nan
    with pytest.raises(InputError, match="got 1 NaN or Inf"):
        METHODS["superpixel"]().compute(inputs)


def test_wrong_parameters_are_refused():
    inputs = a_case()
    with pytest.raises(ValueError, match="'voxel' or 'mm'"):
        METHODS["superpixel"](unit="inch")
    overlapping = TargetInputs(inputs.masks, inputs.spacing, inputs.class_names, None, inputs.image)
    with pytest.raises(InputError, match="exclude each other"):
        METHODS["superpixel"](renormalise=True).compute(overlapping)


@pytest.mark.parametrize("renormalise", [False, True])
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((6, 24, 22), (2.0, 1.0, 1.0)), ((1, 40, 33), (1.0, 0.7, 1.3)), ((9, 21, 20), (0.9, 0.7, 1.1))],
)
def test_each_class_in_its_box_has_the_bits_of_the_whole_volume(shape, spacing, renormalise):
    rng = np.random.default_rng(4)
    labels = np.zeros(shape, int)
    for value in range(1, 14):
        corners = [sorted(rng.choice(n + 1, 2, replace=False)) for n in shape]
        labels[tuple(slice(a, min(b, a + 8)) for a, b in corners)] = value
    masks = np.stack([labels == value for value in range(15)])
    image = rng.normal(labels % 4, 0.4, (2, *shape)).astype(np.float32)
    names = tuple(f"c{value}" for value in range(15))
    method = METHODS["superpixel"](n_superpixels=60, unit="mm", renormalise=renormalise)
    found = method.compute(TargetInputs(masks, spacing, names, 0, image))
    edges = np.stack([inner_boundary(mask) for mask in masks])
    step = tuple(found.notes["grid_step_voxels"])
    box = bounding_box(edges.any(axis=0), tuple(2 * side for side in step))
    superpixels = slic(_scaled(image, None, box), step, 0.1)
    expected = masks.astype(np.float32)
    for soft, mask, edge in zip(expected, masks, edges, strict=True):
        soft[box] = soften(mask[box], edge[box], superpixels, spacing)
    assert found.notes["n_softened"] == np.count_nonzero(expected != masks)
    assert found.notes["n_superpixels"] == len(np.unique(superpixels))
    if renormalise:
        expected /= expected.sum(axis=0)
    np.testing.assert_array_equal(found.values, expected)
    assert "class 'c14' absent" in found.flags
