"""Numbers of things in messages, and lists that stay short there."""

from __future__ import annotations

from collections.abc import Sequence


def counted(n: int, noun: str) -> str:
    """Return a number with its noun in singular or plural.

    Examples
    --------
    >>> counted(1, "case"), counted(2, "case"), counted(0, "entry")
    ('1 case', '2 cases', '0 entries')
    """
    if n == 1:
        return f"1 {noun}"
    return f"{n} {noun[:-1]}ies" if noun.endswith("y") else f"{n} {noun}s"


def bounded(lines: Sequence[str], most: int = 20) -> list[str]:
    """Return the first lines, and how many more there are.

    Examples
    --------
    >>> bounded(["a"] * 22)[-2:]
    ['a', 'and 2 more']
    >>> bounded(["a", "b"], most=2)
    ['a', 'b']
    """
    return [*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])]


def some_of(names: Sequence[str], most: int = 5) -> str:
    """Return the first names in running text, and how many more there are.

    Examples
    --------
    >>> some_of(["a", "b", "c"])
    'a, b, c'
    >>> some_of(["a", "b", "c", "d"], most=2)
    'a, b and 2 more'
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
