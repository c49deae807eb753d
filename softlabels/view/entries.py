"""From a case's receipts to its store entries: what pictures, exports and rankings look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from softlabels.blend import RULES, blend, class_masks
from softlabels.config import Config
from softlabels.errors import InputError
from softlabels.evaluation.rank import as_probability
from softlabels.grid import Grid
from softlabels.inputs.case import read_volume
from softlabels.pipeline.index import describe_target
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import find_result
from softlabels.preprocess.resample import resample
from softlabels.store import Store
from softlabels.view.case_page import TargetEntries


def entry_of(config: Config, case_id: str, node_id: str):
    """Return the store entry of one case x node.

    Raises
    ------
    InputError
        If the entry is no longer in the store.
    FormatError
        If there is no receipt yet, or receipt or entry are damaged.
    """
    return find_result(Path(config.results), case_id, node_id, Store(config.store)).entry


def case_entries(config: Config, plan: Plan, case_id: str) -> tuple[object, dict[str, TargetEntries]]:
    """Return the prepare entry of a case, and for each target its description and the entries on its way."""
    targets = {}
    for name, target_id in plan.targets.items():
        way = {plan.nodes[node].stage: node for node in plan.upstream(target_id)} if target_id else {}
        found = {stage: entry_of(config, case_id, way[stage]) for stage in ("seeds", "distance") if stage in way}
        entry = entry_of(config, case_id, target_id) if target_id else None
        targets[name] = TargetEntries(describe_target(config, plan, name), entry, **found)
    return entry_of(config, case_id, plan.prepare), targets


def describe_node(config: Config, plan: Plan, case_id: str, node_id: str) -> tuple[object, str, dict]:
    """Return a node's entry, its stage, and the description of the first target that uses it (for its class names).

    Raises
    ------
    InputError
        If the plan has no such node; the message lists those it has.
    """
    if node_id not in plan.nodes:
        raise InputError(f"node {node_id!r}: not in the plan, which has {', '.join(plan.nodes)}")
    users = [name for name, target in plan.targets.items() if target and node_id in plan.upstream(target)]
    described = describe_target(config, plan, (users or list(plan.targets))[0])
    return entry_of(config, case_id, node_id), plan.nodes[node_id].stage, described


def read_reference(paths: Sequence[Path], grid: Grid) -> np.ndarray:
    """Return a true soft label on a grid, from one map per class or one file with a channel per class.

    Maps are resampled linearly. If they do not sum to one everywhere, what is missing is the background, put first.

    Parameters
    ----------
    paths : sequence of paths
        In the order of the classes; the background may be left out.
    grid : Grid
        Of the prepared case; its axes must run as those of the maps.

    Returns
    -------
    (C, D, H, W) float32 array
        In [0, 1], summing to one.

    Raises
    ------
    InputError
        If a map has values outside [0, 1], or their sum exceeds one.
    """
    maps = []
    for path in paths:
        volume = read_volume(path)
        channels = volume.values if volume.values.ndim == 4 else volume.values[None]
        maps += [resample(channel, volume.grid, grid, "linear").astype(np.float32) for channel in channels]
    reference = np.stack(maps)
    total = reference.sum(axis=0)
    if reference.min() < 0 or total.max() > 1.01:
        found = f"values from {reference.min():.3g} and sums up to {total.max():.3g}"
        raise InputError(
            f"reference {', '.join(map(str, paths))}: got {found}, expected probabilities of one distribution"
        )
    if np.abs(total - 1).max() > 0.01:
        reference = np.concatenate([np.maximum(1 - total, 0)[None], reference])
    return reference


def rank_candidates(prepare, targets: dict[str, TargetEntries], n_classes: int) -> tuple[dict, dict[str, str]]:
    """Return the blended targets of a case that a reference of n classes can judge, and why others are left out.

    The reference's classes are those of the first target that has n and that it could judge. Another target with the
    same classes is brought into their order. The hard label and plain label smoothing are always among the candidates.

    Returns
    -------
    candidates : dict
        Name to (C, D, H, W) probabilities, in the order of the reference's classes.
    left_out : dict
        Target name to the reason.
    """
    labels = prepare.read("labels")
    candidates, left_out, judged = {}, {}, None
    for name, target in targets.items():
        described = target.described
        classes = described["classes"]
        if len(classes) != n_classes or frozenset([0]) not in _values(classes):
            left_out[name] = f"has {len(classes)} classes, the reference {n_classes} exclusive ones with the background"
        elif described["kind"] == "distance":
            left_out[name] = "a distance is no probability"
        elif _values(classes) - _values(judged or classes):
            left_out[name] = f"other classes than the reference, which is taken to be {_listed(judged)}"
        else:
            masks = class_masks(labels, classes)
            if judged is None:
                judged = classes
                candidates["one-hot"] = blend(masks, rule="onehot")
                candidates["label smoothing 0.1"] = blend(masks, rule="label_smoothing", epsilon=0.1)
            stored = target.entry.read("target") if RULES[described["blend"]["rule"]][1] else None
            soft_label = as_probability(blend(masks, stored, **described["blend"]), described["kind"])
            position = {frozenset(one["values"]): i for i, one in enumerate(classes)}
            candidates[name] = soft_label[[position[frozenset(one["values"])] for one in judged]]
    if not candidates:
        raise InputError(f"rank: no target can be judged: {left_out}. Give a map per class of a target")
    return candidates, left_out


def _values(classes) -> set[frozenset]:
    """Return what classes mean, whatever their names and order."""
    return {frozenset(one["values"]) for one in classes}


def _listed(classes) -> str:
    """Return the names of classes in their order."""
    return ", ".join(one["name"] for one in classes)
