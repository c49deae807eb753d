"""How work on the CPU is shared out."""

from __future__ import annotations

import itertools


def slabs_of(n: int, n_slabs: int) -> list[tuple[int, int]]:
    """Return the bounds (lo, hi) of up to `n_slabs` slabs of near equal size, none of them empty."""
    n_slabs = max(1, min(n_slabs, n))
    return list(itertools.pairwise(n * k // n_slabs for k in range(n_slabs + 1)))
