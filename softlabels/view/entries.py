"""From the receipts of a case to the case and its targets, also where a project is unfinished and has no index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from softlabels.classes import LabelSet
from softlabels.cohort.case import CaseTarget, PreparedCase
from softlabels.cohort.index import TargetDescription
from softlabels.config import Config
from softlabels.errors import FormatError, InputError, NotKeptError
from softlabels.pipeline.index import describe_target
from softlabels.pipeline.plan import Plan
from softlabels.pipeline.receipts import find_result
from softlabels.pipeline.stages import PREPARE
from softlabels.store import Store
from softlabels.store.read import Entry


@dataclass(frozen=True)
class TargetEntries:
    """A target of a case, with the entries that it was computed from.

    Parameters
    ----------
    target : CaseTarget
    seeds, distance : Entry or None
        None for a target that needs no such thing, or where it was not kept.
    """

    target: CaseTarget
    seeds: Entry | None = None
    distance: Entry | None = None


@dataclass(frozen=True)
class CaseEntries:
    """A case with all of its targets.

    Parameters
    ----------
    case : PreparedCase
    targets : mapping of str to TargetEntries
        By the names of config.yaml, in their order there.
    not_kept : tuple of str
        What is missing because it was not kept, such as ``geols/distance``.
    """

    case: PreparedCase
    targets: Mapping[str, TargetEntries]
    not_kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class NodeEntry:
    """What one node of the plan computed for a case.

    Parameters
    ----------
    case : PreparedCase
    stage : str
        "prepare", "seeds", "distance" or "target".
    entry : Entry
    name : str
        The first target that uses the node.
    description : TargetDescription
        Of that target, for the classes of the node.
    """

    case: PreparedCase
    stage: str
    entry: Entry
    name: str
    description: TargetDescription


class DistanceChannel(NamedTuple):
    """What one channel of a distance entry is the distance of."""

    #: The channel of the image, or "all" for the vector image.
    of_image: str
    of_class: str

    @classmethod
    def named(cls, name: str) -> DistanceChannel:
        """Return the channel of a name such as "T1:tumour".

        Examples
        --------
        >>> DistanceChannel.named("all:tumour")
        DistanceChannel(of_image='all', of_class='tumour')
        """
        of_image, _, of_class = name.rpartition(":")
        return cls(of_image, of_class)


def distance_channels(entry: Entry) -> list[DistanceChannel]:
    """Return the channels of a distance entry, in order."""
    return [DistanceChannel.named(name) for name in entry.channels("distance") or ()]


def case_entries(config: Config, plan: Plan, case_id: str) -> CaseEntries:
    """Return a case and each target with the entries that it was computed from, as far as they were kept.

    Raises
    ------
    InputError
        If an entry is no longer in the store.
    FormatError
        If a receipt is missing, or a receipt or an entry is damaged.
    """
    case, targets, missing = _found(config, plan, case_id)
    for one in missing:
        if not isinstance(one.error, NotKeptError):
            raise one.error
    return CaseEntries(case, targets, tuple(f"{one.target}/{one.stage}" for one in missing))


def finished_entries(config: Config, plan: Plan, case_id: str) -> tuple[CaseEntries, list[str]]:
    """Return a case and its targets as far as they are computed.

    Returns
    -------
    entries : CaseEntries
        What is missing is None.
    missing : list of str
        The target, the stage and the reason of each.

    Raises
    ------
    InputError, FormatError
        If the case is not prepared; see `case_entries`.
    """
    case, targets, missing = _found(config, plan, case_id)
    return CaseEntries(case, targets), [one.line for one in missing]


def node_entry(config: Config, plan: Plan, case_id: str, name: str) -> NodeEntry:
    """Return what one node computed for a case.

    Raises
    ------
    InputError
        If no node is named so; see `Plan.find_node`. Or if the entry is not in the store (any more).
    FormatError
        If a receipt is missing, or a receipt or an entry is damaged.
    """
    node_id = plan.find_node(name)
    users = [user for user, target in plan.targets.items() if target and node_id in plan.upstream(target)]
    # Of the targets that share a node, the requested one.
    asked = name.partition("/")[0]
    user = asked if asked in users else (users or list(plan.targets))[0]
    description = describe_target(config, plan, user)
    case, entry = _prepared_case(config, plan, case_id), _entry(config, case_id, node_id)
    return NodeEntry(case, plan.nodes[node_id].stage, entry, user, description)


class _Missing(NamedTuple):
    """A result of a target that is not there."""

    target: str
    stage: str
    error: FormatError | InputError

    @property
    def line(self) -> str:
        """What is missing, and why."""
        if isinstance(self.error, NotKeptError):
            return f"{self.target}: {self.stage} was not kept; --make computes it again"
        return f"{self.target}: no {self.stage}: {self.error}"


def _found(
    config: Config, plan: Plan, case_id: str
) -> tuple[PreparedCase, dict[str, TargetEntries], tuple[_Missing, ...]]:
    """Return what is prepared of a case, its targets with the entries that are there, and what is missing."""
    case, targets, missing = _prepared_case(config, plan, case_id), {}, []
    for name, node_id in plan.targets.items():
        found: dict[str, Entry] = {}
        for node in plan.upstream(node_id) if node_id else ():
            stage = plan.nodes[node].stage
            try:
                if stage != PREPARE.name:
                    found[stage] = _entry(config, case_id, node)
            except (FormatError, InputError) as error:
                missing.append(_Missing(name, stage, error))
        target = CaseTarget(case, name, describe_target(config, plan, name), found.get("target"))
        targets[name] = TargetEntries(target, found.get("seeds"), found.get("distance"))
    return case, targets, tuple(missing)


def _prepared_case(config: Config, plan: Plan, case_id: str) -> PreparedCase:
    """Return what is prepared of a case."""
    return PreparedCase(case_id, _entry(config, case_id, plan.prepare), LabelSet.parse(config.labels).ignore)


def _entry(config: Config, case_id: str, node_id: str) -> Entry:
    """Return the store entry of one case x node, found through its receipt."""
    return find_result(Path(config.results), case_id, node_id, Store(config.store)).entry
