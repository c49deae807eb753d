"""Make the trainer known to nnU-Net: `python -m softlabels.training.nnunet install`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels.errors import InputError, SoftLabelsError

FILE_NAME = "softlabels_trainers.py"
_TRAINER = "nnUNetTrainerSoftLabels"
_HEAD = f'''\
"""Written by `python -m softlabels.training.nnunet install`; nnU-Net finds its classes by their names."""

from softlabels.training.nnunet.trainer import {_TRAINER}
'''
_CLASS = f"""

class {_TRAINER}_{{target}}({_TRAINER}):
    soft_target = "{{target}}"
"""


def trainers_source(targets: Sequence[str]) -> str:
    """Return a Python file with the trainer, and one class for each target.

    Raises
    ------
    InputError
        If a target's name cannot be part of a class name.

    Examples
    --------
    >>> print(trainers_source(["geols"]).splitlines()[-2])
    class nnUNetTrainerSoftLabels_geols(nnUNetTrainerSoftLabels):
    """
    for target in targets:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", target):
            raise InputError(f"target: got {target!r}, expected a target's name: letters, digits and _")
    return _HEAD + "".join(_CLASS.format(target=target) for target in targets)


def trainers_folder() -> Path:
    """Return the folder in which nnU-Net looks for trainers."""
    spec = find_spec("nnunetv2")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("nnunetv2: not installed here. Install nnU-Net first: pip install 'nnunetv2>=2.6'")
    return Path(spec.submodule_search_locations[0]) / "training" / "nnUNetTrainer"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file, or remove it."""
    parser = argparse.ArgumentParser(prog="python -m softlabels.training.nnunet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="write a file that nnU-Net finds the trainer in")
    install.add_argument("--target", action="append", default=[], help="also a class of its own for this target")
    install.add_argument("--folder", type=Path, help="write there, for nnUNet_extTrainer (nnunetv2 2.8 or newer)")
    commands.add_parser("uninstall", help="remove that file from nnunetv2")
    given = parser.parse_args(arguments)
    try:
        if given.command == "uninstall":
            (trainers_folder() / FILE_NAME).unlink(missing_ok=True)
            return
        source = trainers_source(given.target)
        path = (given.folder or trainers_folder()) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, source)
    except (SoftLabelsError, OSError) as error:
        sys.exit(f"softlabels: {error}")
    names = [_TRAINER, *(f"{_TRAINER}_{target}" for target in given.target)]
    print(f"{path}: written. Train with: nnUNetv2_train DATASET CONFIGURATION FOLD -tr {' | '.join(names)}")
    if given.folder:
        print(f"Then run: export nnUNet_extTrainer={given.folder.absolute()}")


if __name__ == "__main__":
    main()
