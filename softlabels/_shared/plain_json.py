"""JSON with exactly one byte string per content: for keys, for people, and sealed against damage."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

from softlabels.errors import InputError

#: `json.dumps` makes an encoder for every call that names an option.
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)

_SEAL_LINE = re.compile(rb' "seal": "([0-9a-f]{64})"\n\}\n')
_SEAL_LINE_BYTES = len(b' "seal": ""\n}\n') + 64


def canonical_json(data: Any) -> bytes:
    r"""Return the canonical byte string of JSON data: sorted keys, no spaces, no NaN, ASCII.

    Examples
    --------
    >>> canonical_json({"b": 1.0, "a": ["µ"]})
    b'{"a":["\\u00b5"],"b":1.0}'
    """
    return _CANONICAL.encode(data).encode("ascii")


def readable_json(data: Any) -> bytes:
    """Return JSON for people, with one byte string per content."""
    return (json.dumps(data, sort_keys=True, indent=1, allow_nan=False) + "\n").encode("ascii")


def sealed_json(data: dict[str, Any]) -> bytes:
    """Return readable JSON that carries the SHA-256 of its content under "seal", so that no value changes unnoticed."""
    return readable_json({**data, "seal": hashlib.sha256(canonical_json(data)).hexdigest()})


def seal_line(sealed: bytes) -> bytes:
    """Return the last lines of a JSON text that carries the SHA-256 of all bytes before them."""
    return f' "seal": "{hashlib.sha256(sealed).hexdigest()}"\n}}\n'.encode("ascii")


def n_sealed_bytes(content: bytes) -> int | None:
    """Return how many bytes are before the seal line that seals them; None if there is none, or bytes have changed."""
    end = max(0, len(content) - _SEAL_LINE_BYTES)
    seal = _SEAL_LINE.fullmatch(content, end)
    return end if seal and hashlib.sha256(memoryview(content)[:end]).hexdigest().encode() == seal[1] else None


def quickly_sealed_json(data: dict[str, Any]) -> bytes:
    """Return a readable JSON text whose seal is the SHA-256 of its bytes: checked in a tenth of `sealed_json`'s time.

    The manifests of entries keep the form of `sealed_json`, because their digests are in receipts and indexes.
    """
    sealed = readable_json(data).removesuffix(b"\n}\n") + b",\n"
    return sealed + seal_line(sealed)


def unsealed_json(content: bytes) -> dict[str, Any]:
    """Return what `sealed_json` or `quickly_sealed_json` sealed.

    Raises
    ------
    ValueError
        If the content is not what was sealed, or the end of the file is missing.

    Examples
    --------
    >>> unsealed_json(sealed_json({"a": 1}))
    {'a': 1}
    >>> unsealed_json(sealed_json({"a": 1}).replace(b"1,", b"2,"))
    Traceback (most recent call last):
    ValueError: its seal does not match its content
    >>> unsealed_json(quickly_sealed_json({"a": 1, "z": 2}))
    {'a': 1, 'z': 2}
    """
    data = parsed_json(content.decode("ascii"))
    if not isinstance(data, dict) or "seal" not in data:
        raise ValueError("it has no seal")
    seal = data.pop("seal")
    if n_sealed_bytes(content) is not None:
        return data
    # Whether white space and the spelling of numbers are those of `sealed_json` is not checked: nothing depends on it,
    # and writing the file again to compare takes longer than all else.
    is_cut = not content.endswith(b"}\n")
    if is_cut or hashlib.sha256(canonical_json(data)).hexdigest() != seal:
        raise ValueError("its seal does not match its content")
    return data


def parsed_json(content: bytes | str) -> Any:
    """Return the data of a JSON text; ValueError if it is not JSON, with or without a byte order mark.

    Examples
    --------
    >>> parsed_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: too many levels of brackets
    """
    try:
        return json.loads(content.removeprefix("\ufeff") if isinstance(content, str) else content)
    except RecursionError:
        raise ValueError("too many levels of brackets") from None


def require_plain_json(value: Any, where: str) -> None:
    """Raise InputError unless `value` is made of exactly the types that JSON carries without loss.

    Parameters
    ----------
    value : object
    where : str
        What the value is, for the message.
    """
    if value is None or type(value) in (str, bool, int):
        return
    if type(value) is float and math.isfinite(value):
        return
    if type(value) in (list, tuple):
        for i, item in enumerate(value):
            require_plain_json(item, f"{where}[{i}]")
        return
    if type(value) is dict and all(type(name) is str for name in value):
        for name, item in value.items():
            require_plain_json(item, f"{where}.{name}")
        return
    raise InputError(
        f"{where}: got {value!r} ({type(value).__name__}), expected plain JSON: str, bool, int, finite float, None, "
        "lists and dicts with str keys"
    )
