"""How many voxels of each label there are in each block of a volume: what a foreground draw needs to know of a case.

The index carries it, so that no training process has to count. A volume of 155x240x240 has 48 blocks; a label is in a
few of them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.grid import Window

#: Of the blocks that hold a label, in ascending order: their numbers in C order, and the voxels in each.
Occurrence = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class LabelBlocks:
    """The counts of one volume.

    Parameters
    ----------
    shape, block : tuple of 3 ints
        Of the volume and of a block, (z, y, x).
    counts : mapping of int to Occurrence
        For each label of the volume but 0, which has all other voxels.
    """

    shape: tuple[int, int, int]
    block: tuple[int, int, int]
    counts: Mapping[int, Occurrence]

    @classmethod
    def count(
        cls, shape: Sequence[int], read: Callable[[Window], NDArray[np.integer]], block: Sequence[int]
    ) -> LabelBlocks:
        """Return the counts of a volume, reading it once in slabs as thick as a block.

        Parameters
        ----------
        shape : tuple of 3 ints
            Of the volume, (z, y, x).
        read : callable
            `read(window)` returns the labels in a window of 3 (start, stop) pairs.
        block : tuple of 3 ints
            Best the chunk of the stored volume: a draw then decompresses one chunk.

        Examples
        --------
        >>> labels = np.array([[[0, 2, 2, 1]]])
        >>> LabelBlocks.count(labels.shape, lambda window: labels, (1, 1, 2)).counts
        {1: ((1,), (1,)), 2: ((0, 1), (1, 1))}
        """
        (depth, height, width), (b_z, b_y, b_x) = shape, block
        found: dict[int, dict[int, int]] = defaultdict(dict)
        number = 0
        for z in range(0, depth, b_z):
            slab = read(((z, min(z + b_z, depth)), (0, height), (0, width)))
            for y in range(0, height, b_y):
                for x in range(0, width, b_x):
                    for value, n_voxels in _counted(slab[:, y : y + b_y, x : x + b_x]):
                        found[value][number] = n_voxels
                    number += 1
        counts = {value: (tuple(found[value]), tuple(found[value].values())) for value in sorted(found) if value}
        return cls((depth, height, width), (b_z, b_y, b_x), counts)

    def of_class(self, values: Iterable[int]) -> NDArray[np.int64]:
        """Return how many voxels of a class, given by its label values, are in each block, (bz, by, bx)."""
        values = set(values)
        total = np.zeros(self._n_blocks, np.int64)
        for value in values & self.counts.keys():
            self._add(total, value)
        if 0 in values:
            others = np.zeros_like(total)
            for value in self.counts:
                self._add(others, value)
            total += self._block_sizes() - others
        return total

    def _add(self, total: NDArray[np.int64], value: int) -> None:
        """Add the voxels of one label."""
        numbers, n_voxels = self.counts[value]
        total.flat[list(numbers)] += np.asarray(n_voxels, np.int64)

    @property
    def _n_blocks(self) -> tuple[int, ...]:
        return tuple(math.ceil(n / b) for n, b in zip(self.shape, self.block, strict=True))

    def _block_sizes(self) -> NDArray[np.int64]:
        """Return the number of voxels of each block, (bz, by, bx)."""
        sides = [np.diff([*range(0, n, b), n]) for n, b in zip(self.shape, self.block, strict=True)]
        return np.einsum("i,j,k->ijk", *sides).astype(np.int64)

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON values: of each label, ``block:voxels`` for each block that holds it.

        Examples
        --------
        >>> LabelBlocks((1, 1, 4), (1, 1, 2), {2: ((0, 1), (1, 2))}).to_json()["counts"]
        {'2': '0:1 1:2'}
        """
        counts = {str(v): " ".join(f"{b}:{n}" for b, n in zip(*found, strict=True)) for v, found in self.counts.items()}
        return {"shape": list(self.shape), "block": list(self.block), "counts": counts}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LabelBlocks:
        """Return the counts that `to_json` described.

        Examples
        --------
        >>> blocks = LabelBlocks((1, 1, 4), (1, 1, 2), {1: ((1,), (1,))})
        >>> LabelBlocks.from_json(blocks.to_json()) == blocks
        True
        """
        shape, block = (tuple(map(int, content[name])) for name in ("shape", "block"))
        counts = {}
        for value, text in content["counts"].items():
            pairs = [pair.split(":") for pair in text.split()]
            counts[int(value)] = tuple(int(b) for b, _ in pairs), tuple(int(n) for _, n in pairs)
        return cls((shape[0], shape[1], shape[2]), (block[0], block[1], block[2]), counts)


def _counted(labels: NDArray[np.integer]) -> list[tuple[int, int]]:
    """Return the labels of an array, ascending, with the number of voxels of each."""
    if labels.dtype.itemsize > 2 or labels.dtype.kind != "u":
        values, n_voxels = np.unique(labels, return_counts=True)
    else:
        every = np.bincount(labels.ravel())
        values = np.flatnonzero(every)
        n_voxels = every[values]
    return list(zip(values.tolist(), n_voxels.tolist(), strict=True))
