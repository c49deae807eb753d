"""Cropping, resampling and normalising: closed forms, SimpleITK as a second opinion, and what must never change."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.case import read_case
from softlabels.inputs.sheet import Case
from softlabels.preprocess.prepare import prepare
from softlabels.preprocess.resample import resample, resampled_grid

SPACINGS = st.floats(0.3, 8.0, allow_nan=False)
RNG = np.random.default_rng(5)
IMAGE = RNG.normal(100, 20, (2, 7, 9, 8)).astype(np.float32)
LABELS = RNG.integers(0, 4, (7, 9, 8)).astype(np.uint8)
ROTATION = np.array([[2, -2, 1], [1, 2, 2], [-2, -1, 2]]) / 3.0


def _grid(shape=(7, 9, 8), spacing=(3.0, 0.8, 1.1)) -> Grid:
    """An oblique anisotropic grid."""
    affine = np.eye(4)
    affine[:3, :3] = ROTATION * np.array(spacing)
    affine[:3, 3] = (5.0, -7.0, 11.0)
    return Grid(shape, spacing, affine)


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


# -- the target grid


@settings(max_examples=60, derandomize=True, deadline=None)
@given(spacing=st.tuples(SPACINGS, SPACINGS, SPACINGS))
def test_resampled_grid_covers_the_same_box_to_a_quarter_voxel(spacing):
    grid = _grid()
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
    grid = _grid()
    assert resampled_grid(grid, np.array(grid.spacing) * (1 + 1e-6)) == grid
    done = prepare(IMAGE, LABELS, grid, spacing=grid.spacing)
    assert np.array_equal(done.image, IMAGE) and np.array_equal(done.labels, LABELS)


# -- kernels


@pytest.mark.parametrize("spacing", [(1.03, 0.97, 1.07), (6.1, 2.3, 2.2), (0.91, 1.73, 0.31), (3.0, 0.8, 2.57)])
@pytest.mark.parametrize("kernel", ["linear", "nearest"])
def test_linear_and_nearest_agree_with_simpleitk(spacing, kernel):
    # Odd sizes: on an even one, the middle of an odd target falls between two voxels, where SimpleITK may take either.
    grid = _grid((7, 9, 11))
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
    grid = _grid((16, 18, 17))
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
    grid = _grid()
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
    grid = _grid()
    target = resampled_grid(grid, (1.5, 0.4, 0.5))
    one, two = (resample(IMAGE[0], grid, target, "linear", antialias=a) for a in (False, True))
    assert np.array_equal(one, two)


def test_grids_with_other_axes_are_refused():
    flipped = Grid((7, 9, 8), (1, 1, 1), np.diag([1.0, 1, 1, 1])[[2, 1, 0, 3]] @ np.diag([1, -1, 1, 1]))
    for other in (flipped, _grid(spacing=(1, 1, 1))):
        with pytest.raises(InputError, match="directions"):
            resample(LABELS, Grid((7, 9, 8), (1, 1, 1)), other, "nearest")
    with pytest.raises(InputError, match="shape"):
        resample(LABELS[1:], _grid(), _grid(), "nearest")


# -- prepare


def test_without_options_the_image_is_unchanged_and_the_arguments_too():
    image, labels = IMAGE.copy(), LABELS.copy()
    done = prepare(image, labels, _grid())
    assert np.array_equal(done.image, IMAGE) and np.array_equal(done.labels, LABELS)
    assert done.domain is None and done.raters is None and done.grid == _grid() and done.flags == ()
    prepare(
        image,
        labels,
        _grid(),
        spacing=(1, 1, 1),
        clip_percentiles=(5, 95),
        normalise="zscore",
        domain="nonzero",
        crop="labels",
    )
    assert np.array_equal(image, IMAGE) and np.array_equal(labels, LABELS)


def test_zscore_has_mean_0_and_deviation_1_and_minmax_range_0_to_1():
    zscore, minmax = (prepare(IMAGE, LABELS, _grid(), normalise=n).image.astype(float) for n in ("zscore", "minmax"))
    assert np.allclose(zscore.mean(axis=(1, 2, 3)), 0, atol=1e-6) and np.allclose(zscore.std(axis=(1, 2, 3)), 1)
    assert (minmax.min(axis=(1, 2, 3)) == 0).all() and (minmax.max(axis=(1, 2, 3)) == 1).all()


def test_threads_change_no_bit_and_flag_the_same_channels():
    image = np.stack([*IMAGE, np.ones_like(IMAGE[0]), *IMAGE[::-1], np.ones_like(IMAGE[0])])
    for options in ({"normalise": "zscore"}, {"normalise": "minmax", "clip_percentiles": (5, 95), "domain": "nonzero"}):
        one, three = (prepare(image, LABELS, _grid(), threads=n, **options) for n in (1, 3))
        np.testing.assert_array_equal(one.image, three.image)
        assert one.flags == three.flags == ("constant_in_domain:2", "constant_in_domain:5")


@pytest.mark.parametrize("domain", ["none", "nonzero"])
def test_normalised_channels_have_the_bits_of_the_plain_formulas_and_the_image_is_left_alone(domain):
    rng = np.random.default_rng(0)
    image = rng.normal(100, 30, (3, 9, 11, 7)).round(3) * (rng.random((3, 9, 11, 7)) < 0.8)
    labels = np.zeros(image.shape[1:], np.uint8)
    grid = Grid(image.shape[1:], (1, 1, 1))
    for options in ({"normalise": "zscore"}, {"normalise": "minmax"}, {"normalise": "none"}):
        before = image.copy()
        found = prepare(image, labels, grid, clip_percentiles=(2, 97.5), domain=domain, threads=2, **options)
        assert np.array_equal(image, before)
        inside = np.ones(labels.shape, bool) if found.domain is None else found.domain
        for channel, stored in zip(image, found.image, strict=True):
            clipped = np.clip(channel, *np.percentile(channel if domain == "none" else channel[inside], (2, 97.5)))
            sample = clipped if domain == "none" else clipped[inside]
            centre, width = 0.0, 1.0
            if options["normalise"] == "zscore":
                centre = sample.mean()
                width = np.sqrt(np.square(sample - centre).mean())
            elif options["normalise"] == "minmax":
                centre, width = sample.min(), sample.max() - sample.min()
            expected = np.where(inside | (options["normalise"] == "none"), (clipped - centre) / width, 0)
            assert np.array_equal(stored, np.float32(expected))


def test_clip_is_at_the_percentiles_of_each_channel():
    ramp = np.stack([np.arange(101.0), np.arange(101.0) * 10]).reshape(2, 1, 1, 101)
    image = prepare(ramp, np.zeros((1, 1, 101), np.uint8), Grid((1, 1, 101), (1, 1, 1)), clip_percentiles=(5, 90)).image
    assert [(c.min(), c.max()) for c in image] == [(5, 90), (50, 900)]


def test_statistics_are_those_inside_the_domain_and_outside_is_zero():
    image = np.zeros((1, 5, 5, 5))
    image[0, 1:4, 1:4, 1:4] = np.arange(27.0).reshape(3, 3, 3) + 1
    image[0, 2, 2, 2] = 0.0
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[4, 4, 4] = 2
    done = prepare(image, labels, Grid((5, 5, 5), (1, 1, 1)), normalise="zscore", domain="nonzero")
    assert done.domain.sum() == 27 + 1 and done.domain[2, 2, 2] and done.domain[4, 4, 4]
    assert abs(done.image[0][done.domain].mean()) < 1e-6 and not done.image[0][~done.domain].any()
    assert "1 labelled voxels" in done.notes[0]


def test_holes_of_a_2d_image_are_filled_in_its_plane():
    image = np.ones((1, 1, 5, 5))
    image[0, 0, 2, 2] = image[0, 0, 0, 0] = 0
    domain = prepare(image, np.zeros((1, 5, 5), np.uint8), Grid((1, 5, 5), (1, 1, 1)), domain="nonzero").domain
    assert domain[0, 2, 2] and not domain[0, 0, 0]


@pytest.mark.parametrize("normalise", ["zscore", "minmax"])
def test_constant_image_becomes_zero_with_a_flag(normalise):
    image = IMAGE.copy()
    image[1] = 42.1
    done = prepare(image, LABELS, _grid(), normalise=normalise)
    assert not done.image[1].any() and done.flags == ("constant_in_domain:1",) and np.isfinite(done.image).all()


def test_all_zero_image_has_every_voxel_in_its_domain_with_a_flag():
    done = prepare(np.zeros((1, 2, 2, 2)), np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), (1, 1, 1)), domain="nonzero")
    assert done.domain.all() and done.flags == ("domain_is_everything",)


def test_crop_keeps_every_label_its_margin_and_its_position():
    image, labels = np.zeros((1, 9, 9, 9)), np.zeros((9, 9, 9), np.uint8)
    labels[3, 4, 5] = 1
    image[0, 3, 4, 7] = 5.0
    grid = _grid((9, 9, 9), (3.0, 1.0, 1.0))
    close, wide, both = (
        prepare(image, labels, grid, crop=c, crop_margin_mm=m)
        for c, m in (("labels", 0), ("labels", 2.5), ("nonzero", 0))
    )
    assert close.labels.shape == (1, 1, 1) and both.labels.shape == (1, 1, 3) and wide.labels.shape == (3, 7, 7)
    assert np.allclose(close.grid.position((0, 0, 0)), grid.position((3, 4, 5)))
    assert np.allclose(wide.grid.position((1, 3, 3)), grid.position((3, 4, 5))) and wide.labels[1, 3, 3] == 1
    assert prepare(image, labels, grid, crop="labels", crop_margin_mm=99).labels.shape == (9, 9, 9)


def test_nothing_to_crop_to_keeps_the_volume_with_a_flag():
    done = prepare(IMAGE, np.zeros((7, 9, 8), np.uint8), _grid(), crop="labels")
    assert done.labels.shape == (7, 9, 8) and done.flags == ("crop_skipped",)


def test_raters_are_cropped_and_resampled_as_the_label():
    raters = np.stack([LABELS, np.roll(LABELS, 1, axis=2)])
    done = prepare(IMAGE, LABELS, _grid(), spacing=(1.0, 1.0, 1.0), crop="labels", raters=raters)
    assert np.array_equal(done.raters[0], done.labels) and done.raters.dtype == np.uint8
    alone = prepare(IMAGE, raters[1], _grid(), spacing=(1.0, 1.0, 1.0))
    assert np.array_equal(done.raters[1], alone.labels)


def test_label_that_resampling_loses_is_flagged():
    labels = np.zeros((7, 9, 8), np.uint8)
    labels[:, :5] = 1
    labels[0, 0, 0] = 3
    done = prepare(IMAGE, labels, _grid(), spacing=(9.0, 4.0, 4.0))
    assert done.flags == ("lost_label:3",) and "coarser" in done.notes[1]


def test_labels_keep_their_type_and_values_through_resampling():
    labels = (LABELS.astype(np.uint16) * 1000) % 2036
    done = prepare(IMAGE, labels, _grid(), spacing=(1.3, 1.3, 1.3))
    assert done.labels.dtype == np.uint16 and set(np.unique(done.labels)) <= set(np.unique(labels))


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_minmax_after_resampling_is_exactly_0_to_1(interpolation):
    image = prepare(IMAGE, LABELS, _grid(), spacing=(1, 1, 1), interpolation=interpolation, normalise="minmax").image
    assert (image.min(axis=(1, 2, 3)) == 0).all() and (image.max(axis=(1, 2, 3)) == 1).all()


def test_result_is_bitwise_the_same_on_any_memory_layout():
    options = {
        "spacing": (1.0, 1.0, 1.0),
        "interpolation": "bspline",
        "normalise": "zscore",
        "clip_percentiles": (1, 99),
    }
    one = prepare(IMAGE, LABELS, _grid(), **options)
    two = prepare(np.asfortranarray(IMAGE), np.asfortranarray(LABELS), _grid(), **options)
    assert np.array_equal(one.image, two.image) and np.array_equal(one.labels, two.labels)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (2, 1, 3)])
@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_thin_volumes_are_resampled(shape, interpolation):
    image = np.arange(np.prod(shape), dtype=float).reshape(1, *shape)
    for spacing in ((0.5, 0.5, 0.5), (9.0, 9.0, 9.0)):
        done = prepare(
            image, np.zeros(shape, np.uint8), Grid(shape, (1, 1, 1)), spacing=spacing, interpolation=interpolation
        )
        assert np.isfinite(done.image).all() and done.image.shape[1:] == done.grid.shape


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": LABELS[1:]},
        {"image": IMAGE[0]},
        {"clip_percentiles": (90, 10)},
        {"clip_percentiles": (-1, 10)},
        {"crop_margin_mm": -1.0},
        {"crop_margin_mm": float("nan")},
        {"spacing": (1.0, 1.0)},
        {"spacing": (1.0, 0.0, 1.0)},
        {"raters": LABELS},
        {"raters": LABELS[None].astype(np.int32)},
    ],
)
def test_senseless_arguments_are_refused(changes):
    with pytest.raises(InputError):
        prepare(**({"image": IMAGE, "labels": LABELS, "grid": _grid()} | changes))


@settings(max_examples=25, derandomize=True, deadline=None)
@given(spacing=st.tuples(SPACINGS, SPACINGS, SPACINGS), crop=st.sampled_from(["none", "labels"]))
def test_preparing_a_mask_equals_the_mask_of_the_prepared_labels(spacing, crop):
    labels = LABELS.copy()
    labels[:2] = 0
    whole = prepare(IMAGE, labels, _grid(), spacing=spacing, crop=crop)
    for value in (1, 3):
        mask = np.where(labels == value, 1, 0).astype(np.uint8)
        raters = np.stack([labels])
        alone = prepare(IMAGE, mask, _grid(), spacing=spacing, crop=crop, raters=raters)
        assert np.array_equal(alone.labels == 1, whole.labels == value) and alone.grid == whole.grid


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
