"""One colour per class, the same in every picture and page. Imports no plotting library."""

from __future__ import annotations

from collections.abc import Iterable

#: Okabe and Ito's palette, which colour-blind readers can tell apart; repeated beyond seven classes.
PALETTE = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
BACKGROUND_COLOUR = "#DDDDDD"


def foreground(classes: Iterable[dict]) -> list[dict]:
    """Return the classes but for the background, whose only value is 0."""
    return [one for one in classes if list(one["values"]) != [0]]


def class_colours(classes: Iterable[dict]) -> dict[tuple[int, ...], str]:
    """Return a colour for the values of each class, in the order of the classes.

    Parameters
    ----------
    classes : iterable of dicts
        ``{"name": ..., "values": [...]}`` of all targets of a project. A class that appears twice counts once.

    Returns
    -------
    dict
        Values of a class, as a tuple, to ``#rrggbb``.

    Examples
    --------
    >>> class_colours([{"name": "background", "values": [0]}, {"name": "organ", "values": [1]}])
    {(0,): '#DDDDDD', (1,): '#E69F00'}
    """
    colours: dict[tuple[int, ...], str] = {}
    n_foreground = 0
    for one in classes:
        values = tuple(one["values"])
        if values in colours:
            continue
        if values == (0,):
            colours[values] = BACKGROUND_COLOUR
        else:
            colours[values] = PALETTE[n_foreground % len(PALETTE)]
            n_foreground += 1
    return colours
