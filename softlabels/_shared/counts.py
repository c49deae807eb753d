"""Numbers of things in messages."""

from __future__ import annotations


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
