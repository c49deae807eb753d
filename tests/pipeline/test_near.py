"""Distances within a gap in the pipeline: when, under which key, what is recorded, and what it changes."""

import numpy as np
import pytest
from helpers import made_data
from helpers.made_project import Project

from softlabels.config import parse_config
from softlabels.errors import ConfigError
from softlabels.methods.seeded import GAP_FROM
from softlabels.pipeline.plan import make_plan

N_CLASSES = 12


def many(targets, n_classes=N_CLASSES, **changes):
    """Return a configuration of many classes."""
    labels = {"background": 0} | {f"organ_{value}": value for value in range(1, n_classes)}
    return {"channels": ["T1"], "labels": labels, "targets": targets} | changes


def distance_params(target, n_classes=N_CLASSES, **changes):
    """Return the parameters of the one distance node of a target."""
    plan = make_plan(parse_config(many({"a": target}, n_classes, **changes)))
    (node,) = (node for node in plan.nodes.values() if node.stage == "distance")
    return node.params


def test_the_gap_is_in_the_key_exactly_where_it_changes_the_result():
    geols = {"method": "geols"}
    assert "gap" not in distance_params(geols, GAP_FROM - 1)
    assert distance_params(geols, GAP_FROM)["gap"] == 11.78
    assert distance_params(geols)["gap"] == 12.19 and distance_params(geols, 105)["gap"] == 14.36
    assert distance_params(geols | {"precision": "uint16"})["gap"] == 17.74
    assert "gap" not in distance_params(geols | {"distance": {"gap": "none"}})
    assert distance_params(geols | {"distance": {"gap": 20}}, 2)["gap"] == 20.0
    # Where distances matter however large they are, or the engine solves whole maps, auto is none.
    assert "gap" not in distance_params(geols | {"variant": "official"})
    fastgeodis = {"metric": "sum", "engine": "fastgeodis"}
    assert "gap" not in distance_params(geols | {"distance": fastgeodis})


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"method": "geols", "distance": {"gap": 3}},
            "gap: got 3, with which shares of 12 classes may be wrong by 1.2",
        ),
        ({"method": "geols", "distance": {"gap": 0.5}}, "distance.gap"),
        ({"method": "geols", "distance": {"gap": "all"}}, "distance.gap"),
        ({"method": "geols", "variant": "official", "distance": {"gap": 20}}, "geols official depends on distances"),
        (
            {"method": "geols", "distance": {"gap": 20, "metric": "sum", "engine": "fastgeodis"}},
            "engine fastgeodis solves whole maps",
        ),
    ],
)
def test_a_gap_that_makes_no_sense_is_refused(target, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(many({"a": target}))


@pytest.fixture
def projects(tmp_path, monkeypatch):
    """Return what makes a project of one case with 12 classes and 2 channels of a target."""
    rng = np.random.default_rng(0)
    shape = (14, 40, 36)
    labels = np.zeros(shape, np.uint8)
    for value in range(1, N_CLASSES - 1):  # organ_11 is absent
        z, y, x = (rng.integers(0, n - 5) for n in shape)
        labels[z : z + 5, y : y + 5 + value % 3, x : x + 5] = value
    images = [(labels % 4 * 40 + rng.normal(0, 10, shape)).astype(np.int16) for _ in range(2)]

    def make(name, target, **changes):
        folder = tmp_path / name
        config = many({"geols": {"method": "geols"} | target}, prepare={"normalise": "zscore"}, **changes)
        made_data.write_cohort(folder, n_cases=0, **config | {"channels": ["T1", "T2"]})
        for channel, image in enumerate(images):
            made_data.write_volume(folder / f"c{channel}.nii.gz", image)
        made_data.write_volume(folder / "seg.nii.gz", labels)
        (folder / "cases.tsv").write_text("case\timage:T1\timage:T2\tlabel\none\tc0.nii.gz\tc1.nii.gz\tseg.nii.gz\n")
        return Project.at(folder, monkeypatch)

    return make


def results(project):
    """Run a project; return the entries by stage."""
    receipts = {key[1].split("-")[0]: receipt for key, receipt in project.run_together(threads=2).items()}
    return {stage: project.store.find(receipt.key) for stage, receipt in receipts.items()}, receipts


@pytest.mark.parametrize("modalities", ["each", "vector"])
def test_the_target_is_that_of_all_distances_to_the_stored_precision(projects, modalities):
    near, _ = results(projects("near", {"storage": "dense", "distance": {"modalities": modalities}}))
    full, _ = results(projects("full", {"storage": "dense", "distance": {"modalities": modalities, "gap": "none"}}))
    level = 1 / 255
    found, expected = near["target"].read("target"), full["target"].read("target")
    assert np.abs(found - expected).max() <= level * 1.001
    assert (found != expected).mean() < 0.001
    # What is stored of the distances is near, with the bits of the whole solution, and recorded.
    kept, whole = near["distance"].read("distance"), full["distance"].read("distance")
    is_kept = np.isfinite(kept)
    np.testing.assert_array_equal(kept[is_kept], whole[is_kept])
    assert 0.05 < is_kept.mean() < 0.5 and near["distance"].channels("distance") == full["distance"].channels(
        "distance"
    )
    quality = near["distance"].quality
    assert quality["certified"] and quality["gap"]["asked"] == 12.19
    assert quality["gap"]["share_error_bound"] == pytest.approx(2 * N_CLASSES * np.exp(-12.19), rel=0.01)
    for record, one in zip(quality["maps"], whole, strict=True):
        largest = float(one.max(where=np.isfinite(one), initial=0))
        assert record["farthest"] == largest if record["farthest_is_exact"] else record["farthest"] <= largest
    assert near["target"].quality["notes"]["gap"] == quality["gap"]
    assert "class 'organ_11' absent" in near["target"].quality["flags"]
    for name in ("disagreement", "entropy_mean", "saturated", "sum_deviation_mean"):
        assert near["target"].quality[name] == pytest.approx(full["target"].quality[name], abs=1e-4), name


def test_kept_or_handed_on_in_memory_it_is_the_same_entry(projects):
    kept, receipts = results(projects("kept", {}, keep="all", stages_per_job="all"))
    held, others = results(projects("held", {}, keep="targets"))
    assert kept["distance"] is not None and held["distance"] is None
    assert kept["target"].manifest_digest == held["target"].manifest_digest
    assert receipts["distance"].quality == others["distance"].quality
