"""The arrays that nnU-Net v2 trains on, read into the canonical case sheet: one data folder of one configuration.

Soft labels of these arrays are on nnU-Net's grid by construction: its crop, its spacing, its axes. Only names,
`plans.json`, `dataset.json`, `splits_final.json` and, for 2D plans, the properties of each case are read here.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from softlabels.errors import ConfigError
from softlabels.inputs.importers.base import Dataset, Labels, checked_cases
from softlabels.inputs.importers.dataset_json import channels_of, folds_of, labels_of, read_dataset, read_json
from softlabels.inputs.sheet import Case

_ENDING, _SEGMENTATION = ".b2nd", "_seg.b2nd"
#: All that the properties of a case are made of, besides Python's own types.
_NUMPY_MODULES = ("numpy", "numpy.core.multiarray", "numpy._core.multiarray", "numpy._core.numeric")
_NUMPY_NAMES = ("_frombuffer", "_reconstruct", "dtype", "ndarray", "scalar")


def import_nnunet_preprocessed(folder: str | Path) -> Dataset:
    """Read a data folder of nnU-Net's preprocessing, such as `nnUNet_preprocessed/Dataset001_Heart/nnUNetPlans_2d`.

    Parameters
    ----------
    folder : path-like
        It holds `CASE.b2nd`, `CASE_seg.b2nd` and `CASE.pkl`; plans, `dataset.json` and `splits_final.json` are in its
        parent. Written by nnU-Net 2.6 or newer.

    Returns
    -------
    Dataset
        Each case with its spacing. If `splits_final.json` exists and a case is validated in exactly one fold, its
        split is that fold: `fold0`, `fold1`, ... Labels that exclude each other are in ascending order, as the heads of
        the network are; regions in the order of `dataset.json`, as well as the heads.

    Raises
    ------
    ConfigError
        If the folder is another one, no plan names it, or files are missing.
    """
    folder = Path(folder)
    ids = _identifiers(folder)
    described = folder.parent / "dataset.json"
    dataset = read_dataset(described)
    spacing, transposed = _planned(folder)
    splits = folds_of(folder.parent / "splits_final.json")
    cases = [
        Case(
            identifier,
            (str(folder / f"{identifier}{_ENDING}"),),
            str(folder / f"{identifier}{_SEGMENTATION}"),
            split=splits.get(identifier),
            spacing=_spacing(folder / f"{identifier}.pkl", spacing, transposed),
        )
        for identifier in ids
    ]
    # The trainer looks cases up by nnU-Net's identifiers, so an unusable one is an error here, not another id.
    labels = _in_order_of_heads(labels_of(described, dataset))
    return Dataset(checked_cases(folder, cases), channels_of(described, dataset), labels)


def _identifiers(folder: Path) -> list[str]:
    """Return the case identifiers of a data folder, sorted."""
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; expected nnU-Net's preprocessed arrays there")
    names = [path.name for path in folder.iterdir()]
    ids = sorted(n.removesuffix(_ENDING) for n in names if n.endswith(_ENDING) and not n.endswith(_SEGMENTATION))
    if ids:
        return ids
    if any(name.endswith(".npz") for name in names):
        raise ConfigError(f"{folder}: got .npz files of nnU-Net before 2.6; preprocess again with 2.6 or newer")
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir() and any(path.glob(f"*{_ENDING}")))
    hint = f"give one of its folders: {', '.join(inside)}" if inside else "run nnUNetv2_preprocess first"
    raise ConfigError(f"{folder}: got no {_ENDING} files; {hint}")


def _planned(folder: Path) -> tuple[list[float], list[int]]:
    """Return the spacing in mm (2 or 3 numbers) and `transpose_forward` of the plan that a data folder belongs to."""
    found = []
    for path in sorted(folder.parent.glob("*.json")):
        plans = read_json(path)
        configurations = plans.get("configurations") if isinstance(plans, dict) else None
        if not isinstance(configurations, dict):
            continue
        for name in configurations:
            resolved = _resolved(configurations, name)
            if resolved.get("data_identifier") == folder.name and "spacing" in resolved:
                spacing = [float(side) for side in resolved["spacing"]]
                found.append((spacing, [int(axis) for axis in plans["transpose_forward"]]))
    if not found:
        raise ConfigError(f"{folder}: no plans in {folder.parent} name it as data_identifier; run nnUNetv2_plan again")
    if any(one != found[0] for one in found):
        raise ConfigError(
            f"{folder}: plans in {folder.parent} name it with several spacings: {found}; remove old plans"
        )
    return found[0]


def _resolved(configurations: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a configuration with what it inherits."""
    own = configurations.get(name) or {}
    parent = own.get("inherits_from")
    if parent is None or parent == name:
        return own
    return {**_resolved(configurations, parent), **own}


def _spacing(path: Path, planned: list[float], transposed: list[int]) -> tuple[float, float, float]:
    """Return the spacing (z, y, x) of a case; 2D plans leave the distance between slices as it was."""
    if len(planned) == 3:
        z, y, x = planned
        return z, y, x
    try:
        with open(path, "rb") as file:
            z = float(_Properties(file).load()["spacing"][transposed[0]])
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; run nnU-Net's preprocessing again") from error
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigError(f"{path}: not the properties of a case ({error}); preprocess again") from error
    return z, *planned  # type: ignore[return-value]  # two numbers


class _Properties(pickle.Unpickler):
    """Unpickle plain values and numpy arrays only: a pickle can otherwise run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module in _NUMPY_MODULES and name in _NUMPY_NAMES:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}, expected plain values and arrays")


def _in_order_of_heads(labels: Labels) -> Labels:
    """Return labels in the order of the network's heads.

    Examples
    --------
    >>> _in_order_of_heads({"background": 0, "tumour": 2, "ignore": 3, "organ": [1]})
    {'background': 0, 'organ': 1, 'tumour': 2, 'ignore': 3}
    >>> _in_order_of_heads({"background": 0, "core": 2, "whole": [1, 2]})
    {'background': 0, 'core': 2, 'whole': [1, 2]}
    """
    plain = {name: value[0] if isinstance(value, list) and len(value) == 1 else value for name, value in labels.items()}
    if any(isinstance(value, list) for value in plain.values()):
        return plain
    return dict(sorted(plain.items(), key=lambda item: item[1]))
