"""Seeds that are drawn at random from each class, the same on every machine."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from softlabels.errors import InputError
from softlabels.seeds.base import SeedStrategy


class RandomSeeds(SeedStrategy):
    """n voxels of each class, drawn without replacement."""

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "random"
    source: ClassVar[str] = "Adiga Vasudeva, Dolz and Lombaert, MIDL 2023, Table 3"
    version: ClassVar[str] = "1"
    margin_vox: ClassVar[int | None] = 0
    depends_on_names: ClassVar[bool] = True

    n: int = Field(3, ge=1, le=100_000, description="voxels per class")
    per_component: bool = Field(False, description="also seed each component that the draw missed: more than n voxels")
    seed: int = Field(
        0, ge=0, le=2**63 - 1, description="another number, another draw; the case id and class name enter too"
    )

    def seeds(self, mask: NDArray[np.bool_], *, case_id: str, class_name: str) -> NDArray[np.bool_]:
        """Return the draw of one class."""
        return random_seeds(mask, self.n, key=random_key(case_id, class_name, self.seed))


def random_seeds(mask: NDArray[np.bool_], n: int, *, key: str) -> NDArray[np.bool_]:
    """Return n distinct voxels of a class, each set of n equally likely (GeoLS, Table 3: 3, 5 or 7 of them).

    The draw depends on `key` and the mask alone, not on NumPy, the machine or other classes. Algorithm: number the N
    voxels of the mask in C order; for i = 0 .. n-1 swap number i with number i + (h mod (N - i)), h being the SHA-256
    digest of ``f"{key}:{i}"`` as a big-endian integer; the first n numbers are the seeds (Fisher and Yates; the bias of
    the remainder is below 2^-200).

    Parameters
    ----------
    mask : (D, H, W) bool array
        The class.
    n : int
        How many voxels, >= 1; all of them if the class has fewer.
    key : str
        Names the draw; `random_key` makes it from case, class and seed.

    Returns
    -------
    (D, H, W) bool array
        A subset of `mask` of min(n, N) voxels.

    Examples
    --------
    >>> random_seeds(np.ones((1, 2, 4), bool), 3, key="a").astype(int).tolist()
    [[[0, 0, 1, 0], [0, 1, 0, 1]]]
    """
    if n < 1:
        raise InputError(f"seeds: got n {n}, expected >= 1")
    voxels = np.flatnonzero(mask)
    swapped: dict[int, int] = {}
    chosen = []
    for i in range(min(n, voxels.size)):
        j = i + int.from_bytes(hashlib.sha256(f"{key}:{i}".encode()).digest(), "big") % (voxels.size - i)
        chosen.append(swapped.get(j, j))
        swapped[j] = swapped.get(i, i)
    seeds = np.zeros(mask.shape, bool)
    seeds.flat[voxels[chosen]] = True
    return seeds


def random_key(case_id: str, class_name: str, seed: int) -> str:
    """Return the key of a random draw: the SHA-256 of case, class and seed, so that no other class enters.

    Examples
    --------
    >>> random_key("case1", "tumour", 0)[:8]
    '78d1467e'
    """
    parts = [str(case_id), str(class_name), str(int(seed))]
    # The length before each part keeps ("ab", "c") and ("a", "bc") apart.
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()
