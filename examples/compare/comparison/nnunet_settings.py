"""What a study says of nnU-Net, and which rows it can train in pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from softlabels._shared.section import Section
from softlabels.classes import LabelSet
from softlabels.config import Config

#: Keys of a study's `training` that nnU-Net does not plan itself.
NOT_PLANNED = frozenset({"steps", "device", "workers", "nnunet"})
#: How nnU-Net augments; all rows must allow it, so that they see the same batches.
_AUGMENTATIONS = ("flip", "rotation", "rescale")
#: What methods read that its preprocessed arrays do not have.
_NOT_IN_ARRAYS = frozenset({"raters", "source_labels"})


class Nnunet(Section):
    """nnU-Net in the place of the U-Net: its configuration 3d_fullres, through softlabels' trainer."""

    spacing: list[Annotated[float, Field(gt=0)]] = Field(
        min_length=3, max_length=3, description="voxel size in mm, (z, y, x), that volumes are resampled to"
    )
    planner: str = Field("ExperimentPlanner", description="nnU-Net's class that plans network, patches and batches")
    iterations: int = Field(250, ge=1, description="steps of an epoch")
    validation_iterations: int = Field(50, ge=1, description="batches of nnU-Net's own validation in each epoch")


def config_faults(config: Config) -> list[str]:
    """Return what of a study's configuration of softlabels does not fit nnU-Net's arrays."""
    return [
        f"softlabels.targets.{name}.labels: nnU-Net trains on the classes of the study; remove the key"
        for name, method in config.targets.items()
        if method.labels is not None
    ]


def row_faults(place: str, targets: Sequence[str], loss: str | None, config: Config) -> list[str]:
    """Return why nnU-Net cannot train a row in pairs with the others.

    Parameters
    ----------
    place : str
        Of the row in the study.
    targets : sequence of str
        Of the row.
    loss : str or None
    config : Config
        Of softlabels.
    """
    faults = []
    if loss is not None:
        faults.append(f"{place}.loss: got {loss!r}, expected no loss: softlabels' trainer takes that of the target")
    if len(targets) > 1:
        faults.append(f"{place}.target: got {', '.join(targets)}, expected one: nnU-Net trains on one target")
    method = config.targets.get(targets[0])
    if method is None:
        return [*faults, f"{place}.target: got {targets[0]!r}, expected a target that is computed of nnU-Net's arrays"]
    if missing := sorted(method.needs & _NOT_IN_ARRAYS):
        faults.append(f"{place}.target: {targets[0]!r} reads {', '.join(missing)}, which nnU-Net's arrays lack")
    is_overlapping = LabelSet.parse(config.labels).is_overlapping
    if method.kind == "distance" or (method.kind == "signed" and not is_overlapping):
        faults.append(
            f"{place}.target: got {targets[0]!r} of kind {method.kind}, expected probabilities, or signed maps of "
            "regions that overlap"
        )
    if refused := [what for what in _AUGMENTATIONS if not method.augmentation[what]]:
        faults.append(
            f"{place}.target: {targets[0]!r} does not allow {', '.join(refused)}, which nnU-Net does to the other rows"
        )
    return faults
