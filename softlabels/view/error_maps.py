"""Where soft labels differ from a true one: a slice of a case, and the error of each soft label in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from softlabels.blend import entropy_bits
from softlabels.cohort.case import PreparedCase
from softlabels.view.panels import Panel, draw_page
from softlabels.view.planes import Plane, chosen_slices, content_box

#: Panels of a row.
_COLUMNS = 4


def error_figure(
    case: PreparedCase,
    masks: NDArray[np.bool_],
    reference: NDArray[np.floating],
    soft_labels: Mapping[str, NDArray[np.floating]],
    *,
    included: NDArray[np.bool_] | None = None,
    is_overlapping: bool = False,
) -> Figure:
    """Return the slice of a case with the largest squared error, and there the error of each soft label.

    The error is that of the class of the hard label: how much more probability the soft label gives it than the
    reference does. Where it is positive the soft label is too certain, where it is negative too vague. Of regions that
    overlap, it is that of the region with the largest error, of the side that the hard label is on.

    Parameters
    ----------
    case : PreparedCase
    masks : (C, D, H, W) bool array
        The hard label, which is outlined.
    reference : (C, D, H, W) float array
        The true soft label.
    soft_labels : mapping of str to (C, D, H, W) float array
        By the names in the titles.
    included : (D, H, W) bool array, optional
        Voxels that count; by default all.
    is_overlapping : bool
        Whether each class is a region of its own.
    """
    counted = np.ones(masks.shape[1:], bool) if included is None else included
    signed = _largest_region_error if is_overlapping else _error_of_own_class
    counted = counted if is_overlapping else counted & masks.any(axis=0)
    errors = {
        name: np.where(counted, signed(soft, reference, masks), 0).astype(np.float32)
        for name, soft in soft_labels.items()
    }
    plane = Plane.of(case.grid)
    sums = np.sum([plane.sums(error**2) for error in errors.values()], axis=0)
    (index,) = chosen_slices(sums, 1)
    part = tuple(slice(*pair) for pair in plane.window(index, case.shape))
    doubt = plane.page(entropy_bits(reference[(slice(None), *part)], is_overlapping=is_overlapping))
    box = content_box(doubt > 0.05 * max(float(doubt.max()), 1e-6), plane.spacing, margin_mm=4 * max(plane.spacing))

    def cut(volume: NDArray[Any]) -> NDArray[Any]:
        """Return the slice of a volume, (..., D, H, W), as it is shown."""
        z, y, x = part
        return plane.page(volume[..., z, y, x])[..., box[0], box[1]]

    outline = cut(masks if is_overlapping or len(masks) == 1 else masks[1:])
    channel = case.channels[0] if case.channels else "image"
    image = plane.page(case.image(plane.window(index, case.shape)))[0][box]
    panels: list[Panel | None] = [
        Panel(f"image, {channel}", "image", image, "intensity, as prepared", outline=outline),
        Panel("reference: entropy", "entropy", doubt[box], "bits", outline=outline),
    ]
    panels += [Panel(name, "signed", cut(error), "error", outline=outline) for name, error in errors.items()]
    rows = [panels[start : start + _COLUMNS] for start in range(0, len(panels), _COLUMNS)]
    rows[-1] += [None] * (_COLUMNS - len(rows[-1])) if len(rows) > 1 else []
    title = f"{case.id}: {plane.name} slice {index + 1} of {case.shape[plane.axis]}"
    footer = (
        "Lines: the hard label. Error: probability of its class in the soft label minus that in the reference. "
        "Red: too certain; blue: too vague."
    )
    return draw_page(rows, spacing=plane.spacing, letters=plane.letters, title=title, footer=footer)


def _error_of_own_class(
    soft: NDArray[np.floating], reference: NDArray[np.floating], masks: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Return how much more probability a soft label gives the class of the hard label than the reference does."""
    own = masks.argmax(axis=0)[None]
    error: NDArray[np.floating] = np.take_along_axis(soft, own, axis=0) - np.take_along_axis(reference, own, axis=0)
    return error[0]


def _largest_region_error(
    soft: NDArray[np.floating], reference: NDArray[np.floating], masks: NDArray[np.bool_]
) -> NDArray[np.floating]:
    """Return the error of the region where it is largest: positive where the soft label is nearer to the hard label.

    Examples
    --------
    >>> soft, reference = np.array([[0.9, 0.4], [0.2, 0.4]]), np.array([[0.8, 0.1], [0.5, 0.3]])
    >>> _largest_region_error(soft, reference, np.array([[True, False], [False, False]])).round(3).tolist()
    [0.3, -0.3]
    """
    errors = np.where(masks, soft - reference, reference - soft)
    largest = np.abs(errors).argmax(axis=0)[None]
    return np.take_along_axis(errors, largest, axis=0)[0]
