"""The label grammar of nnU-Net: a name for an integer, for a list of integers (a region), and `ignore`."""

from __future__ import annotations

from dataclasses import dataclass, replace

#: The name that marks voxels no loss may look at; its integer must be the highest.
IGNORE = "ignore"
BACKGROUND = "background"


@dataclass(frozen=True)
class LabelClass:
    """One channel of a target: its name and the integers of the label file that belong to it."""

    name: str
    values: tuple[int, ...]

    def to_json(self) -> dict:
        """Return the class as plain JSON values."""
        return {"name": self.name, "values": list(self.values)}


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
        return next((i for i, c in enumerate(self.classes) if c.values == (0,)), None)

    @property
    def values(self) -> tuple[int, ...]:
        """Every integer that a label file may hold, 0 and the ignore label among them."""
        found = {0} | {v for c in self.classes for v in c.values}
        return tuple(sorted(found | ({self.ignore} if self.ignore is not None else set())))

    def to_json(self) -> list[dict]:
        """Return the classes as plain JSON values."""
        return [c.to_json() for c in self.classes]

    def foreground(self) -> LabelSet:
        """Return the same classes without the background."""
        return replace(self, classes=tuple(c for c in self.classes if c.values != (0,)))

    @classmethod
    def parse(cls, grammar: dict[str, int | list[int]]) -> LabelSet:
        """Return the label set of a mapping from names to integers; raise ValueError naming every fault."""
        faults = grammar_faults(grammar)
        if faults:
            raise ValueError("; ".join(faults))
        named = {name: _as_tuple(value) for name, value in grammar.items() if name not in (BACKGROUND, IGNORE)}
        flat = [v for values in named.values() for v in values]
        is_overlapping = len(flat) != len(set(flat))
        classes = [LabelClass(name, values) for name, values in named.items()]
        if not is_overlapping:
            classes.insert(0, LabelClass(BACKGROUND, (0,)))
        return cls(tuple(classes), is_overlapping, grammar.get(IGNORE))


def grammar_faults(grammar: dict[str, int | list[int]]) -> list[str]:
    """Return every fault of a label mapping, each with its remedy; empty if there is none."""
    faults = []
    if grammar.get(BACKGROUND) != 0:
        faults.append(f"background: got {grammar.get(BACKGROUND)!r}, expected 0. Add 'background: 0'")
    foreground = {n: _as_tuple(v) for n, v in grammar.items() if n not in (BACKGROUND, IGNORE)}
    if not foreground:
        faults.append("no foreground class. Add at least one name with its integer")
    for name, values in foreground.items():
        if not values or len(set(values)) != len(values):
            faults.append(f"{name}: got {list(values)}, expected distinct integers, at least one")
        if any(v <= 0 for v in values):
            faults.append(f"{name}: got {list(values)}, expected integers > 0 (0 is the background)")
    regions: dict[frozenset, str] = {}
    for name, values in foreground.items():
        twin = regions.setdefault(frozenset(values), name)
        if twin != name:
            faults.append(f"{name}: has the same integers as {twin}. Remove one of the two")
    ignore = grammar.get(IGNORE)
    highest = max((v for values in foreground.values() for v in values), default=0)
    if ignore is not None and (not isinstance(ignore, int) or ignore <= highest):
        faults.append(f"ignore: got {ignore!r}, expected an integer above all others (> {highest}), as in nnU-Net")
    return faults


def _as_tuple(value: int | list[int]) -> tuple[int, ...]:
    """Return one integer or a list of them as a tuple."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)
