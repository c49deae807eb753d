"""What `softlabels tune` tries: a configuration whose targets are all candidates of all methods."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from softlabels._shared.plain_json import canonical_json
from softlabels.classes import LabelSet
from softlabels.config import Config
from softlabels.errors import InputError, PluginError
from softlabels.evaluation.scores import VERSION
from softlabels.inputs.sheet import Case
from softlabels.methods import METHODS, Method, RunContext
from softlabels.pipeline.index import describe_target
from softlabels.pipeline.plan import Plan, make_plan

#: What every other method is compared with, and the simplest: these two are always tried.
FIRST = ("gaussian", "onehot")
#: Where a method comes among the others: what it reads costs.
_NEEDS = ("image", "raters", "source_labels", "seeds", "distance")


@dataclass(frozen=True)
class Trial:
    """All candidates, as targets of one configuration.

    Parameters
    ----------
    project : Config
    config : Config
        The project's, with a target for each candidate in place of its own.
    plan : Plan
    families : dict of str to tuple of str
        Method to the names of its candidates in `config`; the simplest method first.
    left_out : dict of str to str
        Methods that cannot be tried on these classes, and why.
    """

    project: Config
    config: Config
    plan: Plan
    families: dict[str, tuple[str, ...]]
    left_out: dict[str, str]

    @property
    def labels(self) -> LabelSet:
        """The classes."""
        return LabelSet.parse(self.config.labels)

    def method(self, name: str) -> Method:
        """Return the method of a candidate, with its parameters."""
        return self.config.targets[name]

    def identity(self, name: str) -> list[Any]:
        """Return what the soft label of a candidate depends on, besides the case."""
        blend = describe_target(self.config, self.plan, name).blend.to_json()
        return [self.plan.targets[name] or "labels alone", blend]

    @property
    def digest(self) -> str:
        """A digest of everything that the scores of a case depend on, besides its files."""
        candidates = [self.identity(name) for names in self.families.values() for name in names]
        content = [VERSION, self.plan.prepare, self.labels.to_json(), self.config.channels, candidates]
        return hashlib.sha256(canonical_json(content)).hexdigest()


def make_trial(config: Config, cases: Sequence[Case]) -> Trial:
    """Return what to try on cases.

    Parameters
    ----------
    config : Config
        `config.tune` says which methods; by default all that declare a grid and may be used with these classes.
    cases : sequence of Case
        Those with a reference: the median over cases of their smallest voxel side is the unit of the grids.
    """
    labels = LabelSet.parse(config.labels)
    side = voxel_side(config, cases)
    targets: dict[str, Method] = {}
    families: dict[str, tuple[str, ...]] = {}
    left_out: dict[str, str] = {}
    for name in _tried(config):
        try:
            method = METHODS[name]
        except PluginError as error:
            left_out[name] = str(error)
            continue
        candidates = method.in_grid(side) or [method()]
        if why := _why_not(candidates, labels, config):
            left_out[name] = why
            continue
        families[name] = tuple(f"{name}_{number}" for number in range(len(candidates)))
        targets |= dict(zip(families[name], candidates, strict=True))
    # Candidates share their seeds and distances, which a next run of tune reads too.
    trial = config.model_copy(update={"targets": targets, "keep": "all"})
    return Trial(config, trial, make_plan(trial), families, left_out)


def tuning_cases(config: Config, cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """Return the cases with a reference that are to be tuned on, and those that are held out.

    Raises
    ------
    InputError
        If there is none, or a held-out case has no reference.
    """
    known = {case.id: case for case in cases if case.reference}
    if lacking := [case for case in config.tune.held_out if case not in known]:
        raise InputError(
            f"tune.held_out: {', '.join(lacking)} not among the cases with a reference in {config.cases}, "
            f"expected some of {', '.join(known) or 'none'}"
        )
    used = [case for case in known.values() if case.id not in config.tune.held_out]
    if not used:
        raise InputError(
            f"tune: no case of {config.cases} has a reference to tune on. Add a column 'reference' (docs/tune.md), or "
            "make cases with a reference of fine labels by 'softlabels coarsen'"
        )
    return used, [known[case] for case in config.tune.held_out]


def voxel_side(config: Config, cases: Sequence[Case]) -> float:
    """Return the smallest side of a prepared voxel in mm, the median over cases; only headers are read."""
    from softlabels.inputs.volume import read_header

    if config.prepare.spacing != "native":
        return min(config.prepare.spacing)
    return median(min(read_header(case.images[0], case.spacing).spacing_xyz) for case in cases)


def _tried(config: Config) -> list[str]:
    """Return the names of the methods to try, the simplest first."""
    chosen = config.tune.methods
    names = [*FIRST, *(name for name in (METHODS if chosen is None else chosen) if name not in FIRST)]
    ranks: dict[str, tuple[int, int, int]] = {}
    for place, name in enumerate(names):
        try:
            method = METHODS[name]
        except PluginError:
            # It is left out with the reason, where it would be tried.
            ranks[name] = (len(_NEEDS) + 1, 0, place)
            continue
        if name in FIRST or method.grid:
            needs = max((1 + _NEEDS.index(need) for need in method.needs), default=0)
            ranks[name] = (-1, 0, place) if name in FIRST else (needs, len(method.grid), place)
    return sorted(ranks, key=lambda name: ranks[name])


def _why_not(candidates: Sequence[Method], labels: LabelSet, config: Config) -> str:
    """Return why a method cannot be tried; empty if it can."""
    if candidates[0].kind != "probability":
        return f"its map is of kind {candidates[0].kind}, expected a probability"
    context = RunContext(config.device, config.engine, config.prepare.domain)
    return "; ".join(candidates[0].check(labels, context))
