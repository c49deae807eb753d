"""Laws of sparse storage: shares sum to one, the K largest are kept, and no share is off by more than its bound."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.boxed import BoxedVolumes
from softlabels.errors import CertificateError
from softlabels.grid import Grid
from softlabels.sparse import NO_FLOOR, SparseLabel, to_dense
from softlabels.store import Store
from softlabels.store.largest_classes import SUM_TOLERANCE, largest_classes, negligible_share

LEVELS = {"uint8": 255, "uint16": 65535}
bounded = settings(max_examples=25, deadline=None, derandomize=True)


def distributions(seed, n_classes, shape=(3, 5, 4), concentration=0.1):
    """Return (C, D, H, W) random distributions."""
    rng = np.random.default_rng(seed)
    drawn = rng.dirichlet(np.full(n_classes, concentration), shape) if n_classes > 1 else np.ones((*shape, 1))
    return np.ascontiguousarray(np.moveaxis(drawn, -1, 0).astype(np.float32))


def reduced(values, dtype="uint8", max_dropped=0.01, threads=1):
    """Return integers of the shares, classes, and the figures."""
    names = [f"c{i}" for i in range(len(values))]
    (shares, classes), figures = largest_classes(values, names, dtype=dtype, max_dropped=max_dropped, threads=threads)
    return shares.values.levels, classes.values, figures


def by_hand(value, total, n_kept):
    """Return class to integer of one voxel, by the rules as they are written: the oracle."""
    order = sorted(range(len(value)), key=lambda c: (-value[c], c))[:n_kept]
    used = [c for c in order if value[c] > 0]
    if not used:
        return {}
    exact = {c: float(value[c]) * (total / sum(float(value[c]) for c in used)) for c in used}
    found = {c: int(np.floor(exact[c])) for c in used}
    by_remainder = sorted(used, key=lambda c: (found[c] - exact[c], used.index(c)))
    for c in by_remainder[: total - sum(found.values())]:
        found[c] += 1
    return {c: n for c, n in found.items() if n}


@bounded
@given(
    seed=st.integers(0, 10**6),
    n_classes=st.integers(1, 30),
    dtype=st.sampled_from(sorted(LEVELS)),
    max_dropped=st.sampled_from([0.1, 0.01, 0.001]),
    concentration=st.sampled_from([0.02, 0.1, 1.0]),
)
def test_every_voxel_is_what_the_rules_give(seed, n_classes, dtype, max_dropped, concentration):
    values = distributions(seed, n_classes, concentration=concentration)
    levels, classes, figures = reduced(values, dtype, max_dropped)
    n_kept = len(levels)
    total = LEVELS[dtype]
    flat = values.reshape(n_classes, -1).astype(np.float64)
    counted = np.where(flat > negligible_share(n_classes, 1 / total, max_dropped), flat, 0)
    falling = -np.sort(-counted, axis=0)
    left_out = np.stack([flat.sum(0) - falling[:k].sum(0) for k in range(n_classes + 1)]).max(axis=1)
    assert n_kept == figures["n_kept"] == max(1, int(np.argmax(left_out <= max_dropped)))
    assert figures["dropped_max"] == pytest.approx(max(left_out[n_kept], 0), rel=1e-4, abs=2e-6)
    for voxel, value in enumerate(counted.T):
        pairs = zip(classes.reshape(n_kept, -1)[:, voxel], levels.reshape(n_kept, -1)[:, voxel], strict=True)
        assert {int(c): int(n) for c, n in pairs if n} == by_hand(value, total, n_kept)


@bounded
@given(
    seed=st.integers(0, 10**6),
    n_classes=st.integers(1, 60),
    dtype=st.sampled_from(sorted(LEVELS)),
    max_dropped=st.sampled_from([0.1, 0.01, 0.0001]),
)
def test_shares_sum_to_one_and_none_is_off_by_more_than_its_bound(seed, n_classes, dtype, max_dropped):
    values = distributions(seed, n_classes)
    levels, classes, figures = reduced(values, dtype, max_dropped)
    total = LEVELS[dtype]
    assert (levels.sum(axis=0, dtype=np.int64) == total).all()
    assert (np.diff(levels.astype(np.int64), axis=0) <= 0).all()
    assert not classes[levels == 0].any()
    decoded = to_dense(SparseLabel(classes, (levels / total).astype(np.float32), NO_FLOOR), n_classes)
    np.testing.assert_allclose(decoded.sum(axis=0), 1, atol=1e-6)
    error = np.abs(decoded.astype(np.float64) - values).max()
    assert error <= figures["error_bound"] == pytest.approx(max_dropped + 1 / total + SUM_TOLERANCE, rel=1e-5)
    assert error <= figures["error_max"] * (1 + 1e-5) + 1e-7
    assert figures["dropped_mean"] <= figures["dropped_max"] <= max_dropped


def test_equal_shares_keep_the_order_of_the_classes_and_the_first_ones_get_the_rest():
    values = np.full((4, 1, 1, 1), 0.25, np.float32)
    levels, classes, figures = reduced(values)
    assert classes.ravel().tolist() == [0, 1, 2, 3] and levels.ravel().tolist() == [64, 64, 64, 63]
    levels, classes, _ = reduced(np.float32([0.2, 0.4, 0.4]).reshape(3, 1, 1, 1))
    assert classes.ravel().tolist() == [1, 2, 0] and levels.ravel().tolist() == [102, 102, 51]
    assert figures["n_kept"] == 4


def test_hard_labels_take_one_slot_and_an_absent_class_none():
    labels = np.random.default_rng(0).integers(0, 5, (4, 6, 5))
    onehot = np.stack([labels == c for c in range(7)]).astype(np.float32)
    levels, classes, figures = reduced(onehot)
    assert levels.shape == (1, 4, 6, 5) and (levels == 255).all()
    np.testing.assert_array_equal(classes[0], labels)
    assert figures["error_max"] < 1e-3 and figures["dropped_max"] == 0


def test_a_voxel_of_no_class_stays_without_one():
    values = distributions(3, 4)
    values[:, 1] = 0
    levels, classes, _ = reduced(values)
    assert not levels[:, 1].any() and not classes[:, 1].any() and (levels[:, 0].sum(axis=0) == 255).all()
    levels, _, figures = reduced(np.zeros((3, 2, 2, 2), np.float32))
    assert levels.shape == (1, 2, 2, 2) and not levels.any() and figures["n_kept"] == 1


@pytest.mark.parametrize("shape", [(5, 150, 99), (1, 2, 70001), (1, 300, 301)])
def test_several_blocks_boxes_and_threads_give_the_same_as_one_array(shape):
    values = distributions(5, 4, shape)
    values[2, : shape[0] // 2], values[2, :, shape[1] // 2 :] = 0, 0
    values /= values.sum(axis=0)
    levels, classes, figures = reduced(values)
    for again in (reduced(values, threads=3), reduced(BoxedVolumes.of_array(values, fill=0))):
        np.testing.assert_array_equal(again[0], levels)
        np.testing.assert_array_equal(again[1], classes)
        assert again[2] == figures
    in_a_row = reduced(values.reshape(4, 1, 1, -1))
    np.testing.assert_array_equal(in_a_row[0].reshape(levels.shape), levels)
    np.testing.assert_array_equal(in_a_row[1].reshape(classes.shape), classes)
    assert in_a_row[2] == figures


@pytest.mark.parametrize("n_classes", [256, 257])
def test_more_than_256_classes_need_two_bytes(n_classes):
    values = np.zeros((n_classes, 1, 1, 2), np.float32)
    values[-1, ..., 0] = values[0, ..., 1] = 1
    _, classes, _ = reduced(values)
    assert classes.dtype == (np.uint8 if n_classes == 256 else np.uint16)
    assert classes.ravel().tolist() == [n_classes - 1, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, 0.4], "sum to 0.9 at"),
        ([0.7, 0.5], "sum to 1.2 at"),
        ([1.5, -0.5], "shares from -0.5"),
        ([0.5, np.nan], "sum to nan"),
    ],
)
def test_what_is_no_distribution_is_refused(values, message):
    with pytest.raises(CertificateError, match=message):
        reduced(np.float32(values).reshape(2, 1, 1, 1))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return an entry of a distribution over 20 classes, and the dense values that it decodes to."""
    values = distributions(11, 20, (9, 70, 11))
    names = [f"organ_{i}" for i in range(20)]
    layers, figures = largest_classes(values, names, dtype="uint8", max_dropped=0.02)
    grid = Grid(values.shape[1:], (2.0, 1.0, 1.0))
    store = Store(tmp_path_factory.mktemp("store"))
    entry, _ = store.publish("a" * 64, layers, grid=grid, attributes={}, quality={"sparse": figures}, provenance={})
    shares, classes = layers
    return entry, classes.values, shares.values[:]


def test_an_entry_holds_both_layers_with_the_names_of_the_classes(published):
    entry, classes, shares = published
    np.testing.assert_array_equal(entry.read("classes"), classes)
    np.testing.assert_array_equal(entry.read("shares"), shares)
    assert entry.flag_meanings("classes") == tuple(f"organ_{i}" for i in range(20))
    assert entry.flag_meanings("shares") is None
    assert entry.error("shares")["largest"] == 0


def test_zarr_and_xarray_read_plain_arrays_and_cf_names(published):
    xarray = pytest.importorskip("xarray")
    zarr = pytest.importorskip("zarr")
    entry, classes, shares = published
    group = zarr.open_group(entry.zarr_path, mode="r")
    assert group["classes"].dtype == group["shares"].dtype == np.uint8
    np.testing.assert_array_equal(group["classes"][...], classes)
    assert (group["shares"][...].sum(axis=0, dtype=int) == 255).all()
    assert group["classes"].attrs["flag_meanings"].split()[3] == "organ_3"
    assert group["classes"].attrs["flag_values"] == list(range(20))
    data = xarray.open_zarr(entry.zarr_path, consolidated=False)
    np.testing.assert_allclose(data.shares.values, shares, atol=1e-6)
    most = data.classes.where(data.shares > 0).isel(c=0)
    np.testing.assert_array_equal(most.values, classes[0])
    organ = data.shares.where(data.classes == 3, 0).sum("c")
    dense = to_dense(SparseLabel(classes, shares, NO_FLOOR), 20)
    np.testing.assert_allclose(organ.values, dense[3], atol=1e-6)
