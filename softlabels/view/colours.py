"""One colour per class, the same in every picture and page. Imports no plotting library."""

from __future__ import annotations

from collections.abc import Iterable

from softlabels.classes import LabelClass

#: Okabe and Ito's palette, which colour-blind readers can distinguish, and 41 colours for the organs of a whole body:
#: each the farthest from those before it (OKLab, a grid of sRGB, neither pale nor grey). Repeated beyond 48 classes.
PALETTE = (
    "#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2",
    "#8010F0", "#F010E0", "#10F010", "#1010F0", "#F01060", "#801080", "#A080F0", "#803040", "#90F0A0",
    "#506010", "#10F0F0", "#504080", "#60B010", "#4050D0", "#C050F0", "#A0B070", "#F050B0", "#106060",
    "#F0A090", "#906030", "#D0B0F0", "#B0F010", "#B01010", "#7030B0", "#A01060", "#F080F0", "#F0E0A0",
    "#E06070", "#80C0C0", "#10E070", "#8090C0", "#6090F0", "#108010", "#905090", "#1090A0", "#F01010",
    "#5010E0", "#908010", "#B07070", "#C020B0", "#B0B010",
)  # fmt: skip
BACKGROUND_COLOUR = "#DDDDDD"


def class_colours(classes: Iterable[LabelClass]) -> dict[tuple[int, ...], str]:
    """Return a colour for the values of each class, in the order of the classes.

    Parameters
    ----------
    classes : iterable of LabelClass
        Of all targets that are shown together. A class that appears twice counts once. One that has a colour keeps it.

    Returns
    -------
    dict
        Values of a class to ``#rrggbb``.

    Examples
    --------
    >>> class_colours([LabelClass("background", (0,)), LabelClass("organ", (1,))])
    {(0,): '#DDDDDD', (1,): '#E69F00'}
    """
    colours: dict[tuple[int, ...], str] = {}
    n_foreground = 0
    for one in classes:
        if one.values in colours:
            continue
        if one.colour is not None:
            colours[one.values] = one.colour
        elif one.is_background:
            colours[one.values] = BACKGROUND_COLOUR
        else:
            colours[one.values] = PALETTE[n_foreground % len(PALETTE)]
            n_foreground += 1
    return colours
