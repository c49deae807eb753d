"""The key of a store entry: a hash of what was requested. Needs only Python's standard library."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from softlabels._shared.plain_json import canonical_json, require_plain_json
from softlabels.store.format import FORMAT_VERSION


def entry_key(*, stage: str, algorithm: str, params: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """Return the key of the entry that one stage publishes for one case.

    Equal arguments give equal keys on every machine and Python version. The store's format version is part of the key;
    device, threads, host and time are not, because results do not depend on them.

    Parameters
    ----------
    stage : str
        For example ``"distance"``.
    algorithm : str
        Version of the algorithm; raise it whenever results change.
    params : dict
        Every resolved parameter, as plain JSON values. ``1`` and ``1.0`` are different values.
    inputs : dict
        Role to digest: 64 hex digits of a file's sha256, or the key of the entry that is read.

    Returns
    -------
    str
        64 hex digits.

    Raises
    ------
    InputError
        If a value is not plain JSON: NaN, infinity, a numpy scalar, a path, a dict key that is not a string.

    Examples
    --------
    >>> key = entry_key(stage="seeds", algorithm="1", params={"radius": 2}, inputs={"prepare": "ab" * 32})
    >>> len(key), key == entry_key(stage="seeds", algorithm="1", params={"radius": 3}, inputs={"prepare": "ab" * 32})
    (64, False)
    """
    content = {"format": FORMAT_VERSION, "stage": stage, "algorithm": algorithm, "params": params, "inputs": inputs}
    require_plain_json(content, "entry key")
    return hashlib.sha256(canonical_json(content)).hexdigest()
