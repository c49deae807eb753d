"""What predictions are judged by: hard labels, the true soft label, and labels on a finer grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from softlabels.classes import LabelSet, class_masks, valid_voxels
from softlabels.cohort.case import CaseTarget, IndexedCohort, PreparedCase
from softlabels.evaluation.reference import RatedCase, case_reference, counted_voxels
from softlabels.inputs.volume import read_volume

from .scores import FineLabels
from .study import StudyCase, read_cases_of


class JudgedCase(RatedCase, Protocol):
    """A case as scores read it: `PreparedCase`, or `comparison.raw_truth.RawCase`."""

    def image(self) -> NDArray[np.float32]:
        """Return the (M, D, H, W) intensities."""
        ...

    def domain(self) -> NDArray[np.bool_] | None:
        """Return where intensities mean something; None for everywhere."""
        ...

    def labels(self) -> NDArray[np.integer]:
        """Return the (D, H, W) hard labels."""
        ...


class CaseTruth(ABC):
    """The cases of a study with all that is known of them.

    Parameters
    ----------
    sheet : str
        The case sheet, which names references and finer labels.
    channels : sequence of str
    classes : LabelSet
        The study's classes.
    """

    def __init__(self, sheet: str, channels: Sequence[str], classes: LabelSet) -> None:
        self.classes, self._sheet, self._channels = classes, sheet, channels

    @abstractmethod
    def case(self, case: str) -> JudgedCase:
        """Return image and hard labels of a case."""

    @cached_property
    def rows(self) -> dict[str, StudyCase]:
        """The rows of the sheet by case id."""
        return {one.case.id: one for one in read_cases_of(self._sheet, self._channels)}

    def masks(self, case: str) -> NDArray[np.bool_]:
        """Return the hard masks of a case, (C, D, H, W)."""
        return class_masks(self.case(case).labels(), self.classes.classes)

    def reference(self, case: str) -> NDArray[np.float32]:
        """Return the true soft label of a case, (C, D, H, W); InputError if it has none."""
        return case_reference(self.rows[case].case, self.case(case), self.classes.classes)

    def counted(self, case: str, reference: NDArray[np.float32] | None) -> NDArray[np.bool_]:
        """Return the voxels of a case that scores are taken over, (D, H, W), from its reference if it has one."""
        if reference is None:
            return self.case(case).valid()
        of_raters = self.rows[case].case.has_rater_reference
        return counted_voxels(self.case(case), reference, self.classes, of_raters=of_raters)

    def has_reference(self, case: str) -> bool:
        """Return whether the true soft label of a case is known."""
        return bool(self.rows[case].case.reference)

    def fine(self, case: str) -> FineLabels | None:
        """Return the finer labels of a case, or None if it has none."""
        path = self.rows[case].fine_labels
        if path is None:
            return None
        volume = read_volume(path)
        labels = volume.values.astype(np.int64)
        masks = class_masks(labels, self.classes.classes)
        return FineLabels(masks, valid_voxels(labels, self.classes.ignore), volume.grid)


class PreparedTruth(CaseTruth):
    """The cases of a computed cohort, as they were prepared.

    Parameters
    ----------
    index : str
        index.json.
    sheet, channels, classes
        As of `CaseTruth`.
    """

    def __init__(self, index: str, sheet: str, channels: Sequence[str], classes: LabelSet) -> None:
        super().__init__(sheet, channels, classes)
        self.cohort = IndexedCohort.open(index)

    @property
    def stand_in(self) -> str:
        """The first target: prediction reads images through it."""
        return next(iter(self.cohort.index.targets))

    def case(self, case: str) -> PreparedCase:
        """Return image and hard labels of a case."""
        return self.cohort.case(self.cohort.index.case(case))

    def target(self, case: str, name: str) -> CaseTarget:
        """Return a case with one of its targets."""
        return self.cohort.target(self.cohort.index.case(case), name)
