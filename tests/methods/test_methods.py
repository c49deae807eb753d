"""What every method promises in the registry, it keeps on any case."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.on_demand import ChannelsOnDemand, VolumesOnDemand
from softlabels.errors import CertificateError, InputError
from softlabels.geodesic import geodesic_distance
from softlabels.methods import FAR_MM, METHODS, Method, TargetInputs, TargetMap
from softlabels.methods.quality import quality_figures
from softlabels.methods.seeded import reads_by_channel

#: Parameters that fit a toy volume.
PARAMS = {"superpixel": {"n_superpixels": 12}}
#: More of a method than its variants.
MORE = [METHODS["superpixel"](n_superpixels=12, renormalise=True)]


def every_variant() -> list[Method]:
    """Return each variant of each method that stores a map."""
    stored = [method for method in METHODS.built_in.values() if method.is_stored()]
    return [one for method in stored for one in method.in_every_variant(**PARAMS.get(method.name, {}))] + MORE


def named(method: Method) -> str:
    return f"{method.name}-{method.variant_name}"


def law(*methods):
    """Run a test for each of these methods."""
    return pytest.mark.parametrize("method", methods, ids=named)


STORED = every_variant()
PROBABILITIES = [method for method in STORED if method.kind == "probability"]
EQUIVARIANT = [method for method in STORED if method.name not in ("superpixel", "partial_volume")]


def a_case(shape=(5, 9, 8), spacing=(3.0, 1.0, 0.7), seed=0, n_classes=3, n_channels=2, **changes):
    """Return the inputs of a case with everything that any method may need; blobs on a noisy image."""
    rng = np.random.default_rng(seed)
    smooth = rng.normal(size=shape)
    for axis in range(3):
        smooth = smooth + np.roll(smooth, 1, axis)
    labels = np.digitize(smooth, np.quantile(smooth, np.linspace(0, 1, n_classes + 1)[1:-1]))
    masks = np.stack([labels == c for c in range(n_classes)])
    image = (rng.random((n_channels, *shape)) * 3).astype(np.float32)
    seeds = masks & (rng.random(masks.shape) < 0.3)
    for mask, own in zip(masks, seeds, strict=True):
        own[tuple(np.argwhere(mask)[0])] = True
    distance = np.stack([geodesic_distance(one, seeds, spacing) for one in image])
    raters = np.stack([masks, np.roll(masks, 1, 2), np.roll(masks, 1, 3)])
    given = {
        "masks": masks,
        "spacing": spacing,
        "class_names": tuple(f"class{c}" for c in range(n_classes)),
        "background": 0,
        "image": image,
        "seeds": seeds,
        "distance": distance,
        "raters": raters,
        "source_masks": masks.repeat(2, axis=2),
        "source_from_target": np.array([[1, 0, 0, 0], [0, 2, 0, 0.5], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    }
    return TargetInputs(**{**given, **changes})


def one_class(masks, distance, method):
    """Return the inputs of a case with one class, which is everywhere or nowhere."""
    is_distribution = method.needs_background or method.name == "superpixel" and method.renormalise
    image = np.random.default_rng(0).random(masks.shape).astype(np.float32)
    return TargetInputs(
        masks,
        (1.0, 1.0, 1.0),
        ("all",),
        background=0 if is_distribution else None,
        image=image,
        seeds=masks,
        distance=distance,
        raters=np.stack([masks, masks]),
        source_masks=masks,
        source_from_target=np.eye(4),
    )


@law(*STORED)
def test_values_lie_in_the_promised_range_and_sum_to_one_where_promised(method):
    inputs = a_case()
    values = method.compute(inputs).values
    assert values.dtype == np.float32 and values.shape == inputs.masks.shape and values.flags.c_contiguous
    assert np.isfinite(values).all()
    if bounds := method.value_range:
        assert bounds[0] <= values.min() and values.max() <= bounds[1]
    off = np.abs(values.sum(axis=0) - 1).max()
    assert (off <= 1e-6) if method.sums_to_one else (off > 0.05)


@law(*STORED)
def test_no_method_writes_to_its_inputs_nor_minds_threads(method):
    inputs = a_case()
    arrays = {k: v.copy() for k, v in vars(inputs).items() if isinstance(v, np.ndarray)}
    once = method.compute(inputs)
    for key, before in arrays.items():
        np.testing.assert_array_equal(getattr(inputs, key), before)
    again = method.compute(a_case(threads=3))
    np.testing.assert_array_equal(once.values, again.values)
    assert once.notes == again.notes and once.flags == again.flags


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("n_together", [1, 2, 3, 9])
@law(*[method for method in STORED if reads_by_channel(type(method))])
def test_a_method_that_reads_by_channel_reads_each_once_and_needs_no_array(method, n_together, n_channels):
    inputs, made = a_case(n_channels=n_channels), []
    flat = inputs.distance.reshape(-1, *inputs.masks.shape[1:])

    def make(first, stop):
        made.extend(range(first, stop))
        return flat[first:stop].copy()

    volumes = VolumesOnDemand(flat.shape, make, dtype=np.float32, n_together=n_together)
    found = method.compute(replace(inputs, distance=ChannelsOnDemand(volumes, len(inputs.masks))))
    np.testing.assert_array_equal(found.values, method.compute(inputs).values)
    assert made == list(range(len(flat)))


def test_a_class_with_a_map_of_its_own_says_itself_that_it_reads_by_channel():
    class Renamed(METHODS["geols"]):
        """GeoLS by another name."""

        name = "renamed"

    class Nearest(METHODS["geols"]):
        """GeoLS, and something that it reads of the array."""

        name = "nearest"

        def soft_map(self, inputs):
            return super().soft_map(inputs)

        def boxed_map(self, inputs):
            return super().boxed_map(inputs)

    class ByChannel(Nearest):
        """One that says so again."""

        name, reads_by_channel = "by_channel", True

    assert [reads_by_channel(one) for one in (Renamed, Nearest, ByChannel)] == [True, False, True]
    assert not reads_by_channel(METHODS["sing"]) and not reads_by_channel(METHODS["svls"])


@law(*EQUIVARIANT)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(axis=st.integers(1, 3), seed=st.integers(0, 99))
def test_flipping_a_case_flips_its_map(method, axis, seed):
    inputs = a_case(seed=seed)
    flipped = {k: np.flip(v, axis + v.ndim - 4) for k, v in vars(inputs).items() if isinstance(v, np.ndarray)}
    found = method.compute(inputs).values
    mirrored = method.compute(a_case(seed=seed, **flipped)).values
    np.testing.assert_allclose(np.flip(mirrored, axis), found, atol=1e-5)


@law(*EQUIVARIANT)
def test_a_quarter_turn_with_its_spacing_turns_the_map(method):
    inputs = a_case()
    turned = {k: np.moveaxis(v, -3, -1) for k, v in vars(inputs).items() if isinstance(v, np.ndarray) and v.ndim > 2}
    z, y, x = inputs.spacing
    found = method.compute(inputs).values
    other = method.compute(a_case(**turned, spacing=(y, x, z))).values
    np.testing.assert_allclose(np.moveaxis(other, -1, -3), found, atol=1e-5)


@law(*STORED)
@pytest.mark.parametrize("shape", [(1, 9, 8), (4, 1, 6), (2, 3, 1)])
def test_thin_and_two_dimensional_volumes_have_a_map(method, shape):
    inputs = a_case(shape, n_classes=2, source_from_target=np.eye(4))
    values = method.compute(inputs).values
    assert values.shape == inputs.masks.shape and np.isfinite(values).all()


@law(*PROBABILITIES)
def test_an_absent_class_is_zero_and_flagged_and_the_others_stay_a_distribution(method):
    full = a_case(n_classes=2)

    def with_third(array, axis, value):
        blank = np.full_like(np.take(array, [0], axis), value)
        return np.concatenate([array, blank], axis)

    inputs = a_case(
        n_classes=2,
        masks=with_third(full.masks, 0, False),
        class_names=("bg", "a", "lost"),
        seeds=with_third(full.seeds, 0, False),
        distance=with_third(full.distance, 1, np.inf),
        raters=with_third(full.raters, 1, False),
        source_masks=with_third(full.source_masks, 0, False),
    )
    found = method.compute(inputs)
    without = method.compute(full).values
    assert not found.values[2].any()
    assert any("'lost'" in flag and "absent" in flag for flag in found.flags)
    np.testing.assert_allclose(found.values[:2], without, atol=1e-6)


@law(*STORED)
def test_the_map_of_an_absent_class_is_the_one_value_that_is_declared(method):
    if method.needs_background:
        pytest.skip("a background that is absent is nowhere and no other class is there")
    nothing = np.zeros((1, 3, 4, 5), bool)
    inputs = one_class(nothing, np.full((1, *nothing.shape), np.inf, np.float32), method)
    found = method.compute(inputs)
    assert (found.values == np.float32(method.absent_value)).all()
    assert "'all'" in found.flags[0] and "absent" in found.flags[0]


@law(*STORED)
def test_a_class_that_fills_the_volume_is_the_one_value_that_is_declared(method):
    everything = np.ones((1, 3, 4, 5), bool)
    inputs = one_class(everything, np.zeros((1, *everything.shape), np.float32), method)
    found = method.compute(inputs)
    assert (found.values == np.float32(method.filling_value)).all()
    if method.kind != "probability":
        assert "fills the volume" in found.flags[0]


def test_padding_is_what_lies_outside_of_everything():
    assert METHODS["geols"]().pad_value(3, 0) == (1.0, 0.0, 0.0)
    assert METHODS["svls"]().pad_value(2, None) == (0.0, 0.0)
    assert METHODS["sing"]().pad_value(2, None) == (-1.0, -1.0)
    assert METHODS["sing"]().pad_value(2, 0) == (1.0, -1.0)
    assert METHODS["level_set"]().pad_value(2, 0) == (-FAR_MM, FAR_MM)
    assert METHODS["level_set"](variant="normalised").pad_value(2, 0) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"distance": None}, "method geols: distance: missing"),
        ({"background": None}, "no background class"),
        ({"class_names": ("a",)}, "1 class names for 3 masks"),
        ({"distance": np.zeros((1, 2, 5, 9, 8), np.float32)}, "distance: got shape"),
        ({"masks": np.zeros((3, 5, 9, 8), np.uint8)}, "expected bool"),
    ],
)
def test_what_does_not_fit_is_refused_with_a_reason(changes, says):
    with pytest.raises(InputError, match=says):
        METHODS["geols"]().compute(a_case(**changes))


def test_an_unknown_variant_or_a_method_that_stores_nothing_is_refused():
    with pytest.raises(ValueError, match="'paper' or 'official'"):
        METHODS["geols"](variant="papre")
    with pytest.raises(InputError, match="nothing is stored"):
        METHODS["onehot"]().compute(a_case())


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1.001, -0.001])
def test_a_map_that_breaks_its_promise_is_never_handed_over(wrong, monkeypatch):
    values = np.zeros((3, 5, 9, 8), np.float32)
    values[1, 2, 3, 4] = wrong
    monkeypatch.setattr(METHODS["gaussian"], "soft_map", lambda self, inputs: TargetMap(values))
    with pytest.raises(CertificateError, match="nothing is stored"):
        METHODS["gaussian"]().compute(a_case())


def test_the_registry_is_imported_without_anything_heavy():
    heavy = ("scipy", "skimage", "SimpleITK", "numba", "zarr")
    code = f"import sys, softlabels.methods; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@law(*PROBABILITIES)
def test_quality_figures_agree_with_a_plain_recount(method):
    inputs = a_case((3, 40, 50))
    values = method.compute(inputs).values
    figures = quality_figures(values, inputs.masks)
    wide = values.astype(np.float64)
    deviation = np.abs(wide.sum(0) - 1)[inputs.masks.any(axis=0)]
    assert figures["sum_deviation_max"] == pytest.approx(deviation.max(), abs=1e-6)
    assert figures["sum_deviation_mean"] == pytest.approx(deviation.mean(), abs=1e-6)
    assert figures["entropy_mean"] == pytest.approx(-(wide * np.log2(np.maximum(wide, 1e-30))).sum(0).mean(), rel=1e-5)
    assert figures["saturated"] == pytest.approx(((wide < 1e-3) | (wide > 1 - 1e-3)).mean(), abs=1e-4)
    assert figures["volume_bias"] == pytest.approx(
        list(wide.sum((1, 2, 3)) / inputs.masks.sum((1, 2, 3)) - 1), abs=1e-5
    )
    own = np.where(inputs.masks, values, -1).max(axis=0)
    assert figures["disagreement"] == pytest.approx((own < values.max(axis=0)).mean(), rel=1e-5)


def test_a_voxel_of_no_class_cannot_disagree():
    masks = np.array([[[[1, 0, 0]]], [[[0, 1, 0]]]], bool)
    soft = np.float32([[[[0.4, 0.1, 0.9]]], [[[0.6, 0.9, 0.1]]]])
    assert quality_figures(soft, masks)["disagreement"] == pytest.approx(1 / 3, rel=1e-5)


def test_a_voxel_of_no_class_needs_no_distribution():
    masks = np.array([[[[1, 0, 0]]], [[[0, 1, 0]]]], bool)
    soft = np.float32([[[[0.75, 0, 0]]], [[[0, 1, 0]]]])
    figures = quality_figures(soft, masks)
    assert (figures["sum_deviation_max"], figures["sum_deviation_mean"]) == (0.25, 0.125)


def test_quality_of_overlapping_regions_takes_each_by_itself():
    masks = np.array([[[[1, 1, 1, 0]]], [[[0, 1, 0, 0]]]], bool)
    soft = np.float32([[[[1, 1, 0.5, 0.75]]], [[[0, 0.75, 0.5, 0]]]])
    figures = quality_figures(soft, masks, are_exclusive=False)
    assert "sum_deviation_max" not in figures and "sum_deviation_mean" not in figures
    assert figures["disagreement"] == 0.25  # only the last voxel: a half is on neither side
    of_three_quarters = -0.75 * np.log2(0.75) - 0.25 * np.log2(0.25)
    assert figures["entropy_mean"] == pytest.approx((2 + 2 * of_three_quarters) / 4, rel=1e-5)
    assert figures["volume_bias"] == [pytest.approx(3.25 / 3 - 1, rel=1e-5), pytest.approx(0.25)]


def test_quality_of_signed_maps_counts_wrong_signs_and_nan():
    masks = np.array([[[[1, 1, 0, 0]]]], bool)
    signed = np.float32([[[[0.5, -0.5, -1, 0]]]])
    assert quality_figures(signed, masks, kind="signed")["disagreement"] == 0.25
    assert quality_figures(-signed, masks, kind="distance")["disagreement"] == 0.25
    assert quality_figures(np.float32([[[[np.nan, 1, 0, 0]]]]), masks, kind="signed")["n_nan"] == 1


def test_maps_and_figures_are_the_same_bits_whatever_instructions_the_processor_has():
    script = """
import hashlib, json, sys
sys.path[:0] = ["tests", "tests/methods"]
from test_methods import STORED, a_case, quality_figures
inputs, digest = a_case((6, 40, 41), n_classes=4, seed=3), hashlib.sha256()
for method in STORED:
    found = method.compute(inputs)
    figures = quality_figures(found.values, inputs.masks, kind=method.kind)
    digest.update(found.values.tobytes() + json.dumps([figures, found.notes]).encode())
print(digest.hexdigest())
"""
    digests = set()
    for disabled in ("", "AVX512F AVX512CD AVX512_SKX AVX2 FMA3 X86_V4 X86_V3"):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
        found = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        digests.add(found.stdout)
    assert len(digests) == 1


@law(*[method for method in PROBABILITIES if method.sums_to_one])
def test_sums_hold_beside_voxels_of_no_class(method):
    """Beside the ignore label a filter must not hand mass to voxels that no loss looks at."""
    full = a_case()
    gone = np.zeros(full.masks.shape[1:], bool)
    gone[:, 3:5, 2:6] = True
    raters = full.raters & ~np.roll(gone, 2, 1)
    inputs = replace(full, masks=full.masks & ~gone, raters=raters, source_masks=full.source_masks & ~gone.repeat(2, 1))
    sums = method.compute(inputs).values.sum(axis=0)
    np.testing.assert_allclose(sums[~gone & raters.any(axis=(0, 1))], 1, atol=2e-4)
