"""A small published cohort with its index.json, for the tests of what reads one."""

import hashlib

import numpy as np

from softlabels._shared.plain_json import sealed_json
from softlabels.grid import Grid
from softlabels.store import Exact, Integer, Layer, Rounded, Store

CLASSES = [
    {"name": "background", "values": [0]},
    {"name": "organ", "values": [1]},
    {"name": "tumour", "values": [2, 4]},
]
REGIONS = [{"name": "whole", "values": [1, 2, 4]}, {"name": "core", "values": [2, 4]}]
IGNORE = 9
TARGETS = {
    "onehot": ("onehot", "standard", CLASSES, {"rule": "onehot"}, [1.0, 0.0, 0.0]),
    "smooth": ("label_smoothing", "standard", CLASSES, {"rule": "label_smoothing", "epsilon": 0.3}, [1.0, 0.0, 0.0]),
    "geols": ("geols", "paper", CLASSES, {"rule": "mix_onehot", "alpha": 0.1}, [1.0, 0.0, 0.0]),
    "sing": ("sing", "paper", REGIONS, {"rule": "signed_margin", "delta": 0.5}, [-1.0, -1.0]),
    "svls": ("svls", "paper", CLASSES, {"rule": "none"}, [1.0, 0.0, 0.0]),
}
SHAPES = {"thin": (1, 30, 41), "small": (7, 9, 5), "large": (20, 70, 33), "empty": (8, 8, 8)}


def key_of(*names):
    return hashlib.sha256("/".join(names).encode()).hexdigest()


def volumes(case_id, shape):
    """Return image, labels and the stored maps of a case, drawn from its name."""
    rng = np.random.default_rng(int(key_of(case_id)[:8], 16))
    image = rng.normal(size=(2, *shape)).astype(np.float32)
    labels = np.zeros(shape, np.uint8)
    if case_id != "empty":
        labels[tuple(slice(n // 4, max(3 * n // 4, 1)) for n in shape)] = 1
        labels[tuple(slice(n // 2, max(3 * n // 4, 1)) for n in shape)] = 2
        labels[0, -1, -2:] = 4, IGNORE
    probabilities = rng.dirichlet([1, 1, 1], shape).transpose(3, 0, 1, 2).astype(np.float32)
    inside = np.stack([np.isin(labels, c["values"]) for c in REGIONS])
    signed = np.where(inside, 1, -1) * rng.random((2, *shape)).astype(np.float32)
    signed[:, :, 0] = -1
    return image, labels, probabilities, signed.astype(np.float32)


def publish(store, key, layers, grid):
    entry, _ = store.publish(key, layers, grid=grid, attributes={}, quality={}, provenance={})
    return {"key": key, "manifest": entry.manifest_digest}


def make_cohort(folder, shapes=SHAPES, spacing=(3.0, 1.0, 1.0)):
    """Publish a cohort under `folder` and return the path of its index."""
    store, cases = Store(folder / "store"), []
    names = [[c["name"] for c in group] for group in (CLASSES, REGIONS)]
    for number, (case_id, shape) in enumerate(shapes.items()):
        image, labels, probabilities, signed = volumes(case_id, shape)
        grid = Grid(shape, spacing)
        prepared = [
            Layer("image", image, ["T1", "T2"], Exact()),
            Layer("labels", labels, encoding=Exact(), role="labels"),
        ]
        geols = [Layer("target", probabilities, names[0], Integer("uint8", 0.0, 1.0))]
        sing = [Layer("target", signed, names[1], Integer("uint8", -1.0, 1.0))]
        addresses = {
            "geols": publish(store, key_of(case_id, "geols"), geols, grid),
            "sing": publish(store, key_of(case_id, "sing"), sing, grid),
            "svls": publish(store, key_of(case_id, "svls"), geols, grid),
        }
        prepare = publish(store, key_of(case_id, "prepare"), prepared, grid)
        split = "train" if number % 2 == 0 else "val"
        cases.append({"id": case_id, "split": split, "flags": [], "prepare": prepare, "targets": addresses})
    return write_index(folder, cases)


def write_index(folder, cases):
    """Write index.json beside the store."""
    described = {
        name: {
            "node": None,
            "method": method,
            "variant": variant,
            "kind": "signed" if rule["rule"] == "signed_margin" else "probability",
            "classes": classes,
            "is_overlapping": classes is REGIONS,
            "blend": rule,
            "pad_value": pad,
            "augmentation": {"flip": name != "svls", "rot90": True, "rescale": True, "elastic": False},
        }
        for name, (method, variant, classes, rule, pad) in TARGETS.items()
    }
    index = folder / "results" / "index.json"
    index.parent.mkdir(exist_ok=True)
    content = {
        "format": "softlabels-index",
        "version": 1,
        "store": "../store",
        "channels": ["T1", "T2"],
        "ignore_label": IGNORE,
        "targets": described,
        "missing": [],
        "cases": cases,
    }
    index.write_bytes(sealed_json(content))
    return index


def seeds_and_distance(case_id, shape):
    """Return seeds and a distance with unreached voxels."""
    _, labels, _, _ = volumes(case_id, shape)
    seeds = np.stack([np.isin(labels, c["values"]) for c in CLASSES])
    distance = np.where(seeds, 0.0, np.random.default_rng(0).random(seeds.shape)).astype(np.float32)
    distance[..., -1, -1] = np.inf
    return Layer("seeds", seeds, [c["name"] for c in CLASSES], Exact()), Layer(
        "distance", distance, [f"T1:{c['name']}" for c in CLASSES], Rounded(15)
    )
