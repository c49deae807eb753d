"""PNG, BMP, TIFF and NPY, which have no voxel size: each gives the array that was written, with its channels."""

import numpy as np
import pytest
import tifffile
from helpers.small_volume import SHAPE, SPACING
from helpers.small_volume import values as _values
from PIL import Image

from softlabels.errors import InputError
from softlabels.inputs.volume import read_header, read_volume


def _png(path, values, **more):
    Image.fromarray(values).save(path, **more)
    return path


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (_values(np.uint8, (6, 7)), (1, 6, 7)),
        (_values(np.uint16, (6, 7)) * np.uint16(300), (1, 6, 7)),
        (_values(np.uint8, (6, 7, 3)), (3, 1, 6, 7)),
        (_values(np.uint8, (6, 7, 4)), (4, 1, 6, 7)),
    ],
)
def test_png_is_read_with_colours_as_channels(tmp_path, values, expected):
    volume = read_volume(_png(tmp_path / "a.png", values), spacing=(1.0, 1.0, 1.0))
    assert volume.values.shape == expected
    channels = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    np.testing.assert_array_equal(volume.values.reshape(channels.shape), channels)
    assert read_header(tmp_path / "a.png", (1.0, 1.0, 1.0)).dtype == values.dtype


def test_a_palette_holds_labels_but_no_intensities(tmp_path):
    indices = _values(np.uint8, (6, 7)) % 4
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([0, 0, 0, 200, 30, 40, 10, 250, 60, 7, 8, 9])
    picture.save(tmp_path / "a.png")
    label = read_volume(tmp_path / "a.png", role="label", spacing=SPACING)
    np.testing.assert_array_equal(label.values[0], indices)
    with pytest.raises(InputError, match="colour table"):
        read_volume(tmp_path / "a.png", spacing=SPACING)


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 3)])
def test_bmp_is_read_with_colours_as_channels(tmp_path, shape):
    values = _values(np.uint8, shape)
    path = _png(tmp_path / "a.bmp", values)
    volume = read_volume(path, spacing=SPACING)
    channels = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    np.testing.assert_array_equal(volume.values.reshape(channels.shape), channels)
    content = path.read_bytes()
    for changed in (content[:-1], content + b"\0", content[:10], content[:40]):
        path.write_bytes(changed)
        with pytest.raises(InputError, match=r"a\.bmp"):
            read_volume(path, spacing=SPACING)


@pytest.mark.parametrize("flip", range(8, 8 * 60, 37))
def test_a_flipped_bit_of_a_png_is_refused(tmp_path, flip):
    content = bytearray(_png(tmp_path / "a.png", _values(np.uint8, (6, 7))).read_bytes())
    content[flip // 8] ^= 1 << flip % 8
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.png"):
        read_volume(tmp_path / "a.png", spacing=SPACING)


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b[:-12], lambda b: b + b"\0", lambda b: b[:40]])
def test_a_png_of_another_length_is_refused(tmp_path, change):
    path = _png(tmp_path / "a.png", _values(np.uint8, (6, 7)))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(InputError, match=r"a\.png: (truncated|.* bytes after)"):
        read_volume(path, spacing=SPACING)


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((6, 7), {}, (1, 6, 7)),
        (SHAPE, {}, SHAPE),
        (SHAPE, {"compression": "zlib"}, SHAPE),
        (SHAPE, {"byteorder": ">", "bigtiff": True}, SHAPE),
        ((6, 7, 3), {"photometric": "rgb"}, (3, 1, 6, 7)),
        ((5, 6, 7, 3), {"photometric": "rgb", "compression": "zlib"}, (3, 5, 6, 7)),
        ((5, 2, 6, 7), {"imagej": True}, (2, 5, 6, 7)),
    ],
)
def test_tiff_is_read_with_pages_as_slices(tmp_path, shape, options, expected):
    values = _values(np.uint16 if "photometric" not in options else np.uint8, shape)
    tifffile.imwrite(tmp_path / "a.tif", values, **options)
    volume = read_volume(tmp_path / "a.tif", spacing=SPACING)
    assert volume.values.shape == expected
    if len(shape) == 4:
        axis = 1 if options.get("imagej") else 3
        np.testing.assert_array_equal(volume.values, np.moveaxis(values, axis, 0))
    else:
        expected_values = np.moveaxis(values, -1, 0) if "photometric" in options else values
        np.testing.assert_array_equal(volume.values.reshape(expected_values.shape), expected_values)
    assert volume.grid.spacing == SPACING


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_a_cut_tiff_is_refused(tmp_path, compression, bigtiff):
    values = _values(np.uint8, (5, 60, 70))
    tifffile.imwrite(tmp_path / "a.tif", values, compression=compression, bigtiff=bigtiff)
    content = (tmp_path / "a.tif").read_bytes()
    # The writer leaves some unused bytes at the end, which mean nothing.
    for length in np.linspace(4, len(content.rstrip(b"\0")) - 20, 40).astype(int):
        (tmp_path / "a.tif").write_bytes(content[:length])
        with pytest.raises(InputError, match=r"a\.tif"):
            read_volume(tmp_path / "a.tif", spacing=SPACING)


@pytest.mark.parametrize("shape", [(6, 7), SHAPE, (2, *SHAPE)])
@pytest.mark.parametrize("dtype", ["<i2", ">f4", "u1", "?"])
def test_npy_is_read(tmp_path, shape, dtype):
    values = _values(dtype, shape)
    np.save(tmp_path / "a.npy", values)
    volume = read_volume(tmp_path / "a.npy", spacing=SPACING)
    np.testing.assert_array_equal(volume.values.ravel(), values.ravel())
    assert volume.grid.spacing == SPACING
    assert volume.digest != read_volume(tmp_path / "a.npy", spacing=(1.0, 1.0, 1.0)).digest


def test_npy_that_cannot_be_believed_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", _values())
    content = (tmp_path / "a.npy").read_bytes()
    np.save(tmp_path / "object.npy", np.array([[None]]), allow_pickle=True)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(_values()))
    np.save(tmp_path / "complex.npy", _values().astype(np.complex64))
    (tmp_path / "short.npy").write_bytes(content[:-1])
    (tmp_path / "long.npy").write_bytes(content + b"\0")
    (tmp_path / "header.npy").write_bytes(content[:30] + b"__import__('os')" + content[46:])
    for name in ("object", "fortran", "complex", "short", "long", "header"):
        with pytest.raises(InputError, match=rf"{name}\.npy"):
            read_volume(tmp_path / f"{name}.npy", spacing=SPACING)


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.tif", "a.bmp"])
def test_formats_without_a_voxel_size_need_one_in_the_sheet(tmp_path, name):
    values = _values(np.uint8, (6, 7))
    {"npy": np.save, "png": _png, "bmp": _png, "tif": tifffile.imwrite}[name[2:]](tmp_path / name, values)
    with pytest.raises(InputError, match="has no voxel size; give it in the sheet's column 'spacing'"):
        read_volume(tmp_path / name)
