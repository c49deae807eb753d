"""Laws of resampling: where the voxels are, and which values they get, beside SimpleITK and SciPy."""

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.oblique_case import IMAGE, LABELS, SPACINGS, oblique_grid
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.case import read_case
from softlabels.inputs.sheet import Case
from softlabels.preprocess.prepare import prepare
from softlabels.preprocess.resample import resample, resampled_grid


def _by_simpleitk(values, source: Grid, target: Grid, interpolator):
    """The same resampling by SimpleITK, the outermost voxel repeated beyond the border."""
    image = sitk.GetImageFromArray(values)
    geometry = source.to_sitk()
    (
        image.SetOrigin(geometry["origin"]),
        image.SetSpacing(geometry["spacing"]),
        image.SetDirection(geometry["direction"]),
    )
    to = target.to_sitk()
    resampler = sitk.ResampleImageFilter()
    resampler.SetInterpolator(interpolator)
    resampler.SetSize(target.shape[::-1])
    resampler.SetOutputOrigin(to["origin"]), resampler.SetOutputSpacing(to["spacing"])
    resampler.SetOutputDirection(to["direction"])
    resampler.UseNearestNeighborExtrapolatorOn()
    return sitk.GetArrayFromImage(resampler.Execute(image))


@settings(max_examples=60, derandomize=True, deadline=None)
@given(spacing=st.tuples(SPACINGS, SPACINGS, SPACINGS))
def test_resampled_grid_covers_the_same_box_to_a_quarter_voxel(spacing):
    grid = oblique_grid()
    new = resampled_grid(grid, spacing)
    for axis in range(3):
        old_side, side = grid.spacing[axis], new.spacing[axis]
        excess = abs(new.shape[axis] * side - grid.shape[axis] * old_side)
        assert excess <= side / 2 + 1e-9 or new.shape[axis] == 1
    centre, new_centre = (g.position((np.array(g.shape) - 1) / 2) for g in (grid, new))
    assert np.allclose(centre, new_centre, atol=1e-9) and new.orientation == grid.orientation


def test_integer_factors_tile_the_source_exactly():
    new = resampled_grid(Grid((4, 6, 9), (1.0, 1.0, 1.0)), (2.0, 3.0, 3.0))
    assert new.shape == (2, 2, 3) and new.position((0, 0, 0)) == (1.0, 1.0, 0.5)


def test_same_spacing_up_to_header_noise_changes_nothing():
    grid = oblique_grid()
    assert resampled_grid(grid, np.array(grid.spacing) * (1 + 1e-6)) == grid
    done = prepare(IMAGE, LABELS, grid, spacing=grid.spacing)
    assert np.array_equal(done.image, IMAGE) and np.array_equal(done.labels, LABELS)


@pytest.mark.parametrize("spacing", [(1.03, 0.97, 1.07), (6.1, 2.3, 2.2), (0.91, 1.73, 0.31), (3.0, 0.8, 2.57)])
@pytest.mark.parametrize("kernel", ["linear", "nearest"])
def test_linear_and_nearest_agree_with_simpleitk(spacing, kernel):
    # Odd sizes: on an even one, the middle of an odd target falls between two voxels, where SimpleITK may take either.
    grid = oblique_grid((7, 9, 11))
    target = resampled_grid(grid, spacing)
    values = np.random.default_rng(1).normal(100, 20, grid.shape)
    interpolator = sitk.sitkLinear if kernel == "linear" else sitk.sitkNearestNeighbor
    ours, theirs = resample(values, grid, target, kernel), _by_simpleitk(values, grid, target, interpolator)
    if kernel == "linear":
        assert np.allclose(ours, theirs, atol=1e-3)
    else:
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.9, 1.7, 0.3)])
def test_bspline_agrees_with_simpleitk_inside(spacing):
    grid = oblique_grid((16, 18, 17))
    values = np.random.default_rng(0).normal(size=grid.shape)
    target = resampled_grid(grid, spacing)
    ours, theirs = resample(values, grid, target, "bspline"), _by_simpleitk(values, grid, target, sitk.sitkBSpline)
    inner = tuple(slice(n // 3, -(n // 3)) for n in target.shape)
    assert np.allclose(ours[inner], theirs[inner], atol=2e-3)


@pytest.mark.parametrize("shape", [(1, 5, 6), (2, 5, 6), (3, 5, 6), (2, 2, 2), (2, 1, 7), (4, 2, 9)])
@pytest.mark.parametrize("spacing", [(1.0, 0.7, 0.9), (11.0, 3.0, 0.4)])
def test_bspline_is_the_mirrored_spline_of_scipy_on_axes_of_any_length(shape, spacing):
    grid = Grid(shape, (5.0, 1.0, 1.2))
    target = resampled_grid(grid, spacing)
    values = np.random.default_rng(0).normal(size=shape)
    to_source = np.linalg.solve(grid.affine_ras, target.affine_ras)
    index = np.indices(target.shape).reshape(3, -1)
    at = to_source[:3, :3] @ index + to_source[:3, 3:]
    expected = ndimage.map_coordinates(values, at, order=3, mode="mirror").reshape(target.shape)
    # Coordinates are rounded to a millionth of a voxel.
    np.testing.assert_allclose(resample(values, grid, target, "bspline"), expected, atol=5e-6)
    np.testing.assert_allclose(resample(np.full(shape, 100.0), grid, target, "bspline"), 100, rtol=1e-12)


def test_bspline_on_two_slices_is_the_same_every_time():
    grid = Grid((2, 11, 13), (5.0, 1.0, 1.0))
    target = resampled_grid(grid, (1.0, 1.0, 1.0))
    values = np.random.default_rng(0).normal(size=grid.shape)
    first = resample(values, grid, target, "bspline")
    for _ in range(60):
        np.testing.assert_array_equal(resample(values, grid, target, "bspline"), first)


@pytest.mark.parametrize("kernel", ["linear", "bspline"])
def test_constant_stays_constant_and_weights_sum_to_one(kernel):
    grid = oblique_grid()
    for spacing in ((1.0, 1.0, 1.0), (6.5, 2.0, 0.4)):
        out = resample(np.full(grid.shape, 7.25), grid, resampled_grid(grid, spacing), kernel)
        assert np.allclose(out, 7.25, rtol=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "bspline"])
def test_linear_ramp_is_reproduced_inside(kernel):
    grid = Grid((3, 3, 24), (1.0, 1.0, 1.0))
    ramp = np.broadcast_to(np.arange(24.0), grid.shape)
    target = resampled_grid(grid, (1.0, 1.0, 0.4))
    x = [target.position((0, 0, i))[0] for i in range(target.shape[2])]
    inner = [i for i, v in enumerate(x) if 6 <= v <= 17]
    assert np.allclose(resample(ramp, grid, target, kernel)[1, 1, inner], np.array(x)[inner], atol=2e-3)


def test_bspline_gives_the_voxels_back_on_the_same_positions():
    grid = Grid((5, 6, 7), (1.0, 1.0, 1.0))
    values = np.random.default_rng(2).normal(size=grid.shape)
    third = Grid((13, 16, 19), (1 / 3,) * 3)
    assert np.allclose(resample(values, grid, third, "bspline")[::3, ::3, ::3], values, atol=1e-9)


def test_ties_of_nearest_take_the_higher_index():
    grid = Grid((1, 1, 6), (1.0, 1.0, 1.0))
    values = np.arange(6, dtype=np.uint8).reshape(1, 1, 6)
    assert resample(values, grid, resampled_grid(grid, (1.0, 1.0, 2.0)), "nearest").ravel().tolist() == [1, 3, 5]


def test_antialias_keeps_the_mean_and_weakens_what_the_coarse_grid_cannot_show():
    grid = Grid((4, 4, 64), (1.0, 1.0, 1.0))
    stripes = np.broadcast_to(np.arange(64) % 3 == 0, grid.shape).astype(float)
    target = resampled_grid(grid, (1.0, 1.0, 4.0))
    plain, smooth = (resample(stripes, grid, target, "linear", antialias=a) for a in (False, True))
    assert smooth[..., 2:-2].std() < 0.3 * plain[..., 2:-2].std()
    assert abs(smooth[..., 2:-2].mean() - 1 / 3) < 0.01


def test_antialias_changes_nothing_where_the_target_is_finer():
    grid = oblique_grid()
    target = resampled_grid(grid, (1.5, 0.4, 0.5))
    one, two = (resample(IMAGE[0], grid, target, "linear", antialias=a) for a in (False, True))
    assert np.array_equal(one, two)


def test_grids_with_other_axes_are_refused():
    flipped = Grid((7, 9, 8), (1, 1, 1), np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]] @ np.diag([1, -1, 1, 1]))
    for other in (flipped, oblique_grid(spacing=(1, 1, 1))):
        with pytest.raises(InputError, match="directions"):
            resample(LABELS, Grid((7, 9, 8), (1, 1, 1)), other, "nearest")
    with pytest.raises(InputError, match="shape"):
        resample(LABELS[1:], oblique_grid(), oblique_grid(), "nearest")


@pytest.mark.parametrize(
    ("image", "label"), [("t2", "t2_seg-manual"), ("t2s", "t2s_label_wm1_gm2"), ("t1w", "t1w_seg-manual")]
)
def test_real_volumes_of_any_orientation_are_resampled_as_simpleitk_does(shared_data, image, label):
    folder = shared_data / "spinal_cord"
    case = Case(image, (str(folder / f"{image}.nii.gz"),), str(folder / f"{label}.nii.gz"))
    volumes = read_case(case, ["mr"], (0, 1, 2))
    done = prepare(volumes.image, volumes.labels, volumes.grid, spacing=(1.2, 1.3, 0.9))
    theirs = sitk.ReadImage(case.images[0], sitk.sitkFloat64)
    resampler = sitk.ResampleImageFilter()
    to = done.grid.to_sitk()
    resampler.SetSize(done.grid.shape[::-1])
    resampler.SetOutputOrigin(to["origin"]), resampler.SetOutputSpacing(to["spacing"])
    resampler.SetOutputDirection(to["direction"])
    resampler.UseNearestNeighborExtrapolatorOn()
    expected = sitk.GetArrayFromImage(resampler.Execute(theirs))
    assert np.allclose(done.image[0], expected, atol=1e-2 * np.abs(expected).max())
    before, after = (np.argwhere(labels == 1) for labels in (volumes.labels, done.labels))
    centres = [grid.position(voxels.mean(axis=0)) for grid, voxels in ((volumes.grid, before), (done.grid, after))]
    assert np.linalg.norm(np.subtract(*centres)) < 0.7


@pytest.mark.parametrize(("kernel", "order"), [("nearest", 0), ("linear", 1), ("bspline", 3)])
@pytest.mark.parametrize("spacing", [(2.0, 1.0, 1.0), (0.7, 0.7, 3.3), (1.5, 2.0, 0.4)])
def test_resampling_agrees_with_scipy(kernel, order, spacing):
    from scipy.ndimage import map_coordinates

    source = Grid((7, 11, 9), (1.0, 1.0, 1.0))
    values = np.random.default_rng(0).normal(size=source.shape)
    target = resampled_grid(source, spacing)
    index = np.stack([*np.indices(target.shape), np.ones(target.shape)])
    where = np.tensordot(np.linalg.solve(source.affine_ras, target.affine_ras), index, 1)[:3]
    inside = where.clip(0, np.array(source.shape).reshape(3, 1, 1, 1) - 1)
    # Within half a voxel of the border the spline mirrors the volume; the others repeat the outermost value.
    sampled = {"nearest": np.floor(inside.round(6) + 0.5), "linear": inside, "bspline": where}[kernel]
    expected = map_coordinates(values, sampled, order=order, mode="mirror")
    np.testing.assert_allclose(resample(values, source, target, kernel), expected, atol=1e-9)


@pytest.mark.parametrize("kernel", ["nearest", "linear", "bspline"])
def test_resampling_gives_the_same_bits_on_any_number_of_threads(kernel):
    import SimpleITK as sitk

    source = Grid((20, 31, 17), (1.0, 1.0, 1.0))
    values = np.random.default_rng(1).normal(size=source.shape)
    target = resampled_grid(source, (0.6, 1.7, 0.9))
    before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        found = []
        for threads in (1, 2, 5):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            found.append(resample(values, source, target, kernel))
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("spacing", [(1e-6, 1e-6, 1e-6), (0.001, 1.0, 0.001)])
def test_a_grid_of_more_voxels_than_a_volume_may_have_is_refused_before_it_is_made(spacing):
    with pytest.raises(InputError, match="prepare.spacing"):
        resampled_grid(Grid((64, 64, 64), (1.0, 1.0, 1.0)), spacing)
