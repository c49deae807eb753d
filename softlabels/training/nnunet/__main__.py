"""Make the trainer known to nnU-Net: `python -m softlabels.training.nnunet install`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels.errors import SoftLabelsError
from softlabels.training.nnunet.trainers_file import (
    FILE_NAME,
    Length,
    added_to,
    trainer_names,
    trainers_folder,
    trainers_source,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the file, or remove it."""
    parser = argparse.ArgumentParser(prog="python -m softlabels.training.nnunet", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser(
        "install",
        help="write the trainer's classes into a file of nnunetv2, or of --folder, beside those of earlier calls",
    )
    install.add_argument("--target", action="append", default=[], help="also a class for this target; may be repeated")
    install.add_argument("--epochs", type=int, help="also a class of this many epochs for each of them (nnU-Net: 1000)")
    install.add_argument("--iterations", type=int, help="of each of those epochs (nnU-Net: 250)")
    install.add_argument("--folder", type=Path, help="write there, for nnUNet_extTrainer (nnunetv2 2.8 or newer)")
    commands.add_parser("uninstall", help="remove that file from nnunetv2")
    given = parser.parse_args(arguments)
    if given.command == "install" and given.iterations is not None and given.epochs is None:
        parser.error("--iterations needs --epochs")
    try:
        if given.command == "uninstall":
            (trainers_folder() / FILE_NAME).unlink(missing_ok=True)
            return
        length = None if given.epochs is None else Length(given.epochs, given.iterations)
        source = trainers_source(given.target, length)
        path = (given.folder or trainers_folder()) / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        earlier = path.read_text(encoding="utf-8") if path.exists() else ""
        write_atomically(path, added_to(earlier, source))
    except (SoftLabelsError, OSError) as error:
        sys.exit(f"softlabels: {error}")
    print(f"{path}: written")
    if given.folder:
        print(f"Run: export nnUNet_extTrainer={given.folder.absolute()}")
    print("Train with: nnUNetv2_train DATASET CONFIGURATION FOLD -tr TRAINER, where TRAINER is one of")
    print(*(f"  {name}" for name in trainer_names(given.target, length)), sep="\n")


if __name__ == "__main__":
    main()
