"""The soft labels of one target of an index, read by nnU-Net's case identifiers; numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.case import CaseTarget, IndexedCohort
from softlabels.cohort.index import Kind
from softlabels.errors import InputError
from softlabels.grid import Window

#: How many names an error shows.
_SHOWN = 5
#: How many cases a process keeps open, as `softlabels.training.dataset` does: those that it read last.
MAX_OPEN = 1000


class SoftLabels:
    """The soft labels of one target, with one channel for each head of the network.

    Parameters
    ----------
    index : path
        index.json of a project made by `softlabels init --nnunet-preprocessed`.
    target : str
        A target of the index.
    heads : sequence of tuples of ints
        The label values of each head of the network, in the order of the heads.
    has_softmax : bool
        Whether the heads share a softmax (labels that exclude each other) or each has a sigmoid (regions).
    overrides : dict of str to float
        Replaces alpha, delta or epsilon of the target's blend.

    Attributes
    ----------
    index, target
        As given.
    pad_value : (H,) float32 array
        The value of each head's channel outside of the volume.
    augmentation : dict of str to bool
        Which spatial augmentations keep the target valid.

    Raises
    ------
    FormatError
        If the index is damaged.
    InputError
        If there is no such target, or the network cannot be trained on it.

    Notes
    -----
    Holds no open file: it may be pickled, and used after a fork.
    """

    def __init__(
        self,
        index: Path,
        target: str,
        *,
        heads: Sequence[tuple[int, ...]],
        has_softmax: bool,
        overrides: dict[str, float] | None = None,
    ) -> None:
        self._cohort = IndexedCohort.open(index)
        described = self._cohort.index.target(target)
        if has_softmax and described.kind == "signed":
            raise InputError(
                f"target {target!r}: a signed map says inside or outside of each structure, so it needs one sigmoid "
                "per structure, but this network ends in a softmax. nnU-Net trains on regions where dataset.json "
                "declares at least one label as a list of several values, and regions_class_order; plan and preprocess "
                "again"
            )
        self.index, self.target = index, target
        self._description = described.with_blend(**(overrides or {}))
        self._channels = _channels_of_heads(described.classes, heads, target)
        self.pad_value = np.asarray(described.pad_value, np.float32)[self._channels]
        self.augmentation = described.augmentation
        self._open: dict[str, CaseTarget] = {}

    def __repr__(self) -> str:
        return f"SoftLabels({self.target!r}, {self.blend.to_json()}, {self.index})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    @property
    def kind(self) -> Kind:
        """What the values are: probabilities, a signed map, or distances."""
        return self._description.kind

    @property
    def blend(self) -> Blend:
        """The rule that makes the soft label of hard labels and stored map, with its parameter."""
        return self._description.blend

    @property
    def n_heads(self) -> int:
        """Channels of a soft label."""
        return len(self._channels)

    def check_cases(self, identifiers: Iterable[str]) -> None:
        """Raise InputError unless the index has every case."""
        missing = sorted(set(identifiers).difference(self._cohort.index.cases.ids))
        if missing:
            raise InputError(
                f"{self.index}: no soft label of {len(missing)} training cases: {', '.join(missing[:_SHOWN])}"
                f"{', ...' if len(missing) > _SHOWN else ''}. Import the data set again with softlabels init "
                "--nnunet-preprocessed and run snakemake, or take the cases out of splits_final.json"
            )

    def check_shape(self, identifier: str, shape: tuple[int, ...]) -> None:
        """Raise InputError unless a case has the shape (z, y, x) of nnU-Net's array."""
        expected = self._target(identifier).case.shape
        if shape != expected:
            raise InputError(
                f"case {identifier}: nnU-Net's array is {shape}, its soft label {expected} (z, y, x). "
                f"The data set was preprocessed again, or {self.index} is of another configuration: run snakemake again"
            )

    def check_labels(self, identifier: str, labels: NDArray[Any]) -> None:
        """Raise InputError unless nnU-Net's segmentation (z, y, x) is the one that the soft label was made of."""
        expected = self._target(identifier).case.labels()
        n_other = int((np.maximum(labels, 0) != expected).sum())
        if n_other:
            raise InputError(
                f"case {identifier}: {n_other} of {labels.size} voxels of nnU-Net's segmentation are not as when the "
                "soft label was made. The data set was preprocessed again: run snakemake again"
            )

    def read(
        self, identifier: str, window: Window, labels: NDArray[Any], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the soft label of a case in a window.

        Parameters
        ----------
        identifier : str
        window : 3 pairs of ints
            Inside the volume.
        labels : (d, h, w) array
            nnU-Net's segmentation in that window; -1 is background.
        out : (H, d, h, w) float32 array, optional
            Where to write it.

        Returns
        -------
        (H, d, h, w) float32 array
            `out`, or newly allocated.
        """
        target, labels = self._target(identifier), np.maximum(labels, 0)
        if self._channels == list(range(len(target.classes))):
            return target.soft_label(window, labels, out)
        soft = target.soft_label(window, labels)
        return np.take(soft, self._channels, axis=0, out=out)

    def _target(self, identifier: str) -> CaseTarget:
        """Return a case with its target: opened, unless it is one of the `MAX_OPEN` that were used last."""
        target = self._open.pop(identifier, None)
        if target is None:
            target = self._cohort.target(self._cohort.index.case(identifier), self.target, self._description)
        self._open[identifier] = target
        if len(self._open) > MAX_OPEN:
            del self._open[next(iter(self._open))]  # the one that was used longest ago
        return target


def _channels_of_heads(classes: Sequence[LabelClass], heads: Sequence[tuple[int, ...]], target: str) -> list[int]:
    """Return the channel of the target that each head is trained on.

    Examples
    --------
    >>> classes = [LabelClass("background", (0,)), LabelClass("core", (2,)), LabelClass("rim", (1,))]
    >>> _channels_of_heads(classes, [(0,), (1,), (2,)], "geols")
    [0, 2, 1]
    """
    channel_of = {frozenset(c.values): channel for channel, c in enumerate(classes)}
    wanted = [frozenset(head) for head in heads]
    unused = set(channel_of) - {frozenset({0})} - set(wanted)
    if unused or not channel_of.keys() >= set(wanted):
        shown = ", ".join(f"{c.name} {list(c.values)}" for c in classes)
        raise InputError(
            f"target {target!r}: its classes are {shown}, but the network's heads have the labels "
            f"{', '.join(str(list(head)) for head in heads)}. Give the target the labels of dataset.json"
        )
    return [channel_of[head] for head in wanted]
