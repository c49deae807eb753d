"""Which soft labels a training uses: from variables, from the training that is continued, or from the usual place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from softlabels._shared.files import read_small_text, write_atomically
from softlabels._shared.plain_json import parsed_json, readable_json
from softlabels.cohort.index import Index
from softlabels.errors import InputError

#: Beside nnU-Net's own files of a training.
RECORD = "softlabels.json"
_PARAMETERS = ("alpha", "delta", "epsilon")


@dataclass(frozen=True)
class Choice:
    """An index, one of its targets, and what replaces parameters of its blend.

    Parameters
    ----------
    index : str
        Path of index.json.
    target : str
    overrides : dict of str to float
        alpha, delta or epsilon.
    """

    index: str
    target: str
    overrides: dict[str, float]

    def __str__(self) -> str:
        return f"target {self.target!r}" + "".join(f", {name} {value}" for name, value in self.overrides.items())

    def write(self, output_folder: Path) -> None:
        """Record the choice beside the training."""
        write_atomically(output_folder / RECORD, readable_json(asdict(self)))


def chosen(
    environment: Mapping[str, str], data_folder: Path, output_folder: Path, *, target: str | None, is_continued: bool
) -> Choice:
    """Return what a training is to use.

    Parameters
    ----------
    environment : mapping
        `SOFTLABELS_INDEX`, `SOFTLABELS_TARGET`, `SOFTLABELS_ALPHA`, `SOFTLABELS_DELTA`, `SOFTLABELS_EPSILON`, each
        optional.
    data_folder : path
        nnU-Net's preprocessed arrays. The usual place of an index is `<data_folder>_softlabels/results/index.json`.
    output_folder : path
        Of the fold that is trained.
    target : str, optional
        The target of the trainer's class; it cannot be changed by a variable.
    is_continued : bool
        Whether the training continues from a checkpoint; what is not given is then what it began with.

    Raises
    ------
    InputError
        If there is no index, the target is left open, or the folder belongs to a training on another soft label.
    """
    record = _recorded(output_folder)
    given = {name: _number(environment, name) for name in _PARAMETERS if environment.get(f"SOFTLABELS_{name.upper()}")}
    named = target or environment.get("SOFTLABELS_TARGET")
    if is_continued and record is not None:
        found = Choice(
            environment.get("SOFTLABELS_INDEX") or record.index, named or record.target, given or record.overrides
        )
    else:
        index = Path(environment.get("SOFTLABELS_INDEX") or _usual_index(data_folder))
        found = Choice(str(index.absolute()), named or _only_target(index), given)
    if record is not None and (record.target, record.overrides) != (found.target, found.overrides):
        raise InputError(
            f"{output_folder}: its training is on {record}, got {found}. Continue with it, or move the folder away. "
            "For a folder per target, give each its own trainer: python -m softlabels.training.nnunet install "
            f"--target {found.target}"
        )
    return found


def _usual_index(data_folder: Path) -> Path:
    """Return where the index is if nothing says otherwise."""
    project = data_folder.with_name(f"{data_folder.name}_softlabels")
    index = project / "results" / "index.json"
    if not index.is_file():
        raise InputError(
            f"index: none at {index}. Set SOFTLABELS_INDEX, or make the project there: softlabels init {project} "
            f"--nnunet-preprocessed {data_folder}, then run snakemake in it"
        )
    return index


def _only_target(index: Path) -> str:
    """Return the only target of an index."""
    targets = list(Index.read(index).targets)
    if len(targets) != 1:
        raise InputError(f"SOFTLABELS_TARGET: not set, expected one of {', '.join(targets)} (in {index})")
    return str(targets[0])


def _number(environment: Mapping[str, str], name: str) -> float:
    """Return a variable as a number."""
    variable = f"SOFTLABELS_{name.upper()}"
    try:
        return float(environment[variable])
    except ValueError:
        raise InputError(f"{variable}: got {environment[variable]!r}, expected a number in [0, 1]") from None


def _recorded(output_folder: Path) -> Choice | None:
    """Return what the training in a folder uses; None if it did not use softlabels."""
    path = output_folder / RECORD
    if not path.is_file():
        return None
    try:
        content = parsed_json(read_small_text(path))
        return Choice(str(content["index"]), str(content["target"]), dict(content["overrides"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({error!r}). Delete it and set SOFTLABELS_INDEX, SOFTLABELS_TARGET"
        ) from error
