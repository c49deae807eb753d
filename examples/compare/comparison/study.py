"""The configuration of a comparison: what is trained, how, and which cases judge; fixed before any score is seen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from softlabels._shared.section import Section, faults_error, faults_of
from softlabels.config import Config, parse_config
from softlabels.errors import ConfigError
from softlabels.inputs.sheet import Case, read_meta, read_sheet
from softlabels.training.folds import k_folds

from .nnunet_settings import NOT_PLANNED, Nnunet, config_faults, row_faults

#: A row's key: part of file names.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]

#: The target of a row that trains on the soft truth itself.
REFERENCE = "reference"
#: Raise these when the code makes other networks or other scores: what was made before is then made again.
TRAINING_VERSION, SCORES_VERSION = "2", "2"

LossName = Literal[
    "cross_entropy",
    "cross_entropy_dice",
    "dice_metric",
    "focal",
    "focal_l1",
    "focal_l1_simplified",
    "jaccard_metric",
    "l1",
    "l2",
    "product",
    "superpixel",
]


class TrainedRow(Section):
    """A network trained on a soft label."""

    title: str | None = Field(None, description="name in table and picture; by default the key")
    target: str | list[str] = Field(
        description="a target of the softlabels config, or 'reference'; of several, the foregrounds side by side"
    )
    loss: LossName | None = Field(None, description="default: cross_entropy; focal_l1 for signed maps")


class Unmixing(Section):
    """What `softlabels refine` does after the network."""

    window_mm: float | None = Field(None, gt=0, description="default: twice the smallest voxel side")
    rho: float = Field(3.0, gt=0, description="weight of the noise")


class AfterRow(Section):
    """The network of another row, its probabilities changed after training."""

    title: str | None = Field(None, description="name in table and picture; by default the key")
    after: str = Field(description="the trained row")
    temperature: float | Literal["fitted"] = Field(
        1.0, description="fitted: on the validation cases of the fold, against their soft truth (else hard labels)"
    )
    unmix: Unmixing | None = Field(None, description="unmix the probabilities with the image")

    @model_validator(mode="after")
    def _check(self) -> AfterRow:
        """Refuse a row that would change nothing."""
        if self.temperature == 1.0 and self.unmix is None:
            raise faults_error([": changes nothing. Give temperature, unmix or both"])
        return self


def _kind_of_row(row: Any) -> str:
    """Return which of the two kinds of row a mapping is, so that errors speak of that kind only."""
    return "after" if isinstance(row, AfterRow) or (isinstance(row, Mapping) and "after" in row) else "target"


Row = Annotated[Annotated[TrainedRow, Tag("target")] | Annotated[AfterRow, Tag("after")], Discriminator(_kind_of_row)]


class Network(Section):
    """The network of every row; only its last layer may differ."""

    width: int = Field(8, ge=1, description="features of the first level")
    levels: int = Field(3, ge=2, le=7)


class EarlyStopping(Section):
    """Stop by the Dice of the validation cases, and keep the best network."""

    every: int = Field(ge=1, description="steps between two looks")
    patience: int = Field(ge=1, description="looks without a better Dice, after which training ends")


class Training(Section):
    """Schedule, batches and network: the same for all rows."""

    steps: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="lengths of training, each a run of its own; nnU-Net: epochs"
    )
    nnunet: Nnunet | None = Field(None, description="train nnU-Net, which plans all that is not said here")
    patch_size: list[Annotated[int, Field(ge=1)]] = Field([32, 32, 32], min_length=2, max_length=3)
    batch_size: int = Field(2, ge=1)
    learning_rate: float = Field(3e-3, gt=0, description="of Adam; falls to 0 as (1 - step / steps) ^ 0.9")
    weight_decay: float = Field(0.0, ge=0)
    foreground_fraction: float = Field(1 / 3, ge=0, le=1, description="share of patches centred on a foreground voxel")
    flip_axes: list[Annotated[int, Field(ge=0, le=2)]] = Field([], description="axes of the patch mirrored at random")
    overlap: list[Annotated[int, Field(ge=0)]] | None = Field(
        None, description="voxels that patches share in prediction; by default half of a patch"
    )
    network: Network = Field(default_factory=Network)
    early_stopping: EarlyStopping | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = Field(0, ge=0, description="processes that read patches; no effect on the batches")
    save_every_s: float = Field(60.0, gt=0, description="seconds between two states from which a killed run resumes")

    @model_validator(mode="after")
    def _check(self) -> Training:
        """Refuse patches that the network cannot halve, lengths out of order, and what nnU-Net plans itself."""
        faults = []
        if self.nnunet is not None:
            planned = {name: field for name, field in type(self).model_fields.items() if name not in NOT_PLANNED}
            faults += [
                f".{name}: nnU-Net plans it itself; remove the key"
                for name, field in planned.items()
                if getattr(self, name) != field.get_default(call_default_factory=True)
            ]
        if self.steps != sorted(set(self.steps)):
            faults.append(f".steps: got {self.steps}, expected ascending lengths")
        unit = 2 ** (self.network.levels - 1)
        if any(size % unit for size in self.patch_size):
            faults.append(
                f".patch_size: got {self.patch_size}, expected multiples of {unit} for {self.network.levels} levels"
            )
        if self.overlap is not None and len(self.overlap) != len(self.patch_size):
            faults.append(f".overlap: got {self.overlap}, expected one number per axis of patch_size")
        if faults:
            raise faults_error(faults)
        return self

    @property
    def unit(self) -> str:
        """What lengths are counted in."""
        return "steps" if self.nnunet is None else "epochs"


class Folds(Section):
    """k folds of persons; each person is tested in exactly one."""

    k: int = Field(2, ge=2)
    seed: int = Field(0, ge=0, description="of the shuffling")
    validation: int = Field(1, ge=0, description="persons of each fold's training part that validate instead")


class Bootstrap(Section):
    """The intervals."""

    draws: int = Field(10_000, ge=100)
    seed: int = Field(0, ge=0)


class Study(Section):
    """A comparison of soft labels in training."""

    name: str = Field(description="heading of the table")
    note: str = Field("", description="what a reader must know of the data; printed below the table")
    results: str = Field("compare", description="folder of networks, scores, table and picture")
    softlabels: dict[str, Any] = Field(
        description="the configuration of the softlabels workflow that makes the targets"
    )
    baseline: Name = Field(description="the row that all others are compared with")
    rows: dict[Name, Row] = Field(min_length=2, description="what is compared, by your own names")
    seeds: list[Annotated[int, Field(ge=0)]] = Field([0, 1, 2], min_length=1)
    folds: Folds = Field(default_factory=Folds)
    training: Training
    bootstrap: Bootstrap = Field(default_factory=Bootstrap)

    @model_validator(mode="after")
    def _check(self) -> Study:
        """Refuse rows that name what is not there."""
        try:
            config = self.config
        except ConfigError as error:
            raise faults_error([f"softlabels: {error}"]) from None
        trained, known = self.trained, [*config.targets, REFERENCE]
        faults = [
            f"rows.{name}.target: got {target!r}, expected one of {', '.join(known)}"
            for name, row in trained.items()
            for target in targets_of(row)
            if target not in known
        ]
        faults += [
            f"rows.{name}.after: got {row.after!r}, expected a trained row: {', '.join(trained)}"
            for name, row in self.rows.items()
            if isinstance(row, AfterRow) and row.after not in trained
        ]
        faults += [
            f"rows.{name}.target: got {row.target}, expected '{REFERENCE}' alone"
            for name, row in trained.items()
            if REFERENCE in targets_of(row) and len(targets_of(row)) > 1
        ]
        if self.baseline not in self.rows:
            faults.append(f"baseline: got {self.baseline!r}, expected one of {', '.join(self.rows)}")
        if len(set(self.seeds)) != len(self.seeds):
            faults.append(f"seeds: got {self.seeds}, expected distinct ones")
        if self.training.nnunet is not None:
            faults += config_faults(config)
            if not self.folds.validation:
                faults.append("folds.validation: got 0, expected 1 or more: nnU-Net validates in each epoch")
            for name, row in trained.items():
                faults += row_faults(f"rows.{name}", targets_of(row), row.loss, config)
        if faults:
            raise faults_error(faults)
        return self

    @property
    def config(self) -> Config:
        """The configuration of the softlabels workflow."""
        return parse_config(self.softlabels, source="softlabels")

    @property
    def trained(self) -> dict[str, TrainedRow]:
        """The rows with a network of their own."""
        return {name: row for name, row in self.rows.items() if isinstance(row, TrainedRow)}

    def after(self, name: str) -> dict[str, AfterRow]:
        """Return the rows that change the probabilities of a trained row."""
        return {other: row for other, row in self.rows.items() if isinstance(row, AfterRow) and row.after == name}

    def titles(self) -> dict[str, str]:
        """Return the name of each row in table and picture."""
        return {name: row.title or name for name, row in self.rows.items()}


@dataclass(frozen=True)
class StudyCase:
    """A case with what only a comparison reads of its row of the sheet.

    Parameters
    ----------
    case : Case
    person : str
        Column `meta:person`; by default the case id. Cases of one person are never in two parts of a fold.
    fine_labels : str or None
        Column `meta:fine_labels`: hard labels on a finer grid, which predictions are scored against as well.
    """

    case: Case
    person: str
    fine_labels: str | None


@dataclass(frozen=True)
class Parts:
    """The case ids of one fold.

    Parameters
    ----------
    train, validation, test : tuple of str
        Without a person in common. Validation fits temperatures and stops trainings; only test cases are scored.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def targets_of(row: TrainedRow) -> list[str]:
    """Return the targets of a row."""
    return [row.target] if isinstance(row.target, str) else row.target


def parse_study(raw: Any, source: str = "study") -> Study:
    """Return the checked study of a mapping; raise ConfigError naming every error."""
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{source}: got {type(raw).__name__}, expected keys and values")
    try:
        return Study.model_validate(dict(raw))
    except ValidationError as error:
        faults = faults_of(error, Study)
    listed = "\n".join(f"  {fault}" for fault in faults)
    raise ConfigError(f"{source}: {len(faults)} error{'s' * (len(faults) > 1)}\n{listed}")


def read_cases_of(path: str | Path, channels: Sequence[str]) -> list[StudyCase]:
    """Return the cases of a sheet with their persons and finer labels.

    Raises
    ------
    ConfigError
        If the sheet is wrong.
    """
    cases, meta, folder = read_sheet(path, channels), read_meta(path), Path(path).parent
    found = []
    for case in cases:
        person, fine = (meta[case.id].get(name) for name in ("person", "fine_labels"))
        found.append(StudyCase(case, person or case.id, str(folder / fine) if fine else None))
    return found


def make_folds(persons: Mapping[str, str], folds: Folds) -> list[Parts]:
    """Return the parts of each fold.

    Parameters
    ----------
    persons : mapping of str to str
        Case id to person.
    folds : Folds

    Examples
    --------
    >>> parts = make_folds({"a1": "a", "a2": "a", "b": "b", "c": "c", "d": "d"}, Folds(k=2, validation=1))
    >>> sorted(parts[0].test + parts[1].test), [len(part.validation) > 0 for part in parts]
    (['a1', 'a2', 'b', 'c', 'd'], [True, True])
    """
    made = []
    for number, fold in enumerate(k_folds(sorted(set(persons.values())), folds.k, seed=folds.seed)):
        if len(fold.train) <= folds.validation:
            raise ConfigError(
                f"folds.validation: got {folds.validation}, expected fewer than the persons that fold {number} trains "
                f"on, {len(fold.train)}"
            )
        shuffled = [one for part in k_folds(fold.train, len(fold.train), seed=folds.seed) for one in part.validation]
        validation = set(shuffled[: folds.validation])
        members = (set(fold.train) - validation, validation, set(fold.validation))
        made.append(Parts(*(tuple(c for c in sorted(persons) if persons[c] in part) for part in members)))
    return made


def canonical(content: Any) -> str:
    """Return plain values as one line of JSON, in the order given: rows and classes keep theirs."""
    return json.dumps(content, separators=(",", ":"))
