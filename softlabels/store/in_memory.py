"""A layer as the store would give it back, without writing it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boxed import BoxedVolumes
from softlabels._shared.on_demand import VolumesOnDemand
from softlabels.errors import StoreError
from softlabels.store.encoding import BitRound, Encoding, Lossless
from softlabels.store.publish import Layer
from softlabels.store.shard import Writable

#: Voxels that are encoded at once: what stays in a core's cache.
_SLAB_VOXELS = 2**16


def in_memory(layer: Layer, n_threads: int = 1) -> Layer:
    """Return a layer with the values that `Entry.read` would give of it once it was published.

    Parameters
    ----------
    layer : Layer
        Its values are used up: they are rounded in place.
    n_threads : int
        Threads that encode and decode.

    Returns
    -------
    Layer
        With a read-only array, or with boxed volumes or volumes on demand where they came so; the latter are rounded
        when they are made. Without loss, its values are the given ones.

    Raises
    ------
    StoreError
        If a value is changed by more than the encoding's bound, as `Store.publish` does.

    Examples
    --------
    >>> from softlabels.store import BitRound
    >>> values = np.float32([[[1.0, 1.2, 7.9]]])
    >>> in_memory(Layer("distance", values, encoding=BitRound(keep_bits=2))).values.tolist()
    [[[1.0, 1.25, 8.0]]]
    """
    encoding = layer.encoding.for_values(layer.values.dtype)
    if isinstance(layer.values, BoxedVolumes):
        return replace(layer, values=_boxed(layer.name, layer.values, encoding, n_threads))
    if isinstance(layer.values, VolumesOnDemand):
        rounded = partial(_round_trip, layer.name, encoding=encoding, n_threads=n_threads)
        return replace(layer, values=layer.values.changed(rounded, encoding.values_dtype(layer.values.dtype)))
    values = _dense(layer.values)
    if not isinstance(encoding, Lossless):
        values = _round_trip(layer.name, values, encoding, n_threads)
    values.flags.writeable = False
    return replace(layer, values=values)


def _dense(values: Writable) -> NDArray[Any]:
    """Return values as one array that may be written to."""
    return values.view() if isinstance(values, np.ndarray) else values[(slice(None),) * len(values.shape)]


def _boxed(name: str, volumes: BoxedVolumes, encoding: Encoding, n_threads: int) -> BoxedVolumes:
    """Return boxed volumes encoded and decoded; the value around the boxes is, too."""
    if isinstance(encoding, Lossless):
        return volumes
    fill = _round_trip(name, np.full((1, 1, 1), volumes.fill), encoding, 1).item()
    parts = [(box, _round_trip(name, part, encoding, n_threads) if part.size else part) for box, part in volumes]
    return BoxedVolumes(volumes.shape[1:], parts, fill=fill, dtype=encoding.values_dtype(volumes.dtype))


def _round_trip(name: str, values: NDArray[Any], encoding: Encoding, n_threads: int) -> NDArray[Any]:
    """Return values encoded and decoded, in place if their type stays the same."""
    dtype = encoding.values_dtype(values.dtype)
    out = values if values.dtype == dtype and values.flags.writeable else np.empty(values.shape, dtype)
    n_rows = max(1, _SLAB_VOXELS // (values.shape[-1] * values.shape[-2]))
    slabs = [
        (*lead, slice(row, row + n_rows))
        for lead in np.ndindex(values.shape[:-3])
        for row in range(0, values.shape[-3], n_rows)
    ]

    def coded(slab: tuple[Any, ...]) -> float:
        if isinstance(encoding, BitRound):
            return encoding.encode(values[slab], out[slab])[1]
        stored, error = encoding.encode(values[slab])
        out[slab] = encoding.decode(stored)
        return error

    with ThreadPoolExecutor(n_threads) as pool:
        error = max(pool.map(coded, slabs))
    if not error <= encoding.bound:
        raise StoreError(
            f"layer {name!r}: got an error of {error:.3g} from {encoding}, expected at most {encoding.bound:.3g}; "
            "please report this"
        )
    return out
