"""What an entry looks like on disk. The reference page is docs/store.md; needs only Python's standard library.

A change that old readers would misread raises `FORMAT_VERSION`, and with it every key.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
ZARR, MANIFEST, QUALITY, PROVENANCE = "entry.zarr", "MANIFEST.json", "QUALITY.json", "PROVENANCE.json"
#: Entries, temporary and discarded folders of one format version share this folder, and so one filesystem.
VERSION_FOLDER = f"v{FORMAT_VERSION}"
TMP_PREFIX, TRASH_PREFIX = ".tmp-", ".trash-"

#: The most bytes that an index may have: it grows with the cohort, by 1 to 10 kB a case, with the number of labels.
INDEX_BYTES = 2**32

NGFF_VERSION = "0.5"
#: The longest chunk along an axis. Larger ones decode more that a patch does not need.
CHUNK_SIDE = 64
#: A chunk is decoded to a core's cache and copied from there. Smaller ones cost more calls than they save bytes.
CHUNK_BYTES = 2**19
#: Bits are shuffled in groups of 8 values and what is left over is not compressed: in small chunks, twice the bytes.
ROUNDED_CHUNK_BYTES = 4 * 2**20
#: From here on most of a map is constant: a class is in few places.
MANY_CHANNELS = 16
#: The sides (z, y, x) that are tried until a chunk has at most `CHUNK_BYTES`. Long rows along x are copied faster.
_SIDES = ((CHUNK_SIDE,) * 3, (32, 64, 64), (32, 32, 64), (16, 32, 64))

#: The project is the folder with config.yaml; a machine that only trains may have none.
REMEDY = (
    "in the project's folder, run `softlabels verify --discard`, then snakemake, which recomputes what was discarded"
)


def entry_folder(store: Path, key: str) -> Path:
    """Return the folder of the entry of `key`, whether it exists or not."""
    return Path(store) / VERSION_FOLDER / key[:2] / key


def codec(shape: Sequence[int], dtype: str, *, is_rounded: bool) -> dict[str, Any]:
    """Return how blosc compresses an array, chosen by measurement on real images and maps (docs/store.md).

    Images, labels and maps of one byte are written once and read in every epoch: lz4hc is decoded fastest. zstd makes
    integers of more bytes half as large, and a map of many classes too, which is constant nearly everywhere. Rounded
    floats have empty bits to collect and are read by the pipeline alone: lz4 is written fastest.

    Examples
    --------
    >>> codec((4, 155, 240, 240), "float32", is_rounded=False)
    {'cname': 'lz4hc', 'clevel': 5, 'shuffle': 'shuffle'}
    """
    if is_rounded:
        return {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle"}
    is_small = dtype in ("int8", "uint8") and math.prod(shape[:-3]) < MANY_CHANNELS
    name, level = ("lz4hc", 5) if is_small or dtype.startswith("float") else ("zstd", 3)
    return {"cname": name, "clevel": level, "shuffle": "shuffle"}


def chunk_shape(shape: tuple[int, ...], itemsize: int, *, is_rounded: bool = False) -> tuple[int, ...]:
    """Return the chunk shape of an array (D,H,W) or (C,D,H,W).

    Space is cut into equal parts of at most 64 voxels a side, so that little of the last chunk is padding. All channels
    are in one chunk, because a patch wants them all. Where that is more than 512 KiB, the parts are at most 32 and then
    16 voxels along z and 32 along y; after that the channels are cut into equal parts too. For rounded floats, only
    the channels are cut, into parts of at most 4 MiB.

    Examples
    --------
    >>> chunk_shape((3, 155, 240, 240), itemsize=1), chunk_shape((4, 155, 240, 240), itemsize=4)
    ((3, 31, 60, 60), (4, 16, 30, 60))
    >>> chunk_shape((12, 155, 240, 240), itemsize=4, is_rounded=True)
    (4, 52, 60, 60)
    """
    most_bytes = ROUNDED_CHUNK_BYTES if is_rounded else CHUNK_BYTES
    for sides in _SIDES[:1] if is_rounded else _SIDES:
        space = tuple(map(_even_part, shape[-3:], sides))
        if math.prod(shape[:-3]) * math.prod(space) * itemsize <= most_bytes:
            break
    most_channels = max(1, most_bytes // (math.prod(space) * itemsize))
    return tuple(_even_part(n, most_channels) for n in shape[:-3]) + space


def block_shape(shape: Sequence[int]) -> tuple[int, int, int]:
    """Return the largest chunks (z, y, x) that a volume of this shape is stored in: those of one small channel.

    Examples
    --------
    >>> block_shape((155, 240, 240))
    (52, 60, 60)
    """
    depth, height, width = (_even_part(n, CHUNK_SIDE) for n in shape)
    return depth, height, width


def _even_part(n: int, most: int) -> int:
    """Return the size of the largest of the fewest near-equal parts of n that are at most `most` long."""
    return math.ceil(n / math.ceil(n / most))


def grid_of_chunks(shape: Sequence[int], chunks: Sequence[int]) -> tuple[int, ...]:
    """Return how many chunks there are along each axis."""
    return tuple(math.ceil(n / c) for n, c in zip(shape, chunks, strict=True))


def array_metadata(
    shape: Sequence[int],
    dtype: str,
    chunks: Sequence[int],
    compression: dict[str, Any],
    attributes: dict[str, Any],
) -> dict[str, Any]:
    """Return the zarr.json of an array in one shard file."""
    n_chunks = grid_of_chunks(shape, chunks)
    itemsize = int(dtype.lstrip("uintfloa")) // 8
    byte_codec = {"name": "bytes", "configuration": {"endian": "little"}} if itemsize > 1 else {"name": "bytes"}
    blosc = {"name": "blosc", "configuration": {**compression, "typesize": itemsize, "blocksize": 0}}
    index_codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
    sharding = {
        "chunk_shape": list(chunks),
        "codecs": [byte_codec, blosc, {"name": "crc32c"}],
        "index_codecs": index_codecs,
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": [n * c for n, c in zip(n_chunks, chunks, strict=True)]},
        },
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        # A reader that does not check for missing chunks sees NaN where the type has one.
        "fill_value": "NaN" if dtype.startswith("float") else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "dimension_names": ["c", "z", "y", "x"][-len(shape) :],
        "attributes": attributes,
    }


def group_metadata(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the zarr.json of a group."""
    return {"zarr_format": 3, "node_type": "group", "attributes": attributes}


def layer_folder(name: str, role: str) -> str:
    """Return the array's folder inside the Zarr group; label images are where OME-NGFF wants them."""
    return f"labels/{name}/0" if role == "labels" else name


def shard_path(layer: dict[str, Any]) -> str:
    """Return the layer's one data file, relative to the entry."""
    return "/".join([ZARR, layer["path"], "c", *["0"] * len(layer["shape"])])
