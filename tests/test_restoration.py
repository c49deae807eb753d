"""Laws of the way back: crop and resampling undone as SimpleITK would, and no voxel of the box without its class."""

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.grids import grid_of
from scipy.spatial.transform import Rotation

from softlabels.classes import LabelClass
from softlabels.errors import InputError
from softlabels.grid import Grid, as_rows
from softlabels.preprocess.prepare import prepare
from softlabels.restoration import restored, restored_labels

CLASSES = [LabelClass("background", (0,)), LabelClass("organ", (1,)), LabelClass("tumour", (2, 4))]
REGIONS = [LabelClass("whole", (1, 2, 4)), LabelClass("core", (2, 4)), LabelClass("enhancing", (4,))]


def oblique(shape, spacing, angles=(20, -35, 70)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:, [2, 1, 0]] @ np.diag(spacing)
    affine[:3, 3] = (12.5, -80.0, 33.0)
    return Grid(shape, spacing, as_rows(affine))


def by_simpleitk(values, source, target, kernel=sitk.sitkLinear):
    """Return values on another grid by their positions in space; nan outside of the outermost voxels."""
    image = sitk.GetImageFromArray(values.astype(np.float64))
    for name, numbers in source.to_sitk().items():
        getattr(image, f"Set{name.capitalize()}")(numbers)
    place = target.to_sitk()
    filter_ = sitk.ResampleImageFilter()
    filter_.SetInterpolator(kernel)
    filter_.SetSize([int(n) for n in target.shape[::-1]])
    filter_.SetOutputOrigin(place["origin"])
    filter_.SetOutputSpacing(place["spacing"])
    filter_.SetOutputDirection(place["direction"])
    filter_.SetDefaultPixelValue(float("nan"))
    return sitk.GetArrayFromImage(filter_.Execute(image))


def smooth(shape, seed=0):
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    return sum(a * np.cos(b * z + c * y + d * x) for a, b, c, d in rng.uniform(0.2, 4, (4, 4))).astype(np.float32)


GRIDS = {
    "oblique": oblique((14, 18, 22), (1.0, 1.0, 1.0)),
    "anisotropic": oblique((8, 30, 26), (5.0, 0.9, 0.8)),
    "thin": oblique((1, 25, 17), (4.0, 1.2, 0.7), (0, 0, 90)),
    "axis-aligned": Grid((9, 11, 13), (2.0, 1.5, 1.0)),
}
OPTIONS = {
    "as it is": {},
    "cropped": {"crop": "labels", "crop_margin_mm": 2.0},
    "finer": {"spacing": (0.8, 0.8, 0.8)},
    "coarser": {"spacing": (2.6, 1.9, 1.7)},
    "cropped and resampled": {"crop": "labels", "crop_margin_mm": 3.0, "spacing": (1.4, 1.1, 1.3)},
    "one voxel left": {"crop": "labels", "spacing": (60.0, 1.3, 40.0)},
}


def prepared_case(grid, options):
    """Return what was prepared of a case with labels in the middle."""
    labels = np.zeros(grid.shape, np.uint8)
    labels[tuple(slice(n // 4, max(3 * n // 4, 1)) for n in grid.shape)] = 1
    labels[tuple(slice(n // 3, max(n // 2, n // 3 + 1)) for n in grid.shape)] = 2
    return labels, prepare(smooth(grid.shape)[None], labels, grid, **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_values_are_those_of_simpleitk_at_the_same_place_in_space(grid, options):
    _, done = prepared_case(grid, options)
    values = smooth(done.grid.shape, 3)
    found = restored(values, done.grid, grid, fill=-9.0)
    expected = by_simpleitk(values, done.grid, grid)
    is_known = np.isfinite(expected)
    assert found.shape == grid.shape and found.dtype == np.float32
    np.testing.assert_allclose(found[is_known], expected[is_known], atol=3e-5)
    assert not (found[is_known] == -9).any()


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_the_box_that_was_kept_is_filled_and_what_was_cropped_is_background(grid, options):
    labels, done = prepared_case(grid, options)
    everywhere = restored(np.ones(done.grid.shape), done.grid, grid, fill=0.0)
    kept = np.ones(grid.shape, bool)
    if "crop" in options:
        kept[...] = False
        margin = [int(np.ceil(round(options.get("crop_margin_mm", 0.0) / side, 6))) for side in grid.spacing]
        where = np.argwhere(labels)
        low, high = np.maximum(where.min(0) - margin, 0), where.max(0) + margin + 1
        kept[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = True
    assert (everywhere[kept] == 1).all()
    # A face of a resampled box may have moved by a quarter of a voxel, or by half where one voxel is left.
    sides = zip(done.grid.shape, done.grid.spacing, grid.spacing, strict=True)
    reach = [0.5 * (1 + (n == 1)) * new / old + 1e-6 for n, new, old in sides]
    if options.keys() == {"crop", "crop_margin_mm"}:
        assert (everywhere == kept).all()
    for axis, most in enumerate(reach):
        others = tuple(n for n in range(3) if n != axis)
        assert everywhere.any(axis=others).sum() - kept.any(axis=others).sum() <= 2 * most


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_native_spacing_gives_back_the_very_labels(grid):
    labels, done = prepared_case(grid, {"crop": "labels", "crop_margin_mm": 1.0})
    channels = [done.labels == 0, done.labels == 1, done.labels == 2]
    found = restored_labels(channels, done.grid, grid, CLASSES)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_labels_are_the_largest_of_the_restored_channels(grid, options):
    _, done = prepared_case(grid, options)
    logits = np.stack([smooth(done.grid.shape, seed) for seed in (4, 5, 6)])
    channels = np.exp(logits) / np.exp(logits).sum(0)
    found = restored_labels(list(channels), done.grid, grid, CLASSES)
    whole = np.stack([restored(one, done.grid, grid, fill) for one, fill in zip(channels, (1, 0, 0), strict=True)])
    np.testing.assert_array_equal(found, np.array([0, 1, 2])[whole.argmax(0)])


def test_a_curved_border_is_restored_more_closely_than_by_nearest_labels():
    grid = Grid((30, 30, 30), (1.0, 1.0, 1.0))
    z, y, x = np.meshgrid(*(np.arange(30.0),) * 3, indexing="ij")
    inside = (z - 14.3) ** 2 + (y - 15.1) ** 2 + (x - 14.7) ** 2 < 81
    done = prepare(np.zeros((1, *grid.shape)), inside.astype(np.uint8), grid, spacing=(2.5, 2.5, 2.5))
    sphere = prepare(
        inside[None].astype(np.float32), inside.astype(np.uint8), grid, spacing=(2.5, 2.5, 2.5), antialias=True
    )
    classes = [LabelClass("background", (0,)), LabelClass("ball", (1,))]
    soft = restored_labels([1 - sphere.image[0], sphere.image[0]], done.grid, grid, classes)
    hard = by_simpleitk(done.labels, done.grid, grid, sitk.sitkNearestNeighbor)
    assert (soft != inside).sum() < 0.5 * (np.nan_to_num(hard) != inside).sum()


def test_overlapping_regions_become_the_value_of_their_combination():
    grid = Grid((1, 1, 5), (1.0, 1.0, 1.0))
    whole = np.float32([[[0.1, 0.9, 0.8, 0.9, 0.2]]])
    core = np.float32([[[0.0, 0.2, 0.7, 0.9, 0.3]]])
    enhancing = np.float32([[[0.0, 0.0, 0.4, 0.6, 0.9]]])
    found = restored_labels([whole, core, enhancing], grid, grid, REGIONS, is_overlapping=True)
    # The last voxel is in "enhancing" alone, which no value is: 0 differs from it in one region, 4 in two.
    assert found.tolist() == [[[0, 1, 2, 4, 0]]]


def test_values_above_255_keep_their_size():
    grid = Grid((1, 1, 2), (1.0, 1.0, 1.0))
    for value, dtype in ((300, np.uint16), (70_000, np.int32)):
        classes = [LabelClass("background", (0,)), LabelClass("a", (value,))]
        found = restored_labels([np.float32([[[1, 0]]]), np.float32([[[0, 1]]])], grid, grid, classes)
        assert found.dtype == dtype and found.tolist() == [[[0, value]]]


def test_grids_that_were_not_made_of_each_other_are_refused():
    grid = GRIDS["oblique"]
    values = np.zeros(grid.shape)
    with pytest.raises(InputError, match="run in different directions. Give the image"):
        restored(values, grid, oblique(grid.shape, grid.spacing, (20, -35, 40)))
    with pytest.raises(InputError, match="is not inside of its files"):
        restored(values, grid, grid.cropped((100, 0, 0), (4, 4, 4)))
    with pytest.raises(InputError, match=r"got values of shape \(2, 2, 2\), expected \(14, 18, 22\)"):
        restored(np.zeros((2, 2, 2)), grid, grid)
    with pytest.raises(InputError, match="got 2 channels, expected one for each of 3 classes"):
        restored_labels([values, values], grid, grid, CLASSES)


def test_the_grids_of_this_file_are_those_of_simpleitk():
    for grid in GRIDS.values():
        image = sitk.GetImageFromArray(np.zeros(grid.shape))
        for name, numbers in grid.to_sitk().items():
            getattr(image, f"Set{name.capitalize()}")(numbers)
        assert not grid_of(image).differences(grid)
