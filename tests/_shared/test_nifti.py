"""Laws of the NIfTI writer: nibabel and SimpleITK read the same voxels at the same places, for every orientation."""

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.grids import grid_of
from scipy.spatial.transform import Rotation

from softlabels._shared.nifti import write_nifti_file
from softlabels.errors import InputError
from softlabels.grid import Grid

nibabel = pytest.importorskip("nibabel")


def affines():
    rng = np.random.default_rng(0)
    turns = [Rotation.from_euler("xyz", angles, degrees=True) for angles in rng.choice([0, 90, 180, 270], (20, 3))]
    turns += [Rotation.random(random_state=seed) for seed in range(12)]
    for turn in turns:
        affine = np.eye(4)
        mirror = np.diag(rng.choice([-1.0, 1.0], 3))
        affine[:3, :3] = turn.as_matrix() @ mirror @ np.diag(rng.uniform(0.3, 5, 3))
        affine[:3, 3] = rng.normal(size=3) * 100
        yield affine


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_both_libraries_read_the_voxels_where_they_are(tmp_path, suffix):
    values = np.random.default_rng(1).integers(0, 900, (3, 4, 5)).astype(np.uint16)
    for number, affine in enumerate(affines()):
        path = write_nifti_file(values, affine, tmp_path / f"{number}{suffix}")
        image = nibabel.load(path)
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, values)
        np.testing.assert_allclose(image.get_sform(), affine, atol=1e-4)
        np.testing.assert_allclose(image.get_qform(), affine, atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm" and image.header["sform_code"] == 1
        read = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(read), values)
        expected = Grid.from_xyz((5, 4, 3), affine, np.linalg.norm(affine[:3, :3], axis=0))
        assert not grid_of(read).differences(expected)


def test_the_place_is_that_of_itk_to_the_last_unit_of_float32(tmp_path):
    """Files that were exported by SimpleITK before have the same geometry."""
    values = np.zeros((3, 4, 5), np.uint8)
    for affine in affines():
        ours = nibabel.load(write_nifti_file(values, affine, tmp_path / "ours.nii")).header
        place = Grid.from_xyz((5, 4, 3), affine, np.linalg.norm(affine[:3, :3], axis=0)).to_sitk()
        image = sitk.GetImageFromArray(values)
        image.SetOrigin(place["origin"])
        image.SetSpacing(place["spacing"])
        image.SetDirection(place["direction"])
        sitk.WriteImage(image, str(tmp_path / "itk.nii"))
        itk = nibabel.load(tmp_path / "itk.nii").header
        assert ours["sform_code"] == itk["sform_code"] and ours["qform_code"] == itk["qform_code"]
        assert ours["pixdim"][:4] == pytest.approx(itk["pixdim"][:4], rel=1e-6)
        np.testing.assert_allclose(ours.get_sform(), itk.get_sform(), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(ours.get_qform(), itk.get_qform(), rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64", ">f4"])
def test_every_type_and_channels_come_back(tmp_path, dtype):
    values = np.random.default_rng(2).integers(0, 2, (3, 2, 4, 5)).astype(dtype)
    for part in (values, values[0], values[:, ::-1, :, ::2]):
        image = nibabel.load(write_nifti_file(part, np.eye(4), tmp_path / "x.nii.gz"))
        np.testing.assert_array_equal(np.asarray(image.dataobj).T, part)
        assert image.get_data_dtype().kind == ("u" if dtype == "bool" else np.dtype(dtype).kind)


def test_equal_volumes_make_equal_files(tmp_path):
    first, second = (
        write_nifti_file(np.ones((2, 3, 4)), np.eye(4), tmp_path / name) for name in ("a.nii.gz", "b.nii.gz")
    )
    assert first.read_bytes() == second.read_bytes()


def test_what_nifti_cannot_hold_is_refused(tmp_path):
    for values, name, says in (
        (np.ones((2, 3, 4)), "a.mha", "expected a name that ends in .nii.gz or .nii"),
        (np.ones((2, 3, 4), np.float16), "a.nii", "got float16"),
        (np.zeros((1, 1, 2**15), np.uint8), "a.nii", r"got a volume of \(1, 1, 32768\), expected at most 32767"),
        (np.ones((3, 4)), "a.nii", r"got float64 \(3, 4\), expected 3 or 4 axes"),
    ):
        with pytest.raises(InputError, match=says):
            write_nifti_file(values, np.eye(4), tmp_path / name)
    assert not list(tmp_path.iterdir())
