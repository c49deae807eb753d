"""A network's prediction for a prepared case, returned to the grid of the case's files and written as NIfTI.

Needs the index and the prepared entry, and numpy: it runs where a network is trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.nifti import write_nifti_file
from softlabels.classes import LabelClass
from softlabels.cohort.case import IndexedCohort
from softlabels.cohort.index import TargetDescription
from softlabels.errors import FormatError, InputError
from softlabels.grid import Grid
from softlabels.restoration import restored, restored_labels


@dataclass(frozen=True)
class CaseSpace:
    """The two grids of a case, and what the channels of a prediction are.

    Parameters
    ----------
    case_id : str
    prepared, files : Grid
        Of the prepared case, and of the image files that it was made from.
    described : TargetDescription
        The target that the network was trained on.

    Examples
    --------
    >>> space = CaseSpace.of("results/index.json", "case_7", target="geols")  # doctest: +SKIP
    >>> space.write_labels(probabilities, "case_7.nii.gz")  # doctest: +SKIP
    """

    case_id: str
    prepared: Grid
    files: Grid
    described: TargetDescription

    @classmethod
    def of(
        cls,
        index: str | Path,
        case_id: str,
        *,
        target: str | None = None,
        store: str | Path | None = None,
        files: Grid | None = None,
    ) -> CaseSpace:
        """Return the grids of a case of an index.

        Parameters
        ----------
        index : path
            index.json, as the workflow wrote it.
        case_id : str
        target : str, optional
            What the network was trained on; not needed if the index has one target.
        store : path, optional
            Where the store is now.
        files : Grid, optional
            Of the image files; by default as the index says.

        Raises
        ------
        FormatError
            If the index does not say what the grid of the files is, or the prepared entry is missing or damaged.
        InputError
            If the index has no such case or target.
        """
        cohort = IndexedCohort.open(index, store)
        if target is None and len(cohort.index.targets) != 1:
            raise InputError(f"target: got none, expected one of {', '.join(cohort.index.targets)}")
        described = cohort.index.target(next(iter(cohort.index.targets)) if target is None else target)
        case = cohort.index.case(case_id)
        files = files or case.grid
        if files is None:
            raise FormatError(
                f"case {case_id}: the index does not say what the grid of its files is. Run snakemake again, or give "
                "an image of the case (`softlabels restore --like`)"
            )
        return cls(case_id, cohort.case(case).grid, files, described)

    def probabilities(self, prediction: NDArray[Any]) -> NDArray[np.float32]:
        """Return a prediction on the grid of the files.

        Parameters
        ----------
        prediction : (C, D, H, W) array
            Of the classes of the target, on the prepared grid. Not modified.

        Returns
        -------
        (C, D', H', W') float32 array
            The pad value of the target outside of the prepared box: background for probabilities.
        """
        self._check(prediction)
        pads = self.described.pad_value
        return np.stack([restored(one, self.prepared, self.files, v) for one, v in zip(prediction, pads, strict=True)])

    def labels(self, prediction: NDArray[Any]) -> NDArray[Any]:
        """Return the predicted label values on the grid of the files.

        Parameters
        ----------
        prediction : (C, D, H, W) array, or (D, H, W) array of integers
            Probabilities or logits of exclusive classes; probabilities of overlapping regions; a signed map; or label
            values. On the prepared grid. Not modified.

        Returns
        -------
        (D', H', W') array of uint8, uint16 or int32
            0 outside of the prepared box.

        Notes
        -----
        See `softlabels.restoration.restored_labels`. Label values are interpolated as the masks of each.
        """
        if prediction.ndim == 3:
            return self._of_label_values(prediction)
        self._check(prediction)
        if self.described.kind == "distance":
            raise InputError(
                f"case {self.case_id}: a map of distances says no label. Write it as it is (--probabilities)"
            )
        return restored_labels(
            list(prediction),
            self.prepared,
            self.files,
            self.described.classes,
            is_overlapping=self.described.is_overlapping or self.described.kind == "signed",
            threshold=0.0 if self.described.kind == "signed" else 0.5,
        )

    def write_labels(self, prediction: NDArray[Any], path: str | Path) -> Path:
        """Write `labels` as NIfTI."""
        return self._write(self.labels(prediction), path)

    def write_probabilities(self, prediction: NDArray[Any], path: str | Path) -> Path:
        """Write `probabilities` as NIfTI, the classes along the fourth axis."""
        return self._write(self.probabilities(prediction), path)

    def _write(self, values: NDArray[Any], path: str | Path) -> Path:
        return write_nifti_file(values, self.files.to_nifti_affine(), path)

    def _check(self, prediction: NDArray[Any]) -> None:
        """Raise InputError unless a prediction has the classes and the shape of the case."""
        expected = (len(self.described.classes), *self.prepared.shape)
        if prediction.shape != expected:
            names = ", ".join(self.described.class_names)
            raise InputError(
                f"case {self.case_id}: got a prediction of shape {prediction.shape}, expected {expected}: the classes "
                f"{names}, and the prepared grid (z, y, x)"
            )
        if not np.isfinite(prediction).all():
            raise InputError(f"case {self.case_id}: got a prediction with nan or inf, expected finite numbers")

    def _of_label_values(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return label values on the grid of the files: at each voxel the one whose mask is largest there."""
        if values.shape != self.prepared.shape or values.dtype.kind not in "iu":
            raise InputError(
                f"case {self.case_id}: got {values.dtype} of shape {values.shape}, expected integers, or a channel for "
                f"each of the classes {', '.join(self.described.class_names)}"
            )
        found = [int(value) for value in np.unique(values)]
        if min(found) < 0:
            raise InputError(f"case {self.case_id}: got the label {min(found)}, expected integers >= 0")
        found = [0, *(value for value in found if value)]
        classes = [LabelClass(str(value), (value,)) for value in found]
        return restored_labels([values == value for value in found], self.prepared, self.files, classes)
