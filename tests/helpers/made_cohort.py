"""A small published cohort with its index.json, for the tests of what reads one."""

import hashlib
from functools import partial

import numpy as np

from softlabels.augmentation import NOT_ELASTIC
from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.case import IndexedCohort
from softlabels.cohort.case_table import CaseTable, EntryAddress, IndexedCase
from softlabels.cohort.index import Index, TargetDescription
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.grid import Grid
from softlabels.store import BitRound, Layer, Lossless, ScaleOffset, Store
from softlabels.store.format import chunk_shape
from softlabels.store.largest_classes import largest_classes

CLASSES = (LabelClass("background", (0,)), LabelClass("organ", (1,)), LabelClass("tumour", (2, 4)))
REGIONS = (LabelClass("whole", (1, 2, 4)), LabelClass("core", (2, 4)))
IGNORE = 9


def description(method, variant, classes, blend, **changes):
    """Return what the index says of a target of these classes."""
    described = {
        "node": None,
        "method": method,
        "variant": variant,
        "kind": "signed" if blend.rule == "signed_margin" else "probability",
        "classes": tuple(classes),
        "is_overlapping": classes is REGIONS,
        "blend": blend,
        "pad_value": (-1.0, -1.0) if classes is REGIONS else (1.0, 0.0, 0.0),
        "augmentation": {**NOT_ELASTIC, "flip": method != "svls"},
    }
    return TargetDescription(**described | changes)


TARGETS = {
    "onehot": description("onehot", "standard", CLASSES, Blend("onehot")),
    "smooth": description("label_smoothing", "standard", CLASSES, Blend("label_smoothing", 0.3)),
    "geols": description("geols", "paper", CLASSES, Blend("mix_onehot", 0.1)),
    "sing": description("sing", "paper", REGIONS, Blend("signed_margin", 0.5)),
    "svls": description("svls", "paper", CLASSES, Blend("none")),
}
#: The same maps stored sparse, for tests that ask `make_cohort` for them.
SPARSE = {
    "few_geols": description("geols", "paper", CLASSES, Blend("mix_onehot", 0.1), n_kept=3),
    "few_svls": description("svls", "paper", CLASSES, Blend("none"), n_kept=3),
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
        labels[0, -1, -2:-1], labels[0, -1, -1] = 4, IGNORE
    probabilities = rng.dirichlet([1, 1, 1], shape).transpose(3, 0, 1, 2).astype(np.float32)
    inside = np.stack([np.isin(labels, c.values) for c in REGIONS])
    signed = np.where(inside, 1, -1) * rng.random((2, *shape)).astype(np.float32)
    signed[:, :, 0] = -1
    return image, labels, probabilities, signed.astype(np.float32)


def publish(store, key, layers, grid):
    entry, _ = store.publish(key, layers, grid=grid, attributes={}, quality={}, provenance={})
    return EntryAddress(key, entry.manifest_digest)


def cut(labels, window):
    return labels[tuple(slice(*pair) for pair in window)]


def make_cohort(folder, shapes=SHAPES, spacing=(3.0, 1.0, 1.0), affine=(), targets=TARGETS):
    """Publish a cohort under `folder` and return the path of its index."""
    store, cases = Store(folder / "store"), []
    names = [[c.name for c in group] for group in (CLASSES, REGIONS)]
    for number, (case_id, shape) in enumerate(shapes.items()):
        image, labels, probabilities, signed = volumes(case_id, shape)
        grid = Grid(shape, spacing, affine)
        prepared = [
            Layer("image", image, ["T1", "T2"], Lossless()),
            Layer("labels", labels, encoding=Lossless(), role="labels"),
        ]
        geols = [Layer("target", probabilities, names[0], ScaleOffset("uint8", 0.0, 1.0))]
        sing = [Layer("target", signed, names[1], ScaleOffset("uint8", -1.0, 1.0))]
        addresses = {
            "geols": publish(store, key_of(case_id, "geols"), geols, grid),
            "sing": publish(store, key_of(case_id, "sing"), sing, grid),
            "svls": publish(store, key_of(case_id, "svls"), geols, grid),
        }
        if few := [name for name in SPARSE if name in targets]:
            layers, _ = largest_classes(probabilities, names[0], dtype="uint8", max_dropped=1e-4)
            addresses |= {name: publish(store, key_of(case_id, name), layers, grid) for name in few}
        prepare = publish(store, key_of(case_id, "prepare"), prepared, grid)
        blocks = LabelBlocks.count(shape, partial(cut, labels), chunk_shape(shape, 1))
        split = "train" if number % 2 == 0 else "val"
        cases.append(IndexedCase(case_id, split, (), prepare, addresses, blocks))
    return write_index(folder, cases, targets)


def write_index(folder, cases, targets=TARGETS):
    """Write index.json beside the store."""
    path = folder / "results" / "index.json"
    Index("../store", ("T1", "T2"), IGNORE, targets, (), CaseTable.of(cases)).write(path)
    return path


def open_made(index, case_id):
    """Return a case of an index, and each of its targets by name."""
    cohort = IndexedCohort.open(index)
    case = cohort.index.case(case_id)
    return cohort.case(case), {name: cohort.target(case, name) for name in cohort.index.targets}


def seeds_and_distance(case_id, shape):
    """Return seeds and a distance with unreached voxels."""
    _, labels, _, _ = volumes(case_id, shape)
    seeds = np.stack([np.isin(labels, c.values) for c in CLASSES])
    distance = np.where(seeds, 0.0, np.random.default_rng(0).random(seeds.shape)).astype(np.float32)
    distance[..., -1, -1] = np.inf
    return Layer("seeds", seeds, [c.name for c in CLASSES], Lossless()), Layer(
        "distance", distance, [f"T1:{c.name}" for c in CLASSES], BitRound(15)
    )
