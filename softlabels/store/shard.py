"""One array in one file: a Zarr v3 shard, written chunk by chunk and read window by window, every byte checked.

Written here and not through zarr-python for three reasons that matter for labels: the bytes do not depend on zarr's
version, a missing or foreign chunk is an error and never a zero, and chunks are encoded in parallel in bounded memory.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import google_crc32c
import numpy as np
from numcodecs.blosc import BITSHUFFLE, Blosc

from softlabels.errors import FormatError
from softlabels.quantise import Encoding
from softlabels.store.format import CODEC, REMEDY, chunk_shape, grid_of_chunks

_INDEX_DTYPE = np.dtype("<u8")
_CRC_BYTES = 4


def write_shard(path: Path, values: np.ndarray, encoding: Encoding, n_threads: int) -> dict:
    """Write `values` to a new file; return size, sha256, the chunks' checksums and the largest error of the encoding.

    Memory: a few chunks per thread beside `values`.
    """
    dtype = encoding.stored_dtype(values.dtype)
    chunks = chunk_shape(values.shape, dtype.itemsize)
    n_chunks = grid_of_chunks(values.shape, chunks)
    codec = Blosc(CODEC["cname"], CODEC["clevel"], BITSHUFFLE)

    def encoded(chunk):
        region = tuple(slice(i * c, (i + 1) * c) for i, c in zip(chunk, chunks, strict=True))
        stored, error = encoding.encode(values[region])
        block = np.zeros(chunks, dtype)
        block[tuple(slice(n) for n in stored.shape)] = stored
        data = codec.encode(block)
        return data, google_crc32c.value(data), error

    digest, index, checksums, largest, offset = hashlib.sha256(), [], [], 0.0, 0
    with ThreadPoolExecutor(n_threads) as pool, new_file(path) as file:

        def append(data):
            file.write(data)
            digest.update(data)
            return len(data)

        for data, checksum, error in _in_order(pool, encoded, np.ndindex(*n_chunks), ahead=2 * n_threads):
            size = append(data) + append(checksum.to_bytes(_CRC_BYTES, "little"))
            index.append((offset, size))
            checksums.append(f"{checksum:08x}")
            largest, offset = max(largest, error), offset + size
        index_bytes = np.array(index, _INDEX_DTYPE).tobytes()
        offset += append(index_bytes) + append(google_crc32c.value(index_bytes).to_bytes(_CRC_BYTES, "little"))
        file.flush()
        os.fsync(file.fileno())
    record = {"size": offset, "sha256": digest.hexdigest(), "chunks_crc32c": "".join(checksums)}
    return {"record": record, "error": largest, "chunks": chunks, "dtype": dtype.name}


def new_file(path):
    """Open a new read-only file for writing: mode 0444 less the umask, from the first moment."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb")


def _in_order(pool, function, items, ahead):
    """Yield function(item) in order, with at most `ahead` results computed before they are wanted."""
    items, pending = iter(items), deque()
    for item in itertools.islice(items, ahead):
        pending.append(pool.submit(function, item))
    while pending:
        result = pending.popleft().result()
        for item in itertools.islice(items, 1):
            pending.append(pool.submit(function, item))
        yield result


def read_index(path: Path, size: int, n_chunks: int) -> np.ndarray:
    """Return the (n_chunks, 2) offsets and sizes at the end of a shard of `size` bytes."""
    n_bytes = n_chunks * 2 * _INDEX_DTYPE.itemsize
    with open(path, "rb") as file:
        tail = _read_at(file, size - n_bytes - _CRC_BYTES, n_bytes + _CRC_BYTES, path)
        if file.read(1):
            raise FormatError(f"{path}: the file is longer than its manifest says ({size} bytes); {REMEDY}")
    if _checksum(tail) != google_crc32c.value(tail[:-_CRC_BYTES]):
        raise FormatError(f"{path}: the shard's index is damaged (crc32c differs); {REMEDY}")
    return np.frombuffer(tail[:-_CRC_BYTES], _INDEX_DTYPE).reshape(n_chunks, 2)


def read_window(path: Path, layer: dict, encoding: Encoding, index: np.ndarray, checksums: str, window, out) -> None:
    """Fill `out` with the decoded values of `window`, a slice with start and stop per axis."""
    chunks = tuple(layer["chunks"])
    n_chunks = grid_of_chunks(layer["shape"], chunks)
    codec, block = Blosc(), np.empty(chunks, layer["dtype"])
    touched = [range(w.start // c, math.ceil(w.stop / c)) for w, c in zip(window, chunks, strict=True)]
    with open(path, "rb", buffering=0) as file:
        for chunk in itertools.product(*touched):
            number = int(np.ravel_multi_index(chunk, n_chunks))
            offset, size = (int(v) for v in index[number])
            data = _read_at(file, offset, size, path)
            found = google_crc32c.value(data[:-_CRC_BYTES])
            if not found == _checksum(data) == int(checksums[8 * number : 8 * number + 8], 16):
                raise FormatError(f"{path}: chunk {chunk} is damaged (crc32c differs from the manifest); {REMEDY}")
            codec.decode(data[:-_CRC_BYTES], out=block)
            inside, target = _overlap(chunk, chunks, window)
            encoding.decode(block[inside], out=out[target])


def _read_at(file, offset, size, path):
    """Return exactly `size` bytes from `offset`."""
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise FormatError(f"{path}: the file is truncated; {REMEDY}")
    return data


def _checksum(data):
    """Return the checksum that the last bytes of `data` hold."""
    return int.from_bytes(data[-_CRC_BYTES:], "little")


def _overlap(chunk, chunks, window):
    """Return which part of a chunk lies in the window, and where it goes in the window's array."""
    inside, target = [], []
    for i, c, w in zip(chunk, chunks, window, strict=True):
        start, stop = max(i * c, w.start), min((i + 1) * c, w.stop)
        inside.append(slice(start - i * c, stop - i * c))
        target.append(slice(start - w.start, stop - w.start))
    return tuple(inside), tuple(target)
