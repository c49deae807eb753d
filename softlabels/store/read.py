"""Reading a published entry: whole or absent, every byte that is returned has been checked.

An `Entry` holds no open file and no lock: it may be pickled, shared between threads, and used after a fork or a spawn.
Needs numpy, and zarr's own compression and checksum packages; zarr itself only for `Entry.stored`.
"""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.archive import archive_of, folder_identity, is_folder, located, read_small
from softlabels._shared.files import is_damage
from softlabels._shared.plain_json import unsealed_json
from softlabels.errors import FormatError, InputError, StoreError
from softlabels.grid import Grid
from softlabels.store.encoding import Encoding, Lossless, encoding_from_json
from softlabels.store.format import (
    FORMAT_VERSION,
    MANIFEST,
    PROVENANCE,
    QUALITY,
    REMEDY,
    VERSION_FOLDER,
    ZARR,
    entry_folder,
    shard_path,
)
from softlabels.store.shard import read_shard_index, read_window

if TYPE_CHECKING:
    import zarr


def open_entry(store: Path, key: str, manifest_digest: str | None = None) -> Entry | None:
    """Return the entry of `key`, or None if the store does not have it.

    Parameters
    ----------
    store : path
        The store's folder.
    key : str
        64 hex digits.
    manifest_digest : str, optional
        What a receipt or an index promised; another digest is a FormatError.

    Raises
    ------
    FormatError
        If a file is missing, has another size than the manifest says, or a small file another hash; or if the entry is
        that of another key or of another format version.
    """
    folder = entry_folder(store, key)
    while True:
        before = identity_of(folder)
        if before is None:
            return None
        try:
            with readable(folder):
                return _opened(folder, key, manifest_digest)
        except FormatError:
            # If the entry was discarded, or discarded and published again, in the meantime, this was no damage.
            if identity_of(folder) == before:
                raise


def identity_of(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes when a folder is renamed or replaced; None if there is none."""
    with readable(folder):
        try:
            return folder_identity(folder)
        except FileNotFoundError:
            if not folder.is_symlink():
                return None
            # Whoever computes the entry could not publish it there.
            raise FormatError(f"{folder}: a link to nothing, expected an entry or no file; {REMEDY}") from None


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the operating system says while reading an entry into one error that names the file and the remedy."""
    try:
        yield
    except StoreError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FormatError(f"{error.filename or path}: {_absence(path)}") from None
    except OSError as error:
        if is_damage(error):
            raise FormatError(
                f"{error.filename or path}: not what was published ({error.strerror}); {REMEDY}"
            ) from None
        remedy = "ask the store's owner for read permission" if error.errno == errno.EACCES else "check the file system"
        raise StoreError(f"{error.filename or path}: cannot be read ({error.strerror}); {remedy}") from error


def _absence(path: Path) -> str:
    """Return what is missing of the path of an entry, or of a file in it: the file alone, or the whole store."""
    store = next((parent for parent in path.parents if parent.name == VERSION_FOLDER), path).parent
    if is_folder(store):
        return f"the file is missing; {REMEDY}"
    return f"the whole store {store} is missing: it was removed, moved or unmounted. Bring it back, then run again"


def _opened(folder: Path, key: str, manifest_digest: str | None) -> Entry:
    """Return the entry in `folder` after the checks that every opening makes."""
    content = read_small(folder / MANIFEST)
    manifest = _unsealed(content, folder / MANIFEST)
    if manifest["format"] != FORMAT_VERSION:
        raise FormatError(f"{folder}: got format {manifest['format']}, expected {FORMAT_VERSION}; {REMEDY}")
    if manifest["key"] != key:
        raise FormatError(f"{folder / MANIFEST}: this is the entry of key {manifest['key']}, not of {key}; {REMEDY}")
    digest = hashlib.sha256(content).hexdigest()
    if manifest_digest not in (None, digest):
        raise FormatError(
            f"{folder / MANIFEST}: got manifest {digest[:12]}, expected {manifest_digest[:12]} as the receipt says; "
            "in the project's folder, run `softlabels verify --discard`, then snakemake, which rewrites receipts and "
            "index"
        )
    small = {}
    for name, record in manifest["files"].items():
        size = located(folder / name).size
        if size != record["size"]:
            raise FormatError(f"{folder / name}: got {size} bytes, expected {record['size']}; {REMEDY}")
        # Data files carry a checksum per chunk, which every reading compares; the others are hashed here, being small.
        if name.endswith(".json"):
            small[name] = content = read_small(folder / name)
            if hashlib.sha256(content).hexdigest() != record["sha256"]:
                raise FormatError(f"{folder / name}: the file is damaged (sha256 differs from the manifest); {REMEDY}")
    root = json.loads(small[f"{ZARR}/zarr.json"])["attributes"]["softlabels"]
    return Entry(folder, key, digest, manifest["files"], root, json.loads(small[QUALITY]))


def _unsealed(content: bytes, path: Path) -> dict[str, Any]:
    """Return the content of a sealed file of an entry; FormatError if it is not exactly what was published."""
    try:
        return unsealed_json(content)
    except ValueError as error:
        raise FormatError(f"{path}: the file is damaged ({error}); {REMEDY}") from None


class Entry:
    """One published, immutable result: named layers on one grid. Made by `Store.find`, `Store.publish`, `open_entry`.

    Attributes
    ----------
    path, zarr_path : Path
        The entry's folder, and the Zarr group in it.
    key, manifest_digest : str
        What was requested, and the sha256 of MANIFEST.json: equal results have equal digests.
    attributes, quality : dict
        What the stage recorded about the result.
    grid : Grid
        Position and size of the voxels.
    files : dict
        The manifest: file to its size, sha256 and, for arrays, the checksum of each chunk.
    """

    def __init__(
        self,
        path: Path,
        key: str,
        manifest_digest: str,
        files: dict[str, Any],
        root: dict[str, Any],
        quality: dict[str, Any],
    ) -> None:
        self.path, self.key, self.manifest_digest = Path(path), key, manifest_digest
        self.quality, self.attributes = quality, root["attributes"]
        self.grid = Grid.from_json(root["grid"])
        self.files = files
        self._layers: list[dict[str, Any]] = root["layers"]
        self._indexes: dict[str, NDArray[np.int64]] = {}

    def __repr__(self) -> str:
        return f"Entry({self.key[:12]}, {', '.join(f'{n} {self.shape(n)}' for n in self.layers)})"

    @property
    def zarr_path(self) -> Path:
        """The Zarr group, which any Zarr v3 reader opens."""
        return self.path / ZARR

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers, in the order they were published."""
        return tuple(layer["name"] for layer in self._layers)

    @property
    def nbytes(self) -> int:
        """Bytes of all files on disk."""
        sealed = sum(located(self.path / name).size for name in (MANIFEST, PROVENANCE))
        return sealed + sum(record["size"] for record in self.files.values())

    @property
    def n_files(self) -> int:
        """Number of files on disk: the manifest's, the manifest itself and the provenance."""
        return len(self.files) + 2

    @property
    def provenance(self) -> dict[str, Any]:
        """Who made the entry, where, when and how long it took."""
        path = self.path / PROVENANCE
        with readable(path):
            return _unsealed(read_small(path), path)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return (C, D, H, W) or (D, H, W) of a layer."""
        return tuple(self._layer(name)["shape"])

    def channels(self, name: str) -> tuple[str, ...] | None:
        """Return the names of a layer's channels; None if it has no channel axis."""
        names = self._layer(name)["channels"]
        return None if names is None else tuple(names)

    def flag_meanings(self, name: str) -> tuple[str, ...] | None:
        """Return what the values 0, 1, ... of a layer mean; None if they are no numbers of something."""
        meanings = self._layer(name).get("flag_meanings")
        return None if meanings is None else tuple(meanings)

    def dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype that `read` gives."""
        return np.dtype(self._layer(name)["values_dtype"])

    def stored_dtype(self, name: str) -> np.dtype[Any]:
        """Return the dtype on disk."""
        return np.dtype(self._layer(name)["dtype"])

    def chunks(self, name: str) -> tuple[int, ...]:
        """Return the chunk shape of a layer on disk."""
        return tuple(self._layer(name)["chunks"])

    def encoding(self, name: str) -> Encoding:
        """Return how the values of a layer are stored."""
        return encoding_from_json(self._layer(name)["encoding"])

    def error(self, name: str) -> dict[str, Any]:
        """Return a layer's encoding, its bound and the largest error measured when it was written."""
        return self._layer(name)["encoding"] | self._layer(name)["error"]

    def read(
        self,
        name: str,
        window: Sequence[slice | Sequence[int]] | None = None,
        n_threads: int = 1,
        *,
        channels: tuple[int, int] | None = None,
        out: NDArray[Any] | None = None,
        as_stored: bool = False,
    ) -> NDArray[Any]:
        """Return a layer's values: float32 where they were quantised or rounded, else the dtype they came in.

        Parameters
        ----------
        name : str
            One of `layers`.
        window : tuple, optional
            Three slices or three (start, stop) pairs over (z, y, x), inside the grid.
        n_threads : int
            Threads that decode chunks; the workers of a loader are better off with one.
        channels : tuple of 2 ints, optional
            First channel and the one after the last; by default all. Only for a layer with channels.
        out : ndarray, optional
            Where to write the values, and what is returned: an array, or a part of one, of their shape and dtype.
        as_stored : bool
            Return the values as they are on disk, such as integers that `encoding` decodes.

        Returns
        -------
        np.ndarray
            (C, d, h, w) or (d, h, w), newly allocated unless `out` is given.

        Raises
        ------
        FormatError
            If a byte that was read is not what was published; the message names entry and file.
        InputError
            If the layer, the window or the channels do not exist, or `out` has another shape or dtype.

        Notes
        -----
        Costs one opening of a file and the decoding of the chunks that the window touches.
        """
        layer = self._layer(name)
        region = _full_window(window, layer["shape"], channels)
        shape, dtype = tuple(w.stop - w.start for w in region), layer["dtype" if as_stored else "values_dtype"]
        if out is None:
            out = np.empty(shape, dtype)
        elif out.shape != shape or out.dtype != dtype:
            raise InputError(f"out: got {out.dtype} {out.shape}, expected {dtype} {shape} for layer {name!r}")
        file = shard_path(layer)
        encoding = Lossless() if as_stored else self.encoding(name)
        with readable(self.path / file):
            read_window(self.path / file, layer, encoding, self._index(layer), region, out, n_threads)
        return out

    def stored(self, name: str) -> zarr.Array[Any]:
        """Return the plain Zarr array, quantised values as they are stored, without this package's own checks."""
        import zarr

        path = self.zarr_path / self._layer(name)["path"]
        if archive := archive_of(path):
            return zarr.open_array(zarr.storage.ZipStore(archive), path=path.relative_to(archive).as_posix(), mode="r")
        return zarr.open_array(path, mode="r")

    def _layer(self, name: str) -> dict[str, Any]:
        """Return the description of a layer, or raise InputError naming those there are."""
        for layer in self._layers:
            if layer["name"] == name:
                return layer
        raise InputError(f"entry {self.key[:12]}: got layer {name!r}, expected one of {', '.join(self.layers)}")

    def _index(self, layer: dict[str, Any]) -> NDArray[np.int64]:
        """Return where the layer's chunks are in its file and their checksums, read once."""
        name = layer["name"]
        if name not in self._indexes:
            file = shard_path(layer)
            record = self.files[file]
            self._indexes[name] = read_shard_index(self.path / file, record["size"], record["chunks_crc32c"])
        return self._indexes[name]


def _full_window(
    window: Sequence[slice | Sequence[int]] | None, shape: Sequence[int], channels: tuple[int, int] | None = None
) -> tuple[slice, ...]:
    """Return one slice with start and stop per axis; all channels unless some are named; InputError outside."""
    space = tuple(shape[-3:])
    window = (slice(None),) * 3 if window is None else window
    pairs = [_start_stop(part, n) for part, n in zip(window, space, strict=False)]
    if len(window) != 3 or any(not 0 <= a < b <= n for (a, b), n in zip(pairs, space, strict=True)):
        raise InputError(f"window: got {window}, expected three (start, stop) inside the grid {space}")
    lead = tuple(slice(0, n) for n in shape[:-3])
    if channels is not None:
        if not lead or not 0 <= channels[0] < channels[1] <= shape[0]:
            raise InputError(f"channels: got {tuple(channels)}, expected (start, stop) inside {tuple(shape[:-3])}")
        lead = (slice(*channels),)
    return lead + tuple(slice(a, b) for a, b in pairs)


def _start_stop(part: slice | Sequence[int], size: int) -> tuple[int, int]:
    """Return the start and stop of a slice or a pair; a step makes an empty range, which is refused."""
    if not isinstance(part, slice):
        return int(part[0]), int(part[1])
    if part.step not in (None, 1):
        return 0, 0
    return int(part.start or 0), int(size if part.stop is None else part.stop)
