"""Where the viewer finds a case: in a project by its receipts, or in a store by a key or a path."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.case import CaseTarget, PreparedCase
from softlabels.cohort.index import TargetDescription
from softlabels.config import Config
from softlabels.errors import InputError
from softlabels.methods import METHODS
from softlabels.pipeline.plan import Plan
from softlabels.store import Store
from softlabels.store.format import VERSION_FOLDER
from softlabels.store.read import Entry
from softlabels.view.entries import TargetEntries, finished_entries
from softlabels.view.viewer.case_view import CaseView

_KEY = re.compile("[0-9a-f]{8,64}")
#: Roles in which an entry is read by another.
_UPSTREAM = ("prepare", "seeds", "distance")


def entry_at(place: str, store: Path | None) -> Entry | None:
    """Return the entry that a key, the beginning of one, or a path names; None if it names none.

    Parameters
    ----------
    place : str
        At least 8 hex digits, or the path of an entry's folder, of its Zarr group, or of a link to one such as
        ``results/case/distance-0a1b2c3d.zarr``.
    store : path, optional
        Where keys are looked up.

    Raises
    ------
    InputError
        If several keys begin so.
    FormatError
        If the entry is damaged.
    """
    path = Path(place)
    if path.exists():
        return _entry_of_path(path)
    if store is None or not _KEY.fullmatch(place):
        return None
    shelf = Store(store)
    keys = [key for key in list(shelf.keys()) if key.startswith(place)]
    if len(keys) > 1:
        raise InputError(f"entry {place}: {len(keys)} keys of {store} begin so, such as {keys[0]}. Give more digits")
    return shelf.find(keys[0]) if keys else None


def _entry_of_path(path: Path) -> Entry | None:
    """Return the entry that a folder belongs to, or None if it is not in a store."""
    for folder in (path.resolve(), *path.resolve().parents):
        if len(folder.name) == 64 and _KEY.fullmatch(folder.name) and folder.parents[1].name == VERSION_FOLDER:
            found: Entry | None = Store(folder.parents[2]).find(folder.name)
            return found
    return None


def view_entry(entry: Entry) -> CaseView:
    """Return what there is to see of an entry and of the entries that it was computed from, where they still exist."""
    store, made = Store(entry.path.parents[2]), entry.provenance
    title = f"{made.get('case', 'entry')} {entry.key[:12]}"
    if {"image", "labels"} <= set(entry.layers):
        return CaseView(PreparedCase(title, entry))
    upstream: dict[str, Entry] = {}
    pending = [entry]
    while pending:
        inputs = pending.pop().provenance.get("inputs", {})
        for role, key in inputs.items():
            if role in _UPSTREAM and role not in upstream and (found := store.find(key)) is not None:
                upstream[role] = found
                pending.append(found)
    prepare = upstream.pop("prepare", None)
    case = None if prepare is None else PreparedCase(title, prepare)
    if case is None or entry.attributes.get("stage") != "target":
        return CaseView(case, others=[entry, *upstream.values()], title=title)
    target = CaseTarget(case, "target", _bare_description(entry), entry)
    return CaseView(case, {"target": TargetEntries(target, upstream.get("seeds"), upstream.get("distance"))})


def _bare_description(entry: Entry) -> TargetDescription:
    """Return a target without its project: the stored map is shown as it is, because alpha and delta are not in it."""
    params = entry.attributes["params"]
    classes = tuple(LabelClass.from_json(one) for one in params["classes"])
    values = [value for one in classes for value in one.values]
    method = METHODS[params["method"]]
    return TargetDescription(
        node=None,
        method=params["method"],
        variant=params["variant"],
        kind=method.kind,
        classes=classes,
        is_overlapping=len(values) != len(set(values)),
        blend=Blend("none"),
        pad_value=(),
        augmentation=method.augmentation,
    )


def view_case(config: Config, plan: Plan, case_id: str, chosen: Sequence[str] = ()) -> tuple[CaseView, list[str]]:
    """Return what there is to see of a case of a project, which may be unfinished.

    Parameters
    ----------
    config, plan
        Of the project.
    case_id : str
    chosen : sequence of str
        Names of targets; all if empty.

    Returns
    -------
    view : CaseView
    missing : list of str
        What is left out because it has no result yet, or a damaged one, and why.

    Raises
    ------
    InputError
        If a chosen target does not exist; the message names those that are near.
    FormatError
        If the case is not prepared yet.
    """
    for name in chosen:
        if name not in plan.targets:
            near = difflib.get_close_matches(name, plan.targets, 3) or list(plan.targets)
            raise InputError(f"target {name!r}: not in the configuration. Did you mean {', '.join(near)}?")
    entries, missing = finished_entries(config, plan, case_id)
    targets = {name: one for name, one in entries.targets.items() if not chosen or name in chosen}
    return CaseView(entries.case, targets), [text for text in missing if text.partition(":")[0] in targets]
