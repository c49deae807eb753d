"""The stages of the pipeline in the order in which they run: a module and a class each, all that is known of a stage.

Importing them is light: the Snakefile does it in every job.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from softlabels.pipeline.stages.base import Job, Result, Stage
from softlabels.pipeline.stages.distance import Distance
from softlabels.pipeline.stages.prepare import Prepare
from softlabels.pipeline.stages.seeds import Seeds
from softlabels.pipeline.stages.target import Target

__all__ = ["DISTANCE", "PREPARE", "SEEDS", "STAGES", "TARGET", "Job", "Result", "Stage"]

PREPARE, SEEDS, DISTANCE, TARGET = Prepare(), Seeds(), Distance(), Target()
#: Stage by name, upstream first.
STAGES: Mapping[str, Stage[Any]] = MappingProxyType({stage.name: stage for stage in (PREPARE, SEEDS, DISTANCE, TARGET)})
