"""Cropping, resampling and normalising: closed forms, SimpleITK as a second opinion, and what must never change."""

import numpy as np
import pytest
from helpers.oblique_case import IMAGE, LABELS, SPACINGS, oblique_grid
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.preprocess.normalise import normalise_channel
from softlabels.preprocess.prepare import prepare

# -- prepare


def test_without_options_the_image_is_unchanged_and_the_arguments_too():
    image, labels = IMAGE.copy(), LABELS.copy()
    done = prepare(image, labels, oblique_grid())
    assert np.array_equal(done.image, IMAGE) and np.array_equal(done.labels, LABELS)
    assert done.domain is None and done.raters is None and done.grid == oblique_grid() and done.flags == ()
    prepare(
        image,
        labels,
        oblique_grid(),
        spacing=(1, 1, 1),
        clip_percentiles=(5, 95),
        normalise="zscore",
        domain="nonzero",
        crop="labels",
    )
    assert np.array_equal(image, IMAGE) and np.array_equal(labels, LABELS)


def test_zscore_has_mean_0_and_deviation_1_and_minmax_range_0_to_1():
    zscore, minmax = (
        prepare(IMAGE, LABELS, oblique_grid(), normalise=n).image.astype(float) for n in ("zscore", "minmax")
    )
    assert np.allclose(zscore.mean(axis=(1, 2, 3)), 0, atol=1e-6) and np.allclose(zscore.std(axis=(1, 2, 3)), 1)
    assert (minmax.min(axis=(1, 2, 3)) == 0).all() and (minmax.max(axis=(1, 2, 3)) == 1).all()


def test_threads_change_no_bit_and_flag_the_same_channels():
    image = np.stack([*IMAGE, np.ones_like(IMAGE[0]), *IMAGE[::-1], np.ones_like(IMAGE[0])])
    for options in ({"normalise": "zscore"}, {"normalise": "minmax", "clip_percentiles": (5, 95), "domain": "nonzero"}):
        one, three = (prepare(image, LABELS, oblique_grid(), threads=n, **options) for n in (1, 3))
        np.testing.assert_array_equal(one.image, three.image)
        assert one.flags == three.flags == ("constant_in_domain:2", "constant_in_domain:5")


@pytest.mark.parametrize("domain", ["none", "nonzero"])
@pytest.mark.parametrize("shape", [(9, 11, 7), (41, 47, 53), (1, 1, 32769)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_normalised_channels_have_the_bits_of_the_plain_formulas_and_the_image_is_left_alone(domain, shape, dtype):
    rng = np.random.default_rng(0)
    image = (rng.normal(100, 30, (3, *shape)).round(3) * (rng.random((3, *shape)) < 0.8)).astype(dtype)
    labels = np.zeros(image.shape[1:], np.uint8)
    grid = Grid(image.shape[1:], (1, 1, 1))
    for options in ({"normalise": "zscore"}, {"normalise": "minmax"}, {"normalise": "none"}):
        before = image.copy()
        found = prepare(image, labels, grid, clip_percentiles=(2, 97.5), domain=domain, threads=2, **options)
        assert np.array_equal(image, before)
        used_up = image.astype(np.float32)
        again = prepare(used_up, labels, grid, clip_percentiles=(2, 97.5), domain=domain, use_up=True, **options)
        # As float32, the numbers of float64 are others.
        assert again.image is used_up and (dtype is np.float64 or np.array_equal(found.image, used_up))
        inside = np.ones(labels.shape, bool) if found.domain is None else found.domain
        for channel, stored in zip(image.astype(np.float64), found.image, strict=True):
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


def test_a_channel_is_not_written_to_what_is_no_array_of_its_own():
    out = np.zeros((3, 4, 5), np.float32).T
    with pytest.raises(InputError, match="not contiguous"):
        normalise_channel(np.arange(60.0).reshape(5, 4, 3), out, normalise="zscore")
    assert not out.any()


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


@pytest.mark.parametrize("options", [{"normalise": "zscore"}, {"normalise": "minmax"}, {"clip_percentiles": (1, 99)}])
def test_a_domain_that_resampling_leaves_nothing_of_is_named(options):
    image = np.zeros((1, 8, 8, 8))
    image[0, 1, 1, 1:3] = 5, 6
    coarse = {"spacing": (4, 4, 4), "domain": "nonzero"}
    labels, grid = np.zeros(image.shape[1:], np.uint8), Grid(image.shape[1:], (1, 1, 1))
    with pytest.raises(InputError, match=r"without a voxel after resampling to \(4.0, 4.0, 4.0\) mm.*finer"):
        prepare(image, labels, grid, **coarse, **options)
    assert not prepare(image, labels, grid, **coarse).domain.any()


def test_holes_of_a_2d_image_are_filled_in_its_plane():
    image = np.ones((1, 1, 5, 5))
    image[0, 0, 2, 2] = image[0, 0, 0, 0] = 0
    domain = prepare(image, np.zeros((1, 5, 5), np.uint8), Grid((1, 5, 5), (1, 1, 1)), domain="nonzero").domain
    assert domain[0, 2, 2] and not domain[0, 0, 0]


@pytest.mark.parametrize("normalise", ["zscore", "minmax"])
def test_constant_image_becomes_zero_with_a_flag(normalise):
    image = IMAGE.copy()
    image[1] = 42.1
    done = prepare(image, LABELS, oblique_grid(), normalise=normalise)
    assert not done.image[1].any() and done.flags == ("constant_in_domain:1",) and np.isfinite(done.image).all()


def test_all_zero_image_has_every_voxel_in_its_domain_with_a_flag():
    done = prepare(np.zeros((1, 2, 2, 2)), np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), (1, 1, 1)), domain="nonzero")
    assert done.domain.all() and done.flags == ("domain_is_everything",)


def test_crop_keeps_every_label_its_margin_and_its_position():
    image, labels = np.zeros((1, 9, 9, 9)), np.zeros((9, 9, 9), np.uint8)
    labels[3, 4, 5] = 1
    image[0, 3, 4, 7] = 5.0
    grid = oblique_grid((9, 9, 9), (3.0, 1.0, 1.0))
    close, wide, both = (
        prepare(image, labels, grid, crop=c, crop_margin_mm=m)
        for c, m in (("labels", 0), ("labels", 2.5), ("nonzero", 0))
    )
    assert close.labels.shape == (1, 1, 1) and both.labels.shape == (1, 1, 3) and wide.labels.shape == (3, 7, 7)
    assert np.allclose(close.grid.position((0, 0, 0)), grid.position((3, 4, 5)))
    assert np.allclose(wide.grid.position((1, 3, 3)), grid.position((3, 4, 5))) and wide.labels[1, 3, 3] == 1
    assert prepare(image, labels, grid, crop="labels", crop_margin_mm=99).labels.shape == (9, 9, 9)


def test_nothing_to_crop_to_keeps_the_volume_with_a_flag():
    done = prepare(IMAGE, np.zeros((7, 9, 8), np.uint8), oblique_grid(), crop="labels")
    assert done.labels.shape == (7, 9, 8) and done.flags == ("crop_skipped",)


def test_raters_are_cropped_and_resampled_as_the_label():
    raters = np.stack([LABELS, np.roll(LABELS, 1, axis=2)])
    done = prepare(IMAGE, LABELS, oblique_grid(), spacing=(1.0, 1.0, 1.0), crop="labels", raters=raters)
    assert np.array_equal(done.raters[0], done.labels) and done.raters.dtype == np.uint8
    alone = prepare(IMAGE, raters[1], oblique_grid(), spacing=(1.0, 1.0, 1.0))
    assert np.array_equal(done.raters[1], alone.labels)


def test_label_that_resampling_loses_is_flagged():
    labels = np.zeros((7, 9, 8), np.uint8)
    labels[:, :5] = 1
    labels[0, 0, 0] = 3
    done = prepare(IMAGE, labels, oblique_grid(), spacing=(9.0, 4.0, 4.0))
    assert done.flags == ("lost_label:3",) and "coarser" in done.notes[1]


def test_labels_keep_their_type_and_values_through_resampling():
    labels = (LABELS.astype(np.uint16) * 1000) % 2036
    done = prepare(IMAGE, labels, oblique_grid(), spacing=(1.3, 1.3, 1.3))
    assert done.labels.dtype == np.uint16 and set(np.unique(done.labels)) <= set(np.unique(labels))


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
def test_minmax_after_resampling_is_exactly_0_to_1(interpolation):
    image = prepare(
        IMAGE, LABELS, oblique_grid(), spacing=(1, 1, 1), interpolation=interpolation, normalise="minmax"
    ).image
    assert (image.min(axis=(1, 2, 3)) == 0).all() and (image.max(axis=(1, 2, 3)) == 1).all()


def test_result_is_bitwise_the_same_on_any_memory_layout():
    options = {
        "spacing": (1.0, 1.0, 1.0),
        "interpolation": "bspline",
        "normalise": "zscore",
        "clip_percentiles": (1, 99),
    }
    one = prepare(IMAGE, LABELS, oblique_grid(), **options)
    two = prepare(np.asfortranarray(IMAGE), np.asfortranarray(LABELS), oblique_grid(), **options)
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
        prepare(**({"image": IMAGE, "labels": LABELS, "grid": oblique_grid()} | changes))


@settings(max_examples=25, derandomize=True, deadline=None)
@given(spacing=st.tuples(SPACINGS, SPACINGS, SPACINGS), crop=st.sampled_from(["none", "labels"]))
def test_preparing_a_mask_equals_the_mask_of_the_prepared_labels(spacing, crop):
    labels = LABELS.copy()
    labels[:2] = 0
    whole = prepare(IMAGE, labels, oblique_grid(), spacing=spacing, crop=crop)
    for value in (1, 3):
        mask = np.where(labels == value, 1, 0).astype(np.uint8)
        raters = np.stack([labels])
        alone = prepare(IMAGE, mask, oblique_grid(), spacing=spacing, crop=crop, raters=raters)
        assert np.array_equal(alone.labels == 1, whole.labels == value) and alone.grid == whole.grid
