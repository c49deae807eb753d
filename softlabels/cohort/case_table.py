"""The cases of an index: a line of JSON for each, read when the case is asked for.

A cohort of 100,000 cases is 100 MB of text and would be a gigabyte of Python objects, in each process of a training. As
one `bytes` object it is shared with forked workers, and copied in a moment to those that are started otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.plain_json import parsed_json
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.errors import FormatError
from softlabels.grid import Grid

_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True)
class EntryAddress:
    """Where an entry of the store is, and how to know that it is the right one.

    Parameters
    ----------
    key, manifest : str
        The entry's key and the digest of its manifest, 64 hex digits each.
    """

    key: str
    manifest: str

    def to_json(self) -> dict[str, str]:
        """Return the address as plain JSON values."""
        return {"key": self.key, "manifest": self.manifest}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> EntryAddress:
        """Return the address that `to_json` described."""
        return cls(str(content["key"]), str(content["manifest"]))


@dataclass(frozen=True)
class IndexedCase:
    """One case of an index.

    Parameters
    ----------
    id : str
    split : str or None
        From the case sheet.
    flags : tuple of str
        What a person should know about the case.
    prepare : EntryAddress
        The entry of image and labels.
    targets : mapping of str to EntryAddress
        The entry of each target that has a stored map.
    labels : LabelBlocks or None
        The size of the volume and where its labels are; None in an index of results from before this was noted.
    grid : Grid or None
        Of the case's files, before cropping and resampling; None likewise.
    """

    id: str
    split: str | None
    flags: tuple[str, ...]
    prepare: EntryAddress
    targets: Mapping[str, EntryAddress]
    labels: LabelBlocks | None = None
    grid: Grid | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the case as plain JSON values."""
        noted = {"labels": self.labels, "grid": self.grid}
        return {
            "id": self.id,
            "split": self.split,
            "flags": list(self.flags),
            "prepare": self.prepare.to_json(),
            "targets": {name: address.to_json() for name, address in self.targets.items()},
            **{name: fact.to_json() for name, fact in noted.items() if fact is not None},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> IndexedCase:
        """Return the case that `to_json` described."""
        return cls(
            id=content["id"],
            split=content["split"],
            flags=tuple(content["flags"]),
            prepare=EntryAddress.from_json(content["prepare"]),
            targets={name: EntryAddress.from_json(address) for name, address in content["targets"].items()},
            labels=LabelBlocks.from_json(content["labels"]) if "labels" in content else None,
            grid=Grid.from_json(content["grid"]) if "grid" in content else None,
        )


@dataclass(frozen=True, eq=False)
class CaseTable(Sequence[IndexedCase]):
    """Cases in their order; each is made from its line when it is asked for, in a tenth of a millisecond.

    Parameters
    ----------
    text : bytes
        Holds a line of JSON for each case, and perhaps more.
    places : (N, 2) ndarray of int64
        First byte and number of bytes of each line.
    ids : tuple of N str
    splits : tuple of N str or None

    Notes
    -----
    Equal to any sequence of the same cases. `chosen` and slices share the text.

    Examples
    --------
    >>> prepare = EntryAddress("0" * 64, "1" * 64)
    >>> table = CaseTable.of(IndexedCase(name, "train", (), prepare, {}) for name in "abc")
    >>> len(table), table.ids, table[1].id, table[1:].ids, table.position("c")
    (3, ('a', 'b', 'c'), 'b', ('b', 'c'), 2)
    """

    text: bytes
    places: NDArray[np.int64]
    ids: tuple[str, ...]
    splits: tuple[str | None, ...]

    @classmethod
    def of(cls, cases: Iterable[IndexedCase]) -> CaseTable:
        """Return a table of cases; they may come from a generator, and need not be in memory together."""
        ids, splits, lines = [], [], []
        for case in cases:
            ids.append(case.id)
            splits.append(case.split)
            lines.append(_ENCODER.encode(case.to_json()).encode("ascii"))
        sizes = np.fromiter(map(len, lines), np.int64, len(lines))
        starts = np.cumsum(sizes + 1) - (sizes + 1)
        return cls(b"\n".join(lines), np.stack([starts, sizes], axis=1), tuple(ids), tuple(splits))

    @classmethod
    def within(cls, text: bytes, start: int, stop: int, between: bytes) -> CaseTable:
        """Return the table of the lines in a part of a text.

        Parameters
        ----------
        text : bytes
            Is kept, not copied.
        start, stop : int
            The first byte of the first line, and the end of the last one.
        between : bytes
            What separates two lines.

        Raises
        ------
        ValueError, LookupError, TypeError
            If a line is no JSON object with id and split.
        """
        ids, splits, places = [], [], []
        known: dict[str | None, str | None] = {}
        while start < stop:
            end = text.find(between, start, stop)
            end = stop if end < 0 else end
            case = parsed_json(text[start:end])
            ids.append(_checked_id(case["id"]))
            splits.append(known.setdefault(case["split"], case["split"]))
            places.append((start, end - start))
            start = end + len(between)
        return cls(text, np.array(places, np.int64).reshape(-1, 2), tuple(ids), tuple(splits))

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> IndexedCase: ...

    @overload
    def __getitem__(self, index: slice) -> CaseTable: ...

    def __getitem__(self, index: int | slice) -> IndexedCase | CaseTable:
        """Return a case by its position, or the table of a slice.

        Raises
        ------
        FormatError
            If the line of the case lacks something.
        """
        if isinstance(index, slice):
            return self.chosen(range(len(self))[index])
        position = range(len(self))[index]
        try:
            return IndexedCase.from_json(self._content(position))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(
                f"case {self.ids[position]}: incomplete in the index ({type(error).__name__}: {error}). Delete the "
                "index and run snakemake again in the project's folder"
            ) from None

    def __eq__(self, other: object) -> bool:
        """Return whether another sequence has the same cases."""
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other, strict=True))
        )

    __hash__ = None  # type: ignore[assignment]  # as for other containers that are compared by content

    def __repr__(self) -> str:
        return f"CaseTable({len(self)} cases)"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_positions"}

    def chosen(self, positions: Sequence[int]) -> CaseTable:
        """Return the table of the cases at some positions, in that order."""
        ids, splits = tuple(self.ids[i] for i in positions), tuple(self.splits[i] for i in positions)
        return CaseTable(self.text, self.places[np.asarray(positions, np.intp)], ids, splits)

    def position(self, case_id: str) -> int | None:
        """Return the position of a case; None if there is none of that id."""
        return self._positions.get(case_id)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {case_id: position for position, case_id in enumerate(self.ids)}

    def lines(self) -> Iterator[bytes]:
        """Yield the line of each case."""
        for start, size in self.places.tolist():
            yield self.text[start : start + size]

    def keys(self) -> set[str]:
        """Return the keys of all entries that the cases name."""
        contents = map(self._content, range(len(self)))
        return {one["key"] for content in contents for one in (content["prepare"], *content["targets"].values())}

    def _content(self, position: int) -> dict[str, Any]:
        """Return what a line says, as plain JSON values."""
        start, size = self.places[position].tolist()
        content: dict[str, Any] = parsed_json(self.text[start : start + size])
        return content


def _checked_id(case_id: Any) -> str:
    """Return an id if it is text."""
    if not isinstance(case_id, str):
        raise TypeError(f"id: got {case_id!r}, expected text")
    return case_id
