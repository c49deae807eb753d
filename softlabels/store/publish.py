"""Publishing an entry: written aside, synced, then renamed into place in one step; the first writer wins."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from softlabels._shared.files import explained
from softlabels._shared.plain_json import readable_json, require_plain_json, sealed_json
from softlabels.errors import InputError, StoreError
from softlabels.grid import Grid
from softlabels.store import ngff
from softlabels.store.encoding import Encoding, Lossless, ScaleOffset, encoding_from_json
from softlabels.store.format import (
    FORMAT_VERSION,
    MANIFEST,
    PROVENANCE,
    QUALITY,
    VERSION_FOLDER,
    ZARR,
    array_metadata,
    entry_folder,
    group_metadata,
    layer_folder,
    shard_path,
)
from softlabels.store.garbage import remove_tree, temporary_name
from softlabels.store.read import Entry, open_entry
from softlabels.store.shard import Writable, new_file, write_shard

#: A record of an entry, or what returns it once the layers are written: some figures are found while they are made.
Record = dict[str, Any] | Callable[[], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Layer:
    """One named array of an entry.

    Parameters
    ----------
    name : str
        A word: letters, digits and underscores.
    values : np.ndarray, or what is sliced like one
        (C, D, H, W) or (D, H, W). Never modified.
    channels : sequence of str, optional
        C names; None for (D, H, W).
    encoding : ScaleOffset, BitRound or Lossless
        How the values are stored.
    role : {"image", "labels"}
        "labels" for integer masks: viewers draw them over the image.
    flag_meanings : sequence of str, optional
        What the values 0, 1, ... of integers mean; the names of CF, without spaces.
    """

    name: str
    values: Writable
    channels: Sequence[str] | None = None
    encoding: Encoding = Lossless()
    role: str = "image"
    flag_meanings: Sequence[str] | None = None

    def __post_init__(self) -> None:
        shape, where = self.values.shape, f"layer {self.name!r}"
        if not (self.name.isidentifier() and self.name.isascii()):
            raise InputError(f"{where}: expected a name of letters, digits and underscores")
        if self.role not in ("image", "labels"):
            raise InputError(f"{where}: got role {self.role!r}, expected 'image' or 'labels'")
        if len(shape) not in (3, 4) or 0 in shape:
            raise InputError(f"{where}: got shape {shape}, expected (D,H,W) or (C,D,H,W) with sizes >= 1")
        n_names = None if self.channels is None else len(self.channels)
        if n_names != (shape[0] if len(shape) == 4 else None):
            raise InputError(f"{where}: got {n_names} channel names for shape {shape}, expected one per channel")
        dtype = self.encoding.stored_dtype(self.values.dtype)
        if self.role == "labels" and dtype.kind not in "ui":
            raise InputError(f"{where}: got {dtype}, expected integers for role 'labels'")


def publish_entry(
    store: Path,
    key: str,
    layers: Sequence[Layer],
    *,
    grid: Grid,
    attributes: dict[str, Any],
    quality: Record,
    provenance: Record,
    n_threads: int,
) -> tuple[Entry, str]:
    """Publish layers under `key`; see `Store.publish`."""
    _require_publishable(layers, grid)
    require_plain_json(attributes, "attributes")
    final = entry_folder(store, key)
    found = open_entry(store, key)
    if found is not None:
        return found, "reused"
    with explained(final, "cannot be published"), temporary_folder(store) as tmp:
        files = _write_zarr(tmp, layers, grid, attributes, n_threads)
        found_quality, found_provenance = _completed(quality, "quality"), _completed(provenance, "provenance")
        files[QUALITY] = _write_file(tmp / QUALITY, readable_json(found_quality))
        _write_file(tmp / MANIFEST, sealed_json({"format": FORMAT_VERSION, "key": key, "files": files}))
        _write_file(tmp / PROVENANCE, sealed_json(found_provenance))
        _sync_folders(tmp)
        final.parent.mkdir(exist_ok=True)
        try:
            tmp.rename(final)
            outcome = "computed"
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            outcome = "reused"
        _sync_folder(final.parent)
        _sync_folder(final.parent.parent)
    entry = open_entry(store, key)
    if entry is None:
        raise StoreError(f"{final}: the entry vanished right after it was published; run again while no gc is running")
    return entry, outcome


def _completed(record: Record, name: str) -> dict[str, Any]:
    """Return a record once all layers are written; raise InputError unless it is plain JSON."""
    found = record() if callable(record) else record
    require_plain_json(found, name)
    return found


def _require_publishable(layers: Sequence[Layer], grid: Grid) -> None:
    """Raise InputError unless the layers are on the grid, with different names."""
    names = [layer.name for layer in layers]
    if not names or len(set(names)) != len(names) or "labels" in [n.name for n in layers if n.role == "image"]:
        raise InputError(f"layers: got names {names}, expected at least one, all different, no image called 'labels'")
    for layer in layers:
        if layer.values.shape[-3:] != grid.shape:
            raise InputError(f"layer {layer.name!r}: got shape {layer.values.shape}, expected the grid's {grid.shape}")


@contextmanager
def temporary_folder(store: Path) -> Iterator[Path]:
    """Make a folder on the store's file system; whatever is left in it at the end is removed."""
    root = Path(store) / VERSION_FOLDER
    root.mkdir(parents=True, exist_ok=True)
    tmp = root / temporary_name()
    tmp.mkdir()
    try:
        yield tmp
    finally:
        remove_tree(tmp)


def _write_zarr(
    tmp: Path, layers: Sequence[Layer], grid: Grid, attributes: dict[str, Any], n_threads: int
) -> dict[str, Any]:
    """Write the Zarr group; return the manifest's record of every file."""
    files: dict[str, Any] = {}
    described: list[dict[str, Any]] = []
    scales: dict[str, list[dict[str, Any]]] = {"image": [], "labels": []}
    for layer in layers:
        folder = layer_folder(layer.name, layer.role)
        description: dict[str, Any] = {
            "name": layer.name,
            "path": folder,
            "role": layer.role,
            "shape": list(layer.values.shape),
        }
        shard = shard_path(description)
        (tmp / shard).parent.mkdir(parents=True)
        encoding = layer.encoding.for_values(layer.values.dtype)
        written = write_shard(tmp / shard, layer.values, encoding, n_threads)
        if not written["error"] <= encoding.bound:
            raise StoreError(
                f"layer {layer.name!r}: got an error of {written['error']:.3g} from {encoding}, "
                f"expected at most {encoding.bound:.3g}; nothing was published, please report this"
            )
        low, high = written["range"]
        description |= {
            "dtype": written["dtype"],
            "values_dtype": encoding.values_dtype(layer.values.dtype).name,
            "chunks": list(written["chunks"]),
            "channels": None if layer.channels is None else [str(c) for c in layer.channels],
            "encoding": encoding.to_json(),
            "error": {"bound": encoding.bound, "largest": written["error"]},
            "stored_range": [low, high] if low <= high else None,
        }
        if layer.flag_meanings is not None:
            description["flag_meanings"] = list(layer.flag_meanings)
        described.append(description)
        files[shard] = written["record"]
        layout = (written["dtype"], written["chunks"], written["compression"])
        array = array_metadata(layer.values.shape, *layout, _cf_attributes(description))
        files[f"{ZARR}/{folder}/zarr.json"] = _write_file(tmp / ZARR / folder / "zarr.json", readable_json(array))
        place = folder if layer.role == "image" else "0"
        scales[layer.role].append(ngff.multiscale(layer.name, place, len(layer.values.shape), grid))
    for folder, group in _groups(described, scales, grid, attributes).items():
        name = f"{ZARR}/{folder}zarr.json"
        files[name] = _write_file(tmp / name, readable_json(group_metadata(group)))
    return files


def _made_by(attributes: dict[str, Any]) -> str:
    """Return what tells an entry from others of its case: method and variant, seed strategy, or metric."""
    params = attributes.get("params", {})
    words = [params.get(name) for name in ("method", "variant", "strategy", "metric")]
    return " ".join(word for word in words if isinstance(word, str))


def _cf_attributes(description: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an array: CF names, of which xarray decodes two, and the bound of the error."""
    found: dict[str, Any] = {"softlabels": {name: description[name] for name in ("encoding", "error", "channels")}}
    encoding = encoding_from_json(description["encoding"])
    if isinstance(encoding, ScaleOffset):
        found |= {"scale_factor": encoding.scale, "add_offset": encoding.lo}
    if meanings := description.get("flag_meanings"):
        found |= {"flag_values": list(range(len(meanings))), "flag_meanings": " ".join(meanings)}
    return found


def _groups(
    described: list[dict[str, Any]],
    scales: dict[str, list[dict[str, Any]]],
    grid: Grid,
    attributes: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """Return folder to attributes of every group of the entry."""
    own = {"format": FORMAT_VERSION, "grid": grid.to_json(), "layers": described, "attributes": attributes}
    groups: dict[str, dict[str, Any]] = {"": {"softlabels": own}}
    images = [description for description in described if description["role"] == "image"]
    if images:
        channels, made_by = images[0]["channels"], _made_by(attributes)
        groups[""]["ome"] = ngff.image_attributes(scales["image"], channels, _window(images[0]), made_by)
    if scales["labels"]:
        groups["labels/"] = {"ome": ngff.labels_attributes([scale["name"] for scale in scales["labels"]])}
    for scale in scales["labels"]:
        groups[f"labels/{scale['name']}/"] = {"ome": ngff.label_attributes(scale, bool(images))}
    return groups


def _window(description: dict[str, Any]) -> tuple[float, float]:
    """Return the range of stored values that a viewer should show."""
    if description["encoding"]["kind"] == "integer":
        return 0.0, float(np.iinfo(description["dtype"]).max)
    low, high = description["stored_range"] or (0.0, 1.0)
    return (low, high) if low < high else (low, low + 1.0)


def _write_file(path: Path, content: bytes) -> dict[str, Any]:
    """Write and sync a small file; return the manifest's record of it."""
    with new_file(path) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _sync_folders(top: Path) -> None:
    """Make the names of all files under `top` durable, innermost first."""
    for folder, _, _ in os.walk(top, topdown=False):
        _sync_folder(Path(folder))


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can (SMB, for one, cannot)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
