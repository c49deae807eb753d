"""One layer of each kind, to be published in a store."""

import numpy as np

from softlabels.grid import Grid
from softlabels.store import BitRound, Layer, ScaleOffset, entry_key

GRID = Grid((21, 70, 67), (3.0, 1.0, 0.8))
RECORDS = {"attributes": {"stage": "test"}, "quality": {"worst": 0.25}, "provenance": {"host": "here"}}


def key_of(**params):
    """Return the key of an entry with these parameters."""
    return entry_key(stage="test", algorithm="1", params=params, inputs={})


def example_layers(grid=GRID, n_classes=3, seed=0):
    """Return target, distance, labels and seeds."""
    rng = np.random.default_rng(seed)
    target = rng.random((n_classes, *grid.shape)).astype(np.float32)
    distance = rng.exponential(30, (2, *grid.shape)).astype(np.float32)
    distance[1, :, :9] = np.inf
    labels = rng.integers(0, 4, grid.shape).astype(np.uint16)
    return [
        Layer("target", target, [f"class {i}" for i in range(n_classes)], ScaleOffset("uint8", 0, 1)),
        Layer("distance", distance, ["T1:a", "T1:b"], BitRound(12)),
        Layer("labels", labels, role="labels"),
        Layer("seeds", labels == 3),
    ]
