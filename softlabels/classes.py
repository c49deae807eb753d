"""Classes: nnU-Net's grammar of labels (a name for an integer or a list of integers, and `ignore`), and their masks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The name that marks voxels no loss may look at; its integer must be the highest.
IGNORE = "ignore"
BACKGROUND = "background"


@dataclass(frozen=True)
class LabelClass:
    """One channel of a target: its name and the integers of the label file that belong to it.

    Its colour (``#rrggbb``) is for pictures only: it is in no key, and classes that differ in it alone are equal.
    """

    name: str
    values: tuple[int, ...]
    colour: str | None = field(default=None, compare=False)

    @property
    def is_background(self) -> bool:
        """Whether this is the background: the class of the value 0 alone."""
        return self.values == (0,)

    def to_json(self) -> dict[str, Any]:
        """Return the class as plain JSON values."""
        return {"name": self.name, "values": list(self.values)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LabelClass:
        """Return the class that `to_json` described."""
        return cls(str(content["name"]), tuple(int(value) for value in content["values"]))


@dataclass(frozen=True)
class LabelSet:
    """The classes of a data set, read from nnU-Net's grammar.

    `classes` keeps the order given. Exclusive labels include the background as first class; overlapping
    regions, where one integer belongs to several classes, leave it out, as in nnU-Net.

    Examples
    --------
    >>> LabelSet.parse({"background": 0, "kidney": 1, "tumour": 2}).names
    ('background', 'kidney', 'tumour')
    >>> regions = LabelSet.parse({"background": 0, "whole": [1, 2], "core": [2], "ignore": 3})
    >>> regions.names, regions.is_overlapping, regions.ignore
    (('whole', 'core'), True, 3)
    """

    classes: tuple[LabelClass, ...]
    is_overlapping: bool
    ignore: int | None

    @property
    def names(self) -> tuple[str, ...]:
        """The class names in channel order."""
        return tuple(c.name for c in self.classes)

    @property
    def background(self) -> int | None:
        """The channel of the background, or None if it has none."""
        return next((i for i, c in enumerate(self.classes) if c.is_background), None)

    @property
    def values(self) -> tuple[int, ...]:
        """Every integer that a label file may hold, 0 and the ignore label among them."""
        values = {0} | {v for c in self.classes for v in c.values}
        return tuple(sorted(values | ({self.ignore} if self.ignore is not None else set())))

    @property
    def used_values(self) -> tuple[int, ...]:
        """Every integer of `values` except the ignore label, ascending.

        Examples
        --------
        >>> LabelSet.parse({"background": 0, "core": [1, 4], "whole": [1, 2, 4], "ignore": 9}).used_values
        (0, 1, 2, 4)
        """
        return tuple(value for value in self.values if value != self.ignore)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the classes as plain JSON values."""
        return [c.to_json() for c in self.classes]

    @classmethod
    def from_json(cls, content: Sequence[Mapping[str, Any]]) -> LabelSet:
        """Return the classes that `to_json` described; an ignore label is not among them.

        Examples
        --------
        >>> regions = LabelSet.parse({"background": 0, "whole": [1, 2], "core": [2]})
        >>> LabelSet.from_json(regions.to_json()) == regions
        True
        """
        classes = tuple(map(LabelClass.from_json, content))
        return cls(classes, _share_values(classes), None)

    def coloured(self, colours: Mapping[str, str]) -> LabelSet:
        """Return the same classes, those that are named here with a colour of their own."""
        classes = tuple(replace(one, colour=colours.get(one.name, one.colour)) for one in self.classes)
        return replace(self, classes=classes)

    def foreground(self) -> LabelSet:
        """Return the same classes without the background."""
        return replace(self, classes=foreground(self.classes))

    @classmethod
    def parse(cls, grammar: dict[str, int | list[int]]) -> LabelSet:
        """Return the label set of a mapping from names to integers; raise ValueError naming every fault."""
        faults = grammar_faults(grammar)
        if faults:
            raise ValueError("; ".join(faults))
        named = {name: _as_tuple(value) for name, value in grammar.items() if name not in (BACKGROUND, IGNORE)}
        classes = [LabelClass(name, values) for name, values in named.items()]
        is_overlapping = _share_values(classes)
        if not is_overlapping:
            classes.insert(0, LabelClass(BACKGROUND, (0,)))
        ignore = grammar.get(IGNORE)
        return cls(tuple(classes), is_overlapping, ignore if isinstance(ignore, int) else None)


def foreground(classes: Sequence[LabelClass]) -> tuple[LabelClass, ...]:
    """Return the classes without the background."""
    return tuple(c for c in classes if not c.is_background)


def class_masks(labels: ArrayLike, classes: Sequence[LabelClass]) -> NDArray[np.bool_]:
    """Return the mask of each class.

    Parameters
    ----------
    labels : (...) ndarray of integers
        Not modified.
    classes : sequence of C LabelClass
        Classes may share values (overlapping regions).

    Returns
    -------
    (C, ...) ndarray of bool
        A label of no class (such as the ignore label) is False in all.

    Examples
    --------
    >>> classes = [LabelClass("background", (0,)), LabelClass("tumour", (1, 2))]
    >>> class_masks(np.array([0, 1, 2]), classes).astype(int).tolist()
    [[1, 0, 0], [0, 1, 1]]
    """
    labels = np.asarray(labels)
    masks = np.empty((len(classes), *labels.shape), bool)
    for mask, one in zip(masks, classes, strict=True):
        value_mask(labels, one.values, mask)
    return masks


def valid_voxels(labels: NDArray[np.integer], ignore: int | None) -> NDArray[np.bool_]:
    """Return where labels are not the ignore label, as a new array; everywhere if there is none.

    Examples
    --------
    >>> valid_voxels(np.array([0, 1, 3]), 3).tolist(), valid_voxels(np.array([0, 1, 3]), None).tolist()
    ([True, True, False], [True, True, True])
    """
    return np.ones(labels.shape, bool) if ignore is None else labels != ignore


def class_numbers(labels: ArrayLike, classes: Sequence[LabelClass]) -> NDArray[np.int32]:
    """Return which of some exclusive classes each voxel belongs to.

    Parameters
    ----------
    labels : (...) ndarray of integers
        Not modified.
    classes : sequence of C LabelClass
        No two share a value.

    Returns
    -------
    (...) ndarray of int32
        The position of the class in `classes`; -1 for a label of no class, such as the ignore label.

    Examples
    --------
    >>> classes = [LabelClass("background", (0,)), LabelClass("tumour", (1, 2))]
    >>> class_numbers(np.array([0, 1, 2, 9]), classes).tolist()
    [0, 1, 1, -1]
    """
    labels = np.asarray(labels)
    values = np.array([value for one in classes for value in one.values], np.int64)
    numbers = np.repeat(np.arange(len(classes), dtype=np.int32), [len(one.values) for one in classes])
    if labels.dtype.kind == "u" and labels.dtype.itemsize <= 2:
        table = np.full(np.iinfo(labels.dtype).max + 1, -1, np.int32)
        fits = values < len(table)
        table[values[fits]] = numbers[fits]
        return table[labels]
    order = np.argsort(values)
    values, numbers = values[order], numbers[order]
    place = np.minimum(np.searchsorted(values, labels), len(values) - 1)
    return np.where(values[place] == labels, numbers[place], np.int32(-1))


def value_mask(
    labels: NDArray[np.integer], values: Collection[int], out: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Return where the labels have one of a few values, written to `out` if given.

    Comparing value by value gives what `numpy.isin` gives, many times as fast for the few values of a class.

    Examples
    --------
    >>> value_mask(np.array([0, 3, 255], np.uint8), [3, 255, 300]).tolist()
    [False, True, True]
    """
    mask = np.empty(labels.shape, bool) if out is None else out
    if not values:
        mask.fill(False)
    for number, value in enumerate(values):
        if number == 0:
            np.equal(labels, value, out=mask)
        else:
            mask |= labels == value
    return mask


def grammar_faults(grammar: dict[str, int | list[int]]) -> list[str]:
    """Return every fault of a label mapping, each with its remedy; empty if there is none."""
    faults = []
    if grammar.get(BACKGROUND) != 0:
        faults.append(f"background: got {grammar.get(BACKGROUND)!r}, expected 0. Add 'background: 0'")
    named = {n: _as_tuple(v) for n, v in grammar.items() if n not in (BACKGROUND, IGNORE)}
    if not named:
        faults.append("no foreground class. Add at least one name with its integer")
    for name, values in named.items():
        if not values or len(set(values)) != len(values):
            faults.append(f"{name}: got {list(values)}, expected distinct integers, at least one")
        if any(v <= 0 for v in values):
            faults.append(f"{name}: got {list(values)}, expected integers > 0 (0 is the background)")
    regions: dict[frozenset[int], str] = {}
    for name, values in named.items():
        twin = regions.setdefault(frozenset(values), name)
        if twin != name:
            faults.append(f"{name}: has the same integers as {twin}. Remove one of the two")
    ignore = grammar.get(IGNORE)
    highest = max((v for values in named.values() for v in values), default=0)
    if ignore is not None and (not isinstance(ignore, int) or ignore <= highest):
        faults.append(f"ignore: got {ignore!r}, expected an integer above all others (> {highest}), as in nnU-Net")
    return faults


def _share_values(classes: Sequence[LabelClass]) -> bool:
    """Return whether an integer belongs to several classes."""
    values = [value for one in classes for value in one.values]
    return len(values) != len(set(values))


def _as_tuple(value: int | list[int]) -> tuple[int, ...]:
    """Return one integer or a list of them as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)
