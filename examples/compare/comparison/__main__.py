"""The steps of a comparison: `python -m comparison STEP`; the workflow beside this package runs them."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from softlabels._shared.files import write_atomically
from softlabels.errors import SoftLabelsError


def slabs(arguments: argparse.Namespace) -> None:
    """Write the laptop example's data."""
    from .slabs import write_slabs

    print(write_slabs(arguments.folder, arguments.slabs, arguments.gap))


def preprocess(arguments: argparse.Namespace) -> None:
    """Let nnU-Net plan and preprocess the cases."""
    from .nnunet_data import NnunetData
    from .nnunet_data import preprocess as preprocess_cases

    preprocess_cases(NnunetData.from_json(arguments.data), arguments.threads)


def train(arguments: argparse.Namespace) -> None:
    """Train one network."""
    from .training import Run

    run = Run(**json.loads(arguments.run))
    if run.nnunet is None:
        from .training import train as train_network
    else:
        from .nnunet_data import NnunetData

        # Before the first import of nnU-Net, which reads them then.
        NnunetData.from_json(run.nnunet).set_training(arguments.output.with_suffix(""), run.index, run.targets[0])
        from .nnunet_training import train_nnunet as train_network
    train_network(run, arguments.output)


def score(arguments: argparse.Namespace) -> None:
    """Score the networks of a row and fold."""
    from .judging import score_networks
    from .study import AfterRow

    after = {name: AfterRow.model_validate(row) for name, row in json.loads(arguments.after).items()}
    score_networks(arguments.networks, arguments.row, after, arguments.fold, arguments.test, arguments.output)


def table(arguments: argparse.Namespace) -> None:
    """Compare all scores."""
    from .judging import read_scores
    from .picture import write_picture
    from .study import parse_study
    from .table import compare, every_number, markdown

    study = parse_study(json.loads(arguments.study))
    lines = read_scores(arguments.scores)
    cells = compare(lines, study)
    write_picture(cells, study, arguments.output.with_suffix(".png"))
    write_atomically(arguments.output.with_suffix(".tsv"), every_number(cells, study))
    write_atomically(arguments.output, markdown(cells, lines, study))


def _parser() -> argparse.ArgumentParser:
    """Return the parser of all steps."""
    parser = argparse.ArgumentParser(prog="comparison", description=__doc__)
    steps = parser.add_subparsers(required=True)
    made = steps.add_parser("slabs", help=slabs.__doc__)
    made.add_argument("folder", type=Path)
    made.add_argument("--slabs", type=int, default=12)
    made.add_argument("--gap", type=int, default=1, help="planes left out between slabs")
    made.set_defaults(step=slabs)
    made = steps.add_parser("preprocess", help=preprocess.__doc__)
    made.add_argument("--data", required=True, help="the data set, as JSON")
    made.add_argument("--threads", type=int, default=1)
    made.set_defaults(step=preprocess)
    made = steps.add_parser("train", help=train.__doc__)
    made.add_argument("--run", required=True, help="the run, as JSON")
    made.add_argument("--output", type=Path, required=True)
    made.set_defaults(step=train)
    made = steps.add_parser("score", help=score.__doc__)
    made.add_argument("networks", type=Path, nargs="+")
    made.add_argument("--row", required=True)
    made.add_argument("--after", required=True, help="rows that change its probabilities, as JSON")
    made.add_argument("--fold", type=int, required=True)
    made.add_argument("--test", nargs="+", required=True, help="case ids")
    made.add_argument("--output", type=Path, required=True)
    made.set_defaults(step=score)
    made = steps.add_parser("table", help=table.__doc__)
    made.add_argument("scores", type=Path, nargs="+")
    made.add_argument("--study", required=True, help="the study, as JSON")
    made.add_argument("--output", type=Path, required=True, help="comparison.md; .tsv and .png are beside it")
    made.set_defaults(step=table)
    return parser


def main() -> None:
    """Run one step; a mistake of the user ends with one line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    arguments = _parser().parse_args()
    try:
        arguments.step(arguments)
    except SoftLabelsError as error:
        sys.exit(f"comparison: {error}")


if __name__ == "__main__":
    main()
