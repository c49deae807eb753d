"""Laws of the encodings: bounds hold on every value, ends are exact, encoding what was decoded changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from softlabels.errors import InputError
from softlabels.store.encoding import BitRound, Lossless, ScaleOffset, encoding_from_json

INTERVALS = [(0.0, 1.0), (-1.0, 1.0), (-7.25, 311.5)]
bounded = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize(("lo", "hi"), INTERVALS)
class TestInteger:
    def test_both_ends_come_back_exactly(self, dtype, lo, hi):
        code = ScaleOffset(dtype, lo, hi)
        stored, _ = code.encode(np.array([lo, hi], np.float32))
        assert stored.tolist() == [0, np.iinfo(dtype).max]
        assert code.decode(stored).tolist() == [lo, hi]

    def test_every_level_survives_a_round_trip_and_levels_rise(self, dtype, lo, hi):
        code = ScaleOffset(dtype, lo, hi)
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
        values = code.decode(levels)
        assert (np.diff(values) > 0).all()
        np.testing.assert_array_equal(code.encode(values)[0], levels)

    def test_decoding_gives_the_bits_of_the_table_of_levels_in_any_layout(self, dtype, lo, hi):
        for code in (ScaleOffset(dtype, lo, hi), ScaleOffset.signed(dtype)):
            levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype).reshape(-1, 16)
            wider = np.full((len(levels), 20), -9, np.float32)
            for stored, out in ((levels, None), (levels, wider[:, 3:-1]), (levels[::-1, ::2], wider[:, 3:-1:2])):
                found = code.decode(stored, out)
                assert np.array_equal(found.view(np.uint32), code.levels[stored].view(np.uint32))
            assert (wider[:, [0, 1, 2, -1]] == -9).all()

    def test_the_error_is_measured_and_within_half_a_level(self, dtype, lo, hi):
        code = ScaleOffset(dtype, lo, hi)
        values = np.random.default_rng(0).uniform(lo, hi, (3, 40, 50)).astype(np.float32)
        stored, error = code.encode(np.clip(values, np.float32(lo), np.float32(hi)))
        apart = np.abs(code.decode(stored).astype(np.float64) - values).max()
        assert error == apart
        assert 0.49 * code.scale < error <= code.bound

    def test_cf_attributes_decode_to_the_same_values(self, dtype, lo, hi):
        code = ScaleOffset(dtype, lo, hi)
        levels = np.arange(np.iinfo(dtype).max + 1, dtype=dtype)
        np.testing.assert_allclose(
            levels * code.scale + code.lo, code.decode(levels), atol=1e-6 * max(abs(lo), abs(hi))
        )

    def test_values_outside_the_interval_and_nan_are_refused(self, dtype, lo, hi):
        for wrong in (np.nextafter(np.float32(hi), np.float32(np.inf)), lo - 1, np.inf, np.nan):
            with pytest.raises(InputError, match="expected"):
                ScaleOffset(dtype, lo, hi).encode(np.array([lo, wrong, hi], np.float32))


@pytest.mark.parametrize(
    ("dtype", "lo", "hi"), [("uint32", 0, 1), ("uint8", 1, 1), ("uint8", 0, np.inf), ("uint8", 2, 1)]
)
def test_an_integer_encoding_needs_a_known_dtype_and_an_interval(dtype, lo, hi):
    with pytest.raises(InputError, match="scale-offset encoding"):
        ScaleOffset(dtype, lo, hi)


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
        stored, error = BitRound(keep_bits).encode(values)
    except InputError:
        assert any(np.isinf(rounded_by_arithmetic(v, keep_bits)) and np.isfinite(v) for v in values)
        return
    assert stored.tolist() == [rounded_by_arithmetic(v, keep_bits) for v in values]
    normal = np.isfinite(values) & (np.abs(values) >= np.finfo(np.float32).tiny)
    apart = np.abs(stored[normal].astype(np.float64) - values[normal]) / np.abs(values[normal].astype(np.float64))
    assert apart.max(initial=0.0) <= error <= BitRound(keep_bits).bound


def test_ties_go_to_the_even_neighbour():
    stored, _ = BitRound(1).encode(np.array([1.25, 1.75, 2.5, 3.5], np.float32))
    assert stored.tolist() == [1.0, 2.0, 2.0, 4.0]


def by_bit_arithmetic(values, keep_bits):
    """Round by the arithmetic that entries were written with before it was numcodecs'."""
    bits, drop = values.view(np.uint32).copy(), 23 - keep_bits
    if drop:
        bits += ((bits >> drop) & 1) + np.uint32(2 ** (drop - 1) - 1)
        bits &= np.uint32(2**32 - 2**drop)
    return bits


@pytest.mark.parametrize("keep_bits", range(1, 24))
def test_the_bits_are_those_of_entries_written_before(keep_bits):
    rng = np.random.default_rng(keep_bits)
    patterns = rng.integers(0, 2**32, 200_000, np.uint32)
    # Zeros, subnormals, the ends of the exponents, infinities, and all neighbours of ties, of both signs.
    ties = (np.arange(0, 2**23, 2 ** (23 - keep_bits), dtype=np.uint32)[:4000, None] + np.uint32([0, 1])).ravel()
    half = np.uint32(2 ** (22 - keep_bits)) if keep_bits < 23 else np.uint32(0)
    ends = np.uint32([0, 1, 0x007FFFFF, 0x00800000, 0x7F000000, 0x7F800000])
    edges = np.concatenate([ends, ties, ties + half, np.uint32(0x3F800000) + ties + half])
    patterns = np.concatenate([patterns, edges, edges | np.uint32(1 << 31)])
    # Neither NaN nor what rounds to infinity, which are refused.
    magnitude = patterns & np.uint32(0x7FFFFFFF)
    values = patterns[(magnitude == 0x7F800000) | (magnitude < 0x7F400000)].view(np.float32)
    stored, _ = BitRound(keep_bits).encode(values)
    np.testing.assert_array_equal(stored.view(np.uint32), by_bit_arithmetic(values, keep_bits))


def test_rounding_twice_changes_nothing_and_23_bits_are_all():
    values = np.random.default_rng(1).exponential(30, 999).astype(np.float32)
    once, _ = BitRound(9).encode(values)
    twice, error = BitRound(9).encode(once)
    np.testing.assert_array_equal(twice, once)
    assert error == 0.0
    same, error = BitRound(23).encode(values)
    np.testing.assert_array_equal(same, values)
    assert error == BitRound(23).bound == 0.0


def test_rounding_writes_where_it_is_asked_to_in_blocks_in_place_and_between_other_values():
    values = np.random.default_rng(2).exponential(30, (3, 40_000)).astype(np.float32)
    expected, bound = BitRound(9).encode(values)
    assert not np.shares_memory(expected, values)
    wider = np.full((3, 40_010), -9, np.float32)
    for out in (np.empty_like(values), wider[:, 3:-7]):
        _, error = BitRound(9).encode(values, out)
        np.testing.assert_array_equal(out, expected)
        assert error == bound
    assert (wider[:, :3] == -9).all() and (wider[:, -7:] == -9).all()
    np.testing.assert_array_equal(BitRound(9).encode(values[::-1, ::2])[0], expected[::-1, ::2])
    BitRound(9).encode(values, values)
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("code", [ScaleOffset("uint16", 0.0, 500.0), BitRound(9), Lossless()])
def test_no_encoding_writes_to_values_that_are_mapped_from_a_file(tmp_path, code):
    values = np.random.default_rng(2).exponential(30, (3, 400)).astype(np.float32)
    values.tofile(tmp_path / "values")
    for mode in ("r", "r+"):
        mapped = np.memmap(tmp_path / "values", np.float32, mode, shape=values.shape)
        stored, _ = code.encode(mapped)
        np.testing.assert_array_equal(stored, code.encode(values)[0])
        np.testing.assert_array_equal(mapped, values)


def test_rounding_takes_the_largest_number_that_stays_finite_and_refuses_the_next():
    # With 1 bit, a step is 2**22 units; half a step below infinity is a tie, which goes to the even infinity.
    tie = np.array([0x7F800000 - (1 << 21)], np.uint32)
    beyond, within = (np.float32([n.view(np.float32)[0], np.inf, -1.0]) for n in (tie, tie - np.uint32(1)))
    for sign in (1, -1):
        stored, _ = BitRound(1).encode(within * np.float32(sign))
        assert np.isfinite(stored[0]) and np.isinf(stored[1])
        with pytest.raises(InputError, match="round to infinity"):
            BitRound(1).encode(beyond * np.float32(sign))


def test_rounding_refuses_nan_overflow_and_other_dtypes():
    for wrong in ([1, np.nan], [np.inf, np.nan], [np.finfo(np.float32).max, np.inf]):
        with pytest.raises(InputError, match="rounded storage"):
            BitRound(5).encode(np.array(wrong, np.float32))
    with pytest.raises(InputError, match="expected float32"):
        BitRound(5).encode(np.zeros(3))
    for bits in (0, 24, 3.0):
        with pytest.raises(InputError, match="keep_bits"):
            BitRound(bits)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "int64", "float32", "float64", ">f4"])
def test_exact_storage_returns_the_values_it_got(dtype):
    values = np.arange(-3, 9).astype(dtype)
    code = Lossless(is_bool=dtype == "bool")
    stored, error = code.encode(values)
    assert error == 0.0
    assert stored.dtype.isnative
    back = code.decode(stored)
    np.testing.assert_array_equal(back, values)
    assert back.dtype == code.values_dtype(dtype) == np.dtype(dtype).newbyteorder("=")


def test_exact_storage_refuses_dtypes_that_readers_lack():
    for dtype in ("complex64", "float16", "U3", "O"):
        with pytest.raises(InputError, match="lossless storage"):
            Lossless().stored_dtype(dtype)


@pytest.mark.parametrize("code", [ScaleOffset("uint8", 0.0, 1.0), BitRound(7), Lossless()])
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


@pytest.mark.parametrize("code", [ScaleOffset("uint16", -1.0, 1.0), BitRound(12), Lossless(is_bool=True)])
def test_an_encoding_survives_json(code):
    assert encoding_from_json(code.to_json()) == code
