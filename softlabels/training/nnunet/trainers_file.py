"""The file in which nnU-Net finds the trainer, with a class for each target."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from softlabels.errors import InputError

FILE_NAME = "softlabels_trainers.py"
_TRAINER = "nnUNetTrainerSoftLabels"
_HEAD = f'''\
"""Written by `python -m softlabels.training.nnunet install`; put classes of your own into another file."""

from softlabels.training.nnunet.trainer import {_TRAINER}
'''
_CLASS = """

class {name}({base}):
{attributes}
"""


@dataclass(frozen=True)
class Length:
    """The length of a training.

    Parameters
    ----------
    epochs : int
        At least 1; nnU-Net's own trainer has 1000.
    iterations : int, optional
        Of each epoch, at least 1; by default nnU-Net's 250.
    """

    epochs: int
    iterations: int | None = None

    @property
    def suffix(self) -> str:
        """The end of a trainer's name.

        Examples
        --------
        >>> Length(2, 20).suffix
        '_2epochs_20iterations'
        """
        return f"_{self.epochs}epochs" + ("" if self.iterations is None else f"_{self.iterations}iterations")


def trainer_names(targets: Sequence[str], length: Length | None = None) -> list[str]:
    """Return the names of the classes in `trainers_source`.

    Examples
    --------
    >>> trainer_names(["geols"])
    ['nnUNetTrainerSoftLabels', 'nnUNetTrainerSoftLabels_geols']
    """
    names = [_TRAINER, *(f"{_TRAINER}_{target}" for target in targets)]
    return names + ([f"{name}{length.suffix}" for name in names] if length else [])


def trainers_source(targets: Sequence[str], length: Length | None = None) -> str:
    """Return a Python file with the trainer and one class for each target, and with each of them in another length.

    Raises
    ------
    InputError
        If a target's name cannot be part of a class name, or a length is below 1.

    Examples
    --------
    >>> print(trainers_source(["geols"]).splitlines()[-2])
    class nnUNetTrainerSoftLabels_geols(nnUNetTrainerSoftLabels):
    """
    classes = []
    for target in targets:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", target):
            raise InputError(f"target: got {target!r}, expected a target's name: letters, digits and _")
        classes.append((f"{_TRAINER}_{target}", _TRAINER, {"soft_target": f'"{target}"'}))
    if length is not None:
        attributes = {name: value for name, value in asdict(length).items() if value is not None}
        for name, value in attributes.items():
            if value < 1:
                raise InputError(f"{name}: got {value}, expected at least 1")
        classes += [(f"{name}{length.suffix}", name, attributes) for name in trainer_names(targets)]
    return _HEAD + "".join(_class_source(*described) for described in classes)


def added_to(earlier: str, source: str) -> str:
    """Return a file with the classes of both; the later definition of a name counts.

    Examples
    --------
    >>> both = added_to(trainers_source(["geols"]), trainers_source(["sing"]))
    >>> both == trainers_source(["geols", "sing"])
    True
    """
    if not earlier.startswith(_HEAD):
        return source
    definitions = {}
    for file in (earlier, source):
        for definition in file.removeprefix(_HEAD).strip().split("\n\n\n"):
            definitions[definition.partition("(")[0]] = definition
    return _HEAD + "".join(f"\n\n{definition}\n" for definition in definitions.values() if definition)


def _class_source(name: str, base: str, attributes: Mapping[str, object]) -> str:
    """Return the definition of one class."""
    body = "\n".join(f"    {attribute} = {value}" for attribute, value in attributes.items())
    return _CLASS.format(name=name, base=base, attributes=body)


def trainers_folder() -> Path:
    """Return the folder in which nnU-Net looks for trainers."""
    spec = find_spec("nnunetv2")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("nnunetv2: not installed here. Install nnU-Net first: pip install 'nnunetv2>=2.6'")
    return Path(spec.submodule_search_locations[0]) / "training" / "nnUNetTrainer"
