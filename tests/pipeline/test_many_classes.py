"""Many classes: made a few at a time, they are the entries of all classes at once, and memory does not follow them."""

import tracemalloc

import numpy as np
import pytest
from helpers import made_data
from helpers.made_project import Project

from softlabels.errors import SeedError
from softlabels.pipeline.stages import by_block, distance, target
from softlabels.store import format as store_format

SHAPE = (12, 44, 40)
BY_CLASS = {
    "sing": {"method": "sing"},
    "sing_official": {"method": "sing", "variant": "official", "distance": {"modalities": "vector"}},
    "mm": {"method": "level_set"},
    "official": {"method": "level_set", "variant": "official", "truncate": True},
    "normalised": {"method": "level_set", "variant": "normalised", "precision": "uint16"},
}
#: Methods whose map is 0 but for boxes, stored dense, and of regions that overlap.
REGIONS = {f"region_{value}": [value, value + 1] for value in range(1, 10)}
IN_BOXES = {
    "superpixel": {"method": "superpixel", "n_superpixels": 50},
    "superpixel_renormalised": {"method": "superpixel", "n_superpixels": 50, "renormalise": True},
    "dilation": {"method": "dilation", "storage": "dense"},
    "svls": {"method": "svls", "storage": "dense"},
    "partial_volume": {"method": "partial_volume", "storage": "dense"},
    "regions": {"method": "gaussian", "labels": {"background": 0} | REGIONS},
    "regions_dilated": {"method": "dilation", "labels": {"background": 0} | REGIONS},
}
#: Shares of all distances, which need all classes at a voxel.
WHOLE = {
    "whole": {"method": "geols", "storage": "sparse", "distance": {"gap": "none"}},
    "fine": {"method": "geols", "storage": "sparse", "precision": "uint16", "distance": {"gap": "none"}},
}


def made_labels(n_classes, shape=SHAPE):
    """Return labels of boxes in places of their own, the last class absent."""
    rng = np.random.default_rng(n_classes)
    labels = np.zeros(shape, np.uint8)
    places = [(z, y, x) for z in (1, 7) for y in range(1, shape[1] - 5, 6) for x in range(1, shape[2] - 5, 6)]
    for value, place in zip(range(1, n_classes - 1), rng.permutation(places), strict=False):
        z, y, x = place
        labels[z : z + 4, y : y + 4 + value % 2, x : x + 4] = value
    return labels


def make(folder, monkeypatch, n_classes, targets, n_channels=1, **changes):
    """Return a project of one case."""
    labels, rng = made_labels(n_classes), np.random.default_rng(1)
    channels = [f"T{n}" for n in range(n_channels)]
    names = {"background": 0} | {f"organ_{value}": value for value in range(1, n_classes)}
    config = {"channels": channels, "labels": names, "targets": targets, "prepare": {"normalise": "zscore"}} | changes
    made_data.write_cohort(folder, n_cases=0, **config)
    for name in channels:
        made_data.write_volume(folder / f"{name}.nii.gz", (labels * 9 + rng.normal(0, 10, SHAPE)).astype(np.int16))
    made_data.write_volume(folder / "seg.nii.gz", labels)
    columns = "\t".join(f"image:{name}" for name in channels)
    files = "\t".join(f"{name}.nii.gz" for name in channels)
    (folder / "cases.tsv").write_text(f"case\t{columns}\tlabel\none\t{files}\tseg.nii.gz\n")
    return Project.at(folder, monkeypatch)


def found(project):
    """Run a project; return what the receipts say of every result, and what the provenance has of its past."""
    receipts = project.run_together(threads=2)
    said = {work: (one.key, one.quality, one.flags) for work, one in receipts.items()}
    manifests = {work: one.manifest for work, one in receipts.items()}
    history = {work: project.store.find(one.key).provenance["history"] for work, one in receipts.items() if one.is_kept}
    return said, manifests, history


@pytest.mark.parametrize(
    ("targets", "n_channels", "keep"),
    [(BY_CLASS, 1, "all"), (BY_CLASS, 2, "all"), (BY_CLASS, 2, "targets"), (BY_CLASS, 1, ["distance"])]
    + [(IN_BOXES, 2, "all"), (WHOLE, 2, "all"), (WHOLE, 1, "targets")],
)
def test_class_by_class_every_entry_is_the_one_of_all_classes_at_once(tmp_path, monkeypatch, targets, keep, n_channels):
    few = make(tmp_path / "few", monkeypatch, 11, targets, n_channels, keep=keep)
    by_class = found(few)
    assert few.store.verify(deep=True) == []
    for module in (distance, target):
        monkeypatch.setattr(module, "MANY_CLASSES", 1000)
    at_once = found(make(tmp_path / "all", monkeypatch, 11, targets, n_channels, keep=keep))
    assert by_class == at_once
    flags = [flag for _, _, flags in by_class[0].values() for flag in flags]
    assert {"class 'organ_10' absent", "class 'organ_10' absent: -1 everywhere"} & set(flags)


def peak_of(project):
    """Return the largest memory that arrays take while a project runs, in bytes per voxel of the volume."""
    tracemalloc.start()
    try:
        project.run_together(threads=1)
        return tracemalloc.get_traced_memory()[1] / np.prod(SHAPE)
    finally:
        tracemalloc.stop()


@pytest.fixture
def small_chunks(monkeypatch):
    """Let 4 channels of bytes share a chunk, and a volume have several blocks, as they do where it is large."""
    monkeypatch.setattr(by_block, "_BLOCK", SHAPE[1] * SHAPE[2])
    for name in ("CHUNK_BYTES", "ROUNDED_CHUNK_BYTES"):
        monkeypatch.setattr(store_format, name, 4 * SHAPE[0] * SHAPE[1] * SHAPE[2])


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("name", "keep"),
    [("sing", "all"), ("sing", "targets"), ("sing_official", "targets"), ("mm", "all"), ("normalised", "all")]
    + [("superpixel", "all"), ("dilation", "all"), ("svls", "all"), ("partial_volume", "all")]
    + [("whole", "all")],
)
def test_memory_does_not_follow_the_number_of_classes(tmp_path, monkeypatch, name, keep):
    targets = {name: (BY_CLASS | IN_BOXES | WHOLE)[name]}
    make(tmp_path / "first", monkeypatch, 9, targets, keep=keep).run_together(threads=1)
    few, many = (peak_of(make(tmp_path / f"{n}", monkeypatch, n, targets, keep=keep)) for n in (10, 60))
    # 50 further classes: at once, their float32 maps alone are 200 bytes a voxel, and their masks are 50. In so small a
    # volume their boxes and figures are 10 to 35. A block, here an eleventh of the volume, has all classes.
    most = 150 if name == "whole" else 45
    assert many - few < most
    assert many < 75 + most


def test_distances_that_are_not_kept_are_solved_once_and_their_failure_is_theirs(tmp_path, monkeypatch):
    solved = []

    def counted(job, image, seeds, *rest, solve=distance._solve):
        solved.append(len(seeds))
        if len(solved) == n_good + 1:
            raise SeedError("made to fail")
        return solve(job, image, seeds, *rest)

    monkeypatch.setattr(distance, "_solve", counted)
    n_good = 99
    make(tmp_path / "good", monkeypatch, 12, {"sing": {"method": "sing"}}, keep="targets").run_together(threads=1)
    assert sum(solved) == 11  # the background is no class of a signed map
    solved.clear()
    n_good = 1
    bad = make(tmp_path / "bad", monkeypatch, 12, {"sing": {"method": "sing"}}, keep="targets")
    with pytest.raises(Exception, match="made to fail"):
        bad.run_together(threads=1)
    (node,) = (node for node in bad.plan.nodes if node.startswith("distance"))
    assert [path.stem for path in bad.results.glob("one/*.failed")] == [node]
    assert not [path for path in bad.results.glob("one/*.json") if path.stem.startswith(("distance", "target"))]
    assert [bad.store.find(key).attributes["stage"] for key in list(bad.store.keys())] == ["prepare"]
