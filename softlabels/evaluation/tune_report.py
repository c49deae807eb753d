"""The result of `softlabels tune` for people and programs: config.yaml, tables, a picture, and what it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from softlabels._shared.counts import counted, some_of
from softlabels._shared.files import write_atomically
from softlabels.calibration import Calibration
from softlabels.evaluation.bootstrap import paired_change
from softlabels.evaluation.calibrate import LEAST_CASES
from softlabels.evaluation.judged_calibration import JudgedCalibration
from softlabels.evaluation.tuned import Tuned, parameters_of
from softlabels.evaluation.tuning import FOLDER
from softlabels.methods import Method
from softlabels.methods.keys import Calibrate

#: The name of the target in the configuration that is written.
TARGET_NAME = "tuned"
#: With fewer cases the intervals are said to be too narrow.
_FEW_CASES = 12
_FAMILY_COLUMNS = (
    "method", "parameters", "chosen", "n_cases", "brier", "ambiguous", "boundary", "mae", "cross_entropy_bits",
    "calibration", "entropy_bits", "brier_change", "low", "high", "n_better",
)  # fmt: skip
_CASE_COLUMNS = ("case", "method", "parameters", "brier", "entropy_bits")


def write_tuned(found: Tuned) -> Path:
    """Write all files of a result into the folder ``tune`` of the results; return the folder."""
    from softlabels.evaluation.tune_plot import tune_plot

    folder = Path(found.trial.config.results) / FOLDER
    write_atomically(folder / "config.yaml", config_text(found))
    write_atomically(folder / "tune.tsv", _table(_FAMILY_COLUMNS, family_rows(found)))
    write_atomically(folder / "tune_cases.tsv", _table(_CASE_COLUMNS, case_rows(found)))
    write_atomically(folder / "tune.txt", "".join(f"{line}\n" for line in statements(found)))
    tune_plot(found).savefig(folder / "tune.png")
    return folder


def target_block(found: Tuned) -> dict[str, Any]:
    """Return the chosen target as in config.yaml: its method, the parameters of its grid, and the calibration."""
    method = found.method
    block = {method.key: method.name, **parameters_of(method)}
    if (calibration := found.kept_calibration) is None:
        return block
    return block | {"calibrate": calibrate_block(calibration, found.trial.labels.names)}


def calibrate_block(calibration: Calibration, classes: Sequence[str]) -> dict[str, Any]:
    """Return a calibration as the key `calibrate` of a target."""
    offsets = {name: round(value, 4) for name, value in zip(classes, calibration.offsets, strict=True)}
    fitted = Calibrate(slope=round(calibration.slope, 4), offsets=offsets, fitted_for=calibration.fitted_for)
    return fitted.model_dump(mode="json")


def config_text(found: Tuned) -> str:
    """Return the project's configuration with the chosen target added, as YAML."""
    plain = found.trial.project.model_dump(mode="json", exclude_defaults=True)
    plain["targets"] = plain["targets"] | {TARGET_NAME: target_block(found)}
    told = "".join(f"# {line}\n" for line in ["Written by `softlabels tune`.", *statements(found)])
    return told + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def spoken(method: Method) -> str:
    """Return a method with its parameters in one line.

    Examples
    --------
    >>> from softlabels.methods import METHODS
    >>> spoken(METHODS["unmix"](rho=5.0))
    'unmix sigma_mm 1, window 2, rho 5'
    """
    listed = ", ".join(f"{name} {value:g}" for name, value in parameters_of(method).items())
    return f"{method.name} {listed}".strip()


def family_rows(found: Tuned) -> Iterator[list[str]]:
    """Yield a row for each method: means over the cases, each left out while its parameters were chosen."""
    for family in found.families:
        chosen = "yes" if family is found.winner else "no"
        listed = spoken(family.method).removeprefix(family.name).strip()
        row = [family.name, listed, chosen, str(len(found.cases))]
        if family.change is None:
            yield row + [""] * (len(_FAMILY_COLUMNS) - len(row))
            continue
        names = ("brier", "ambiguous", "boundary", "mae", "cross_entropy", "calibration", "entropy")
        row += [_mean([getattr(one, name) for one in family.errors]) for name in names]
        change = family.change
        yield [*row, f"{change.mean:.4f}", f"{change.low:.4f}", f"{change.high:.4f}", str(change.n_better)]


def case_rows(found: Tuned) -> Iterator[list[str]]:
    """Yield a row for each case and method: the parameters that were chosen without the case, and its score."""
    for index, case in enumerate(found.cases):
        for family in found.families:
            if family.errors:
                method = found.trial.method(family.fold_names[index])
                error = family.errors[index]
                listed = spoken(method).removeprefix(family.name).strip()
                yield [case.case, family.name, listed, f"{error.brier:.6g}", f"{error.entropy:.6g}"]


def statements(found: Tuned) -> list[str]:
    """Return what was chosen, how good it is, what that rests on, and what it does not say: a sentence each."""
    lines = [f"Chosen: {spoken(found.method)}, on {counted(len(found.cases), 'case')}."]
    if raters := _rater_cases(found):
        lines.append(
            f"The reference of {some_of(raters, 3)} looks like the mean of raters: labels are soft because annotators "
            "disagree, which intensities do not show."
        )
    lines += _score_statements(found)
    lines += _calibration_statements(found)
    lines += _held_out_statements(found)
    lines += [f"Warning: {line}" for line in warnings(found)]
    lines += [f"Not tried: {name}: {why}." for name, why in found.left_out.items()]
    return lines


def warnings(found: Tuned) -> list[str]:
    """Return what is suspicious about the choice."""
    lines = []
    raters, winner = _rater_cases(found), found.winner
    if raters and winner.method.assumes == "partial_volume":
        lines.append(
            f"{winner.name} assumes that voxels hold several tissues, but the reference of {some_of(raters, 3)} looks "
            "like the mean of raters. Check the choice on further cases before you use it"
        )
    for family in found.families:
        worse = family.change is not None and family.change.low > 0
        if family.method.assumes == "partial_volume" and worse and not raters:
            lines.append(
                f"{family.name} is farther from the reference than the Gaussian ({family.change}), as it is where "
                "labels are soft because annotators disagree"
            )
    if winner.method.assumes == "disagreement" and not raters:
        lines.append(f"{winner.name} assumes that annotators disagree, but the references do not look like raters")
    return lines + [
        f"{name} {value:g} is the {end} value that was tried for {winner.name}; the best may be beyond it"
        for name, value, end in _ends(found)
    ]


def _rater_cases(found: Tuned) -> list[str]:
    """Return the cases whose reference is, or looks like, the mean of raters."""
    return [case.case for case in found.cases if case.is_raters or case.softness.looks_like_raters]


def _score_statements(found: Tuned) -> list[str]:
    """Return how good the choice is on unseen cases."""
    if found.choice_change is None:
        return [
            "One case cannot say how good this is on others: there is no score, no interval and no calibration. The "
            "parts of the case took the place of cases. Add cases with a reference, or hold some out "
            "(tune.held_out)."
        ]
    n_cases, mean = len(found.cases), np.mean(found.choice_errors)
    lines = [
        f"Brier score on cases left out, with everything chosen without them: {mean:.5f}; relative to the Gaussian, "
        f"tuned alike: {found.choice_change}."
    ]
    nearest = found.families[found.selection.nearest]
    if nearest is not found.winner:
        lines.append(
            f"{nearest.name} has the lowest mean ({nearest.change}), but {found.winner.name}, which is simpler, is "
            "within one standard error."
        )
    picked = {found.trial.method(name).name for name in found.nested} - {found.winner.name}
    if picked:
        lines.append(f"Without one of the cases the choice would sometimes be {', '.join(sorted(picked))}.")
    if n_cases < _FEW_CASES:
        lines.append(f"The intervals are over {n_cases} cases only, and too narrow: they cover {_coverage(n_cases)} %.")
    return lines


def _calibration_statements(found: Tuned) -> list[str]:
    """Return what became of the calibration."""
    if len(found.cases) < LEAST_CASES:
        return [] if len(found.cases) == 1 else [f"No calibration: it needs {LEAST_CASES} cases."]
    if found.calibration is None:
        return ["No calibration: the hard label has nothing to calibrate."]
    lines = [calibration_statement(found.calibration)]
    if found.method != found.winner.method:
        lines.append(f"Without it, the best parameters would be {spoken(found.winner.method)}.")
    return lines


def calibration_statement(judged: JudgedCalibration) -> str:
    """Return whether a calibration helps, in a sentence or two."""
    change = paired_change(judged.after, judged.before)
    whose = f"kept, for {judged.calibration.fitted_for}" if judged.is_kept else "not kept"
    return f"Calibration: {whose}. Fitted without the case, it changes the Brier score by {change}."


def _held_out_statements(found: Tuned) -> list[str]:
    """Return how good the choice is on cases that were held out."""
    if not found.held_out:
        return []
    ours = [one.tuned for one in found.held_out]
    change = paired_change(ours, [one.gaussian for one in found.held_out])
    n_cases = counted(len(ours), "case")
    return [f"Brier score on {n_cases} held out: {np.mean(ours):.5f}; relative to the Gaussian: {change}."]


def _ends(found: Tuned) -> Iterator[tuple[str, float, str]]:
    """Yield each parameter in mm that is the first or last of its grid: others end where their effect does."""
    candidates = [found.trial.method(name) for name in found.trial.families[found.winner.name]]
    for name, value in parameters_of(found.method).items():
        values = [getattr(one, name) for one in candidates]
        if name.endswith("_mm") and value in (min(values), max(values)):
            yield name, value, "largest" if value == max(values) else "smallest"


def _coverage(n_cases: int) -> int:
    """Return what an interval of 95 % covers in a simulation of log-normal scores, in percent."""
    return 75 if n_cases < 5 else 84 if n_cases < 9 else 90


def _mean(values: Sequence[float | None]) -> str:
    """Return the mean of what is known, in six digits; nothing if nothing is."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.6g}" if known else ""


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> str:
    """Return lines of tab-separated values."""
    return "".join("\t".join(row) + "\n" for row in (header, *rows))
