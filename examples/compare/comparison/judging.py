"""Score the networks of one row and fold, and the rows that only change their probabilities."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from softlabels._shared.files import write_atomically
from softlabels.evaluation.rank import as_probability
from softlabels.evaluation.refine import fit_temperature, refine

from .prediction import predicted
from .scores import METRICS, case_scores, label_brier
from .study import REFERENCE, AfterRow
from .training import Run, build, load, row_target
from .truth import CaseTruth

#: What identifies a line of a score file, before the metrics.
COLUMNS = ("row", "steps", "seed", "fold", "case", "person", "init", "batches", "temperature", "label_brier")
#: From a case to the probabilities (C, D, H, W) of its classes.
Prediction = Callable[[str], NDArray[np.float32]]
log = logging.getLogger(__name__)


def score_networks(
    paths: Sequence[Path], row: str, after: Mapping[str, AfterRow], fold: int, test: Sequence[str], output: Path
) -> None:
    """Write the scores of networks on the test cases of their fold: a line per network, row and case.

    Parameters
    ----------
    paths : sequence of paths
        Networks of one row and fold: all seeds and lengths.
    row : str
        Their row.
    after : mapping of str to AfterRow
        Rows that change their probabilities.
    fold : int
    test : sequence of str
        Case ids.
    output : path
        A table of tab-separated values.
    """
    torch.set_num_threads(1)
    lines: list[dict[str, Any]] = []
    own: dict[str, float] = {}
    for path in paths:
        content = load(path)
        run = Run(**content["run"])
        truth = truth_of(run)
        predict = Predictor(run, truth, prediction_of(run, content, truth))
        temperatures = {name: predict.temperature(one) for name, one in after.items()}
        shared = {
            "steps": run.steps,
            "seed": run.seed,
            "fold": fold,
            "init": content["init"],
            "batches": content["batches"],
        }
        for case in test:
            if case not in own:
                own[case] = _label_brier(truth, run, case)
            probabilities = predict(case)
            person = truth.rows[case].person
            for name, changed in changed_probabilities(probabilities, row, after, temperatures, truth, case):
                known = {"row": name, "case": case, "person": person, **shared}
                if name == row:
                    known["label_brier"] = own[case]
                else:
                    known["temperature"] = temperatures[name]
                lines.append(known | _scored(changed, truth, case))
        log.info("%s: %d cases scored", path.name, len(test))
    write_scores(lines, output)


def truth_of(run: Run) -> CaseTruth:
    """Return what the predictions of a run are judged by: prepared cases, or for nnU-Net the files themselves."""
    if run.nnunet is None:
        return CaseTruth(run.index, run.sheet, run.channels, run.classes)
    from .raw_truth import RawTruth

    return RawTruth(run.sheet, run.channels, run.classes)


def prediction_of(run: Run, content: Mapping[str, Any], truth: CaseTruth) -> Prediction:
    """Return a trained network as a function from a case to its probabilities."""
    if run.nnunet is not None:
        from .nnunet_prediction import NnunetPrediction

        return NnunetPrediction(run, content)
    device, row = torch.device(run.settings.device), row_target(run)
    network = build(run, len(row.classes))
    network.load_state_dict(dict(content["weights"]))
    network.to(device)

    def predict(case: str) -> NDArray[np.float32]:
        return predicted(network, row.objective, run.index, truth.stand_in, case, run.settings, device)

    return predict


class Predictor:
    """A trained network and the temperatures that are fitted to it.

    Parameters
    ----------
    run : Run
    truth : CaseTruth
    predict : Prediction
    """

    def __init__(self, run: Run, truth: CaseTruth, predict: Prediction) -> None:
        self.run, self.truth, self._predict = run, truth, predict
        self._validation: list[tuple[NDArray[np.floating], NDArray[np.floating]]] = []

    def __call__(self, case: str) -> NDArray[np.float32]:
        """Return the probabilities (C, D, H, W) of a case."""
        return self._predict(case)

    def temperature(self, row: AfterRow) -> float:
        """Return the temperature of a row: given, or fitted on the validation cases, which are never scored."""
        if row.temperature != "fitted":
            return float(row.temperature)
        if not self._validation:
            for case in self.run.validation:
                known = self.truth.has_reference(case)
                target = self.truth.reference(case) if known else self.truth.masks(case).astype(np.float32)
                self._validation.append((self(case), target))
        return fit_temperature(self._validation, is_overlapping=self.run.classes.is_overlapping)


def changed_probabilities(
    probabilities: NDArray[np.float32],
    row: str,
    after: Mapping[str, AfterRow],
    temperatures: Mapping[str, float],
    truth: CaseTruth,
    case: str,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield a row's probabilities, and those of the rows after it."""
    yield row, probabilities
    for name, one in after.items():
        prepared, overlapping = truth.case(case), truth.classes.is_overlapping
        if one.unmix is None:
            yield name, tempered(probabilities, temperatures[name], overlapping)
            continue
        yield (
            name,
            refine(
                prepared.image(),
                probabilities,
                prepared.grid.spacing,
                window_mm=one.unmix.window_mm,
                rho=one.unmix.rho,
                temperature=temperatures[name],
                domain=prepared.domain(),
                is_overlapping=overlapping,
            ),
        )


def tempered(probabilities: NDArray[np.float32], temperature: float, is_overlapping: bool) -> NDArray[np.float32]:
    """Return probabilities (C, ...) to the power 1 / temperature, divided by their sum.

    Examples
    --------
    >>> tempered(np.float32([[0.8], [0.2]]), 2.0, False).round(3).ravel().astype(str).tolist()
    ['0.667', '0.333']
    """
    from softlabels.calibration import Calibration

    slope = Calibration(1 / temperature, (0.0,) * len(probabilities), "a network")
    return slope.applied(probabilities, is_overlapping=is_overlapping)


def _scored(probabilities: NDArray[np.float32], truth: CaseTruth, case: str) -> dict[str, float]:
    """Return the scores of a case."""
    reference = truth.reference(case) if truth.has_reference(case) else None
    return case_scores(
        probabilities,
        truth.masks(case),
        truth.case(case).grid,
        is_overlapping=truth.classes.is_overlapping,
        truth=reference,
        fine=truth.fine(case),
        valid=truth.counted(case, reference),
    )


def _label_brier(truth: CaseTruth, run: Run, case: str) -> float:
    """Return the Brier score of the soft label that a row trains on; NaN if it or the truth is not known here."""
    if not truth.has_reference(case) or run.nnunet is not None:
        return float("nan")
    if REFERENCE in run.targets:
        return 0.0
    row = row_target(run)
    targets = [truth.target(case, name) for name in row.names]
    maps = [as_probability(target.soft_label(), target.description.kind) for target in targets]
    soft = np.stack([maps[number][channel] for number, channel in row.picks])
    if row.objective.activation == "tanh" and not run.classes.is_overlapping:  # as `Objective.probabilities`
        soft = np.concatenate([1 - soft.max(axis=0, keepdims=True), soft])
    return label_brier(soft, truth.reference(case), run.classes.is_overlapping)


def write_scores(lines: Sequence[Mapping[str, Any]], output: Path) -> None:
    """Write score lines as a table; what a line lacks is empty."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*COLUMNS, *METRICS], delimiter="\t", lineterminator="\n", restval="")
    writer.writeheader()
    for line in lines:
        writer.writerow({k: f"{v:.7g}" if isinstance(v, float) else v for k, v in line.items()})
    write_atomically(output, text.getvalue())


def read_scores(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the lines of score files; scores as floats, NaN where empty."""
    lines: list[dict[str, Any]] = []
    for path in paths:
        with path.open(encoding="utf-8", newline="") as table:
            for line in csv.DictReader(table, delimiter="\t"):
                numbers = {name: float(line[name] or "nan") for name in (*METRICS, "temperature", "label_brier")}
                counts = {name: int(line[name]) for name in ("steps", "seed", "fold")}
                lines.append({**line, **numbers, **counts})
    return lines
