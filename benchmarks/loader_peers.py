"""The loaders that loader.py compares with: each reads the same patch of the same arrays from its own format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class Patch(NamedTuple):
    """A cube of a volume."""

    origin: tuple[int, int, int]
    size: int

    @property
    def region(self) -> tuple[slice, ...]:
        """Its slices behind the axis of the channels."""
        return (slice(None), *(slice(o, o + self.size) for o in self.origin))


Reader = Callable[[Patch], dict[str, torch.Tensor]]


def nnunet(arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return a reader of image and hard labels by nnU-Net's data set, in the chunks of its preprocessing."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    save_nnunet(arrays["image"], arrays["labels"][None].astype(np.int8), size, folder)
    dataset = nnUNetDatasetBlosc2(str(folder), ["case"])

    def read(patch: Patch) -> dict[str, torch.Tensor]:
        data, seg, *_ = dataset.load_case("case")
        return {
            "image": torch.from_numpy(data[patch.region]),
            "labels": torch.from_numpy(seg[patch.region].astype(np.int16)),
        }

    return read


def nnunet_with_soft(arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return the same reader, with the soft label as uint8 in an array of the same kind."""
    import blosc2

    hard = nnunet(arrays, size, folder)
    soft = np.rint(255 * arrays["soft_label"]).astype(np.uint8)
    save_nnunet(soft, arrays["labels"][None].astype(np.int8), size, folder / "soft")

    def read(patch: Patch) -> dict[str, torch.Tensor]:
        stored = blosc2.open(str(folder / "soft" / "case.b2nd"), mode="r", mmap_mode="r", dparams={"nthreads": 1})
        return {**hard(patch), "soft_label": torch.from_numpy(stored[patch.region]).float().div_(255)}

    return read


def nnunet_trainer(index: Path, arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return a reader of image, hard label and soft label as nnUNetTrainerSoftLabels reads them."""
    from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

    from softlabels.training.nnunet.dataset import WithSoftLabels
    from softlabels.training.nnunet.soft_labels import SoftLabels

    save_nnunet(arrays["image"], arrays["labels"][None].astype(np.int8), size, folder, "glioma")
    soft_labels = SoftLabels(index, "geols", heads=[(0,), (1,), (2,), (4,)], has_softmax=True)
    dataset = WithSoftLabels(nnUNetDatasetBlosc2(str(folder), ["glioma"]), soft_labels)

    def read(patch: Patch) -> dict[str, torch.Tensor]:
        data, seg, *_ = dataset.load_case("glioma")
        return {
            "image": torch.from_numpy(data[patch.region]),
            "labels": torch.from_numpy(seg[patch.region].astype(np.int16)),
        }

    return read


def save_nnunet(data: NDArray[Any], seg: NDArray[Any], size: int, folder: Path, case: str = "case") -> None:
    """Write a case as nnU-Net's preprocessing does for a patch size."""
    from nnunetv2.training.dataloading.nnunet_dataset import comp_blosc2_params, nnUNetDatasetBlosc2

    folder.mkdir(parents=True)
    layout = {}
    for array, suffix in ((data, ""), (seg, "_seg")):
        blocks, chunks = comp_blosc2_params(array.shape, (size,) * 3, array.itemsize)
        layout |= {f"blocks{suffix}": blocks, f"chunks{suffix}": chunks}
    nnUNetDatasetBlosc2.save_case(data, seg, {"class_locations": {}}, str(folder / case), **layout)


def memory_map(arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return a reader of uncompressed float32 arrays: no loader can be faster."""
    folder.mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array if array.ndim == 4 else array[None])
    maps = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in arrays}
    return lambda patch: {name: torch.from_numpy(np.array(mapped[patch.region])) for name, mapped in maps.items()}


def _zarr_arrays(arrays: Arrays, folder: Path) -> dict[str, Path]:
    """Write zarr arrays with the chunks and the compression of the store; the soft label as uint8."""
    import zarr

    from softlabels.store.format import chunk_shape, codec

    paths = {}
    for name, array in {**arrays, "soft_label": np.rint(255 * arrays["soft_label"]).astype(np.uint8)}.items():
        values = array if array.ndim == 4 else array[None]
        chunks = chunk_shape(values.shape, values.itemsize)
        shard = tuple(c * -(-n // c) for n, c in zip(values.shape, chunks, strict=True))
        compression = zarr.codecs.BloscCodec(
            **codec(values.shape, values.dtype.name, is_rounded=False), typesize=values.itemsize
        )
        paths[name] = folder / name
        out = zarr.create_array(
            paths[name], shape=values.shape, dtype=values.dtype, chunks=chunks, shards=shard, compressors=[compression]
        )
        out[...] = values
    return paths


def zarr_python(arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return a reader by zarr-python; the soft label becomes float32 and is not blended."""
    import zarr

    opened = {name: zarr.open_array(path, mode="r") for name, path in _zarr_arrays(arrays, folder).items()}
    return lambda patch: _as_tensors({name: np.asarray(array[patch.region]) for name, array in opened.items()})


def tensorstore(arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return a reader of the same files by tensorstore, with one thread and no cache."""
    import tensorstore as ts

    context = ts.Context({"data_copy_concurrency": {"limit": 1}, "cache_pool": {"total_bytes_limit": 0}})
    opened = {
        name: ts.open({"driver": "zarr3", "kvstore": f"file://{path.resolve()}/"}, context=context).result()
        for name, path in _zarr_arrays(arrays, folder).items()
    }
    return lambda patch: _as_tensors({name: array[patch.region].read().result() for name, array in opened.items()})


def _as_tensors(parts: Arrays) -> dict[str, torch.Tensor]:
    """Return tensors, the soft label in float32."""
    tensors = {name: torch.from_numpy(part) for name, part in parts.items()}
    return {**tensors, "soft_label": tensors["soft_label"].float().div_(255)}


def monai_cached(arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return MONAI's crops around foreground of volumes in memory; it draws its own patches."""
    from monai.data import CacheDataset
    from monai.transforms import RandCropByPosNegLabeld

    return _monai(arrays, size, lambda item, crop: CacheDataset([item], crop, progress=False), RandCropByPosNegLabeld)


def monai_persistent(arrays: Arrays, size: int, folder: Path) -> Reader:
    """Return MONAI's crops around foreground of volumes that it keeps on disk; it draws its own patches."""
    from monai.data import PersistentDataset
    from monai.transforms import RandCropByPosNegLabeld

    folder.mkdir(parents=True)
    return _monai(arrays, size, lambda item, crop: PersistentDataset([item], crop, folder), RandCropByPosNegLabeld)


def _monai(arrays: Arrays, size: int, dataset: Callable[..., Any], crop: Callable[..., Any]) -> Reader:
    """Return a reader of one random crop."""
    item = {name: torch.from_numpy(array if array.ndim == 4 else array[None]) for name, array in arrays.items()}
    opened = dataset(item, crop(list(item), label_key="labels", spatial_size=(size,) * 3, pos=1, neg=2))
    return lambda patch: opened[0][0]


PEERS: dict[str, Callable[[Arrays, int, Path], Reader]] = {
    "nnU-Net blosc2, image and hard label only": nnunet,
    "nnU-Net blosc2, soft label in uint8 as well": nnunet_with_soft,
    "zarr-python, same arrays, no blend": zarr_python,
    "tensorstore, same arrays, no blend": tensorstore,
    "MONAI CacheDataset, random crop": monai_cached,
    "MONAI PersistentDataset, random crop": monai_persistent,
    "memory map of float32, the limit": memory_map,
}
