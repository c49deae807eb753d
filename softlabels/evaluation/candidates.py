"""Which targets of a case a soft reference can judge, as probabilities in the order of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from softlabels.blend import Blend
from softlabels.classes import LabelClass, class_masks
from softlabels.cohort.case import CaseTarget
from softlabels.errors import InputError
from softlabels.evaluation.rank import as_probability


class Candidates(NamedTuple):
    """Soft labels that can be ranked, and those that cannot.

    Attributes
    ----------
    soft_labels : dict of str to (C, D, H, W) float32 array
        Probabilities, in the order of the reference's classes.
    left_out : dict of str to str
        Target name to the reason.
    classes : tuple of LabelClass
        Of the reference, in its order.
    """

    soft_labels: dict[str, NDArray[np.float32]]
    left_out: dict[str, str]
    classes: tuple[LabelClass, ...]


def candidates(targets: Mapping[str, CaseTarget], n_classes: int, *, is_overlapping: bool = False) -> Candidates:
    """Return the soft labels of a case that a reference of n classes can judge, and why others are left out.

    The reference's classes are those of the first target that has n and that it could judge. Another target with the
    same classes is brought into their order. The hard label and plain label smoothing are always among the candidates.

    Parameters
    ----------
    targets : mapping of str to CaseTarget
        By the names under which they are ranked; all of one case.
    n_classes : int
        Number of classes of the reference, the background among them unless they are regions that overlap.
    is_overlapping : bool
        Whether they are.

    Raises
    ------
    InputError
        If no target can be judged; the message gives the reason for each.
    """
    soft_labels: dict[str, NDArray[np.float32]] = {}
    left_out: dict[str, str] = {}
    judged: tuple[LabelClass, ...] = ()
    labels: NDArray[np.integer] | None = None
    for name, target in targets.items():
        why = _why_not(target, n_classes, judged, is_overlapping)
        if why is not None:
            left_out[name] = why
            continue
        labels = target.case.labels() if labels is None else labels
        if not judged:
            judged = target.classes
            masks = class_masks(labels, judged)
            soft_labels["one-hot"] = Blend("onehot").soft_label(masks, is_overlapping=is_overlapping)
            smoothed = Blend("label_smoothing", 0.1).soft_label(masks, is_overlapping=is_overlapping)
            soft_labels["label smoothing 0.1"] = smoothed
        soft_label = as_probability(target.soft_label(labels=labels), target.description.kind)
        channel = {frozenset(c.values): i for i, c in enumerate(target.classes)}
        soft_labels[name] = soft_label[[channel[frozenset(c.values)] for c in judged]]
    if not soft_labels:
        raise InputError(f"rank: no target can be judged: {left_out}. Give a map per class of a target")
    return Candidates(soft_labels, left_out, judged)


def _why_not(target: CaseTarget, n_classes: int, judged: Sequence[LabelClass], is_overlapping: bool) -> str | None:
    """Return why a reference cannot judge a target; None if it can."""
    meanings = _meanings(target.classes)
    if is_overlapping:
        if len(target.classes) != n_classes or not target.description.is_overlapping:
            return f"has {len(target.classes)} classes, the reference {n_classes} regions that overlap"
    elif len(target.classes) != n_classes or frozenset([0]) not in meanings:
        return f"has {len(target.classes)} classes, the reference {n_classes} exclusive ones with the background"
    if target.description.kind == "distance":
        return "a distance is no probability"
    if judged and meanings - _meanings(judged):
        names = ", ".join(c.name for c in judged)
        return f"other classes than the reference, which is taken to be {names}"
    return None


def _meanings(classes: Sequence[LabelClass]) -> set[frozenset[int]]:
    """Return the label values of each class, whatever their names and order."""
    return {frozenset(c.values) for c in classes}
