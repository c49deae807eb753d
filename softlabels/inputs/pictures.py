"""PNG, BMP and TIFF: pictures, and stacks of them in one TIFF. Their spacing is in the case sheet.

The parts of a PNG have checksums, which are verified before it is decoded. BMP and TIFF have
none: the length, and every strip and tile, must be right, but a flipped bit within may pass.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.inputs.frame import Frame, frame_header
from softlabels.inputs.stream import Stream

#: First bytes by which the formats are recognised; those of TIFF in both byte orders, also with 64-bit offsets.
PNG_START = b"\x89PNG"
BMP_START = b"BM"
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG_REST = b"\r\n\x1a\n"
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_N_CHANNELS = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
#: Bytes of a value of each type in a directory of a TIFF.
_TIFF_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
#: How tifffile names the axes of a picture or stack, and where each goes in (channel, z, y, x). Q and I are unnamed.
_TIFF_AXES = {
    "YX": "yx", "ZYX": "zyx", "QYX": "zyx", "IYX": "zyx", "YXS": "yxc", "SYX": "cyx", "CYX": "cyx", "ZCYX": "zcyx",
    "CZYX": "czyx", "ZYXS": "zyxc", "QYXS": "zyxc", "IYXS": "zyxc",
}  # fmt: skip


def open_png(stream: Stream, start: bytes, spacing: tuple[float, float, float]) -> Frame:
    """Return the picture in a PNG file whose first 4 bytes, `start`, are already read.

    Parameters
    ----------
    stream : Stream
    start : bytes
    spacing : 3 floats
        Voxel size in mm, (z, y, x).

    Raises
    ------
    InputError
        If a part is damaged or missing, or colours have 16 bits, which the decoder would round to 8.
    """
    path = stream.path
    content = start + stream.read(stream.n_available)
    stream.finish()
    width, height, depth, colour = _png_header(path, content)
    if colour != _GREY and depth == 16:
        raise InputError(f"{path}: got a PNG with 16 bits per colour, expected 8, or 16 in grey; save it as TIFF")
    dtype = np.dtype(np.uint16 if depth == 16 else np.uint8)
    header = frame_header(path, (_N_CHANNELS[colour], 1, height, width), dtype, spacing, "(channels, z, y, x)")

    def decode() -> NDArray[Any]:
        samples = _decoded(path, _opened_picture(path, content))
        planes = np.moveaxis(samples.reshape(height, width, -1), -1, 0)
        return np.ascontiguousarray(planes[:, None], dtype)

    return Frame(header, decode, is_palette=colour == _PALETTE)


def _png_header(path: Path, content: bytes) -> tuple[int, int, int, int]:
    """Return width, height, bits and kind of colour of a PNG, of which every part is verified."""
    if content[4:8] != _PNG_REST:
        raise InputError(f"{path}: damaged (not the first bytes of a PNG); copy the file again from its source")
    at, kind, first = 8, b"", b""
    while kind != b"IEND":
        if at + 12 > len(content):
            raise InputError(f"{path}: truncated: the PNG has no end; copy the file again from its source")
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            raise InputError(
                f"{path}: truncated: got {len(content)} bytes, expected {end} or more; copy the file again"
            )
        if zlib.crc32(content[at + 4 : end - 4]) != struct.unpack_from(">I", content, end - 4)[0]:
            raise InputError(
                f"{path}: damaged (checksum of {kind.decode('latin-1')!r}); copy the file again from its source"
            )
        first = first or content[at + 4 : end - 4]
        at = end
    if at != len(content):
        raise InputError(f"{path}: {len(content) - at} bytes after the end of the PNG; save it again")
    if first[:4] != b"IHDR" or len(first) != 17 or first[13] not in _N_CHANNELS:
        raise InputError(f"{path}: got a PNG without a valid header; save it again")
    width, height, depth, colour = struct.unpack_from(">IIBB", first, 4)
    return width, height, depth, colour


def open_bmp(stream: Stream, start: bytes, spacing: tuple[float, float, float]) -> Frame:
    """Return the picture in a BMP file whose first 4 bytes, `start`, are already read.

    Parameters
    ----------
    stream : Stream
    start : bytes
    spacing : 3 floats
        Voxel size in mm, (z, y, x).

    Raises
    ------
    InputError
        If the file is not as long as it says, or of a rare kind that the decoder does not know.
    """
    path = stream.path
    content = start + stream.read(stream.n_available)
    stream.finish()
    size = struct.unpack_from("<I", content, 2)[0] if len(content) >= 6 else 0
    if size != len(content):
        raise InputError(f"{path}: got {len(content)} bytes, but its header says {size}; copy the file again")
    picture = _opened_picture(path, content)
    width, height = picture.size
    is_palette = picture.mode == "P"
    header = frame_header(
        path, (len(picture.getbands()), 1, height, width), np.dtype(np.uint8), spacing, "(c, z, y, x)"
    )

    def decode() -> NDArray[Any]:
        samples = _decoded(path, picture).reshape(height, width, -1)
        return np.ascontiguousarray(np.moveaxis(samples, -1, 0)[:, None], np.uint8)

    return Frame(header, decode, is_palette=is_palette)


def _opened_picture(path: Path, content: bytes) -> Any:
    """Return a picture that Pillow has opened, but not decoded. Its size is checked against the bound on voxels."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(content))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: the picture cannot be decoded ({error}); save it again") from error


def _decoded(path: Path, picture: Any) -> NDArray[Any]:
    """Return the samples of an opened picture."""
    try:
        return np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: the picture cannot be decoded ({error}); save it again") from error


def open_tiff(stream: Stream, start: bytes, spacing: tuple[float, float, float]) -> Frame:
    """Return the picture or stack in a TIFF file whose first 4 bytes, `start`, are already read.

    Parameters
    ----------
    stream : Stream
    start : bytes
    spacing : 3 floats
        Voxel size in mm, (z, y, x).

    Raises
    ------
    InputError
        If a strip or tile is outside of the file, the file holds several series, or axes beyond channel, z, y, x.
    """
    import tifffile

    path = stream.path
    content = start + stream.read(stream.n_available)
    stream.finish()
    _check_tiff(path, content)
    try:
        tiff = tifffile.TiffFile(io.BytesIO(content))
        series = tiff.series
        pages = [page for one in series for page in one.pages if page is not None]
        ends = [at + n for page in pages for at, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        # Of pages that follow each other without gaps, only the first has a directory.
        ends += [one.dataoffset + one.nbytes for one in series if one.dataoffset is not None]
    except Exception as error:  # tifffile raises whatever a damaged file leads it to
        raise InputError(f"{path}: damaged TIFF ({error}); copy the file again from its source") from error
    if len(series) != 1 or series[0].axes not in _TIFF_AXES:
        got = ", ".join(f"{one.axes} {one.shape}" for one in series[:4])
        raise InputError(
            f"{path}: got TIFF with {got or 'no picture'}, expected one stack of axes {sorted(_TIFF_AXES)}"
        )
    if not ends or max(ends) > len(content):
        raise InputError(
            f"{path}: truncated: got {len(content)} bytes, expected {max(ends, default=0)} or more; copy the file again"
        )
    axes = _TIFF_AXES[series[0].axes]
    sizes = dict(zip(axes, series[0].shape, strict=True))
    shape = tuple(sizes.get(axis, 1) for axis in "czyx")
    header = frame_header(path, shape, series[0].dtype.newbyteorder("="), spacing, "(channels, z, y, x)")

    def decode() -> NDArray[Any]:
        try:
            samples = series[0].asarray()
        except Exception as error:
            needs = "; `pip install imagecodecs`, or save it" if "imagecodecs" in str(error) else "; save it again"
            raise InputError(f"{path}: the TIFF cannot be decoded ({error}){needs} without compression") from error
        order = [axes.index(axis) for axis in "czyx" if axis in axes]
        return np.ascontiguousarray(samples.transpose(order).reshape(shape), header.dtype)

    palette = series[0].keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE
    return Frame(header, decode, is_palette=palette)


def _check_tiff(path: Path, content: bytes) -> None:
    """Raise InputError unless all directories of a TIFF, and all values they refer to, are within the file.

    tifffile passes over a directory that is not, and returns the pages before it.
    """
    order = "<" if content[:2] == b"II" else ">"
    is_big = content[2:4] in (b"+\0", b"\0+")
    # Of a 64-bit file: where the first offset is, and the formats of a count of entries, of an entry, and of an offset.
    at, count, entry, offset = (8, "Q", "HHQQ", "Q") if is_big else (4, "H", "HHII", "I")
    n_inline = struct.calcsize(offset)
    try:
        (place,) = struct.unpack_from(order + offset, content, at)
        seen = set()
        while place:
            if place in seen:
                raise InputError(f"{path}: damaged TIFF (its directories form a circle); save it again")
            seen.add(place)
            (n_entries,) = struct.unpack_from(order + count, content, place)
            place += struct.calcsize(order + count)
            for _ in range(n_entries):
                _, kind, n_values, value = struct.unpack_from(order + entry, content, place)
                n_bytes = n_values * _TIFF_BYTES.get(kind, 0)
                if n_bytes > n_inline and value + n_bytes > len(content):
                    raise struct.error("a value")
                place += struct.calcsize(order + entry)
            (place,) = struct.unpack_from(order + offset, content, place)
    except struct.error as error:
        raise InputError(
            f"{path}: truncated: got {len(content)} bytes, and a part of the TIFF ({error}) is not among them; "
            "copy the file again from its source"
        ) from error
