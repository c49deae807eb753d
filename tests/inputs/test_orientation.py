"""Orientations: sform and qform as nibabel and SimpleITK read them, and contradictions that are refused."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.grids import grid_of

from softlabels.errors import InputError
from softlabels.inputs.case import check_case, read_volume
from softlabels.inputs.sheet import Case


def _turned(axis, angle, size_xyz, side):
    """Return the affine of a volume that is turned by an angle about an axis."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross) * side
    affine[:3, 3] = (90, 100, -60)
    return affine


def _saved(path, affine, size_xyz, *, sform, qform):
    """Write a volume whose forms say the same affine, as far as float32 can."""
    image = nib.Nifti1Image(np.ones(size_xyz, np.uint8), affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    nib.save(image, path)
    return path


#: Half turns, as of an ordinary scan in LPS, and turns that miss one by little: there float32 leaves little for the
#: fourth component of the quaternion.
@pytest.mark.parametrize("off", [0.0, 1e-5, 1e-4, 3e-4, 5e-4, 1e-3, 1e-2, 1.0])
def test_sform_and_qform_of_one_affine_are_one_however_the_head_is_tilted(tmp_path, off):
    rng = np.random.default_rng(1)
    size_xyz, side = (512, 4, 3), 0.4
    for number in range(25):
        affine = _turned([rng.normal(0, 0.1), rng.normal(0, 0.1), 1.0], np.pi - off, size_xyz, side)
        path = _saved(tmp_path / f"{number}.nii", affine, size_xyz, sform=1, qform=1)
        volume = read_volume(path)
        assert np.allclose(volume.grid.to_nifti_affine(), affine, atol=1e-4)
        only = read_volume(_saved(tmp_path / "q.nii", affine, size_xyz, sform=0, qform=1))
        apart = np.abs((only.grid.affine_ras - volume.grid.affine_ras) @ [2, 3, 511, 1]).max()
        assert apart <= only.noise_mm + 1e-4 and (only.noise_mm < 0.2 if off < 0.1 else only.noise_mm < 1e-3)
        case = Case("tilted", (str(path),), str(tmp_path / "q.nii"))
        checks = {"channels": ["T1"], "label_values": [0, 1]}
        assert [str(finding) for finding in check_case(case, **checks) if finding.is_error] == []


@pytest.mark.parametrize("off", [0.0, 1.0])
def test_a_qform_that_is_turned_further_than_rounding_can_is_refused(tmp_path, off):
    size_xyz = (512, 4, 3)
    affine = _turned([0.1, 0, 1], np.pi - off, size_xyz, 0.4)
    image = nib.Nifti1Image(np.ones(size_xyz, np.uint8), affine)
    image.set_sform(affine, 1)
    image.set_qform(_turned([0.1, 0, 1], np.pi - off - 5e-3, size_xyz, 0.4), 1)
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(InputError, match="sform and qform both have code 1"):
        read_volume(tmp_path / "a.nii")


def test_a_half_turn_is_read_as_itk_reads_it(tmp_path):
    rng = np.random.default_rng(2)
    for _ in range(40):
        size_xyz = (480, 8, 8)
        affine = _turned([rng.normal(0, 0.1), rng.normal(0, 0.1), 1.0], np.pi, size_xyz, 0.5)
        path = _saved(tmp_path / "a.nii", affine, size_xyz, sform=0, qform=1)
        image = sitk.ReadImage(str(path))
        by_itk = grid_of(image)
        assert read_volume(path).grid.differences(by_itk, 1e-3) == []
