"""Cases whose true soft label is known, made of fine labels: image and labels averaged over blocks of voxels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from softlabels.classes import LabelClass, LabelSet
from softlabels.config import Config
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.inputs.case import read_case
from softlabels.inputs.sheet import Case
from softlabels.preprocess.blocks import block_means

#: Writes an array on a grid to a path, and returns it: `softlabels.view.export.write_nifti`.
Writer = Callable[[NDArray[Any], Grid, Path], Path]


def coarse_case(case: Case, config: Config, block: Sequence[int], folder: Path, write: Writer) -> Case:
    """Write a case averaged over blocks: a file for each channel, the hard label, and the reference.

    Parameters
    ----------
    case : Case
        Its files are read in full; further raters are left out.
    config : Config
    block : 3 ints
        Voxels of a block along (z, y, x).
    folder : Path
        Where the files go.
    write : callable

    Returns
    -------
    Case
        Of the files that were written.

    Raises
    ------
    InputError
        If a file of the case is not what it should be, or a block is larger than the volume.
    """
    labels = LabelSet.parse(config.labels)
    classes = _each_value(labels) if labels.is_overlapping else labels.classes
    volumes = read_case(case, config.channels, labels.values, labels.ignore)
    try:
        coarse = block_means(volumes.image, volumes.labels, volumes.grid, classes, block, ignore_label=labels.ignore)
    except InputError as error:
        raise type(error)(f"case {case.id}: {error}") from error
    images = [
        write(values, coarse.grid, folder / f"image_{channel}.nii.gz")
        for channel, values in zip(config.channels, coarse.image, strict=True)
    ]
    label = write(coarse.labels, coarse.grid, folder / "label.nii.gz")
    shares = _of_regions(coarse.shares, classes, labels) if labels.is_overlapping else coarse.shares
    reference = write(shares, coarse.grid, folder / "reference.nii.gz")
    paths = tuple(str(path) for path in images)
    return replace(
        case,
        images=paths,
        label=str(label),
        raters=(),
        spacing=None,
        reference=(str(reference),),
        reference_classes=(),
    )


def _each_value(labels: LabelSet) -> tuple[LabelClass, ...]:
    """Return a class for each label, which exclude each other where regions overlap."""
    return tuple(LabelClass(str(value), (value,)) for value in labels.used_values)


def _of_regions(shares: NDArray[np.float32], classes: Sequence[LabelClass], labels: LabelSet) -> NDArray[np.float32]:
    """Return the share of each region, (C, D, H, W): the sum of those of its labels."""
    place = {one.values[0]: number for number, one in enumerate(classes)}
    regions = [shares[[place[value] for value in one.values]].sum(axis=0) for one in labels.classes]
    return np.minimum(np.stack(regions), np.float32(1))


def coarse_config(config: Config) -> str:
    """Return the configuration of a project of coarse cases as YAML: paths are its own, and nothing is resampled."""
    plain = config.model_dump(mode="json", exclude_defaults=True)
    own_paths = {name: Config.model_fields[name].default for name in ("cases", "store", "results")}
    prepare = {key: value for key, value in plain.pop("prepare", {}).items() if key not in ("spacing", "antialias")}
    head = "# Written by `softlabels coarsen`: cases averaged over blocks of voxels, with their true soft label.\n"
    return head + yaml.safe_dump(
        {**own_paths, **plain, **own_paths, **({"prepare": prepare} if prepare else {})}, sort_keys=False
    )
