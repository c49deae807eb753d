"""The whole config.yaml, read strictly: every error is reported at once, each with its key and its remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from softlabels._shared.counts import counted
from softlabels._shared.registry import Chosen
from softlabels._shared.section import Section, faults_error, faults_of, shown, unknown_key
from softlabels.classes import LabelSet
from softlabels.config.paths import FilePath, FolderPath, ResultsPath
from softlabels.config.prepare import Prepare
from softlabels.config.tune import Tune
from softlabels.errors import ConfigError
from softlabels.geodesic.metric import Engine
from softlabels.methods import METHODS, GeodesicMethod, Method, RunContext
from softlabels.methods.keys import Labels, Name

#: The stages of the pipeline, upstream first.
STAGE_NAMES = ("prepare", "seeds", "distance", "target")
#: What training reads of a case is always kept.
_FOR_TRAINING = ("prepare", "target")
#: Cases per job where the configuration does not say: starting CUDA takes longer than a case's distances.
_CASES_PER_JOB = {"cpu": 1, "cuda": 16}


def _checked_target(target: Method, info: ValidationInfo) -> Method:
    """Return a target that goes with its classes and with the keys before it, or raise with every fault."""
    earlier = info.data
    faults = _class_faults(target, earlier.get("labels"))
    labels = target.labels or earlier.get("labels")
    if labels:
        prepare = earlier.get("prepare")
        context = RunContext(earlier.get("device"), earlier.get("engine"), prepare.domain if prepare else None)
        faults += target.check(LabelSet.parse(labels), context)
    if faults:
        raise faults_error([f": {fault}" for fault in faults])
    return target


def _class_faults(target: Method, top_labels: dict[str, int | list[int]] | None) -> list[str]:
    """Return which integers a target's own classes have too many, and which they lack."""
    if not (target.labels and top_labels):
        return []
    own, top, faults = LabelSet.parse(target.labels), LabelSet.parse(top_labels), []
    if unknown := sorted(set(own.values) - set(top.values)):
        faults.append(f"labels: integers {unknown} are not among the top-level labels. Declare them there too")
    # A voxel of no class would have zeros for a distribution. A region or a signed map is one against the rest.
    missing = sorted(set(top.values) - set(own.values) - {top.ignore})
    if missing and target.kind == "probability" and not own.is_overlapping:
        faults.append(f"labels: integers {missing} are in no class. Give them one, such as 'rest: {missing}'")
    return faults


class Config(Section):
    """Everything a run needs besides the images."""

    cases: FilePath = Field("cases.tsv", description="the case sheet (TSV or CSV), relative to where snakemake runs")
    store: FolderPath = Field("store", description="folder of the content-addressed store; share it between projects")
    results: ResultsPath = Field("results", description="folder of receipts, links, pictures and index.json")
    channels: list[Name] = Field(min_length=1, description="names of the image channels, in the sheet's order")
    labels: Labels = Field(description="class names to integers, in nnU-Net's grammar")
    prepare: Prepare = Field(default_factory=Prepare, description="resampling, intensities, domain, crop")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where distances are computed; the results are identical")
    engine: Engine = Field(
        "softlabels", description="built in (exact), or third-party for parity with published results"
    )
    targets: dict[Name, Annotated[Method, Chosen(METHODS), AfterValidator(_checked_target)]] = Field(
        min_length=1, description="the soft labels to compute, by your own names"
    )
    colours: dict[Name, Annotated[str, Field(pattern=r"^#[0-9A-Fa-f]{6}$")]] = Field(
        default_factory=dict,
        description="class name to #rrggbb, of pictures and pages; classes left out get a colour of the palette",
    )
    cases_per_job: int | None = Field(
        None, ge=1, le=64, description="cases that share a process: default 1, and 16 with device cuda"
    )
    stages_per_job: Literal["one", "all"] | None = Field(
        None,
        description="all: one process takes a case through all stages, which saves start-up and queueing, and with "
        "device cuda holds the GPU all the while. Default: one, and all where `keep` is not all",
    )
    keep: Literal["all", "targets"] | list[Literal["prepare", "seeds", "distance", "target"]] = Field(
        "all",
        description="stages whose results are written to the store: all; targets, which is what training reads "
        "(prepare and target); or a list of stages besides these. The others stay in the memory of one job",
    )
    tune: Tune = Field(default_factory=Tune, description="what `softlabels tune` tries")
    pictures: bool = Field(True, description="draw a montage of every case into the report")

    @field_validator("channels")
    @classmethod
    def _check_channels(cls, channels: list[str]) -> list[str]:
        """Refuse a name that two channels have."""
        if len(set(channels)) != len(channels):
            raise faults_error([f": got {channels}, expected distinct names"])
        return channels

    @field_validator("colours")
    @classmethod
    def _check_colours(cls, colours: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        """Refuse a colour of no class."""
        own = [target.labels or {} for target in info.data.get("targets", {}).values()]
        known = [name for labels in (info.data.get("labels", {}), *own) for name in labels]
        if faults := [f".{name}: no such class. {unknown_key(name, known)}" for name in colours if name not in known]:
            raise faults_error(faults)
        return colours

    @field_validator("keep", mode="before")
    @classmethod
    def _check_keep_names_stages(cls, keep: Any) -> Any:
        """Refuse what is neither a word nor a list of stages, in one line and not one for each form."""
        if keep not in ("all", "targets") and not (isinstance(keep, list) and all(one in STAGE_NAMES for one in keep)):
            raise faults_error([f": got {shown(keep)}, expected all, targets, or a list of {', '.join(STAGE_NAMES)}"])
        return keep

    @field_validator("keep")
    @classmethod
    def _check_keep(cls, keep: str | list[str], info: ValidationInfo) -> str | list[str]:
        """Refuse to hand on in memory what another job is to read."""
        if _kept_stages(keep) != frozenset(STAGE_NAMES) and info.data.get("stages_per_job") == "one":
            fault = (
                f": got {shown(keep)} with stages_per_job: one, but what is not kept must stay in one process. "
                "Delete stages_per_job, or set it to all"
            )
            raise faults_error([fault])
        return keep

    def label_set(self, target: Method) -> LabelSet:
        """Return the classes of a target: its own, else the top level's.

        A signed map separates the inside of a structure from its outside, so the background has no map.
        """
        label_set = LabelSet.parse(target.labels or self.labels).coloured(self.colours)
        return label_set.foreground() if target.kind == "signed" else label_set

    def to_json(self) -> str:
        """Return what differs from the defaults, as JSON in the order given: classes are channels, in their order."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"))

    @property
    def kept_stages(self) -> frozenset[str]:
        """The stages whose results are written to the store."""
        return _kept_stages(self.keep)

    @property
    def job_stages(self) -> Literal["one", "all"]:
        """The stages of one job: as configured; else all if something is not kept, else one."""
        return self.stages_per_job or ("one" if self.kept_stages == frozenset(STAGE_NAMES) else "all")

    @property
    def batch_size(self) -> int:
        """Cases of one job."""
        return self.cases_per_job or _CASES_PER_JOB[self.device]

    def engine_of(self, target: GeodesicMethod) -> Engine:
        """Return the engine of a target: its own, else the top level's."""
        return target.distance.engine or self.engine


def _kept_stages(keep: str | Sequence[str]) -> frozenset[str]:
    """Return the stages that a value of `keep` names, those that training reads included."""
    if keep == "all":
        return frozenset(STAGE_NAMES)
    return frozenset(_FOR_TRAINING) | (frozenset() if keep == "targets" else frozenset(keep))


def recipe_notes(config: Config) -> list[str]:
    """Return which targets of variant official are no longer what the authors compute, and why.

    The published scripts take raw intensities of the whole volume, which `prepare` may change for all targets.

    Examples
    --------
    >>> raw = {"channels": ["T1"], "labels": {"background": 0, "a": 1}, "prepare": {"normalise": "zscore"}}
    >>> official = {"method": "geols", "variant": "official"}
    >>> recipe_notes(parse_config(raw | {"targets": {"mine": official, "paper": {"method": "geols"}}}))[0][:67]
    'targets.mine: variant official with prepare.normalise zscore is not'
    """
    changed = [
        f"prepare.{name} {value}"
        for name in ("spacing", "clip_percentiles", "normalise", "domain", "crop")
        if (value := getattr(config.prepare, name)) != Prepare.model_fields[name].default
    ]
    if not changed:
        return []
    return [
        f"targets.{name}: variant official with {', '.join(changed)} is not the authors' recipe, which takes raw "
        "intensities of the whole volume; examples/parity has it"
        for name, target in config.targets.items()
        if target.variant_name == "official" and target.needs & {"image", "distance"}
    ]


def load_config(path: str | Path) -> Config:
    """Return the checked configuration of a YAML file; raise ConfigError naming every error."""
    from softlabels.config.plain_yaml import read_yaml  # a job reads a configuration in JSON

    return parse_config(read_yaml(path), source=str(path))


def parse_config(raw: Any, source: str = "config") -> Config:
    """Return the checked configuration of a mapping; raise ConfigError naming every error.

    Examples
    --------
    >>> targets = {"hard": {"method": "onehot"}}
    >>> parse_config({"channels": ["T1"], "labels": {"background": 0, "gm": 1}, "targets": targets}).device
    'cpu'
    """
    if not isinstance(raw, dict):
        raise ConfigError(
            f"{source}: got {type(raw).__name__}, expected keys and values. See the comments in config.yaml"
        )
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        faults = faults_of(error, Config)
    listed = "\n".join(f"  {fault}" for fault in faults)
    raise ConfigError(f"{source}: {counted(len(faults), 'error')}\n{listed}")


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of config.yaml, as Snakemake's `validate` and editors take it."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "softlabels config.yaml", **schema}
