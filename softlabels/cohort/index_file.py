"""The bytes of index.json: valid JSON for everyone, laid out so that one case can be read without the others.

::

    {
     "format": "softlabels-index",
     "version": 2,
     ...
     "cases": [
    {"id":"a",...},
    {"id":"b",...}
     ],
     "seal": "<SHA-256 of all bytes before this line>"
    }

What is before the cases is indented by its depth, so that no other line is equal to the one that begins them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from softlabels._shared.plain_json import n_sealed_bytes, parsed_json, readable_json, seal_line, unsealed_json
from softlabels.cohort.case_table import CaseTable, IndexedCase
from softlabels.errors import FormatError

INDEX_FORMAT, INDEX_VERSION = "softlabels-index", 2
#: Written by softlabels before the cases had a line each; read, but not written any more.
OLD_VERSION = 1

_START = f'{{\n "format": "{INDEX_FORMAT}",\n "version": {INDEX_VERSION},\n'.encode()
_OPEN, _BETWEEN, _CLOSE = b',\n "cases": [\n', b",\n", b"\n ],\n"


_CHANGED = (
    "changed since it was written (its seal does not match). Delete it and run snakemake again in the project's "
    "folder; what a run can vary, such as alpha or the store's place, is an argument of the data set"
)


def sealed_index(head: Mapping[str, Any], cases: CaseTable) -> bytes:
    """Return the bytes of an index.

    Parameters
    ----------
    head : mapping
        What is said of the whole cohort, as plain JSON values, without format and version.
    cases : CaseTable
    """
    text = readable_json(head).removeprefix(b"{\n").removesuffix(b"\n}\n")
    sealed = b"".join([_START, text, _OPEN, _BETWEEN.join(cases.lines()), _CLOSE])
    return sealed + seal_line(sealed)


def unsealed_index(raw: bytes) -> tuple[dict[str, Any], CaseTable]:
    """Return what `sealed_index` sealed, also in its former version; of the cases, only ids and splits are kept.

    Cost: a second for 100,000 cases; the table keeps `raw`.

    Raises
    ------
    FormatError
        If it is no JSON, no index, of another version, changed or incomplete; says what to do.
    """
    try:
        return _by_lines(raw) if raw.startswith(_START) else _of_old_version(raw)
    except FormatError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise incomplete(error) from None


def incomplete(error: Exception) -> FormatError:
    """Return the error of content that was sealed, but lacks something."""
    return FormatError(f"incomplete ({type(error).__name__}: {error}). Delete it and run snakemake again")


def _by_lines(raw: bytes) -> tuple[dict[str, Any], CaseTable]:
    """Return head and cases of an index whose cases have a line each."""
    sealed = n_sealed_bytes(raw)
    if sealed is None:
        raise FormatError(_CHANGED)
    start = raw.index(_OPEN)
    head = parsed_json(raw[:start] + b"\n}")
    return head, CaseTable.within(raw, start + len(_OPEN), sealed - len(_CLOSE), _BETWEEN)


def _of_old_version(raw: bytes) -> tuple[dict[str, Any], CaseTable]:
    """Return head and cases of an index that is sealed as receipts are."""
    try:
        content = parsed_json(raw)
    except ValueError as error:
        raise FormatError(f"not JSON ({error}). Delete it and run snakemake again in the project's folder") from None
    version = (content.get("format"), content.get("version")) if isinstance(content, dict) else None
    if version == (INDEX_FORMAT, INDEX_VERSION):
        raise FormatError(_CHANGED)
    if version != (INDEX_FORMAT, OLD_VERSION):
        raise FormatError(
            f"got {version}, expected {(INDEX_FORMAT, INDEX_VERSION)}. Write it again with this version of softlabels"
        )
    try:
        content = unsealed_json(raw)
    except ValueError:
        raise FormatError(_CHANGED) from None
    return content, CaseTable.of(map(IndexedCase.from_json, content["cases"]))
