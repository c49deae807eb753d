"""Score the networks of one row and fold, and the rows that only change their probabilities."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from softlabels._shared.files import write_atomically
from softlabels.evaluation.refine import fit_temperature, refine, tempered

from .prediction import predicted
from .scores import METRICS, case_scores, label_brier
from .study import REFERENCE, AfterRow
from .training import Run, build, load, row_target
from .truth import CaseTruth, PreparedTruth

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
        return PreparedTruth(run.index, run.sheet, run.channels, run.classes)
    from .raw_truth import RawTruth

    return RawTruth(run.sheet, run.channels, run.classes)


def prediction_of(run: Run, content: Mapping[str, Any], truth: CaseTruth) -> Prediction:
    """Return a trained network as a function from a case to its probabilities."""
    if run.nnunet is not None:
        from .nnunet_prediction import NnunetPrediction

        return NnunetPrediction(run, content)
    assert isinstance(truth, PreparedTruth), "`truth_of` the run"
    stand_in, device, row = truth.stand_in, torch.device(run.settings.device), row_target(run)
    network = build(run, len(row.classes))
    network.load_state_dict(dict(content["weights"]))
    network.to(device)

    def predict(case: str) -> NDArray[np.float32]:
        return predicted(network, row.objective, run.index, stand_in, case, run.settings, device)

    return predict


class Predictor:
    """A trained network, and the temperature that is fitted to it.

    Parameters
    ----------
    run : Run
    truth : CaseTruth
    predict : Prediction
    """

    def __init__(self, run: Run, truth: CaseTruth, predict: Prediction) -> None:
        self.run, self.truth, self._predict = run, truth, predict

    def __call__(self, case: str) -> NDArray[np.float32]:
        """Return the probabilities (C, D, H, W) of a case."""
        return self._predict(case)

    def temperature(self, row: AfterRow) -> float:
        """Return the temperature of a row: given, or fitted on the validation cases, which are never scored."""
        return self._fitted if row.temperature == "fitted" else float(row.temperature)

    @cached_property
    def _fitted(self) -> float:
        """The temperature that fits the validation cases, over the voxels that scores count."""
        pairs = []
        for case in self.run.validation:
            known = self.truth.has_reference(case)
            target = self.truth.reference(case) if known else self.truth.masks(case).astype(np.float32)
            counted = self.truth.counted(case, target if known else None)
            pairs.append((_of_voxels(self(case), counted), _of_voxels(target, counted)))
        return fit_temperature(pairs, is_overlapping=self.run.classes.is_overlapping)


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
            yield name, tempered(probabilities, temperatures[name], is_overlapping=overlapping)
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


def _of_voxels(values: NDArray[np.floating], voxels: NDArray[np.bool_]) -> NDArray[np.floating]:
    """Return values (C, D, H, W) of some of the voxels, (C, 1, 1, N)."""
    return values[:, voxels][:, None, None]


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
    """Return the Brier score of the soft label that a row trains on; NaN if it or the truth is not known here.

    For nnU-Net it is not: soft labels are on the grid of its arrays, and the truth on that of the files.
    """
    if not truth.has_reference(case) or not isinstance(truth, PreparedTruth):
        return float("nan")
    if REFERENCE in run.targets:
        return 0.0
    row, reference = row_target(run), truth.reference(case)
    maps = [truth.target(case, name).soft_label() for name in row.names]
    soft_label = torch.from_numpy(np.stack([maps[number][channel] for number, channel in row.picks]))
    probabilities = row.objective.of_soft_label(soft_label[None])[0].numpy()
    return label_brier(
        probabilities, reference, truth.counted(case, reference), is_overlapping=run.classes.is_overlapping
    )


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
