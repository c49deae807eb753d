"""Distances within a gap: the bits of the whole solution where they are near, inf elsewhere, and nothing lost by it."""

import dataclasses

import numpy as np
import pytest
from helpers.made_problems import SPACINGS
from helpers.real_volumes import real_volumes
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.boxed import NO_BOX, BoxedVolumes
from softlabels.errors import CertificateError, InputError
from softlabels.geodesic import _gap, distances_for_distribution, geodesic_distance, geodesic_distance_within_gap
from softlabels.geodesic._certify import certify_problem
from softlabels.geodesic._problem import checked_problem
from softlabels.geodesic._reference import solve_reference
from softlabels.geodesic.metric import METRICS

#: Shapes and where each class may have its seeds: odd ones, thin slabs, lines.
SHAPES = [(7, 19, 23), (1, 17, 31), (2, 30, 5), (33, 1, 9), (1, 1, 60), (11, 12, 13)]


@pytest.fixture
def always_boxes(monkeypatch):
    """Let no box give way to the whole volume, however large it is."""
    monkeypatch.setattr(_gap, "_WHOLE", 2.0)


def a_problem(seed, *, scale=None):
    """Return image, seeds (C, D, H, W), spacing and options: a class absent, some of one seed, walls in every third."""
    rng = np.random.default_rng(seed)
    shape, spacing = SHAPES[seed % len(SHAPES)], SPACINGS[seed % 3]
    metric = list(METRICS)[seed % 4]
    image = rng.integers(0, 12, (1 + seed % 2, *shape)) * (rng.choice([0.0, 0.1, 3.0, 1e6]) if scale is None else scale)
    seeds = np.zeros((5, *shape), bool)
    seeds[0] = rng.random(shape) < 0.02
    for one in (seeds[0], seeds[1], seeds[3]):
        one.flat[rng.integers(one.size)] = True
    corner = tuple(slice(0, 1 + n // 3) for n in shape)
    seeds[4][corner] = True
    options = {"metric": metric, "lamb": (0.0, 0.5, 1.0)[seed % 3], "gamma": 0.4}
    if seed % 3 == 1:
        options["domain"] = rng.random(shape) < 0.7
    return image.astype(np.float32), seeds, spacing, options


def dense(maps, shape):
    """Return near maps as an array (C, D, H, W), after a look at their boxes."""
    maps = sorted(maps, key=lambda near: near.index)
    assert [near.index for near in maps] == list(range(len(maps)))
    for near in maps:
        # Each box is as small as it can be: all its faces are reached.
        for axis, n in enumerate(near.values.shape):
            for face in (0, -1) if n else ():
                assert np.isfinite(near.values.take(face, axis)).any()
    parts = [(near.box, near.values) for near in maps]
    return BoxedVolumes(shape, parts, fill=np.inf, dtype=np.float32).dense()


def oracle(image, seeds, spacing, options):
    """Return the whole distances by Dijkstra's algorithm."""
    return solve_reference(checked_problem(image, seeds, spacing, **options))


def within(full, gap):
    """Return which distances are at most the least plus the gap, compared exactly."""
    return full <= full.min(axis=0).astype(np.float64) + gap


def test_by_hand():
    # Steps of 1 mm; seeds at both ends and in the middle of 9 voxels; the third class has none.
    seeds = np.zeros((4, 1, 1, 9), bool)
    seeds[0, 0, 0, 0] = seeds[1, 0, 0, 8] = seeds[3, 0, 0, 4] = True
    maps = geodesic_distance_within_gap(np.zeros((1, 1, 9)), seeds, (1, 1, 1), 1.0, lamb=0.0)
    maps = sorted(maps, key=lambda near: near.index)
    # The least: 0 1 2 1 0 1 2 1 0.
    assert [near.values.ravel().tolist() for near in maps] == [[0, 1, 2], [2, 1, 0], [], [2, 1, 0, 1, 2]]
    assert [near.box[2] for near in maps] == [slice(0, 3), slice(6, 9), slice(0, 0), slice(2, 7)]
    assert [near.certificate.n_unreachable for near in maps] == [6, 6, 9, 4]
    assert all(near.certificate.is_exact for near in maps)


@pytest.mark.usefixtures("always_boxes")
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**4), gap=st.sampled_from([0.0, 0.5, 3.7, 12.0, 1e4]), n_threads=st.integers(1, 3))
def test_the_bits_of_dijkstra_within_the_gap_and_inf_beyond(seed, gap, n_threads):
    image, seeds, spacing, options = a_problem(seed)
    full = oracle(image, seeds, spacing, options)
    found = geodesic_distance_within_gap(image, seeds, spacing, gap, **options, n_threads=n_threads)
    np.testing.assert_array_equal(dense(found, image.shape[1:]), np.where(within(full, gap), full, np.inf))


@pytest.mark.usefixtures("always_boxes")
def test_neither_the_guess_nor_the_whole_volume_in_its_place_changes_the_result(monkeypatch):
    image, seeds, spacing, options = a_problem(5)
    shape = image.shape[1:]
    expected = dense(geodesic_distance_within_gap(image, seeds, spacing, 4.0, **options), shape)
    assert np.isfinite(expected).any(axis=(1, 2, 3)).sum() == 4 and np.isinf(expected[:2]).any()
    for part in ((slice(0, 1),) * 3, tuple(slice(0, n) for n in shape), tuple(slice(n - 1, n) for n in shape)):
        found = geodesic_distance_within_gap(image, seeds, spacing, 4.0, **options, boxes=[part] * len(seeds))
        np.testing.assert_array_equal(dense(found, shape), expected)
    monkeypatch.setattr(_gap, "_WHOLE", 0.0)
    np.testing.assert_array_equal(
        dense(geodesic_distance_within_gap(image, seeds, spacing, 4.0, **options), shape), expected
    )


@pytest.mark.usefixtures("always_boxes")
def test_a_box_grows_on_the_sides_that_are_reached(monkeypatch):
    monkeypatch.setattr(_gap, "_GROWTH_VOX", 1)
    monkeypatch.setattr(_gap, "_GROWTH", 0.0)
    seeds = np.zeros((2, 3, 3, 40), bool)
    seeds[0, 1, 1, 0] = seeds[1, 1, 1, 39] = True
    image = np.zeros(seeds.shape[1:])
    full = geodesic_distance(image, seeds, (1, 1, 1))
    for gap in (0.0, 5.0, 60.0):
        found = dense(geodesic_distance_within_gap(image, seeds, (1, 1, 1), gap), image.shape)
        np.testing.assert_array_equal(found, np.where(within(full, gap), full, np.inf))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**4), gap=st.sampled_from([0.0, 2.0, 16.0]), n_peaks=st.integers(0, 3))
def test_the_bound_is_above_the_gap_and_rises_by_no_more_than_a_step(seed, gap, n_peaks):
    image, seeds, spacing, options = a_problem(seed)
    problem = checked_problem(image, seeds.any(axis=0), spacing, **options)
    nearest = solve_reference(problem)[0]
    peaks = np.zeros(problem.shape, bool)
    peaks.flat[np.random.default_rng(seed).integers(peaks.size, size=n_peaks)] = True
    raised = np.where(peaks, 2 * nearest + 1, nearest)
    bound = _gap.rising_bound(problem, raised, gap, peaks if n_peaks else None)
    is_known = np.isfinite(raised)
    assert (bound[is_known] > raised[is_known].astype(np.float64) + gap).all()
    # No step from a neighbour leads below it: one more round of Dijkstra's relaxation changes nothing.
    scaled = problem.image * problem.cost.scale
    is_open = np.ones(problem.shape, bool) if problem.domain is None else problem.domain
    for axis in range(3):
        offset = np.eye(3, dtype=int)[axis]
        low, high = (
            tuple(slice(s, n - 1 + s) if k == axis else slice(None) for k, n in enumerate(problem.shape))
            for s in (0, 1)
        )
        step = problem.cost.step(scaled[:, *low] - scaled[:, *high], offset)
        both = is_open[low] & is_open[high]
        assert (bound[low] <= bound[high] + step)[both].all() and (bound[high] <= bound[low] + step)[both].all()


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 6, 7, 8, 11])
def test_the_certificate_of_a_bound_finds_a_wrong_voxel(seed):
    rng = np.random.default_rng(seed)
    image, seeds, spacing, options = a_problem(seed, scale=1.0)
    problem = checked_problem(image, seeds.any(axis=0), spacing, **options)
    bound = _gap.rising_bound(problem, solve_reference(problem)[0], 2.0)
    one = dataclasses.replace(problem, seeds=seeds[:1], bound=bound)
    full = oracle(image, seeds[:1], spacing, options)
    distance = np.where(full < bound, full, np.inf)
    assert certify_problem(one, distance)[0].is_exact
    for value in (np.inf, np.nan, 0.5, 1e30):
        wrong = distance.copy()
        at = rng.choice(np.flatnonzero(np.isfinite(distance) & (distance > 0)))
        wrong.flat[at] = value
        assert not certify_problem(one, wrong)[0].is_exact, value
    beyond = np.isfinite(full) & np.isinf(distance)
    if beyond.any():
        kept = np.where(beyond & (full == full[beyond].min()), full, distance)
        assert not certify_problem(one, kept)[0].is_exact, "a distance that is not below the bound"


def test_a_bound_that_rises_faster_than_a_step_is_refused(monkeypatch):
    from softlabels.geodesic import _certify_pass

    image, seeds, spacing, options = a_problem(0)
    problem = checked_problem(image, seeds.any(axis=0), spacing, **options)
    monkeypatch.setattr(_certify_pass, "judge", lambda *arguments: (3, 0, 0))
    with pytest.raises(CertificateError, match="got 3 voxels where the bound rises by more than a step costs"):
        _gap.rising_bound(problem, solve_reference(problem)[0], 1.0)


def shares(distance, farthest):
    """Return the distribution over classes of min-max normalised exponentials, (C, n), in float64 and log space."""
    wide = distance.reshape(len(distance), -1).astype(np.float64)
    largest = np.asarray(farthest, np.float64)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        # log of (e^-D - e^-M) / (1 - e^-M), with 1 where M is 0.
        logs = -wide + np.log(-np.expm1(np.minimum(wide - largest, 0))) - np.log(-np.expm1(-largest))
        logs = np.where(largest == 0, -wide, logs)
        logs[~np.isfinite(wide)] = -np.inf
        logs -= logs.max(axis=0)
        weight = np.exp(logs)
        return weight / weight.sum(axis=0)


def largest_finite(full):
    """Return the largest finite distance of each class."""
    return np.max(full, axis=(1, 2, 3), where=np.isfinite(full), initial=0)


def assert_shares_within(full, near, gap):
    """Assert that no share differs by more than the stated bound, wherever the whole distances give one."""
    expected = shares(full, largest_finite(full))
    found = shares(near.maps.dense(), near.farthest)
    is_defined = np.isfinite(expected).all(axis=0)
    worst = np.abs(found - expected)[:, is_defined].max(initial=0)
    assert worst <= 2 * len(full) * np.exp(-gap) + 1e-12, worst
    return worst


@pytest.mark.usefixtures("always_boxes")
@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**4), gap=st.sampled_from([1.0, 5.0, 9.0, 14.0]), scale=st.sampled_from([0.0, 0.3, 5.0]))
def test_no_share_differs_by_more_than_the_bound(seed, gap, scale):
    image, seeds, spacing, options = a_problem(seed, scale=scale)
    full = oracle(image, seeds, spacing, options)
    near = distances_for_distribution(image, seeds, spacing, gap, **options)
    largest = largest_finite(full)
    assert (near.farthest <= largest).all()
    np.testing.assert_array_equal(near.farthest[near.is_exact], largest[near.is_exact])
    kept = near.maps.dense()
    np.testing.assert_array_equal(kept[np.isfinite(kept)], full[np.isfinite(kept)])
    assert np.isfinite(kept)[within(full, gap)].sum() == np.isfinite(full)[within(full, gap)].sum()
    assert_shares_within(full, near, gap)


def test_where_a_class_is_at_its_own_peak_the_others_decide_as_in_the_whole_solution():
    # Class 0 is the nearest one at the far end, where it has no weight; the others are further than the gap there.
    seeds = np.zeros((3, 1, 1, 60), bool)
    seeds[0, 0, 0, [10, 40]] = seeds[1, 0, 0, 33] = seeds[2, 0, 0, 34] = True
    image = np.zeros((1, 1, 60))
    full = geodesic_distance(image, seeds, (1, 1, 1), lamb=0.0)
    assert full[:, 0, 0, 59].tolist() == [19, 26, 25] and largest_finite(full).tolist() == [19, 33, 34]
    near = distances_for_distribution(image, seeds, (1, 1, 1), 5.0, lamb=0.0)
    assert near.apart == (0,)
    kept = near.maps.dense()[:, 0, 0]
    assert kept[:, 59].tolist() == [19, 26, 25] and np.isinf(kept[1:, 50:58]).all()
    assert_shares_within(full, near, 5.0)
    # One class and no other, or none at all.
    alone = distances_for_distribution(image, seeds[:1], (1, 1, 1), 5.0, lamb=0.0)
    np.testing.assert_array_equal(alone.maps.dense(), full[:1])
    nothing = distances_for_distribution(image, np.zeros_like(seeds), (1, 1, 1), 5.0, lamb=0.0)
    assert [box for box, _ in nothing.maps] == [NO_BOX] * 3 and not nothing.farthest.any()


def test_the_gap_grows_by_what_rounding_may_take():
    image, seeds, spacing, options = a_problem(6, scale=3.0)
    near = distances_for_distribution(image, seeds, spacing, 5.0, **options, rounding=2.0**-10)
    full = oracle(image, seeds, spacing, options)
    assert near.gap >= 5 + 2 * 2.0**-10 * (full.min(axis=0).max() + 5)
    rng = np.random.default_rng(0)
    factor = 1 + rng.choice([-1, 1], full.shape) * 2.0**-10
    rounded = np.float64(full) * factor
    left_out = np.isinf(near.maps.dense())
    assert (rounded >= rounded.min(axis=0) + 5)[left_out].all()


def test_what_does_not_fit_is_refused():
    image, seeds, spacing, options = a_problem(0)
    for gap in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="gap: got"):
            list(geodesic_distance_within_gap(image, seeds, spacing, gap, **options))
    with pytest.raises(InputError, match="expected a distance >= 1 for a distribution"):
        distances_for_distribution(image, seeds, spacing, 0.5, **options)
    with pytest.raises(InputError, match="boxes: got 1, expected one for each of the 5 classes"):
        list(geodesic_distance_within_gap(image, seeds, spacing, 1.0, **options, boxes=[NO_BOX]))
    with pytest.raises(InputError, match=r"seeds: got int64 .*, expected bool"):
        list(geodesic_distance_within_gap(image, seeds.astype(int), spacing, 1.0, **options))


def test_41_real_organs_within_the_gap_and_the_bound():
    from softlabels.inputs.volume import read_volume

    folder = real_volumes()
    if folder is None or not (folder / "ct_organs_small").is_dir():
        pytest.skip("no real volumes")
    image = read_volume(folder / "ct_organs_small" / "ct.nii.gz", role="image")
    labels = read_volume(folder / "ct_organs_small" / "label.nii.gz", role="label").values
    ct = (image.values - image.values.mean()) / image.values.std()
    masks = np.stack([labels == value for value in np.unique(labels)])
    rng = np.random.default_rng(0)
    seeds = masks & (rng.random(masks.shape) < 0.05)
    for mask, own in zip(masks, seeds, strict=True):
        own[tuple(np.argwhere(mask)[0])] = True
    options = {"metric": "pythagorean", "gamma": 1.0}
    full = geodesic_distance(ct, seeds, image.grid.spacing, **options)
    assert len(full) == 42
    near = distances_for_distribution(ct, seeds, image.grid.spacing, 12.0, **options)
    kept = near.maps.dense()
    np.testing.assert_array_equal(kept[np.isfinite(kept)], full[np.isfinite(kept)])
    assert np.isfinite(kept)[within(full, 12.0)].all()
    assert near.maps.nbytes < full.nbytes / 5
    assert 0 < assert_shares_within(full, near, 12.0) < 1e-4
