"""What a NIfTI file cannot say: names of its channels, meaning of its values, colours of its labels; as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from softlabels.classes import LabelClass
from softlabels.cohort.case import CaseTarget
from softlabels.store.read import Entry
from softlabels.view.colours import class_colours

#: What the values of each kind of map are.
_MEANINGS = {
    "probability": "probability of the class, 0 to 1",
    "signed": "signed map: positive inside of the class, -1 to 1",
    "distance": "signed distance to the boundary of the class in mm, negative inside",
}
_LAYERS = {
    "image": "intensity, as prepared",
    "labels": "label value",
    "domain": "1 inside of the domain",
    "raters": "label value of each rater",
    "seeds": "1 where a distance starts",
    "distance": "geodesic distance from the seeds; infinite where no seed can be reached",
    "target": "stored map, before the loader blends it with the hard label",
}


def target_sidecar(target: CaseTarget, class_names: Sequence[str]) -> dict[str, Any]:
    """Return what the soft label of a target is, as plain JSON values.

    Parameters
    ----------
    target : CaseTarget
    class_names : sequence of str
        The channels of the file, in their order.
    """
    description = target.description
    meaning = _MEANINGS[description.kind]
    if description.variant == "normalised":
        meaning = "signed distance to the boundary of the class as a share of the largest, negative inside"
    return {
        "case": target.case.id,
        "target": target.name,
        "method": description.method,
        "variant": description.variant,
        "values": meaning,
        "channels": list(class_names),
        "label_values": {one.name: list(one.values) for one in description.classes if one.name in class_names},
        "classes_overlap": description.is_overlapping,
        "blend": description.blend.to_json(),
        "entry": target.entry.key if target.entry else None,
    }


def layer_sidecar(case_id: str, entry: Entry, layer: str) -> dict[str, Any]:
    """Return what a layer of an entry is, as plain JSON values."""
    params = dict(entry.attributes.get("params", {}))
    beyond = (
        f", and where the class is farther than the nearest one by more than {params['gap']:g}"
        if "gap" in params
        else ""
    )
    return {
        "case": case_id,
        "layer": layer,
        "values": _LAYERS.get(layer, layer) + beyond,
        "channels": list(entry.channels(layer) or []),
        "made_with": params,
        "entry": entry.key,
    }


def label_names(classes: Sequence[LabelClass]) -> dict[int, tuple[str, str]]:
    """Return value to (name, ``#rrggbb``) of every label that classes are made of, without 0.

    A value that several regions contain is named after all of them, and coloured as the smallest.

    Examples
    --------
    >>> label_names([LabelClass("whole", (1, 2)), LabelClass("core", (2,))])
    {1: ('whole', '#E69F00'), 2: ('core+whole', '#56B4E9')}
    """
    colours = class_colours(classes)
    named = {}
    for value in sorted({value for one in classes for value in one.values} - {0}):
        owners = sorted((one for one in classes if value in one.values), key=lambda one: len(one.values))
        named[value] = ("+".join(one.name for one in owners), colours[owners[0].values])
    return named


def itksnap_labels(names: Mapping[int, tuple[str, str]]) -> str:
    """Return a label description file of ITK-SNAP (Segmentation, Import Label Descriptions).

    Examples
    --------
    >>> print(itksnap_labels({1: ("liver", "#E69F00")}).splitlines()[-1])
        1   230  159    0        1  1  1    "liver"
    """
    lines = [
        "################################################",
        "# ITK-SnAP Label Description File",
        "# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL",
        "################################################",
        '    0     0    0    0        0  0  0    "Clear Label"',
    ]
    for value, (name, colour) in names.items():
        red, green, blue = _rgb(colour)
        lines.append(f'{value:5d}   {red:3d}  {green:3d}  {blue:3d}        1  1  1    "{name}"')
    return "\n".join(lines) + "\n"


def slicer_colours(names: Mapping[int, tuple[str, str]]) -> str:
    """Return a colour table of 3D Slicer (.ctbl), to load before the labels and to select in their display.

    Examples
    --------
    >>> print(slicer_colours({1: ("liver", "#E69F00")}).splitlines()[-1])
    1 liver 230 159 0 255
    """
    lines = ["# Color table file", f"# {len(names) + 1} values", "0 background 0 0 0 0"]
    for value, (name, colour) in names.items():
        lines.append(" ".join(map(str, (value, name, *_rgb(colour), 255))))
    return "\n".join(lines) + "\n"


def _rgb(colour: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of ``#rrggbb``."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
