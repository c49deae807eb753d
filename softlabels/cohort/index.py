"""index.json, the only file that a trainer opens: the targets of a cohort, and where the entries of each case are.

docs/design.md shows an example, `softlabels.cohort.index_file` defines the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.archive import read_small
from softlabels._shared.files import write_atomically
from softlabels.augmentation import completed
from softlabels.blend import Blend
from softlabels.classes import LabelClass, class_masks, class_numbers
from softlabels.cohort.case_table import CaseTable, IndexedCase
from softlabels.cohort.index_file import incomplete, sealed_index, unsealed_index
from softlabels.errors import FormatError, InputError
from softlabels.sparse import SparseLabel, blended
from softlabels.store.format import INDEX_BYTES

#: The name of the index in the results folder.
INDEX_FILE = "index.json"

#: What the values of a map are: probabilities in [0, 1], signed in [-1, 1], or distances in mm.
Kind = Literal["probability", "signed", "distance"]


@dataclass(frozen=True)
class TargetDescription:
    """What is known of a target without its voxels: enough to make soft labels of hard labels and a stored map.

    Parameters
    ----------
    node : str or None
        The node of the plan that computes the stored map; None if the target is derived from the labels alone.
    method, variant : str
        Which soft label it is, as in config.yaml.
    kind : {"probability", "signed", "distance"}
        What its values are.
    classes : tuple of C LabelClass
        Its channels, in order.
    is_overlapping : bool
        Whether a voxel may belong to several classes.
    blend : Blend
        How hard labels and stored map become the soft label.
    pad_value : tuple of C floats
        The value of each channel outside the volume.
    augmentation : mapping of str to bool
        The augmentation contract (`softlabels.augmentation`): which deformations leave the target valid.
    n_kept : int, optional
        The most classes a voxel that the store keeps in any case, where the map is stored sparse.
    """

    node: str | None
    method: str
    variant: str
    kind: Kind
    classes: tuple[LabelClass, ...]
    is_overlapping: bool
    blend: Blend
    pad_value: tuple[float, ...]
    augmentation: Mapping[str, bool]
    n_kept: int | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the channels, in order."""
        return tuple(c.name for c in self.classes)

    def with_blend(self, **overrides: float | None) -> TargetDescription:
        """Return the description with alpha, delta or epsilon replaced where they are not None; see `Blend`."""
        return replace(self, blend=self.blend.replaced(**overrides))

    def soft_label(
        self,
        labels: NDArray[np.integer],
        stored: NDArray[np.float32] | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the soft label of some voxels: the definition that training, pictures and exports share.

        Parameters
        ----------
        labels : (...) ndarray of integers
            The hard labels. Not modified.
        stored : (C, ...) ndarray of float32, optional
            The stored map of the same voxels; required where `blend.needs_stored`, and refused elsewhere.
        out : (C, ...) ndarray of float32, optional
            Where to write the soft label; it may be the stored map, which is lost then.

        Returns
        -------
        (C, ...) ndarray of float32
            `out`, or newly allocated.

        Raises
        ------
        InputError
            If the stored map is missing, superfluous, or of another shape.
        """
        masks = class_masks(labels, self.classes)
        return self.blend.soft_label(masks, stored, is_overlapping=self.is_overlapping, out=out)

    def sparse_label(
        self, labels: NDArray[np.integer], stored: SparseLabel[NDArray[Any]] | None = None
    ) -> SparseLabel[NDArray[Any]]:
        """Return what `soft_label` gives by its few classes a voxel.

        Parameters
        ----------
        labels : (...) ndarray of integers
            The hard labels. Not modified.
        stored : SparseLabel of (K, ...) arrays, optional
            The stored map of the same voxels, as for `soft_label`.

        Raises
        ------
        InputError
            If classes overlap, values are signed or distances, or a calibration follows label smoothing.
        """
        if self.is_overlapping or self.kind != "probability":
            what = "overlapping regions have" if self.is_overlapping else f"values of kind {self.kind} have"
            raise InputError(f"{what} no sparse form, which is a distribution over classes. Use the dense soft label")
        return blended(self.blend, class_numbers(labels, self.classes), len(self.classes), stored)

    @property
    def n_slots(self) -> int | None:
        """The classes a voxel of `sparse_label`, the same in all cases; None if it cannot be made."""
        is_smoothed = self.blend.rule == "label_smoothing"
        if self.is_overlapping or self.kind != "probability" or (is_smoothed and self.blend.calibration is not None):
            return None
        if not self.blend.needs_stored:
            return 1
        return None if self.n_kept is None else self.n_kept + (self.blend.rule == "mix_onehot")

    def to_json(self) -> dict[str, Any]:
        """Return the description as plain JSON values."""
        sparse = {} if self.n_kept is None else {"n_kept": self.n_kept}
        return {
            "node": self.node,
            "method": self.method,
            "variant": self.variant,
            "kind": self.kind,
            "classes": [c.to_json() for c in self.classes],
            "is_overlapping": self.is_overlapping,
            "blend": self.blend.to_json(),
            "pad_value": list(self.pad_value),
            "augmentation": dict(self.augmentation),
            **sparse,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TargetDescription:
        """Return the description that `to_json` described."""
        return cls(
            node=content["node"],
            method=content["method"],
            variant=content["variant"],
            kind=content["kind"],
            classes=tuple(map(LabelClass.from_json, content["classes"])),
            is_overlapping=content["is_overlapping"],
            blend=Blend.from_json(content["blend"]),
            pad_value=tuple(map(float, content["pad_value"])),
            augmentation=completed(content["augmentation"]),
            n_kept=content.get("n_kept"),
        )


@dataclass(frozen=True)
class Index:
    """The content of index.json.

    Parameters
    ----------
    store : str
        Path of the store, relative to the folder of the index.
    channels : tuple of str
        The image's channels, in order.
    ignore_label : int or None
        The label of voxels that every loss must ignore. It does not depend on the classes of a target.
    targets : mapping of str to TargetDescription
    missing : tuple of str
        Ids of cases that were left out because they have no result.
    cases : CaseTable
        In the order of the case sheet.
    """

    store: str
    channels: tuple[str, ...]
    ignore_label: int | None
    targets: Mapping[str, TargetDescription]
    missing: tuple[str, ...]
    cases: CaseTable

    def target(self, name: str) -> TargetDescription:
        """Return the description of a target; InputError with the names that exist if there is none of that name."""
        if name not in self.targets:
            raise InputError(f"target: got {name!r}, expected one of {', '.join(map(repr, self.targets))} of the index")
        return self.targets[name]

    def case(self, case_id: str) -> IndexedCase:
        """Return a case; InputError if there is none of that id."""
        position = self.cases.position(case_id)
        if position is None:
            known = f"{len(self.cases)} cases such as {self.cases.ids[0]}" if self.cases else "no cases"
            raise InputError(f"case {case_id!r}: not in the index, which has {known}")
        return self.cases[position]

    def keys(self) -> set[str]:
        """Return the keys of all entries that the index names."""
        return self.cases.keys()

    def store_path(self, index_path: str | Path) -> Path:
        """Return where the store was when the index at this path was written: absolute, without ``..`` and links."""
        return (Path(index_path).parent / self.store).resolve()

    def to_bytes(self) -> bytes:
        """Return the bytes of index.json."""
        return sealed_index(self.head, self.cases)

    @property
    def head(self) -> dict[str, Any]:
        """All but the cases, as plain JSON values."""
        return {
            "store": self.store,
            "channels": list(self.channels),
            "ignore_label": self.ignore_label,
            "targets": {name: target.to_json() for name, target in self.targets.items()},
            "missing": list(self.missing),
        }

    @classmethod
    def from_bytes(cls, raw: bytes) -> Index:
        """Return the index that `to_bytes` described; FormatError if it is none, or is not as it was written."""
        head, cases = unsealed_index(raw)
        try:
            return cls(
                store=head["store"],
                channels=tuple(head["channels"]),
                ignore_label=head["ignore_label"],
                targets={name: TargetDescription.from_json(target) for name, target in head["targets"].items()},
                missing=tuple(head["missing"]),
                cases=cases,
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise incomplete(error) from None

    def write(self, path: Path) -> None:
        """Write index.json in one step: a reader sees the whole file or none."""
        write_atomically(path, self.to_bytes())

    @classmethod
    def read(cls, path: str | Path) -> Index:
        """Return the index in a file; a case is read when it is asked for.

        Raises
        ------
        FormatError
            If the file is missing, no index, of another version, or changed since it was written; says what to do.
        """
        path = Path(path)
        try:
            return cls.from_bytes(read_small(path, INDEX_BYTES))
        except FileNotFoundError:
            raise FormatError(
                f"index {path}: no such file. Run snakemake in the project's folder, which writes it last"
            ) from None
        except FormatError as error:
            raise FormatError(f"index {path}: {error}") from None
        except OSError as error:
            raise FormatError(
                f"index {path}: cannot be read ({error.strerror}). Give the path of an index.json"
            ) from error
