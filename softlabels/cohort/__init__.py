"""Reading a computed cohort back: its index, its cases with their targets, and all of it as dask arrays."""

from typing import TYPE_CHECKING

from softlabels._shared.lazy import lazy_names

if TYPE_CHECKING:
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

# Loaded on first use: every job reads the Snakefile, which needs the name of the index, and not what reads entries.
__getattr__ = lazy_names(
    __name__,
    {
        "CaseTable": "softlabels.cohort.case_table",
        "CaseTarget": "softlabels.cohort.case",
        "Cohort": "softlabels.cohort.arrays",
        "CohortCase": "softlabels.cohort.arrays",
        "EntryAddress": "softlabels.cohort.case_table",
        "Index": "softlabels.cohort.index",
        "IndexedCase": "softlabels.cohort.case_table",
        "IndexedCohort": "softlabels.cohort.case",
        "PreparedCase": "softlabels.cohort.case",
        "TargetDescription": "softlabels.cohort.index",
        "open_cohort": "softlabels.cohort.arrays",
    },
)
