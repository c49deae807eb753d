"""What `softlabels tune` finds: the method to use, how good that choice is on unseen cases, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from softlabels.calibration import Calibration
from softlabels.config import Config
from softlabels.errors import InputError
from softlabels.evaluation.bootstrap import Change, paired_change
from softlabels.evaluation.calibrate import LEAST_CASES
from softlabels.evaluation.judged_calibration import (
    CalibratedCandidate,
    JudgedCalibration,
    UndecidedVoxels,
    calibrated_candidate,
    judged_calibration,
)
from softlabels.evaluation.selection import FamilyErrors, Selection, nested_choices, select, shortlist
from softlabels.evaluation.trial import FIRST, Trial
from softlabels.evaluation.tuning import CandidateErrors, CaseErrors, TrialCase, scores_path
from softlabels.inputs.sheet import Case
from softlabels.methods import Method

#: Widths whose best candidate is calibrated.
_MOST_CALIBRATED = 3


@dataclass(frozen=True)
class TunedFamily:
    """A method with the parameters that are best for it, judged on cases that these were not chosen on.

    Attributes
    ----------
    name : str
    method : Method
        Chosen on all cases.
    fold_names : tuple of str
        The candidate that was chosen without each case; empty for a single case, as are the next two.
    errors : tuple of CandidateErrors
        Of these candidates on the cases left out.
    change : Change or None
        Of their Brier score relative to the Gaussian's, tuned in the same way.
    """

    name: str
    method: Method
    fold_names: tuple[str, ...] = ()
    errors: tuple[CandidateErrors, ...] = ()
    change: Change | None = None


@dataclass(frozen=True)
class HeldOut:
    """A case that had no part in any choice: Brier score of the tuned Gaussian and of the choice."""

    case: str
    gaussian: float
    tuned: float


@dataclass(frozen=True)
class Tuned:
    """The result of `softlabels tune`.

    Attributes
    ----------
    trial : Trial
    cases : tuple of CaseErrors
    families : tuple of TunedFamily
        The simplest first.
    selection : Selection
        By position in `families`.
    nested : tuple of str
        The candidate that the whole selection takes without each case; empty for a single case.
    calibration : JudgedCalibration or None
        None if there are too few cases, or the method cannot have one.
    held_out : tuple of HeldOut
    left_out : dict of str to str
        Methods that were not tried or failed, and why.
    """

    trial: Trial
    cases: tuple[CaseErrors, ...]
    families: tuple[TunedFamily, ...]
    selection: Selection
    nested: tuple[str, ...] = ()
    calibration: JudgedCalibration | None = None
    held_out: tuple[HeldOut, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def winner(self) -> TunedFamily:
        """The family that is taken."""
        return self.families[self.selection.winner]

    @property
    def gaussian(self) -> TunedFamily:
        """The baseline."""
        return next(one for one in self.families if one.name == FIRST[0])

    @property
    def kept_calibration(self) -> Calibration | None:
        """The calibration that is part of the choice; None if there is none."""
        return self.calibration.calibration if self.calibration and self.calibration.is_kept else None

    @property
    def method(self) -> Method:
        """The method that is taken, with the parameters that are best with the calibration if one is kept."""
        if self.calibration and self.calibration.is_kept:
            return self.trial.method(self.calibration.candidate)
        return self.winner.method

    @property
    def choice_errors(self) -> tuple[float, ...]:
        """Brier score of each case, of what was chosen without it, the calibration included if it is kept."""
        if self.calibration and self.calibration.is_kept:
            return self.calibration.after
        return tuple(case.errors[name].brier for case, name in zip(self.cases, self.nested, strict=True))

    @property
    def choice_change(self) -> Change | None:
        """`choice_errors` relative to the Gaussian's; None for a single case."""
        if not self.nested:
            return None
        return paired_change(self.choice_errors, [one.brier for one in self.gaussian.errors])


def tuned(
    trial: Trial,
    cases: Sequence[Case],
    scored: Sequence[CaseErrors],
    held_out: Sequence[Case] = (),
    *,
    threads: int = 1,
    on_step: Callable[[str], None] = lambda what: None,
) -> Tuned:
    """Return the choice, and how good it is.

    Parameters
    ----------
    trial : Trial
    cases : sequence of Case
        Those to tune on.
    scored : sequence of CaseErrors
        Of the same cases, in the same order.
    held_out : sequence of Case
        Scored with the choice, which they have no part in.
    threads : int
        Cases handled at a time; no effect on the result.
    on_step : callable
        Called with a line for people before each long step.

    Raises
    ------
    InputError
        If a case was scored for another trial, or the Gaussian failed on a case.
    """
    _check_scored(trial, scored)
    failed = {name: f"case {one.case}: {why}" for one in reversed(scored) for name, why in one.failed.items()}
    if FIRST[0] in failed:
        raise InputError(f"tune: the Gaussian, which all is compared with, failed: {failed[FIRST[0]]}")
    names = {family: of for family, of in trial.families.items() if family not in failed}
    errors = [family_errors(family, of, scored) for family, of in names.items()]
    selection = select(errors)
    nested: tuple[str, ...] = ()
    if len(scored) > 1:
        listed = list(names.values())
        nested = tuple(listed[family][candidate] for family, candidate in nested_choices(errors))
    families = tuple(_families(trial, names, selection, scored))
    final = families[selection.winner]
    final_name = names[final.name][selection.candidate]
    result = Tuned(trial, tuple(scored), families, selection, nested, left_out=trial.left_out | failed)
    if len(cases) >= LEAST_CASES and final.method.blend != "onehot":
        on_step(f"calibrating on {len(cases)} cases")
        result = replace(result, calibration=_calibrated(result, errors, names, cases, threads))
    if held_out:
        on_step(f"scoring {len(held_out)} held-out cases")
        baseline = names[FIRST[0]][selection.folds[list(names).index(FIRST[0])].best]
        with ThreadPoolExecutor(threads) as pool:
            found = pool.map(lambda case: _judged(result, case, baseline, final_name), held_out)
            result = replace(result, held_out=tuple(found))
    return result


def annotator_of(config: Config) -> str:
    """Return whom a calibration is fitted for: the annotator that the configuration names, else that of its sheet."""
    return config.tune.annotator or f"the annotator of {Path(config.cases).name}"


def read_scored(trial: Trial, cases: Iterable[Case]) -> list[CaseErrors]:
    """Return the errors that jobs have written, in the order of the cases."""
    return [CaseErrors.read(scores_path(Path(trial.config.results), case.id)) for case in cases]


def family_errors(family: str, names: Sequence[str], scored: Sequence[CaseErrors]) -> FamilyErrors:
    """Return the Brier scores of a family's candidates on all cases, and on the parts of each."""
    by_case = np.array([[case.errors[name].brier for case in scored] for name in names])
    by_part = np.array([[case.errors[name].parts for case in scored] for name in names])
    return FamilyErrors(family, by_case, by_part)


def _check_scored(trial: Trial, scored: Sequence[CaseErrors]) -> None:
    """Raise if a case was scored with other candidates than those of the trial."""
    digest = trial.digest
    if stale := [one.case for one in scored if one.trial != digest]:
        raise InputError(
            f"tune: the scores of {', '.join(stale[:5])} are of another configuration or version. Run tune again "
            "without --scored, or the rule tune of snakemake"
        )


def _families(
    trial: Trial, names: Mapping[str, tuple[str, ...]], selection: Selection, scored: Sequence[CaseErrors]
) -> Iterable[TunedFamily]:
    """Yield each family with its candidate and its errors on the cases left out."""
    baseline: list[float] = []
    for (family, of), folds in zip(names.items(), selection.folds, strict=True):
        method = trial.method(of[folds.best])
        if len(scored) == 1:
            yield TunedFamily(family, method)
            continue
        picked = tuple(of[pick] for pick in folds.picks)
        errors = tuple(case.errors[name] for case, name in zip(scored, picked, strict=True))
        baseline = baseline or [one.brier for one in errors]
        yield TunedFamily(family, method, picked, errors, paired_change([one.brier for one in errors], baseline))


def _calibrated(
    found: Tuned,
    errors: Sequence[FamilyErrors],
    names: Mapping[str, Sequence[str]],
    cases: Sequence[Case],
    threads: int,
) -> JudgedCalibration:
    """Return the candidate of the chosen method that is best when calibrated, judged by leaving out each case.

    Candidates are the best of each width (the first parameter of the grid), of the `_MOST_CALIBRATED` best widths.
    """
    trial = found.trial

    def shortlisted(family: str, of_family: FamilyErrors) -> list[str]:
        """Return the candidates of a method that are worth a calibration."""
        methods = [trial.method(name) for name in names[family]]
        widths = [next(iter(parameters_of(method).values()), None) for method in methods]
        return [names[family][place] for place in shortlist(of_family.by_case, widths, _MOST_CALIBRATED)]

    family_of = {name: family for family, of in names.items() for name in of}
    by_family = {one.name: one for one in errors}
    shortlists = [
        shortlisted(family_of[name], by_family[family_of[name]].without(left)) for left, name in enumerate(found.nested)
    ]
    final = shortlisted(found.winner.name, by_family[found.winner.name])
    annotator = annotator_of(trial.project)

    def of_case(case: Case, name: str) -> UndecidedVoxels:
        """Return what a calibration of a candidate needs of one case."""
        opened = TrialCase(trial, case)
        soft, overlap = opened.soft_label(name), trial.labels.is_overlapping
        return UndecidedVoxels.of(soft, opened.reference, opened.voxels.everywhere, is_overlapping=overlap)

    candidates: dict[str, CalibratedCandidate] = {}
    with ThreadPoolExecutor(threads) as pool:
        # One candidate at a time, because that of all cases is in memory.
        for name in dict.fromkeys(name for listed in [*shortlists, final] for name in listed):
            voxels = list(pool.map(of_case, cases, [name] * len(cases)))
            candidates[name] = calibrated_candidate(voxels, fitted_for=annotator)
    return judged_calibration(candidates, shortlists, final)


def parameters_of(method: Method) -> dict[str, Any]:
    """Return the parameters of a method that tune chooses, in the order of its grid."""
    return {name: getattr(method, name) for name in method.grid}


def _judged(found: Tuned, case: Case, baseline: str, best: str) -> HeldOut:
    """Return the scores of a held-out case."""
    opened = TrialCase(found.trial, case)
    calibration = found.kept_calibration
    if found.calibration is None or calibration is None:
        soft = opened.soft_label(best)
    else:
        soft = opened.soft_label(found.calibration.candidate)
        soft = calibration.applied(soft, is_overlapping=found.trial.labels.is_overlapping)
    return HeldOut(case.id, opened.errors(opened.soft_label(baseline)).brier, opened.errors(soft).brier)
