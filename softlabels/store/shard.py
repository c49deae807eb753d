"""One array in one file: a Zarr v3 shard, written chunk by chunk and read window by window, every byte checked.

Written here and not through zarr-python for three reasons that matter for labels: the bytes depend on numcodecs'
version (its Blosc) alone, a missing chunk or one of another file is an error and never a zero, and chunks are encoded
in parallel in bounded memory.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import google_crc32c
import numpy as np
from numcodecs import blosc
from numpy.typing import NDArray

from softlabels._shared.archive import located
from softlabels._shared.boxed import BoxedVolumes
from softlabels._shared.in_order import map_in_order
from softlabels._shared.on_demand import VolumesOnDemand
from softlabels.errors import FormatError
from softlabels.store.encoding import BitRound, Encoding, Lossless
from softlabels.store.format import REMEDY, chunk_shape, codec, grid_of_chunks

_INDEX_DTYPE = np.dtype("<u8")
_CRC_BYTES = 4
_SLAB_VOXELS = 2**16

#: Of encoded values: the largest error, the smallest and the largest finite value.
Figures = tuple[float, float, float]


class Writable(Protocol):
    """Values that are written part by part: an array, `BoxedVolumes` or `VolumesOnDemand`."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, D, H, W) or (D, H, W)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values as they came."""

    def __getitem__(self, region: tuple[slice, ...], /) -> NDArray[Any]:
        """Return the values of a region, one slice per axis."""


def write_shard(path: Path, values: Writable, encoding: Encoding, n_threads: int) -> dict[str, Any]:
    """Write `values` to a new file; return its manifest record, layout, finite range and largest error.

    Memory: a few chunks per thread beside `values`. Chunks that no box of `BoxedVolumes` meets are encoded once. Of
    `VolumesOnDemand`, those are held that are made together, and as they are stored those that share chunks.
    """
    dtype = encoding.stored_dtype(values.dtype)
    is_rounded = isinstance(encoding, BitRound)
    chunks = chunk_shape(values.shape, dtype.itemsize, is_rounded=is_rounded)
    compression = codec(values.shape, dtype.name, is_rounded=is_rounded)
    shuffle = {"shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}[compression["shuffle"]]
    compressor = blosc.Blosc(compression["cname"], compression["clevel"], shuffle)

    constant: dict[tuple[int, ...], tuple[bytes, int, Figures]] = {}

    def encoded(part: Writable, code: Encoding, chunk: tuple[int, ...]) -> tuple[bytes, int, Figures]:
        starts = [i * c for i, c in zip(chunk, chunks, strict=True)]
        region = tuple(slice(a, min(a + c, n)) for a, c, n in zip(starts, chunks, part.shape, strict=True))
        size = tuple(side.stop - side.start for side in region)
        is_constant = isinstance(part, BoxedVolumes) and all(
            part.is_filled(c, region[1:]) for c in range(region[0].start, region[0].stop)
        )
        if is_constant and size in constant:
            return constant[size]
        block, figures = _encoded_block(part, region, code, chunks, dtype)
        data = compressor.encode(block)
        found = data, google_crc32c.value(data), figures
        if is_constant:
            constant[size] = found
        return found

    index: list[tuple[int, int]] = []
    checksums: list[str] = []
    figures: list[Figures] = []
    offset = 0
    with ThreadPoolExecutor(n_threads) as pool, _HashedFile(path) as file:
        for part, code, error in _parts_in_order(values, encoding, chunks[0], dtype, pool):
            figures.append((error, math.inf, -math.inf))
            places = np.ndindex(*grid_of_chunks(part.shape, chunks))
            for data, checksum, found in map_in_order(pool, partial(encoded, part, code), places, n_threads):
                size = file.append(data) + file.append(_crc_bytes(checksum))
                index.append((offset, size))
                checksums.append(f"{checksum:08x}")
                figures.append(found)
                offset += size
            # What is made next takes its memory.
            del part
        index_bytes = np.array(index, _INDEX_DTYPE).tobytes()
        offset += file.append(index_bytes) + file.append(_crc_bytes(google_crc32c.value(index_bytes)))
    errors, lows, highs = zip(*figures, strict=True)
    return {
        "record": {"size": offset, "sha256": file.sha256, "chunks_crc32c": "".join(checksums)},
        "chunks": chunks,
        "compression": compression,
        "dtype": dtype.name,
        "range": (min(lows), max(highs)),
        "error": max(errors),
    }


def _parts_in_order(
    values: Writable, encoding: Encoding, n_channels: int, dtype: np.dtype[Any], pool: ThreadPoolExecutor
) -> Iterator[tuple[Writable, Encoding, float]]:
    """Yield what is written one after another, how that is encoded, and the largest error of what was before.

    That is everything at once; or of volumes that are made on demand, those that share chunks: as they are made, if
    they are made together, else as they are stored.
    """
    if not isinstance(values, VolumesOnDemand):
        yield values, encoding, 0.0
        return
    for first in range(0, len(values), n_channels):
        stop = min(first + n_channels, len(values))
        if values.are_together(first, stop):
            yield values.several(first, stop), encoding, 0.0
            values.release(before=stop)
        else:
            stored = np.empty((stop - first, *values.shape[1:]), dtype)
            error = max(_encode(values.volume(row), encoding, out, pool) for row, out in enumerate(stored, start=first))
            values.release(before=stop)
            yield stored, Lossless(), error


def _encode(volume: NDArray[Any], encoding: Encoding, out: NDArray[Any], pool: ThreadPoolExecutor) -> float:
    """Write a volume (D, H, W) as it is stored; return its largest error."""
    n_rows = max(1, _SLAB_VOXELS // math.prod(volume.shape[-2:]))

    def encode(row: int) -> float:
        out[row : row + n_rows], error = encoding.encode(volume[row : row + n_rows])
        return error

    return max(pool.map(encode, range(0, len(volume), n_rows)))


def _encoded_block(
    values: Writable, region: tuple[slice, ...], encoding: Encoding, chunks: tuple[int, ...], dtype: np.dtype[Any]
) -> tuple[NDArray[Any], Figures]:
    """Return one chunk as it is stored, zero past the array's end, and its largest error and finite range."""
    block = np.zeros(chunks, dtype)
    error, low, high = 0.0, math.inf, -math.inf
    size = tuple(slice(0, side.stop - side.start) for side in region[-3:])
    for lead, volume in _volumes(values, region):
        if volume.size == 1:
            # One value throughout.
            stored, value_error = encoding.encode(volume)
            block[lead][size] = stored
            value_low, value_high = _finite_range(stored)
            error, low, high = max(error, value_error), min(low, value_low), max(high, value_high)
            continue
        # Slabs that stay in a core's cache are encoded three times as fast as the whole chunk.
        n_rows = max(1, _SLAB_VOXELS // math.prod(volume.shape[-2:]))
        for row in range(0, volume.shape[0], n_rows):
            stored, slab_error = encoding.encode(volume[row : row + n_rows])
            block[lead][tuple(slice(a, a + n) for a, n in zip((row, 0, 0), stored.shape, strict=True))] = stored
            slab_low, slab_high = _finite_range(stored)
            error, low, high = max(error, slab_error), min(low, slab_low), max(high, slab_high)
    return block, (error, low, high)


def _volumes(values: Writable, region: tuple[slice, ...]) -> Iterator[tuple[tuple[int, ...], NDArray[Any]]]:
    """Yield the volumes (d, h, w) of a region, each with its place along the axes before them.

    A volume that no box meets is one voxel, which stands for all.
    """
    if isinstance(values, BoxedVolumes):
        for c in range(region[0].start, region[0].stop):
            is_filled = values.is_filled(c, region[1:])
            one_value = np.full((1, 1, 1), values.fill, values.dtype)
            yield (c - region[0].start,), one_value if is_filled else values.region(c, region[1:])
        return
    part = values[region]
    for lead in np.ndindex(part.shape[:-3]):
        yield lead, part[lead]


def _finite_range(stored: NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and the largest finite value; inf and -inf if there is none."""
    low, high = float(stored.min()), float(stored.max())
    if math.isfinite(low) and math.isfinite(high):
        return low, high
    finite = stored[np.isfinite(stored)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)


class _HashedFile:
    """A new file that is hashed while it is written, and synced when it is closed without an error."""

    def __init__(self, path: Path) -> None:
        self._file, self._digest = new_file(path), hashlib.sha256()
        self.sha256: str | None = None

    def append(self, data: bytes) -> int:
        self._file.write(data)
        self._digest.update(data)
        return len(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file as file:
            if error is None:
                file.flush()
                os.fsync(file.fileno())
        self.sha256 = self._digest.hexdigest()


def new_file(path: Path) -> BinaryIO:
    """Open a new read-only file for writing: mode 0444 less the umask, from the first moment."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb")


def read_shard_index(path: Path, size: int, checksums: str) -> NDArray[np.int64]:
    """Return offset, size and checksum of each chunk, (n_chunks, 3).

    Parameters
    ----------
    path : path
        A shard of `size` bytes, with the offsets and sizes at its end.
    size : int
    checksums : str
        Those of the manifest, 8 hex digits a chunk.
    """
    expected, place = np.frombuffer(bytes.fromhex(checksums), ">u4"), located(path)
    if place.size > size:
        raise FormatError(f"{path}: the file is longer than its manifest says ({size} bytes); {REMEDY}")
    n_bytes = expected.size * 2 * _INDEX_DTYPE.itemsize
    with open(place.file, "rb") as file:
        tail = _read_at(file, place.offset + size - n_bytes - _CRC_BYTES, n_bytes + _CRC_BYTES, path)
    if _checksum(tail) != google_crc32c.value(tail[:-_CRC_BYTES]):
        raise FormatError(f"{path}: the shard's index is damaged (crc32c differs); {REMEDY}")
    return np.column_stack([np.frombuffer(tail[:-_CRC_BYTES], _INDEX_DTYPE).reshape(-1, 2), expected]).astype(np.int64)


class _Part(NamedTuple):
    """A chunk that a window touches: what to read, and which part of it goes where in the window's array."""

    chunk: tuple[int, ...]
    offset: int
    size: int
    checksum: int
    inside: tuple[slice, ...]
    target: tuple[slice, ...]


def read_window(
    path: Path,
    layer: dict[str, Any],
    encoding: Encoding,
    index: NDArray[np.int64],
    window: tuple[slice, ...],
    out: NDArray[Any],
    n_threads: int = 1,
) -> None:
    """Fill `out`, which may be a strided view, with the values of `window`, a slice with start and stop per axis."""
    parts = _parts(layer, index, window)
    rest = (path, tuple(layer["chunks"]), np.dtype(layer["dtype"]), encoding, out)
    if n_threads == 1:
        _read_parts(parts, *rest)
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            list(pool.map(lambda first: _read_parts(parts[first::n_threads], *rest), range(n_threads)))
    encoding.finish(out)


def _parts(layer: dict[str, Any], index: NDArray[np.int64], window: tuple[slice, ...]) -> list[_Part]:
    """Return the chunks of a window."""
    n_chunks = grid_of_chunks(layer["shape"], layer["chunks"])
    axes = [_overlaps(w, c) for w, c in zip(window, layer["chunks"], strict=True)]
    along, inside, target = zip(*(zip(*axis, strict=True) for axis in axes), strict=True)
    records = index[np.ravel_multi_index(np.ix_(*along), n_chunks).ravel()].T.tolist()
    chunks, insides, targets = (itertools.product(*parts) for parts in (along, inside, target))
    return list(map(_Part, chunks, *records, insides, targets))


def _overlaps(window: slice, size: int) -> list[tuple[int, slice, slice]]:
    """Return the chunks along an axis: number, the part of the chunk in the window, and its place in the window.

    Examples
    --------
    >>> _overlaps(slice(3, 6), 4)
    [(0, slice(3, 4, None), slice(0, 1, None)), (1, slice(0, 2, None), slice(1, 3, None))]
    """
    found = []
    for number in range(window.start // size, math.ceil(window.stop / size)):
        start, stop = max(number * size, window.start), min((number + 1) * size, window.stop)
        inside = slice(start - number * size, stop - number * size)
        found.append((number, inside, slice(start - window.start, stop - window.start)))
    return found


def _read_parts(
    parts: list[_Part],
    path: Path,
    chunks: tuple[int, ...],
    dtype: np.dtype[Any],
    encoding: Encoding,
    out: NDArray[Any],
) -> None:
    """Check some of the chunks of a window and copy them to `out`, which the encoding has yet to finish."""
    block, in_block, place = np.empty(chunks, dtype), b"", located(path)
    with open(place.file, "rb", buffering=0) as file:
        for chunk, offset, size, checksum, inside, target in parts:
            data = _read_at(file, place.offset + offset, size - _CRC_BYTES, path)
            if not google_crc32c.value(data) == _checksum(file.read(_CRC_BYTES)) == checksum:
                raise FormatError(f"{path}: chunk {chunk} is damaged (crc32c differs from the manifest); {REMEDY}")
            if data != in_block:  # labels and maps have many equal chunks, of one value
                blosc.decompress(data, block)
                in_block = data
            encoding.copy(block[inside], out[target])


def _read_at(file: BinaryIO | FileIO, offset: int, size: int, path: Path) -> bytes:
    """Return exactly `size` bytes from `offset`."""
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise FormatError(f"{path}: the file is truncated; {REMEDY}")
    return data


def _crc_bytes(checksum: int) -> bytes:
    """Return a checksum as it is stored."""
    return checksum.to_bytes(_CRC_BYTES, "little")


def _checksum(data: bytes) -> int:
    """Return the checksum that the last bytes of `data` hold."""
    return int.from_bytes(data[-_CRC_BYTES:], "little")
