"""Laws of NIfTI files: the values at their place, as training sees them."""

import nibabel
import numpy as np
import pytest
from helpers.made_cohort import CLASSES, SHAPES

from softlabels.errors import InputError, StoreError
from softlabels.grid import Grid
from softlabels.view.export import export_layer, export_target, write_nifti

CASE = "large"


def tilted_grid(shape):
    """Return an anisotropic grid, turned about two axes and away from the origin."""
    one, two = 0.3, -0.2
    turn = np.array([[np.cos(one), -np.sin(one), 0], [np.sin(one), np.cos(one), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(two), -np.sin(two)], [0, np.sin(two), np.cos(two)]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ tilt @ np.array([[0, 0, -0.7], [0, 1.2, 0], [5.0, 0, 0]])
    affine[:3, 3] = 12, -34, 56
    return Grid(shape, (5.0, 1.2, 0.7), affine)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16, np.int32, bool])
def test_a_nifti_file_holds_the_values_at_their_place(tmp_path, name, dtype):
    grid = tilted_grid((3, 4, 5))
    values = np.random.default_rng(0).integers(0, 2, (2, *grid.shape)).astype(dtype)
    for volume in (values, values[0]):
        read = nibabel.load(write_nifti(volume, grid, tmp_path / "deep" / name))
        np.testing.assert_array_equal(np.asarray(read.dataobj).T, volume)
        np.testing.assert_allclose(read.affine, grid.to_nifti_affine(), atol=1e-5)
        np.testing.assert_allclose(read.get_qform(), grid.to_nifti_affine(), atol=1e-5)
        assert read.get_data_dtype() == (np.uint8 if dtype is bool else dtype)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == [name]


def test_export_gives_the_stored_map_and_the_blend(case, tmp_path):
    target = case.targets["geols"].target
    stored = nibabel.load(export_layer(target.entry, "target", tmp_path / "stored.nii.gz")).get_fdata().T
    np.testing.assert_array_equal(stored, target.entry.read("target"))
    hard = np.stack([np.isin(case.case.entry.read("labels"), c.values) for c in CLASSES])
    for alpha, share in ((None, 0.1), (0.25, 0.25), (1.0, 1.0)):
        path = export_target(target, tmp_path / "blend.nii.gz", alpha=alpha)
        np.testing.assert_allclose(nibabel.load(path).get_fdata().T, (1 - share) * hard + share * stored, atol=1e-6)
    with pytest.raises(InputError, match="got delta, expected only alpha"):
        export_target(target, tmp_path / "blend.nii.gz", delta=0.5)


def test_export_of_a_derived_target_needs_no_entry(case, tmp_path):
    path = export_target(case.targets["onehot"].target, tmp_path / "onehot.nii")
    assert nibabel.load(path).shape == (*SHAPES[CASE][::-1], 3)


def test_what_cannot_be_exported_is_refused(tmp_path):
    grid, values = Grid((2, 3, 4), (1.0, 1.0, 1.0)), np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(InputError, match=r"'x.mha', expected a name that ends in .nii.gz or .nii"):
        write_nifti(values, grid, tmp_path / "x.mha")
    sheared = np.eye(4)
    sheared[:2, 1] = 0.6, 0.8
    with pytest.raises(InputError, match="sheared"):
        write_nifti(values, Grid((2, 3, 4), (1.0, 1.0, 1.0), sheared), tmp_path / "x.nii")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        write_nifti(values, grid, tmp_path / "file" / "x.nii")
