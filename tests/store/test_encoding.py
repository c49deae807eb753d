"""Laws of the encodings: bounds hold on every value, ends are exact, encoding what was decoded changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from softlabels.errors import InputError
from softlabels.store.encoding import Exact, Integer, Rounded, encoding_from_json

INTERVALS = [(0.0, 1.0), (-1.0, 1.0), (-7.25, 311.5)]
bounded = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("lo", "hi"), INTERVALS)
class TestInteger:
    def test_both_ends_come_back_exactly(self, dtype, lo, hi):
        code = Integer(dtype, lo, hi)
        stored, _ = code.encode(np.array([lo, hi], np.float32))
        assert stored.tolist() == [0, np.iinfo(dtype).max]
        assert code.decode(stored).tolist() == [lo, hi]

    def test_every_level_survives_a_round_trip_and_levels_rise(self, dtype, lo, hi):
        code = Integer(dtype, lo, hi)
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
        values = code.decode(levels)
        assert (np.diff(values) > 0).all()
        np.testing.assert_array_equal(code.encode(values)[0], levels)

    def test_the_error_is_measured_and_within_half_a_level(self, dtype, lo, hi):
        code = Integer(dtype, lo, hi)
        values = np.random.default_rng(0).uniform(lo, hi, (3, 40, 50)).astype(np.float32)
        stored, error = code.encode(np.clip(values, np.float32(lo), np.float32(hi)))
        apart = np.abs(code.decode(stored).astype(np.float64) - values).max()
        assert error == apart
        assert 0.49 * code.scale < error <= code.bound

    def test_cf_attributes_decode_to_the_same_values(self, dtype, lo, hi):
        code = Integer(dtype, lo, hi)
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
        np.testing.assert_allclose(
            levels * code.scale + code.lo, code.decode(levels), atol=1e-6 * max(abs(lo), abs(hi))
        )

    def test_values_outside_the_interval_and_nan_are_refused(self, dtype, lo, hi):
        for wrong in (np.nextafter(np.float32(hi), np.float32(np.inf)), lo - 1, np.inf, np.nan):
            with pytest.raises(InputError, match="expected"):
                Integer(dtype, lo, hi).encode(np.array([lo, wrong, hi], np.float32))


@pytest.mark.parametrize(
    ("dtype", "lo", "hi"), [("uint32", 0, 1), ("uint8", 1, 1), ("uint8", 0, np.inf), ("uint8", 2, 1)]
)
def test_an_integer_encoding_needs_a_known_dtype_and_an_interval(dtype, lo, hi):
    with pytest.raises(InputError, match="integer encoding"):
        Integer(dtype, lo, hi)


def rounded_by_arithmetic(value, keep_bits):
    """Round one float32 by exact arithmetic in float64: the oracle."""
    if value == 0 or np.isinf(value):
        return value
    # Below the smallest normal number the spacing stays that of the smallest normal exponent.
    exponent = max(np.frexp(np.float64(value))[1] - 1, -126)
    step = np.ldexp(1.0, exponent - keep_bits)
    with np.errstate(over="ignore"):
        return np.float32(np.rint(np.float64(value) / step) * step)


floats = st.floats(width=32, allow_nan=False)


@bounded
@given(arrays(np.float32, (7,), elements=floats), st.integers(1, 23))
def test_rounding_is_to_nearest_with_ties_to_even(values, keep_bits):
    try:
        stored, error = Rounded(keep_bits).encode(values)
    except InputError:
        assert any(np.isinf(rounded_by_arithmetic(v, keep_bits)) and np.isfinite(v) for v in values)
        return
    assert stored.tolist() == [rounded_by_arithmetic(v, keep_bits) for v in values]
    normal = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny)
    apart = np.abs(stored[normal].astype(np.float64) - values[normal]) / np.abs(values[normal].astype(np.float64))
    assert apart.max(initial=0.0) <= error <= Rounded(keep_bits).bound


def test_ties_go_to_the_even_neighbour():
    stored, _ = Rounded(1).encode(np.array([1.25, 1.75, 2.5, 3.5], np.float32))
    assert stored.tolist() == [1.0, 2.0, 2.0, 4.0]


def test_rounding_twice_changes_nothing_and_23_bits_are_all():
    values = np.random.default_rng(1).exponential(30, 999).astype(np.float32)
    once, _ = Rounded(9).encode(values)
    twice, error = Rounded(9).encode(once)
    np.testing.assert_array_equal(twice, once)
    assert error == 0.0
    same, error = Rounded(23).encode(values)
    np.testing.assert_array_equal(same, values)
    assert error == Rounded(23).bound == 0.0


def test_rounding_refuses_nan_overflow_and_other_dtypes():
    for wrong in ([1, np.nan], [np.inf, np.nan], [np.finfo(np.float32).max, np.inf]):
        with pytest.raises(InputError, match="rounded storage"):
            Rounded(5).encode(np.array(wrong, np.float32))
    with pytest.raises(InputError, match="expected float32"):
        Rounded(5).encode(np.zeros(3))
    for bits in (0, 24, 3.0):
        with pytest.raises(InputError, match="keep_bits"):
            Rounded(bits)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "int64", "float32", "float64", ">f4"])
def test_exact_storage_returns_the_values_it_got(dtype):
    values = np.arange(-3, 9).astype(dtype)
    code = Exact(is_bool=dtype == "bool")
    stored, error = code.encode(values)
    assert error == 0.0
    assert stored.dtype.isnative
    back = code.decode(stored)
    np.testing.assert_array_equal(back, values)
    assert back.dtype == code.values_dtype(dtype) == np.dtype(dtype).newbyteorder("=")


def test_exact_storage_refuses_dtypes_that_readers_lack():
    for dtype in ("complex64", "float16", "U3", "O"):
        with pytest.raises(InputError, match="exact storage"):
            Exact().stored_dtype(dtype)


@pytest.mark.parametrize("code", [Integer("uint8", 0.0, 1.0), Rounded(7), Exact()])
def test_encoding_modifies_no_input_and_reads_any_memory_layout(code):
    base = np.random.default_rng(2).random((6, 8, 10)).astype(np.float32)
    view = base[::2, ::-1, 1:7]
    before = view.copy()
    stored, _ = code.encode(view)
    np.testing.assert_array_equal(view, before)
    np.testing.assert_array_equal(stored, code.encode(before)[0])
    target = np.zeros((5, *stored.shape), np.float32)
    code.decode(stored, out=target[2])
    np.testing.assert_array_equal(target[2], code.decode(stored))
    assert not np.shares_memory(code.decode(stored), base)


@pytest.mark.parametrize("code", [Integer("uint16", -1.0, 1.0), Rounded(12), Exact(is_bool=True)])
def test_an_encoding_survives_json(code):
    assert encoding_from_json(code.to_json()) == code
