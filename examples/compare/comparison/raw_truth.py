"""What predictions on the grid of the files are judged by: nnU-Net returns its own to the scanner's grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from softlabels.classes import LabelSet, valid_voxels
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.case import CaseVolumes, read_case

from .truth import CaseTruth


@dataclass(frozen=True)
class RawCase:
    """The files of a case, with the methods of `PreparedCase` that scores need.

    Parameters
    ----------
    id : str
    volumes : CaseVolumes
    ignore_label : int or None
    """

    id: str
    volumes: CaseVolumes
    ignore_label: int | None

    @property
    def grid(self) -> Grid:
        """Where the voxels are."""
        return self.volumes.grid

    def image(self) -> NDArray[np.float32]:
        """Return the (M, D, H, W) intensities of the files."""
        return self.volumes.image

    def domain(self) -> None:
        """Return None: nothing is known of where intensities mean something."""

    def labels(self) -> NDArray[np.integer]:
        """Return the (D, H, W) hard labels."""
        return self.volumes.labels

    def valid(self) -> NDArray[np.bool_]:
        """Return where the label is not the ignore label, (D, H, W)."""
        return valid_voxels(self.volumes.labels, self.ignore_label)

    def raters(self) -> NDArray[np.integer]:
        """Return the (R, D, H, W) labels of all raters, that of the hard labels first."""
        if self.volumes.raters is None:
            raise InputError(f"case {self.id}: its reference is the mean of raters, expected columns label:<rater>")
        return self.volumes.raters


class RawTruth(CaseTruth):
    """The cases of a sheet as their files have them."""

    def __init__(self, sheet: str, channels: Sequence[str], classes: LabelSet) -> None:
        super().__init__(sheet, channels, classes)
        # Hard masks, truth and image of a case are asked for one after the other.
        self._read = lru_cache(maxsize=2)(self._read_case)

    def case(self, case: str) -> RawCase:
        """Return image and hard labels of a case."""
        return self._read(case)

    def _read_case(self, case: str) -> RawCase:
        known = self.rows[case].case
        volumes = read_case(known, self._channels, self.classes.values, self.classes.ignore)
        return RawCase(case, volumes, self.classes.ignore)
