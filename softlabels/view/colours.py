"""One colour per class, the same in every picture and page. Imports no plotting library."""

from __future__ import annotations

from collections.abc import Iterable

from softlabels.classes import LabelClass

#: Okabe and Ito's palette, which colour-blind readers can distinguish; repeated beyond seven classes.
PALETTE = ("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00", "#0072B2")
BACKGROUND_COLOUR = "#DDDDDD"


def class_colours(classes: Iterable[LabelClass]) -> dict[tuple[int, ...], str]:
    """Return a colour for the values of each class, in the order of the classes.

    Parameters
    ----------
    classes : iterable of LabelClass
        Of all targets that are shown together. A class that appears twice counts once.

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
        if one.is_background:
            colours[one.values] = BACKGROUND_COLOUR
        else:
            colours[one.values] = PALETTE[n_foreground % len(PALETTE)]
            n_foreground += 1
    return colours
