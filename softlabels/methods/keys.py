"""The types of the keys that targets share: names and labels in nnU-Net's grammar, calibration, and the context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from softlabels._shared.section import Section, faults_error
from softlabels.classes import grammar_faults

#: Parameter to the values that `softlabels tune` tries.
TuningGrid = Mapping[str, tuple[Any, ...]]
#: Why labels are soft: voxels hold several tissues, or annotators disagree.
Softness = Literal["partial_volume", "disagreement"]


def _checked_grammar(labels: dict[str, int | list[int]]) -> dict[str, int | list[int]]:
    """Return labels that follow nnU-Net's grammar, or raise with every fault."""
    if faults := grammar_faults(labels):
        raise faults_error([f".{fault}" for fault in faults])
    return labels


#: A name of a channel, class or target.
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$")]
#: An integer of a label file.
Value = Annotated[int, Field(ge=0, le=2**31 - 1)]
#: Class names to integers, in nnU-Net's grammar.
Labels = Annotated[dict[Name, Value | list[Value]], Field(min_length=1), AfterValidator(_checked_grammar)]


@dataclass(frozen=True)
class RunContext:
    """What a target can depend on in the rest of the configuration.

    Parameters
    ----------
    device, engine, domain : str
        As at the top level and in `prepare`; None where the configuration has a fault there.
    """

    device: str | None = "cpu"
    engine: str | None = "softlabels"
    domain: str | None = "none"


class Calibrate(Section):
    """Slope and class offsets after a probability, applied by the loader; see `softlabels.calibration`."""

    slope: float = Field(
        1.0, gt=0, le=1000, description="exponent of each probability: below 1 vaguer, above 1 sharper"
    )
    offsets: dict[Name, Annotated[float, Field(ge=-1000, le=1000)]] = Field(
        default_factory=dict, description="class name to offset of its log probability; 0 for those left out"
    )
    fitted_for: str = Field(min_length=1, description="the annotator or protocol that the numbers were fitted for")
