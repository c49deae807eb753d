"""Reading a computed cohort back: its index, its cases with their targets, and all of it as dask arrays."""

from softlabels.cohort.arrays import Cohort, CohortCase, open_cohort
from softlabels.cohort.case import CaseTarget, IndexedCohort, PreparedCase
from softlabels.cohort.case_table import CaseTable, EntryAddress, IndexedCase
from softlabels.cohort.index import Index, TargetDescription

__all__ = [
    "CaseTable",
    "CaseTarget",
    "Cohort",
    "CohortCase",
    "EntryAddress",
    "Index",
    "IndexedCase",
    "IndexedCohort",
    "PreparedCase",
    "TargetDescription",
    "open_cohort",
]
