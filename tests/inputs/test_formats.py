"""Files beside one-file NIfTI, NRRD and MetaImage: each gives the array that was written, or is named and refused."""

import gzip
import os
import struct
import zlib

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.small_volume import SHAPE, SPACING
from helpers.small_volume import values as _values
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.inputs.detached import file_state
from softlabels.inputs.foreign import unknown_format
from softlabels.inputs.volume import read_header, read_volume

AFFINE = np.array([[-0.9, 0.0, 0.3, 4.0], [0.0, 0.8, 0.0, -5.0], [0.27, 0.0, 1.0, 6.0], [0, 0, 0, 1.0]])


def _itk_image():
    image = sitk.GetImageFromArray(_values())
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin((4.0, -5.0, 6.0))
    image.SetDirection((0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    return image


# Images in two files.


@pytest.fixture(params=["nhdr-raw", "nhdr-gz", "mhd-raw", "mhd-zraw", "hdr-img", "hdr-img.gz", "nifti2"])
def pair(request, tmp_path):
    """An image in two files and what it holds: (header, data, the same image in one file)."""
    kind, whole = request.param, tmp_path / "whole.nii"
    ending = "nhdr" if kind.startswith("nhdr") else "mhd" if kind.startswith("mhd") else "hdr"
    header = tmp_path / f"a.{ending}"
    if ending != "hdr":
        sitk.WriteImage(_itk_image(), str(header), kind.endswith(("gz", "zraw")))
        sitk.WriteImage(_itk_image(), str(whole))
    else:
        two = kind == "nifti2"
        (nib.Nifti2Pair if two else nib.Nifti1Pair)(_values().T, AFFINE).to_filename(header)
        nib.Nifti1Image(_values().T, AFFINE).to_filename(whole)
        if kind.endswith("gz"):
            image = tmp_path / "a.img"
            (tmp_path / "a.img.gz").write_bytes(gzip.compress(image.read_bytes()))
            image.unlink()
    (data,) = (path for path in tmp_path.iterdir() if path not in (header, whole))
    return header, data, whole


def test_an_image_in_two_files_is_that_in_one(pair):
    header, _, whole = pair
    volume, reference = read_volume(header), read_volume(whole)
    np.testing.assert_array_equal(volume.values, _values())
    assert volume.values.dtype == np.int16
    assert reference.grid.differences(volume.grid, 1e-4) == []
    assert read_header(header).size_xyz == SHAPE[::-1]


def test_its_digest_and_state_follow_both_files(pair):
    header, data, _ = pair
    first = read_volume(header)
    assert first.state == file_state(header)
    is_packed = data.read_bytes() != _values().tobytes()
    samples = bytearray(_values().tobytes())
    samples[0] ^= 1
    packers = {"gz": gzip.compress, "zraw": zlib.compress}
    pack = next((pack for end, pack in packers.items() if data.name.endswith(end)), bytes) if is_packed else bytes
    state = data.stat()
    data.write_bytes(pack(bytes(samples)))
    assert read_volume(header).digest != first.digest
    assert file_state(header) != first.state
    # Older than what was read, and of the same size: noticed as well.
    data.write_bytes(pack(_values().tobytes()))
    os.utime(data, ns=(state.st_atime_ns, state.st_mtime_ns - 10**9))
    assert file_state(header).mtime_ns == first.state.mtime_ns - 10**9


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0\1", lambda b: b""])
def test_data_of_another_length_is_refused(pair, change):
    header, data, _ = pair
    data.write_bytes(change(data.read_bytes()))
    with pytest.raises(InputError, match=f"{header.parent}"):
        read_volume(header)


def test_missing_data_is_named(pair):
    header, data, _ = pair
    data.unlink()
    with pytest.raises(InputError, match=data.name.removesuffix(".gz").removesuffix(".img")):
        read_volume(header)


def test_the_data_file_alone_leads_to_its_header(tmp_path):
    (tmp_path / "a.raw").write_bytes(_values().tobytes())
    with pytest.raises(InputError, match=r"a\.raw: got the data of an image in two files; give its header, the \.mhd"):
        read_volume(tmp_path / "a.raw")


@pytest.mark.parametrize("name", ["/etc/passwd", "../a.raw", "LIST", "slice%03d.raw 1 5 1", ""])
def test_a_header_cannot_lead_elsewhere(tmp_path, name):
    sitk.WriteImage(_itk_image(), str(tmp_path / "a.nhdr"))
    text = (tmp_path / "a.nhdr").read_text().replace("data file: a.raw", f"data file: {name}")
    (tmp_path / "a.nhdr").write_text(text)
    with pytest.raises(InputError, match=r"a\.nhdr: got (data file|samples in several files)"):
        read_volume(tmp_path / "a.nhdr")


def test_a_detached_header_has_an_ending_that_says_so(tmp_path):
    sitk.WriteImage(_itk_image(), str(tmp_path / "a.nhdr"))
    (tmp_path / "a.nhdr").rename(tmp_path / "a.nrrd")
    with pytest.raises(InputError, match=r"its samples are in a\.raw; rename it to end in"):
        read_volume(tmp_path / "a.nrrd")


def test_raw_samples_that_begin_as_gzip_does_are_not_unpacked(tmp_path):
    values = np.frombuffer(b"\x1f\x8b\x08\0" * 2, np.uint8).reshape(2, 2, 2)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.mhd"))
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mhd").values, values)


def test_bytes_to_skip_are_skipped(tmp_path):
    (tmp_path / "a.raw").write_bytes(b"12345" + _values(np.uint8).tobytes())
    (tmp_path / "a.nhdr").write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 7 6 5\nencoding: raw\nbyte skip: 5\ndatafile: a.raw"
    )
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nhdr").values, _values(np.uint8))


# Contradictions and units in headers.

_NRRD = "NRRD0005\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n{}\n\n01234567"
_MHA = "ObjectType = Image\nNDims = 3\nDimSize = 2 2 2\nElementType = MET_UCHAR\n{}ElementDataFile = LOCAL\n01234567"
_LPS = "space: left-posterior-superior\nspace origin: (0,0,0)\n"


@pytest.mark.parametrize(
    ("text", "spacing"),
    [
        (_NRRD.format('spacings: 500 500 2000\nunits: "um" "um" "um"'), (2.0, 0.5, 0.5)),
        (_NRRD.format('spacings: 500 500 2\nunits: "um" "um" "mm"'), (2.0, 0.5, 0.5)),
        (_NRRD.format(_LPS + 'space directions: (500,0,0) (0,500,0) (0,0,2000)\nspace units: "um" "um" "um"'),
         (2.0, 0.5, 0.5)),
        (_NRRD.format(_LPS + "space directions: (.5,0,0) (0,.5,0) (0,0,2)\nspacings: .5 .5 2"), (2.0, 0.5, 0.5)),
        (_NRRD.format(_LPS + "space directions: (.5,0,0) (0,.5,0) (0,0,2)\naxis mins: nan nan nan"), (2.0, 0.5, 0.5)),
        (_MHA.format("ElementSpacing = 500 500 2000\nDistanceUnits = um\n"), (2.0, 0.5, 0.5)),
        (_MHA.format("ElementSpacing = .5 .5 2\nElementSize = .4 .4 2\n"), (2.0, 0.5, 0.5)),
        (_MHA.format("Offset = 1 2 3\nPosition = 1 2 3\n"), (1.0, 1.0, 1.0)),
    ],
)  # fmt: skip
def test_units_are_honoured(tmp_path, text, spacing):
    (tmp_path / "a.img").write_text(text)
    assert read_volume(tmp_path / "a.img").grid.spacing == pytest.approx(spacing)


def test_an_offset_in_micrometres_is_mm_in_the_grid(tmp_path):
    (tmp_path / "a.mha").write_text(_MHA.format("Offset = 1000 0 3000\nDistanceUnits = um\n"))
    assert read_volume(tmp_path / "a.mha").grid.position((0, 0, 0)) == pytest.approx((-1.0, 0.0, 3.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_NRRD.format("axis mins: 3 4 5"), "axis mins"),
        (_NRRD.format("line skip: 2"), "line skip"),
        (_NRRD.format("byteskip: 2"), "byte skip"),
        (_NRRD.format("byte skip: -1"), "byte skip"),
        (_NRRD.format('spacings: 1 1 1\nunits: "furlong" "mm" "mm"'), "units"),
        (_NRRD.format('spacings: 1 1 1\nunits: "mm"'), "units"),
        (_NRRD.format(_LPS + "space directions: (.5,0,0) (0,.5,0) (0,0,2)\nspacings: .5 .5 3"), "expected the same"),
        (_NRRD.format(_LPS + 'space directions: (.5,0,0) (0,.5,0) (0,0,2)\nunits: "um" "um" "um"'), "one unit"),
        (_NRRD.format(_LPS + "space dimension: 3\nspace directions: (1,0,0) (0,1,0) (0,0,1)"), "space dimension"),
        (_NRRD.format("datafile: a\ndata file: a"), "twice"),
        (_MHA.format("DistanceUnits = furlong\n"), "DistanceUnits"),
        (_MHA.format("Offset = 1 2 3\nOrigin = 1 2 4\n"), "expected the same numbers"),
        (_MHA.format("TransformMatrix = 1 0 0 0 1 0 0 0 1\nRotation = 0 1 0 1 0 0 0 0 1\n"), "the same numbers"),
        (_MHA.format("NDims = 3\n"), "twice"),
        (_MHA.format("ElementToIntensityFunctionSlope = 0\n"), "slope"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(tmp_path, text, said):
    (tmp_path / "a.img").write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_volume(tmp_path / "a.img")
    assert "a.img" in str(caught.value)


def test_the_intensity_function_of_metaimage_scales(tmp_path):
    text = _MHA.format("ElementToIntensityFunctionSlope = 2\nElementToIntensityFunctionOffset = -96\n")
    (tmp_path / "a.mha").write_text(text)
    np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").values.ravel(), 2.0 * np.arange(8))


# FreeSurfer.


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_mgz_is_read_as_nibabel_reads_it(tmp_path, dtype):
    image = nib.MGHImage(_values(dtype).T, AFFINE)
    nib.save(image, tmp_path / "a.mgz")
    volume = read_volume(tmp_path / "a.mgz")
    np.testing.assert_array_equal(volume.values, _values(dtype))
    for index in ((0, 0, 0), (4, 5, 6), (2, 0, 3)):
        expected = image.affine @ [*index[::-1], 1]
        assert volume.grid.position(index) == pytest.approx(tuple(expected[:3]), abs=1e-4)


def test_frames_of_mgz_are_channels_and_its_footer_is_allowed(tmp_path):
    values = _values(shape=(3, *SHAPE))
    nib.save(nib.MGHImage(values.T.astype(np.float32), AFFINE), tmp_path / "a.mgz")
    content = gzip.decompress((tmp_path / "a.mgz").read_bytes())
    (tmp_path / "tags.mgh").write_bytes(content + struct.pack(">iq", 3, 5) + b"tags\0")
    np.testing.assert_array_equal(read_volume(tmp_path / "tags.mgh").values, values)
    (tmp_path / "cut.mgh").write_bytes(content[: 284 + values.size])
    with pytest.raises(InputError, match="truncated"):
        read_volume(tmp_path / "cut.mgh")


# GIPL.


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
@pytest.mark.parametrize("name", ["a.gipl", "a.gipl.gz"])
def test_gipl_is_read_as_itk_reads_it(tmp_path, dtype, name):
    image = sitk.GetImageFromArray(_values(dtype))
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin((4.0, -5.0, 6.0))
    sitk.WriteImage(image, str(tmp_path / name))
    volume, again = read_volume(tmp_path / name), sitk.ReadImage(str(tmp_path / name))
    np.testing.assert_array_equal(volume.values, sitk.GetArrayFromImage(again))
    assert volume.values.dtype == dtype and volume.grid.spacing == pytest.approx(SPACING)
    x, y, z = again.TransformIndexToPhysicalPoint((6, 2, 4))
    assert volume.grid.position((4, 2, 6)) == pytest.approx((-x, -y, z))
    content = (tmp_path / name).read_bytes()
    for changed in (content[:-1], content[:200], content + b"\1"):
        (tmp_path / name).write_bytes(changed)
        with pytest.raises(InputError, match="gipl"):
            read_volume(tmp_path / name)


# What is not read.


@pytest.mark.parametrize(
    ("start", "name", "remedy"),
    [
        (bytes(128) + b"DICM", "DICOM", "dcm2niix"),
        (bytes(128) + b"DICM" + b"1.2.840.10008.5.1.4.1.1.66.4\0", "DICOM segmentation", "segimage2itkimage"),
        (b"\x89HDF\r\n\x1a\n", "HDF5", "numpy.save"),
        (b"CDF\x01", "MINC", "mnc2nii"),
        (b"PK\x03\x04", "zip", "unzip"),
        (b"\xff\xd8\xff\xe0", "JPEG", "PNG"),
        (b"GIF89a", "GIF", "PNG"),
        (b"# vtk DataFile Version 3.0", "VTK", "SimpleITK"),
        (b"<!DOCTYPE html>", "HTML", "copy the file again"),
        (b"BZh91AY", "bzip2", "bunzip2"),
    ],
)
def test_other_formats_are_named_with_one_remedy(tmp_path, start, name, remedy):
    path = tmp_path / "scan.bin"
    path.write_bytes(start + bytes(400))
    with pytest.raises(InputError, match=rf"scan\.bin: got .*{name}.*which is not read; .*{remedy}"):
        read_volume(path)
    assert unknown_format("scan.bin", start) in unknown_format(str(path), start)


def test_a_folder_and_a_pointer_are_named(tmp_path):
    with pytest.raises(InputError, match="got a folder, expected an image file; convert a DICOM series"):
        read_volume(tmp_path)
    (tmp_path / "a.nii.gz").write_text("/annex/objects/SHA256E-s123--0123.nii.gz\n")
    with pytest.raises(InputError, match="git annex get"):
        read_volume(tmp_path / "a.nii.gz")


def test_analyze_is_refused_because_it_has_no_orientation(tmp_path):
    nib.AnalyzeImage(_values().T, np.eye(4)).to_filename(tmp_path / "a.hdr")
    with pytest.raises(InputError, match="Analyze does not say where left is"):
        read_volume(tmp_path / "a.hdr")


@given(start=st.binary(min_size=1, max_size=600))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_random_bytes_are_refused(tmp_path_factory, start):
    path = tmp_path_factory.getbasetemp() / "random.nii"
    path.write_bytes(start)
    with pytest.raises(InputError, match="random.nii"):
        read_volume(path)


@given(text=st.text(alphabet="NRRD0123456789:=() \n,.-eEnaINF" + "sizetypdmnrcog", max_size=300), mha=st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True)
def test_random_text_headers_are_refused(tmp_path_factory, text, mha):
    path = tmp_path_factory.getbasetemp() / "text.img"
    path.write_bytes((b"ObjectType = Image\n" if mha else b"NRRD0004\n") + text.encode())
    with pytest.raises(InputError, match="text.img"):
        read_volume(path)
