"""The grid: positions, crops, comparisons and the way to and from other libraries."""

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.grids import grid_of
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.grid import Grid, checked_spacing

ROTATION = np.array([[2, -2, 1], [1, 2, 2], [-2, -1, 2]]) / 3.0


def _oblique(shape=(3, 4, 5), spacing=(5.0, 0.7, 0.9), origin=(10.0, -20.0, 30.0)) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = ROTATION * np.array(spacing)
    affine[:3, 3] = origin
    return Grid(shape, spacing, affine)


def test_default_axes_run_up_front_and_right():
    grid = Grid((2, 3, 4), (5.0, 2.0, 1.0))
    assert grid.position((1, 1, 1)) == (1.0, 2.0, 5.0) and grid.orientation == "SAR" and grid.n_voxels == 24


def test_a_voxel_keeps_its_position_after_cropping():
    grid = _oblique()
    cropped = grid.cropped((1, 2, 3), (2, 2, 2))
    assert np.allclose(cropped.position((1, 1, 0)), grid.position((2, 3, 3)), atol=1e-12)
    assert cropped.spacing == grid.spacing and cropped.shape == (2, 2, 2)


def test_json_gives_the_same_grid_back():
    assert Grid.from_json(_oblique().to_json()) == _oblique()


@settings(max_examples=30, derandomize=True, deadline=None)
@given(index=st.tuples(*[st.integers(0, 4)] * 3), flips=st.tuples(*[st.sampled_from([1.0, -1.0])] * 3))
def test_positions_agree_with_simpleitk(index, flips):
    image = sitk.Image([5, 5, 5], sitk.sitkUInt8)
    image.SetSpacing([0.7, 0.9, 5.0])
    image.SetOrigin([10.0, -20.0, 30.0])
    image.SetDirection((ROTATION * np.array(flips)).ravel().tolist())
    grid = grid_of(image)
    lps = image.TransformIndexToPhysicalPoint(index[::-1])
    assert np.allclose(grid.position(index), np.array(lps) * [-1, -1, 1], atol=1e-9)
    back = grid.to_sitk()
    assert np.allclose(back["origin"], image.GetOrigin()) and np.allclose(back["direction"], image.GetDirection())
    assert np.allclose(back["spacing"], image.GetSpacing())


def test_nifti_affine_is_the_same_map_for_xyz_indices():
    grid = _oblique()
    assert np.allclose(grid.to_nifti_affine() @ [4, 3, 2, 1], [*grid.position((2, 3, 4)), 1.0])
    assert Grid.from_xyz(grid.shape[::-1], grid.to_nifti_affine(), grid.spacing[::-1]) == grid


def test_equal_grids_and_rounding_noise_have_no_differences():
    affine = _oblique().affine_ras
    affine[:3] += 1e-8
    assert _oblique().differences(Grid((3, 4, 5), (5.0, 0.7, 0.9), affine)) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (_oblique(shape=(4, 4, 5)), "shape"),
        (_oblique(origin=(10.0, -20.02, 30.0)), "position"),
        (_oblique(spacing=(5.0, 0.7, 0.91)), "spacing"),
        (Grid((3, 4, 5), (5.0, 0.7, 0.9)), "position"),
    ],
)
def test_differences_are_named(other, said):
    assert any(text.startswith(said) for text in _oblique().differences(other))


def test_tolerance_follows_the_voxel_size_of_microscopy():
    near, far = (Grid((1, 5, 5), (0.001,) * 3, _scaled(0.001, shift)) for shift in (1e-6, 1e-3))
    here = Grid((1, 5, 5), (0.001,) * 3, _scaled(0.001, 0.0))
    assert here.differences(near) == [] and "position" in here.differences(far)[0]


def _scaled(side: float, shift: float) -> np.ndarray:
    """An affine of cubes of this side, moved along x."""
    affine = np.diag([side, side, side, 1.0])
    affine[0, 3] = shift
    return affine


@pytest.mark.parametrize(
    ("shape", "spacing", "affine"),
    [
        ((0, 2, 2), (1, 1, 1), None),
        ((2, 2), (1, 1, 1), None),
        ((2, 2, 2), (1, 1), None),
        ((2, 2, 2), (1, 0, 1), None),
        ((2, 2, 2), (1, float("nan"), 1), None),
        ((2, 2, 2), (1, 1, 1), np.zeros((4, 4))),
        ((2, 2, 2), (1, 1, 1), np.eye(3)),
        ((2, 2, 2), (1, 1, 1), np.diag([1, 1, 2, 1])),
        ((2, 2, 2), (1, 1, 1), np.full((4, 4), np.nan)),
        ((2, 2, 2), (1, 1, 1), np.diag([1, 1, 1, 2])),
        ((2, 2, 2), (1, 1, 1), np.array([[1, 0.6, 0, 0], [0, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
    ],
)
def test_grids_that_make_no_sense_are_refused(shape, spacing, affine):
    with pytest.raises(InputError, match="grid|spacing"):
        Grid(shape, spacing, affine)


def test_spacing_is_three_positive_millimetres():
    assert checked_spacing(np.array([5, 1, 1])) == (5.0, 1.0, 1.0)
    with pytest.raises(InputError):
        checked_spacing(1.0)
