"""A case in the viewer whose voxels have colours far apart."""

import numpy as np

from helpers.made_cohort import description, key_of, publish
from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.case import CaseTarget, PreparedCase
from softlabels.grid import Grid
from softlabels.store import Layer, Lossless, Store
from softlabels.view.entries import TargetEntries
from softlabels.view.viewer.case_view import CaseView

SHAPE = (6, 40, 60)
CLASSES = (LabelClass("background", (0,)), LabelClass("organ", (1,)), LabelClass("tumour", (2,)))
DESCRIPTION = description("svls", "paper", CLASSES, Blend("none"))
#: Voxels in the middle of a block in y and x.
VOXELS = [(0, 5, 5), (1, 25, 35), (3, 35, 55), (5, 15, 45), (4, 15, 15)]


def blocks(rng, levels, shape=SHAPE, size=(2, 10, 10)):
    """Return values that are constant in blocks, so that the middle of a voxel is far from another colour."""
    coarse = rng.choice(levels, [-(-n // s) for n, s in zip(shape, size, strict=True)])
    for axis, s in enumerate(size):
        coarse = coarse.repeat(s, axis)
    return coarse[tuple(slice(n) for n in shape)].astype(np.float32)


def make_case(folder, name, grid, seed=0):
    """Publish a case with one target and return its view and its arrays."""
    rng = np.random.default_rng(seed)
    soft = np.stack([blocks(rng, [0.0, 0.25, 0.5, 0.75, 1.0]) for _ in CLASSES])
    labels = blocks(rng, [0, 1, 2]).astype(np.uint8)
    distance = np.stack([blocks(rng, [0.0, 10.0, 20.0, 40.0]) for _ in CLASSES])
    distance[:, :, :10] = np.inf
    arrays = {"image": blocks(rng, [-100.0, 0.0, 40.0, 300.0]), "labels": labels, "soft": soft, "distance": distance}
    arrays["seeds"] = distance == 0
    names = [one.name for one in CLASSES]
    store, made = Store(folder / "store"), {}
    for stage, layers in {
        "prepare": [
            Layer("image", arrays["image"][None], ["CT"], Lossless()),
            Layer("labels", labels, encoding=Lossless(), role="labels"),
        ],
        "seeds": [Layer("seeds", arrays["seeds"], names, Lossless())],
        "distance": [Layer("distance", distance, [f"CT:{one}" for one in names], Lossless())],
        "target": [Layer("target", soft, names, Lossless())],
    }.items():
        publish(store, key_of(name, stage), layers, grid)
        made[stage] = store.find(key_of(name, stage))
    case = PreparedCase(name, made["prepare"])
    target = CaseTarget(case, "svls", DESCRIPTION, made["target"])
    return CaseView(case, {"svls": TargetEntries(target, made["seeds"], made["distance"])}), arrays


def oblique_grid():
    """Return a grid turned by about 20 degrees, its axes in an unusual order and direction."""
    turn = np.linalg.qr(np.array([[0.2, -0.95, 0.2], [-0.3, 0.1, 1.0], [0.9, 0.3, 0.2]]))[0]
    affine = np.block([[turn * [3.0, 1.0, 0.8], np.array([[13.0], [-40.0], [7.0]])], [0, 0, 0, 1]])
    return Grid(SHAPE, (3.0, 1.0, 0.8), affine)
