"""Laws of the volumes that the viewer draws: their error is what they say, and other software reads them alike."""

import json

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.grid import Grid
from softlabels.view.viewer.nifti import coded, nifti_bytes


def decoded(made):
    values = made.codes * np.float64(made.slope) + made.inter
    return np.where(made.codes == 0, np.nan, values) if made.has_nonfinite else values


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    low=st.floats(-1e5, 1e5),
    width=st.sampled_from([0.0, 1e-6, 0.3, 1.0, 900.0, 1e5]),
    bits=st.sampled_from([8, 16]),
    holes=st.sampled_from([0, 1, 24]),
    seed=st.integers(0, 99),
)
def test_the_stated_error_is_the_largest_and_below_a_step(low, width, bits, holes, seed):
    rng = np.random.default_rng(seed)
    values = (low + width * rng.random((2, 3, 4))).astype(np.float32)
    values.ravel()[rng.permutation(24)[:holes]] = rng.choice([np.inf, -np.inf, np.nan])
    made = coded(values, bits)
    finite = np.isfinite(values)
    assert made.has_nonfinite == (holes > 0)
    found = decoded(made)
    np.testing.assert_array_equal(np.isfinite(found), finite)
    errors = np.abs(found - values.astype(np.float64))[finite]
    assert made.error == errors.max(initial=0.0)
    spread = np.ptp(values[finite].astype(np.float64)) if finite.any() else 0.0
    rounding = 4 * np.finfo(np.float32).eps * max(abs(low), abs(low + width))
    assert made.error <= 0.5001 * spread / (2**bits - 1 - made.has_nonfinite) + rounding


@pytest.mark.parametrize("values", [[0, 1e-44], [0, 1e-44, np.inf], [-1e-45, 0], [1e-45, 1e-45], [-(2**24), 0, np.nan]])
@pytest.mark.parametrize("bits", [8, 16])
def test_steps_at_the_ends_of_float32_are_no_division_by_zero_and_no_claim_of_exactness(values, bits):
    values = np.array([[values]], np.float32)
    made = coded(values, bits)
    finite = np.isfinite(values)
    errors = np.abs(decoded(made) - values.astype(np.float64))[finite]
    assert made.slope > 0 and made.error == errors.max()
    assert made.error <= np.ptp(values[finite].astype(np.float64)) / 2**bits


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([[[False, True]]]), "uint8"),
        (np.array([[[0, 200]]], np.uint8), "uint8"),
        (np.array([[[-1024.0, 3071.0]]], np.float32), "uint16"),
        (np.array([[[-1024.0, 0.0, np.nan]]], np.float32), "uint16"),
        (np.array([[[7]]], np.int32), "uint8"),
    ],
)
def test_integers_are_exact_in_as_few_bits_as_hold_them(values, dtype):
    made = coded(values, 16)
    assert (made.error, made.codes.dtype.name, made.slope) == (0.0, dtype, 1.0)
    finite = np.isfinite(values)
    np.testing.assert_array_equal(decoded(made)[finite], values[finite])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bits", [8, 16])
def test_nibabel_reads_values_affine_and_scale(seed, bits):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [2.5, 0.7, 1.3]
    grid = Grid((3, 4, 5), (2.5, 0.7, 1.3), np.block([[turn, rng.normal(size=(3, 1)) * 50], [0, 0, 0, 1]]))
    made = coded(rng.normal(size=grid.shape).astype(np.float32), bits)
    image = nibabel.Nifti1Image.from_bytes(nifti_bytes(made, grid, (-1.5, 2.5), (1, 2, 3)))
    np.testing.assert_allclose(image.affine, grid.to_nifti_affine(), atol=1e-4)
    np.testing.assert_allclose(image.get_fdata().T, decoded(made), atol=1e-6)
    assert (float(image.header["cal_min"]), float(image.header["cal_max"])) == (-1.5, 2.5)
    np.testing.assert_allclose(image.header.get_zooms(), (1.3, 0.7, 2.5), rtol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"
    note = json.loads(bytes(image.header["descrip"]).rstrip(b"\0"))
    assert note == {"error": float(f"{made.error:.3g}"), "step": [1, 2, 3], "nonfinite": 0}
