"""Reading: against nibabel and SimpleITK, in every orientation and type, and what a case's files may lack."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.grids import grid_of, sitk_grid

from softlabels.errors import InputError
from softlabels.inputs.case import check_case, read_case, read_volume
from softlabels.inputs.sheet import Case

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)
]


def _rotation(degrees=(20.0, -35.0, 50.0)) -> np.ndarray:
    """A rotation about x, then y, then z."""
    out = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        i, j = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        out = turn @ out
    return out


def _affine(directions: np.ndarray, spacing=(0.7, 0.9, 5.1), origin=(10.0, -20.0, 30.0)) -> np.ndarray:
    """A RAS affine for (x, y, z) voxels."""
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(spacing)
    affine[:3, 3] = origin
    return affine


def _save(path, values_zyx, affine=None, image=nib.Nifti1Image):
    """Write a (z, y, x) array with nibabel."""
    affine = np.eye(4) if affine is None else affine
    nib.save(image(np.ascontiguousarray(values_zyx.T), affine, dtype=values_zyx.dtype), path)
    return str(path)


def _assert_equals_both_readers(path):
    """Our values and positions equal nibabel's and SimpleITK's."""
    volume, image, itk = read_volume(path), nib.load(path), sitk.ReadImage(str(path))
    assert np.array_equal(volume.values, np.asanyarray(image.dataobj).T)
    assert np.array_equal(volume.values, sitk.GetArrayFromImage(itk))
    assert np.allclose(volume.grid.to_nifti_affine(), image.affine, atol=1e-4)
    by_itk = grid_of(itk)
    assert volume.grid.differences(by_itk, 1e-3) == []
    assert np.allclose(volume.grid.spacing, image.header.get_zooms()[2::-1], rtol=1e-6)
    return volume


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS, ids=str)
def test_all_48_axis_orientations_agree_with_nibabel_and_simpleitk(tmp_path, order, signs):
    directions = np.eye(3)[:, list(order)] * np.array(signs)
    values = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    path = _save(tmp_path / "a.nii.gz", values, _affine(directions))
    volume = _assert_equals_both_readers(path)
    assert volume.grid.orientation == "".join(nib.aff2axcodes(_affine(directions)))[::-1]
    assert volume.grid.spacing == (5.1, 0.9, 0.7)


@pytest.mark.parametrize("degrees", [(20, -35, 50), (0, 0, 3), (90, 1e-3, 0), (120, 10, -80)])
@pytest.mark.parametrize("code", ["sform", "qform"])
def test_oblique_anisotropic_volumes_agree_with_nibabel_and_simpleitk(tmp_path, degrees, code):
    image = nib.Nifti1Image(np.arange(60, dtype=np.int16).reshape(5, 4, 3), None)
    affine = _affine(_rotation(degrees))
    image.set_qform(affine, 1 if code == "qform" else 0)
    image.set_sform(affine, 1 if code == "sform" else 0)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii.gz")
    if code == "qform":
        _assert_equals_both_readers(tmp_path / "a.nii.gz")
    else:
        grid = read_volume(tmp_path / "a.nii.gz").grid
        assert np.allclose(grid.to_nifti_affine(), affine, atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", [1, 2])
def test_every_type_in_both_byte_orders_is_read_exactly(tmp_path, dtype, order, version):
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype))
    values = np.array([0, 1, 100, 7, 9, 11], dtype).reshape(1, 2, 3)
    nib.save(kind(values, np.eye(4), header=header, dtype=np.dtype(dtype)), tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert np.array_equal(volume.values, values.T) and volume.values.dtype.isnative
    assert volume.values.dtype == (np.dtype("f4") if dtype[1] == "8" else np.dtype(dtype))


@pytest.mark.parametrize("extension", ["nii", "nii.gz", "nrrd", "mha"])
@pytest.mark.parametrize("kind", ["3d", "vector", "2d", "4d", "2d-vector"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_what_simpleitk_writes_is_read_back(tmp_path, extension, kind, is_compressed):
    shape = {"3d": (3, 4, 5), "vector": (3, 4, 5, 2), "2d": (4, 5), "4d": (2, 3, 4, 5), "2d-vector": (4, 5, 3)}[kind]
    values = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = sitk.GetImageFromArray(values, isVector="vector" in kind)
    n = image.GetDimension()
    direction = np.eye(n)
    direction[:3, :3] = _rotation() if n > 2 else [[0.8, -0.6], [0.6, 0.8]]
    image.SetDirection(direction.ravel().tolist())
    image.SetSpacing([0.7, 0.9, 5.1, 1.0][:n])
    image.SetOrigin([10.0, -20.0, 30.0, 0.0][:n])
    path = tmp_path / f"a.{extension}"
    sitk.WriteImage(image, str(path), is_compressed)
    volume = read_volume(path)
    expected = np.moveaxis(values, -1, 0) if "vector" in kind else values
    assert np.array_equal(volume.values.squeeze(), expected)
    assert volume.grid.shape == {"2": (1, 4, 5), "3": (3, 4, 5), "v": (3, 4, 5), "4": (3, 4, 5)}[kind[0]]
    in_space = np.eye(3)
    in_space[: min(n, 3), : min(n, 3)] = direction[:3, :3]
    origin = (10.0, -20.0, 30.0 if n > 2 else 0.0)
    spacing = (0.7, 0.9, 5.1 if n > 2 else 1.0)
    by_itk = sitk_grid(volume.grid.shape[::-1], spacing, origin, in_space.ravel())
    assert volume.grid.differences(by_itk, 1e-4) == []


def test_units_of_metres_and_microns_become_millimetres(tmp_path):
    for unit, factor in (("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)):
        image = nib.Nifti1Image(np.zeros((2, 2, 2), np.uint8), _affine(np.eye(3), (2, 3, 4), (1, 1, 1)))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "a.nii")
        grid = read_volume(tmp_path / "a.nii").grid
        assert np.allclose(grid.spacing, np.array([4, 3, 2]) * factor)
        assert np.allclose(grid.position((0, 0, 0)), factor)


def test_digest_is_of_the_unpacked_content(tmp_path):
    values = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    plain, packed = (_save(tmp_path / name, values) for name in ("a.nii", "a.nii.gz"))
    assert read_volume(plain).digest == read_volume(packed).digest
    values[1, 2, 3] += 1
    assert read_volume(_save(tmp_path / "b.nii", values)).digest != read_volume(plain).digest


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "i4", "u4", "f4", "f8", "i8"])
def test_integer_labels_of_any_type_are_exact_and_never_wrap(tmp_path, dtype):
    highest = 117 if dtype == "u1" else 2035
    values = np.zeros((2, 3, 4), dtype)
    values[1, 1, 1] = highest
    volume = read_volume(_save(tmp_path / "a.nii.gz", values, image=nib.Nifti2Image), role="label")
    assert volume.values.dtype == (np.uint8 if highest < 256 else np.uint16)
    assert volume.values[1, 1, 1] == highest and volume.values.sum() == highest


def test_labels_below_zero_or_above_65535_become_int32_and_beyond_it_are_refused(tmp_path):
    values = np.array([[[-1, 70000]]], np.int64)
    assert read_volume(_save(tmp_path / "a.nii", values), role="label").values.dtype == np.int32
    with pytest.raises(InputError, match="int32"):
        read_volume(_save(tmp_path / "b.nii", values * 10**6), role="label")


@pytest.mark.parametrize(("slope", "intercept"), [(0.1, 0.0), (2.0, -4.0), (1.0 / 3.0, 5.0)])
def test_scaled_labels_that_are_integers_are_accepted(tmp_path, slope, intercept):
    wanted = np.array([[[0, 2, 6, 10, 100, 116]]])
    image = nib.Nifti1Image(np.zeros((6, 1, 1), np.int16), np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([slope, intercept], "<f4").tobytes()
    content[352:] = np.rint((wanted - intercept) / slope).astype("<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    assert np.array_equal(read_volume(tmp_path / "a.nii", role="label").values, wanted)


def test_scaled_image_is_slope_times_value_plus_intercept_rounded_once(tmp_path):
    raw = np.arange(-30, 30, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(raw.T, np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    content = bytearray((tmp_path / "a.nii").read_bytes())
    content[112:120] = np.array([0.37, -12.5], "<f4").tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    values = read_volume(tmp_path / "a.nii").values
    assert values.dtype == np.float32
    assert np.array_equal(values, (raw * np.float64(np.float32(0.37)) - 12.5).astype(np.float32))
    assert np.allclose(values, nib.load(tmp_path / "a.nii").get_fdata().T, rtol=1e-6)


@pytest.mark.parametrize("value", [0.9999, 0.5, np.nan, np.inf, 1e30])
def test_float_labels_that_are_not_integers_are_refused_with_count_and_example(tmp_path, value):
    values = np.ones((2, 3, 4), np.float64)
    values[1, 2, 3] = value
    with pytest.raises(InputError, match=r"1 of 24 voxels .* = \(1, 2, 3\)" if value != 1e30 else "int32"):
        read_volume(_save(tmp_path / "a.nii.gz", values), role="label")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_intensities_that_are_not_finite_are_refused_with_count_and_index(tmp_path, value):
    values = np.ones((2, 3, 4), np.float64)
    values[0, 1, 2] = values[1, 2, 3] = value
    with pytest.raises(InputError, match=r"2 voxels .* the first at .* = \(0, 1, 2\)"):
        read_volume(_save(tmp_path / "a.nii.gz", values))


def test_label_of_several_channels_is_refused(tmp_path):
    with pytest.raises(InputError, match="label of 2 channels"):
        read_volume(_save(tmp_path / "a.nii.gz", np.zeros((2, 3, 4, 5), np.uint8)), role="label")


def test_more_voxels_than_allowed_are_refused_before_reading(tmp_path):
    path = _save(tmp_path / "a.nii.gz", np.zeros((3, 4, 5), np.uint8))
    assert read_volume(path, max_voxels=60).values.size == 60
    with pytest.raises(InputError, match="60 voxels, expected at most 59"):
        read_volume(path, max_voxels=59)


# -- cases


@pytest.fixture
def case(tmp_path):
    """Two channels and labels 0, 1, 4 on a rotated grid."""
    affine = _affine(_rotation())
    rng = np.random.default_rng(0)
    images = tuple(
        _save(tmp_path / f"{m}.nii.gz", rng.integers(0, 9, (6, 5, 4)).astype(np.int16), affine) for m in "ab"
    )
    labels = np.zeros((6, 5, 4), np.uint8)
    labels[2:4, 1:3, 1:3] = 1
    labels[4, 2, 2] = 4
    return Case("case1", images, _save(tmp_path / "seg.nii.gz", labels, affine))


def _replaced(case, tmp_path, role, values, affine=None):
    """The case with one of its files written anew."""
    path = _save(
        tmp_path / f"new_{role.replace(':', '')}.nii.gz", values, _affine(_rotation()) if affine is None else affine
    )
    if role == "label":
        return Case(case.id, case.images, path)
    index = int(role.split(":")[1])
    return Case(case.id, case.images[:index] + (path,) + case.images[index + 1 :], case.label)


def _faults(case, label_values=(0, 1, 4), ignore_label=None):
    """Faults of check_case, after making sure that read_case raises exactly then, with all of them."""
    checks = {"channels": ["A", "B"], "label_values": label_values, "ignore_label": ignore_label}
    findings = check_case(case, **checks)
    faults = [finding for finding in findings if finding.is_error]
    if faults:
        with pytest.raises(InputError) as caught:
            read_case(case, **checks)
        assert all(str(fault) in str(caught.value) for fault in faults) and "case1" in str(caught.value)
        assert "\n" not in str(caught.value)
    else:
        assert list(read_case(case, **checks).flags) == [
            finding.message for finding in findings if finding.severity == "warning"
        ]
    return [(fault.role, fault.message) for fault in faults]


def test_good_case_comes_whole(case):
    volumes = read_case(case, ["A", "B"], (0, 1, 4))
    assert volumes.image.shape == (2, 6, 5, 4) and volumes.image.dtype == np.float32
    assert np.array_equal(volumes.image[1], read_volume(case.images[1]).values)
    assert volumes.labels.dtype == np.uint8 and volumes.labels.sum() == 8 + 4
    assert volumes.raters is None and volumes.flags == () and volumes.notes == ()
    assert list(volumes.digests) == ["image:0", "image:1", "label"]


def test_number_of_threads_changes_nothing(case):
    first, second = (read_case(case, ["A", "B"], (0, 1, 4), threads=n) for n in (1, 4))
    assert np.array_equal(first.image, second.image) and first.digests == second.digests


def test_one_file_of_all_channels_equals_one_file_each(case, tmp_path):
    both = np.stack([read_volume(path).values for path in case.images])
    single = Case("case1", (_save(tmp_path / "both.nii.gz", both, _affine(_rotation())),), case.label)
    joined, apart = (read_case(c, ["A", "B"], (0, 1, 4)) for c in (single, case))
    assert np.array_equal(joined.image, apart.image) and joined.grid == apart.grid


def test_every_fault_of_a_case_is_named_at_once(case, tmp_path):
    labels = np.full((6, 5, 4), 7, np.uint8)
    bad = _replaced(case, tmp_path, "label", labels, np.eye(4))
    bad = Case("case1", (str(tmp_path / "none.nii.gz"), bad.images[1]), bad.label)
    faults = _faults(bad)
    assert [role for role, _ in faults] == ["image:0", "label", "label"]
    assert (
        "No such file" in faults[0][1] and "not on the grid" in faults[1][1] and "7 (120 of 120 voxels)" in faults[2][1]
    )


@pytest.mark.parametrize("change", ["flip", "shift", "spacing", "rotation", "shape"])
def test_label_on_another_grid_is_refused_by_physical_space(case, tmp_path, change):
    affine, labels = _affine(_rotation()), read_volume(case.label, role="label").values
    if change == "flip":
        affine = affine @ np.diag([-1, 1, 1, 1])
    elif change == "shift":
        affine[0, 3] += 0.02
    elif change == "spacing":
        affine = _affine(_rotation(), (0.7, 0.9, 5.0))
    elif change == "rotation":
        affine = _affine(_rotation((20, -35, 51)))
    else:
        labels = labels[:-1]
    ((role, message),) = _faults(_replaced(case, tmp_path, "label", labels, affine))
    assert role == "label" and message.startswith("not on the grid of image:0")


def test_rounding_noise_in_the_geometry_passes(case, tmp_path):
    affine = _affine(_rotation()) * (1 + 1e-6)
    affine[3, 3] = 1.0
    assert _faults(_replaced(case, tmp_path, "label", read_volume(case.label).values, affine)) == []


def test_channels_on_different_grids_are_refused(case, tmp_path):
    ((role, message),) = _faults(_replaced(case, tmp_path, "image:1", np.arange(60).reshape(5, 4, 3).astype(np.int16)))
    assert role == "image:1" and "(6, 5, 4) and (5, 4, 3)" in message


def test_wrong_number_of_channels_is_refused(case, tmp_path):
    three = np.arange(360, dtype=np.int16).reshape(3, 6, 5, 4)
    assert "3 channels, expected 1" in _faults(_replaced(case, tmp_path, "image:1", three))[0][1]
    assert "1 channels, expected 2" in _faults(Case("case1", case.images[:1], case.label))[0][1]
    assert "3 image files" in _faults(Case("case1", (*case.images, case.images[0]), case.label))[0][1]


def test_label_outside_the_declared_set_is_refused_unless_it_is_the_ignore_label(case):
    assert "4 (1 of 120 voxels)" in _faults(case, label_values=(0, 1))[0][1]
    assert _faults(case, label_values=(0, 1), ignore_label=4) == []


def test_empty_label_absent_class_and_constant_image_are_flagged_not_refused(case, tmp_path):
    empty = _replaced(case, tmp_path, "label", np.zeros((6, 5, 4), np.uint8))
    assert read_case(empty, ["A", "B"], (0, 1, 4)).flags == ("empty_label",)
    assert read_case(case, ["A", "B"], (0, 1, 2, 4)).flags == ("absent_label:2",)
    assert read_case(case, ["A", "B"], (0, 1, 4, 5), 5).flags == (), "a case need not hold the ignore label"
    assert read_case(case, ["A", "B"], (0, 1, 3, 4), 4).flags == ("absent_label:3",)
    constant = _replaced(case, tmp_path, "image:1", np.full((6, 5, 4), 5, np.int16))
    assert read_case(constant, ["A", "B"], (0, 1, 4)).flags == ("constant_image:B",)
    assert _faults(empty) == _faults(constant) == []
    unknown = _replaced(case, tmp_path, "label", np.full((6, 5, 4), 9, np.uint8))
    assert read_case(unknown, ["A", "B"], (0, 1, 9), 9).flags == ("empty_label",)


def test_raters_are_stacked_after_the_label_in_one_type(case, tmp_path):
    labels = read_volume(case.label, role="label").values.astype(np.uint16)
    labels[0, 0, 0] = 300
    second = _save(tmp_path / "second.nii.gz", labels, _affine(_rotation()))
    volumes = read_case(Case("case1", case.images, case.label, (second,)), ["A", "B"], (0, 1, 4, 300))
    assert volumes.raters.shape == (2, 6, 5, 4) and volumes.raters.dtype == volumes.labels.dtype == np.uint16
    assert np.array_equal(volumes.raters[0], volumes.labels) and volumes.raters[1, 0, 0, 0] == 300
    assert volumes.flags == ("absent_label:300",) and list(volumes.digests)[-1] == "rater:1"
