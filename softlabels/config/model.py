"""The whole config.yaml, read strictly: every fault is reported at once, each with its key and its remedy."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from softlabels._shared.files import read_small_text
from softlabels.classes import LabelSet, grammar_faults
from softlabels.config.stages import Engine, Prepare, Section
from softlabels.config.targets import AnyTarget, GeodesicTarget, Target
from softlabels.errors import ConfigError
from softlabels.methods import METHODS

#: Cases per job where the configuration does not say: starting CUDA takes longer than a case's distances.
_CASES_PER_JOB = {"cpu": 1, "cuda": 16}

Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]


class Config(Section):
    """Everything a run needs besides the images."""

    cases: str = Field("cases.tsv", description="the case sheet (TSV or CSV); paths count from where snakemake runs")
    store: str = Field("store", description="folder of the content-addressed store; share it between projects")
    results: str = Field("results", description="folder of receipts, links, pictures and index.json")
    channels: list[Name] = Field(min_length=1, description="names of the image channels, in the sheet's order")
    labels: dict[Name, int | list[int]] = Field(description="class names to integers, in nnU-Net's grammar")
    prepare: Prepare = Field(default_factory=Prepare, description="resampling, intensities, domain, crop")
    targets: dict[Name, AnyTarget] = Field(min_length=1, description="the soft labels to compute, by your own names")
    device: Literal["cpu", "cuda"] = Field("cpu", description="where distances run; the result is the same")
    engine: Engine = Field("softlabels", description="ours (exact), or a peer for parity with published results")
    cases_per_job: int | None = Field(
        None, ge=1, le=64, description="cases that share a process: default 1, and 16 with device cuda"
    )
    stages_per_job: Literal["one", "all"] = Field(
        "one", description="all: one process takes a case through all stages, which saves starts and queues; CPU only"
    )
    pictures: bool = Field(True, description="draw a montage of every case into the report")

    def label_set(self, target: Target) -> LabelSet:
        """Return the classes of a target: its own, else the top level's.

        A signed map says inside or outside of a structure, so the background has no map of its own.
        """
        label_set = LabelSet.parse(target.labels or self.labels)
        return label_set.foreground() if METHODS[target.method].kind == "signed" else label_set

    def to_json(self) -> str:
        """Return what differs from the defaults, as JSON in the order given: classes are channels, in their order."""
        return json.dumps(self.model_dump(mode="json", exclude_defaults=True), separators=(",", ":"))

    @property
    def batch_size(self) -> int:
        """Cases of one job."""
        return self.cases_per_job or _CASES_PER_JOB[self.device]

    def engine_of(self, target: GeodesicTarget) -> str:
        """Return the engine of a target: its own, else the top level's."""
        return target.distance.engine or self.engine


class _StrictLoader(yaml.SafeLoader):
    """YAML without Python tags and without silent loss of duplicate keys."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        for key in {k for k in keys if keys.count(k) > 1}:
            raise ConfigError(f"{key}: stands {keys.count(key)} times (line {node.start_mark.line + 1}). Keep one")
        return super().construct_mapping(node, deep)


def load_config(path: str | Path) -> Config:
    """Return the checked configuration of a YAML file; raise ConfigError naming every fault."""
    return parse_config(read_yaml(path), source=str(path))


def read_yaml(path: str | Path) -> Any:
    """Return the unchecked content of a YAML file; raise ConfigError if it is no YAML or repeats a key."""
    path = Path(path)
    try:
        return yaml.load(read_small_text(path), _StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Run 'softlabels init' to write one") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not plain YAML: {' '.join(str(error).split())}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def parse_config(raw: Any, source: str = "config") -> Config:
    """Return the checked configuration of a mapping; raise ConfigError naming every fault.

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
    sections, faults = _validated_sections(raw)
    faults += _cross_faults(sections)
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise ConfigError(f"{source}: {len(faults)} fault(s)\n{listed}")
    return Config.model_validate(raw)


def json_schema() -> dict:
    """Return the JSON schema of config.yaml, as Snakemake's `validate` and editors take it."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "softlabels config.yaml", **schema}


def _validated_sections(raw: dict) -> tuple[dict, list[str]]:
    """Return the sections that are right by themselves, and the faults of the others."""
    sections, faults = {}, []
    for name in raw:
        if name not in Config.model_fields:
            faults.append(_unknown_key(str(name), list(Config.model_fields)))
    for name, field in Config.model_fields.items():
        if name not in raw:
            if field.is_required():
                faults.append(f"{name}: missing. Add it: {field.description}")
            else:
                sections[name] = field.get_default(call_default_factory=True)
        elif name == "targets" and isinstance(raw[name], dict) and raw[name]:
            sections["targets"] = {}
            for target, value in raw[name].items():
                found = _validated(TypeAdapter(dict[Name, AnyTarget]), {target: value}, "targets", faults)
                sections["targets"].update(found or {})
        else:
            adapter = TypeAdapter(Annotated[field.annotation, field])
            sections[name] = _validated(adapter, raw[name], name, faults)
    return sections, faults


def _validated(adapter: TypeAdapter, value: Any, path: str, faults: list[str]) -> Any:
    """Return the value if it fits, else add its faults and return None."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        faults.extend(_fault(path, detail) for detail in error.errors())
        return None


def _fault(path: str, detail: dict) -> str:
    """Return one pydantic error as `key: got ..., expected ...`."""
    # pydantic inserts the tag of a discriminated union or the branch of a union; readers know only their own keys.
    location = [str(p) for p in detail["loc"] if not str(p).startswith(("tuple[", "function-", "literal[", "list["))]
    if path == "targets" and len(location) > 2 and location[1] in METHODS:
        del location[1]
    key = ".".join([path, *location])
    if detail["type"] == "extra_forbidden":
        return f"{key}: unknown key. Remove it or correct its spelling (docs/config.md lists all keys)"
    if detail["type"] == "missing":
        return f"{key}: missing. Add it (docs/config.md says what it means)"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{key}: got {detail['input']!r}, expected: {message.removeprefix('input should be ')}"


def _unknown_key(name: str, known: list[str]) -> str:
    """Return the fault of an unknown key, with the nearest known one."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Known keys: {', '.join(known)}"
    return f"{name}: unknown key. {hint}"


def _cross_faults(sections: dict) -> list[str]:
    """Return the faults that only two sections together show."""
    faults = []
    channels, labels = sections.get("channels"), sections.get("labels")
    prepare, targets = sections.get("prepare"), sections.get("targets") or {}
    if channels and len(set(channels)) != len(channels):
        faults.append(f"channels: got {channels}, expected distinct names")
    if labels:
        faults += [f"labels.{fault}" for fault in grammar_faults(labels)]
    if prepare and prepare.clip_percentiles and prepare.clip_percentiles[0] >= prepare.clip_percentiles[1]:
        faults.append(f"prepare.clip_percentiles: got {list(prepare.clip_percentiles)}, expected low < high")
    if prepare and prepare.crop_margin_mm and prepare.crop == "none":
        faults.append("prepare.crop_margin_mm: has no effect without a crop. Set prepare.crop or remove it")
    if sections.get("stages_per_job") == "all" and sections.get("device") == "cuda":
        faults.append("stages_per_job: all would hold a GPU while CPUs work. Use one, or set device: cpu")
    for name, target in targets.items():
        own = target.labels or labels
        if target.labels and (found := grammar_faults(target.labels)):
            faults += [f"targets.{name}.labels.{fault}" for fault in found]
        elif own and not grammar_faults(own):
            faults += [f"targets.{name}: {fault}" for fault in _target_faults(target, LabelSet.parse(own), sections)]
    return faults


def _target_faults(target: Target, label_set: LabelSet, sections: dict) -> list[str]:
    """Return the faults of one target against its classes, engine and device."""
    faults = []
    method = METHODS[target.method]
    if label_set.is_overlapping and not method.allows_overlap:
        faults.append(
            f"{target.method} needs exclusive classes, but {', '.join(label_set.names)} overlap. "
            "Give the target its own 'labels' with one class per integer"
        )
    if target.labels and sections.get("labels"):
        faults += _own_label_faults(label_set, sections["labels"], method.kind)
    if isinstance(target, GeodesicTarget):
        faults += _engine_faults(target, sections)
    if target.method == "level_set" and target.truncate and target.variant != "official":
        faults.append("truncate: only variant official cuts distances to integers. Remove it, or set variant: official")
    if target.method == "svls" and target.kernel_size % 2 == 0:
        faults.append(f"kernel_size: got {target.kernel_size}, expected an odd number")
    return faults


def _own_label_faults(own: LabelSet, top_labels: dict, kind: str) -> list[str]:
    """Return what a target's own classes have too many and too few of."""
    if grammar_faults(top_labels):
        return []
    top, faults = LabelSet.parse(top_labels), []
    if unknown := sorted(set(own.values) - set(top.values)):
        faults.append(f"labels: integers {unknown} are not among the top-level labels. Declare them there too")
    # A voxel of no class would have zeros for a distribution. A region or a signed map is one against the rest.
    missing = sorted(set(top.values) - set(own.values) - {top.ignore})
    if missing and kind == "probability" and not own.is_overlapping:
        faults.append(f"labels: integers {missing} are in no class. Give them one, such as 'rest: {missing}'")
    return faults


def _engine_faults(target: GeodesicTarget, sections: dict) -> list[str]:
    """Return what keeps a target's engine from its metric, domain or device."""
    engine = target.distance.engine or sections.get("engine") or "softlabels"
    parameters = target.metric_parameters()
    faults = []
    for weight in ("lamb", "gamma"):
        if getattr(target.distance, weight) is not None and weight not in parameters:
            faults.append(f"distance.{weight}: has no effect for metric {parameters['metric']}. Remove it")
    has_metric = {"fastgeodis": "sum", "geodistk": "harmonic"}.get(engine)
    if has_metric and parameters["metric"] != has_metric:
        faults.append(
            f"engine {engine} has metric '{has_metric}' only, got '{parameters['metric']}'. Change one of them"
        )
    prepare = sections.get("prepare")
    if has_metric and prepare and prepare.domain != "none":
        faults.append(f"engine {engine} knows no domain, got prepare.domain '{prepare.domain}'. Use engine softlabels")
    if engine == "geodistk" and sections.get("device") == "cuda":
        faults.append("engine geodistk runs on cpu only, got device 'cuda'. Set device: cpu")
    return faults
