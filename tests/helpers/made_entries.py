"""A case with entries of every stage, as pictures and exports take it; and parts of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from helpers.made_cohort import key_of, make_cohort, open_made, publish, seeds_and_distance
from softlabels.store import Store
from softlabels.store.read import Entry
from softlabels.view.entries import CaseEntries, NodeEntry, TargetEntries


def make_entries(folder: Path, case_id: str, shape: tuple[int, int, int]) -> CaseEntries:
    """Return a case with all targets of `made_cohort`; GeoLS has seeds and a distance."""
    prepared, targets = open_made(make_cohort(folder, {case_id: shape}), case_id)
    store = Store(folder / "store")
    for layer in seeds_and_distance(case_id, shape):
        publish(store, key_of(layer.name), [layer], prepared.grid)
    upstream = {name: store.find(key_of(name)) for name in ("seeds", "distance")}
    entries = {name: TargetEntries(one, **(upstream if name == "geols" else {})) for name, one in targets.items()}
    return CaseEntries(prepared, entries)


def some(case: CaseEntries, *names: str) -> CaseEntries:
    """Return the case with some of its targets."""
    return CaseEntries(case.case, {name: case.targets[name] for name in names})


def described(entries: TargetEntries, **changes: Any) -> TargetEntries:
    """Return a target whose description is changed."""
    target = entries.target
    return replace(entries, target=replace(target, description=replace(target.description, **changes)))


def node(case: CaseEntries, stage: str, entry: Entry, name: str = "geols") -> NodeEntry:
    """Return an entry of a stage as a node of the plan."""
    return NodeEntry(case.case, stage, entry, name, case.targets[name].target.description)


def titles(figure: Figure) -> list[str]:
    """Return the titles of all panels."""
    return [ax.get_title() for ax in figure.axes if ax.get_title()]
