"""Looking at the entries that an index names: what a machine that only trains can check, without the project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from softlabels._shared.archive import is_folder
from softlabels.cohort.case import IndexedCohort
from softlabels.cohort.case_table import EntryAddress
from softlabels.store.format import REMEDY, entry_folder
from softlabels.store.verify import verify_entry


@dataclass(frozen=True)
class CaseDamage:
    """What is wrong with one entry of a case.

    Attributes
    ----------
    key : str
    message : str
        Names the case, the role of the entry, the file and the remedy.
    is_absent : bool
        Whether the store has no such entry.
    is_certain : bool
        As for `softlabels.store.Damage`: False where the file system could not be read.
    """

    key: str
    message: str
    is_absent: bool = False
    is_certain: bool = True

    def __str__(self) -> str:
        return self.message


def verify_cohort(
    cohort: IndexedCohort, *, deep: bool = False, progress: Callable[[int, int], None] | None = None
) -> list[CaseDamage]:
    """Return what is wrong with the entries of an index; an empty list means that training can read all of them.

    Parameters
    ----------
    cohort : IndexedCohort
        Nothing in its store is changed.
    deep : bool
        Read all files and compare their hashes, at about 1 GB/s and core.
    progress : callable, optional
        Called with (entries done, entries in all) after each entry.
    """
    found: list[CaseDamage] = []
    entries = _entries(cohort)
    for done, (address, where) in enumerate(entries.items(), 1):
        name = f"{where}, entry {address.key[:12]}"
        if is_folder(entry_folder(cohort.store, address.key)):
            damage = verify_entry(cohort.store, address.key, address.manifest, deep=deep)
            found += [CaseDamage(one.key, f"{name}: {one.message}", is_certain=one.is_certain) for one in damage]
        else:
            found.append(CaseDamage(address.key, f"{name}: not in store {cohort.store}; {REMEDY}", is_absent=True))
        if progress is not None:
            progress(done, len(entries))
    return found


def _entries(cohort: IndexedCohort) -> dict[EntryAddress, str]:
    """Return each entry of the index once, with the first case and role that name it."""
    found: dict[EntryAddress, str] = {}
    for case in cohort.index.cases:
        found.setdefault(case.prepare, f"case {case.id}, prepare")
        for name, address in case.targets.items():
            found.setdefault(address, f"case {case.id}, target {name!r}")
    return found
