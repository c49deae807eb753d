"""All scores as comparisons with the baseline: one table to read, one with every number."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError

from .bootstrap import Change, Draws, disagree, paired_change
from .scores import METRICS, Metric
from .study import Study, canonical

#: The columns of the table to read, where known; the other one has all.
SHOWN = (
    "brier_truth",
    "brier_truth_ambiguous",
    "bits_truth",
    "ece_truth",
    "brier_label",
    "ece_label",
    "dice",
    "dice_fine",
    "hd95_mm",
    "assd_mm",
    "volume_bias",
)


@dataclass(frozen=True)
class Cell:
    """One score of one row at one length.

    Attributes
    ----------
    value : float
        Mean over seeds and persons.
    change : Change or None
        From the baseline; None for the baseline itself.
    is_converged : bool
        False if another length of training disagrees about the change.
    """

    value: float
    change: Change | None
    is_converged: bool = True


#: Row, steps and metric to the cell.
Cells = dict[tuple[str, int, str], Cell]


def check_pairing(lines: Sequence[Mapping[str, Any]]) -> None:
    """Raise if two rows of one seed, fold and length did not begin with the same weights or saw other batches.

    With early stopping, the batches up to the first look are compared, which every row sees.

    Raises
    ------
    InputError
        Names the first two rows that differ.
    """
    seen: dict[tuple[int, int, int, str], tuple[str, str]] = {}
    for line in lines:
        for what in ("init", "batches"):
            if not line[what]:
                continue
            place = (line["steps"], line["seed"], line["fold"], what)
            row, digest = seen.setdefault(place, (line["row"], line[what]))
            if digest != line[what]:
                raise InputError(
                    f"rows {row} and {line['row']} are not paired: {what} of seed {line['seed']}, fold {line['fold']}, "
                    f"{line['steps']} steps differ. Were they trained by different versions? Delete the networks of one"
                )


def scores_by_person(
    lines: Sequence[Mapping[str, Any]], study: Study
) -> dict[tuple[str, int, str], NDArray[np.float64]]:
    """Return (S, P) scores of each row, length and metric: the mean over the cases of a person, NaN where unknown."""
    persons = sorted({line["person"] for line in lines})
    place = {person: i for i, person in enumerate(persons)}
    seeds = {seed: i for i, seed in enumerate(study.seeds)}
    found: dict[tuple[str, int, str, int, int], list[float]] = defaultdict(list)
    for line in lines:
        if line["seed"] in seeds and line["row"] in study.rows:
            for metric in METRICS:
                if np.isfinite(line[metric]):
                    found[line["row"], line["steps"], metric, seeds[line["seed"]], place[line["person"]]].append(
                        line[metric]
                    )
    tables: dict[tuple[str, int, str], NDArray[np.float64]] = {}
    for (row, steps, metric, seed, person), values in found.items():
        table = tables.setdefault((row, steps, metric), np.full((len(seeds), len(persons)), np.nan))
        table[seed, person] = np.mean(values)
    return tables


def compare(lines: Sequence[Mapping[str, Any]], study: Study) -> Cells:
    """Return every cell of a study's scores.

    Raises
    ------
    InputError
        If rows are not paired, or the baseline was not scored.
    """
    check_pairing(lines)
    tables = scores_by_person(lines, study)
    n_persons = len({line["person"] for line in lines})
    draws = Draws.make(study.bootstrap.draws, len(study.seeds), n_persons, study.bootstrap.seed)
    cells: Cells = {}
    for (row, steps, name), values in tables.items():
        change = None
        if row != study.baseline:
            if (study.baseline, steps, name) not in tables:
                raise InputError(f"baseline {study.baseline}: has no scores at {steps} steps; run snakemake again")
            change = _change(values, tables[study.baseline, steps, name], draws, METRICS[name])
        cells[row, steps, name] = Cell(float(np.nanmean(values)), change)
    return _with_convergence(cells)


def _change(values: NDArray[np.float64], baseline: NDArray[np.float64], draws: Draws, metric: Metric) -> Change:
    """Return the change of a score from the baseline's."""
    return paired_change(
        values,
        baseline,
        draws,
        is_relative=metric.unit == "%",
        row_loss=metric.loss(values),
        baseline_loss=metric.loss(baseline),
    )


def _with_convergence(cells: Cells) -> Cells:
    """Return the cells, marked where two lengths disagree."""
    marked: Cells = {}
    for (row, steps, name), cell in cells.items():
        others = [c for (r, s, n), c in cells.items() if r == row and n == name and s != steps]
        agrees = all(
            cell.change is None or other.change is None or not disagree(other.change, cell.change) for other in others
        )
        marked[row, steps, name] = Cell(cell.value, cell.change, agrees)
    return marked


def label_scores(lines: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean Brier score of each row's own soft label against the truth; NaN where unknown."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for line in lines:
        if np.isfinite(line["label_brier"]):
            found[line["row"]][line["case"]] = line["label_brier"]
    return {row: float(np.mean(list(values.values()))) for row, values in found.items()}


def as_text(cell: Cell, metric: Metric) -> str:
    """Return a cell for people: its value, the change with its interval, wins, and whether it has converged.

    Examples
    --------
    >>> change = Change(-0.17, -0.24, -0.12, 12, 12, np.zeros(1))
    >>> as_text(Cell(0.0265, change, False), METRICS["brier_truth"])
    '0.0265; −17.0 % [−24.0, −12.0] 12/12 †'
    """
    value = f"{100 * cell.value:+.1f} %" if metric.better == "zero" else f"{cell.value:.3g}"
    text = value.replace("-", "−")
    if cell.change is None:
        return text
    sign = "%" if metric.unit == "%" else "pt"
    low, high = f"{100 * cell.change.low:+.1f}", f"{100 * cell.change.high:+.1f}"
    interval = f"[{low}, {high}]"
    change = f"{100 * cell.change.mean:+.1f} {sign} {interval} {cell.change.wins}/{cell.change.n_persons}"
    return f"{text}; {change}".replace("-", "−") + ("" if cell.is_converged else " †")


def markdown(cells: Cells, lines: Sequence[Mapping[str, Any]], study: Study) -> str:
    """Return the page with the table of the longest training, and what a reader must know of it."""
    steps = max(steps for _, steps, _ in cells)
    shown = [name for name in SHOWN if any((row, steps, name) in cells for row in study.rows)]
    own = label_scores(lines)
    header = ["trained on", *(["its own Brier"] if own else []), *(METRICS[name].title for name in shown)]
    rows = [header, ["---"] * len(header)]
    for name, title in study.titles().items():
        found = [cells.get((name, steps, metric)) for metric in shown]
        texts = [as_text(c, METRICS[m]) if c else "" for c, m in zip(found, shown, strict=True)]
        rows.append([title, *([f"{own[name]:.4f}" if name in own else ""] if own else []), *texts])
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return f"# {study.name}\n\n{table}\n\n{_legend(cells, lines, study, steps)}\n"


def _legend(cells: Cells, lines: Sequence[Mapping[str, Any]], study: Study, steps: int) -> str:
    """Return how the table is read."""
    lengths = sorted({s for _, s, _ in cells})
    persons, cases = len({line["person"] for line in lines}), len({line["case"] for line in lines})
    others = " and ".join(map(str, lengths[:-1]))
    stop, unit = study.training.early_stopping, study.training.unit
    rule = f"the best of every {stop.every} steps, patience {stop.patience}" if stop else "none"
    checked = f"up to step {stop.every}, which was checked" if stop else "which was checked"
    doubted = sum(not cell.is_converged for (_, s, _), cell in cells.items() if s == steps)
    network = "nnU-Net" if study.training.nnunet else "Networks"
    length = f"{'at most ' * bool(stop)}{steps} {unit}"
    parts = [
        f"{network} trained for {length}, {len(study.seeds)} paired seeds, {study.folds.k} folds; {persons} persons "
        f"({cases} cases), each tested in the fold that did not train on them. Rows of a seed begin with the same "
        f"weights and see the same batches, {checked}. Early stopping: {rule}. Settings {settings_digest(study)}.",
        f"A cell has the mean; the change from “{study.titles()[study.baseline]}”, in % of its mean or in hundredths "
        "(pt); the 95 % interval of a paired bootstrap over persons and seeds; and the number of persons for whom the "
        "row is better. Lower is better, except Dice (higher) and volume (0). With few seeds, such as three, intervals "
        "are somewhat too narrow, and with this many cells some leave 0 out by chance.",
    ]
    if others:
        verdict = (
            f"† not converged: after {others} {unit} the change is different (the interval of the difference leaves 0 "
            f"out); {doubted} cell{'s' * (doubted != 1)} here."
        )
        parts.append(verdict)
    if study.note:
        parts.append(study.note.strip())
    return "\n\n".join(parts)


def every_number(cells: Cells, study: Study) -> str:
    """Return all cells of all lengths as tab-separated values."""
    header = "row\tsteps\tmetric\tvalue\tchange\tlow\thigh\tis_relative\twins\tpersons\tconverged\n"
    rows = []
    for (row, steps, name), cell in sorted(cells.items(), key=lambda pair: _order(pair[0], study)):
        c = cell.change
        figures = [c.mean, c.low, c.high] if c else [float("nan")] * 3
        counts = [c.wins, c.n_persons] if c else ["", ""]
        texts = [f"{figure:.6g}" for figure in (cell.value, *figures)]
        rows.append([row, steps, name, *texts, METRICS[name].unit == "%", *counts, cell.is_converged])
    return header + "".join("\t".join(map(str, row)) + "\n" for row in rows)


def _order(key: tuple[str, int, str], study: Study) -> tuple[int, int, int]:
    """Return the place of a cell: by metric, length and row."""
    row, steps, name = key
    return list(METRICS).index(name), steps, list(study.rows).index(row)


def settings_digest(study: Study) -> str:
    """Return the digest of all that was fixed before the first score: what the table must be quoted with."""
    return sha256(canonical(study.model_dump(mode="json")).encode()).hexdigest()[:12]
