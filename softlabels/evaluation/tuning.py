"""The errors of every candidate on a case with a reference: computed once, kept in a file, and reused.

``<results>/tune/scores/<case>.jsonl`` has a line for each candidate that was scored: the key of what was scored, and
its errors. It only grows, so a run that was killed continues where it was, and a candidate that comes back is not
computed again. The key is a hash of the reference, the prepared case, the method with its parameters and versions, the
blend, and the version of the scores. ``<results>/tune/scores/<case>.json`` has the errors of all candidates of one
trial; only a complete one is written. Both may be deleted.

Prepared images, seeds and distances are those of the store, and are published there if they are new. Maps of
candidates are not stored: there are hundreds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.files import explained, read_small_file, write_atomically
from softlabels._shared.plain_json import canonical_json, sealed_json, unsealed_json
from softlabels.cohort.case import PreparedCase
from softlabels.errors import FormatError, InputError, SoftLabelsError
from softlabels.evaluation.disagreement import ReferenceSoftness, reference_softness
from softlabels.evaluation.reference import case_reference, counted_voxels
from softlabels.evaluation.scores import VERSION, VoxelSets, score, squared_error
from softlabels.evaluation.trial import Trial
from softlabels.inputs.sheet import Case
from softlabels.methods import Method, TargetInputs
from softlabels.pipeline.index import describe_target
from softlabels.pipeline.job import run_job
from softlabels.pipeline.node import Node
from softlabels.pipeline.receipts import find_result
from softlabels.pipeline.stages import TARGET, Job
from softlabels.pipeline.stages.target import method_inputs
from softlabels.store import Store

#: The folder of tune within the results folder.
FOLDER = "tune"
#: Parts of a case along its longest axis, which take the place of cases where there is one case only.
N_PARTS = 4
#: The most bytes of a file of scores: thousands of candidates.
_MOST_BYTES = 2**28


@dataclass(frozen=True)
class CandidateErrors:
    """How far one candidate is from the reference of one case.

    Attributes
    ----------
    brier, mae, cross_entropy, calibration, entropy : float
        Over all voxels; see `softlabels.evaluation.scores.Scores`.
    ambiguous, boundary : float or None
        Brier score over these voxels; None if there is none.
    parts : list of float
        Brier score of each of `N_PARTS` slabs of the case.
    """

    brier: float
    mae: float
    cross_entropy: float
    calibration: float
    entropy: float
    ambiguous: float | None
    boundary: float | None
    parts: list[float]


@dataclass(frozen=True)
class CaseErrors:
    """The errors of all candidates of a trial on one case.

    Attributes
    ----------
    case : str
    trial : str
        `Trial.digest`.
    softness : ReferenceSoftness
        What the reference looks like.
    is_raters : bool
        Whether the case sheet says that it is the mean of raters.
    entropy : float
        Mean entropy of the reference in bits.
    errors : dict of str to CandidateErrors
        By the names of the candidates in the trial.
    failed : dict of str to str
        Methods that cannot be computed on this case, and why.
    """

    case: str
    trial: str
    softness: ReferenceSoftness
    is_raters: bool
    entropy: float
    errors: dict[str, CandidateErrors]
    failed: dict[str, str]

    def write(self, path: Path) -> None:
        """Write the errors in one step."""
        write_atomically(path, sealed_json(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the errors in a file; FormatError if it is missing or damaged."""
        try:
            content = unsealed_json(read_small_file(path, _MOST_BYTES))
            softness = ReferenceSoftness(**content.pop("softness"))
            errors = {name: CandidateErrors(**one) for name, one in content.pop("errors").items()}
            return cls(**content, softness=softness, errors=errors)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise FormatError(f"{path}: no scores ({error}). Delete it and run tune again") from None


def scores_path(results: Path, case_id: str) -> Path:
    """Return where the errors of a case are."""
    return results / FOLDER / "scores" / f"{case_id}.json"


class TrialCase:
    """A case with its reference, and the soft labels of its candidates.

    Parameters
    ----------
    trial : Trial
    case : Case
        With a reference.
    threads : int
        No effect on any result.

    Raises
    ------
    SoftLabelsError
        If the case cannot be prepared, or its reference does not fit.
    """

    def __init__(self, trial: Trial, case: Case, threads: int = 1) -> None:
        self.trial, self.case, self.threads = trial, case, threads
        self.store, self.results = Store(trial.config.store, threads), Path(trial.config.results)
        self._ensure(trial.plan.nodes[trial.plan.prepare])
        entry = find_result(self.results, case.id, trial.plan.prepare, self.store).entry
        self.prepared = PreparedCase(case.id, entry, trial.labels.ignore)
        self.reference = case_reference(case, self.prepared, trial.labels.classes)
        self.labels = self.prepared.labels()
        self.included = counted_voxels(self.prepared, self.reference, trial.labels, of_raters=case.has_rater_reference)
        self._inputs: tuple[Any, TargetInputs] | None = None

    @cached_property
    def voxels(self) -> VoxelSets:
        """The voxels that scores are taken over."""
        try:
            return VoxelSets.of(
                self.reference,
                self.included,
                self.prepared.grid.spacing,
                is_overlapping=self.trial.labels.is_overlapping,
            )
        except InputError as error:
            raise InputError(f"case {self.case.id}: {error}") from error

    @cached_property
    def reference_digest(self) -> str:
        """A digest of the reference and of the voxels that count."""
        return hashlib.sha256(self.reference.tobytes() + self.included.tobytes()).hexdigest()

    def errors(self, soft: NDArray[np.float32]) -> CandidateErrors:
        """Return how far a soft label (C, D, H, W) is from the reference."""
        return candidate_errors(soft, self.reference, self.voxels, is_overlapping=self.trial.labels.is_overlapping)

    def soft_label(self, name: str, stored: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the (C, D, H, W) soft label of a candidate; its map may be given."""
        description = describe_target(self.trial.config, self.trial.plan, name)
        if description.blend.needs_stored and stored is None:
            stored = self.map_of(name)
        return description.soft_label(self.labels, stored)

    def map_of(self, name: str) -> NDArray[np.float32]:
        """Return the map of a candidate, computed from the entries upstream."""
        node = self.trial.plan.nodes[str(self.trial.plan.targets[name])]
        method = self.trial.method(name)
        return method.compute(self._method_inputs(node, method)).values

    def key(self, name: str) -> str:
        """Return the hash of all that the errors of a candidate depend on."""
        upstream = [VERSION, self.reference_digest, self.prepared.entry.key, *self.trial.identity(name)]
        return hashlib.sha256(canonical_json(upstream)).hexdigest()

    def _ensure(self, node: Node) -> None:
        """Compute the entry of a node, unless its receipt holds: one that is rewritten is new to Snakemake."""
        try:
            receipt = find_result(self.results, self.case.id, node.id, self.store).receipt
            present = {
                role: find_result(self.results, self.case.id, upstream, self.store).receipt.key
                for role, upstream in node.inputs.items()
            }
            if receipt.upstream == present and not receipt.changed_files(self.case):
                return
        except (FormatError, InputError):
            # There is none yet, or it is damaged, or its entry is gone.
            pass
        run_job(self._job(node))

    def _job(self, node: Node) -> Job:
        """Return the job of a node, on the CPU: the rules of tune ask for no GPU, and results are the same."""
        return Job(self.case, node, self.store, self.results, "cpu", self.threads)

    def _method_inputs(self, node: Node, method: Method) -> TargetInputs:
        """Return what a method reads; that of the last one is kept, since candidates of a method share it."""
        kind = (tuple(sorted(node.inputs.items())), method.needs)
        if self._inputs is None or self._inputs[0] != kind:
            for upstream in self.trial.plan.upstream(node.id)[:-1]:
                if upstream != self.trial.plan.prepare:
                    self._ensure(self.trial.plan.nodes[upstream])
            job = self._job(node)
            self._inputs = kind, method_inputs(job, TARGET.open(job), self.trial.labels, method.needs)
        return self._inputs[1]


def score_case(
    trial: Trial, case: Case, *, threads: int = 1, on_scored: Callable[[int], None] = lambda n: None
) -> CaseErrors:
    """Return the errors of all candidates on one case, and write them; only what is new is computed.

    Parameters
    ----------
    trial : Trial
    case : Case
        With a reference.
    threads : int
        No effect on the result.
    on_scored : callable
        Called with the number of candidates that were done since the last call.

    Raises
    ------
    SoftLabelsError
        If the case cannot be prepared or its reference does not fit. A method that fails on it is noted and left out.
    """
    opened = TrialCase(trial, case, threads)
    path = scores_path(Path(trial.config.results), case.id)
    known = dict(_read_lines(path.with_suffix(".jsonl")))
    errors: dict[str, CandidateErrors] = {}
    failed: dict[str, str] = {}
    for family, names in trial.families.items():
        try:
            for group in _by_node(trial, names):
                found = _scored(opened, group, known, path.with_suffix(".jsonl"))
                errors |= found
                on_scored(len(group))
        except SoftLabelsError as error:
            failed[family] = str(error)
            on_scored(len(set(names) - set(errors)))
    entropy = opened.errors(opened.reference).entropy
    whole = CaseErrors(
        case=case.id,
        trial=trial.digest,
        softness=reference_softness(opened.reference),
        is_raters=case.has_rater_reference,
        entropy=entropy,
        errors=errors,
        failed=failed,
    )
    whole.write(path)
    return whole


def _by_node(trial: Trial, names: tuple[str, ...]) -> Iterator[list[str]]:
    """Yield the candidates that share a map; each alone, if nothing is stored for it."""
    for _, group in groupby(names, key=lambda name: trial.plan.targets[name] or name):
        yield list(group)


def _scored(
    opened: TrialCase, group: list[str], known: Mapping[str, CandidateErrors], path: Path
) -> dict[str, CandidateErrors]:
    """Return the errors of candidates that share a map, from the file or computed, and add those to the file."""
    keys = {name: opened.key(name) for name in group}
    found = {name: known[key] for name, key in keys.items() if key in known}
    stored = None
    for name in group:
        if name in found:
            continue
        if stored is None and opened.trial.plan.targets[name]:
            stored = opened.map_of(name)
        found[name] = opened.errors(opened.soft_label(name, stored))
        line = {"key": keys[name], "candidate": opened.trial.method(name).to_json(), "errors": asdict(found[name])}
        _add_line(path, line)
    return found


def candidate_errors(
    soft: NDArray[np.float32], reference: NDArray[np.float32], voxels: VoxelSets, *, is_overlapping: bool = False
) -> CandidateErrors:
    """Return how far a soft label is from a reference, (C, D, H, W) both; of regions, the mean over them."""
    (sums,), _ = score(soft, reference, [voxels.everywhere], is_overlapping=is_overlapping)
    whole = sums.scores()
    squares = squared_error(soft, reference, is_overlapping=is_overlapping)
    ambiguous, boundary = (_mean(squares, one) for one in (voxels.ambiguous, voxels.boundary))
    axis = int(np.argmax(squares.shape))
    parts = [
        _mean(part, counted) or 0.0
        for part, counted in zip(
            np.array_split(squares, N_PARTS, axis), np.array_split(voxels.everywhere, N_PARTS, axis), strict=True
        )
    ]
    return CandidateErrors(
        whole.brier, whole.mae, whole.cross_entropy, whole.calibration, whole.entropy, ambiguous, boundary, parts
    )


def _mean(values: NDArray[np.float32], counted: NDArray[np.bool_]) -> float | None:
    """Return the mean over some voxels; None if there is none."""
    return float(values[counted].mean(dtype=np.float64)) if counted.any() else None


def _read_lines(path: Path) -> Iterator[tuple[str, CandidateErrors]]:
    """Yield key and errors of each whole line of a file of scores; nothing if there is none."""
    try:
        content = read_small_file(path, _MOST_BYTES)
    except FileNotFoundError:
        return
    for line in content.splitlines():
        try:
            record = json.loads(line)
            yield str(record["key"]), CandidateErrors(**record["errors"])
        except (ValueError, TypeError, KeyError):
            # The last line of a run that was killed while it wrote.
            continue


def _add_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append a line to a file of scores."""
    with explained(path, "cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            # A line that was cut short ends here.
            start = b"" if file.tell() == 0 else b"\n"
            file.write(start + canonical_json(record))
