"""Distances of few classes: solved, written and read a channel at a time, with the entries of all at once."""

import time
import weakref

import numpy as np
import pytest
import yaml
from helpers import made_data
from helpers.made_project import Project

from softlabels.errors import InputError
from softlabels.pipeline.stages import distance
from softlabels.store import format as store_format

LABELS = made_data.CONFIG["labels"]
METHODS = {
    "paper": {"method": "geols"},
    "vector": {"method": "geols", "distance": {"modalities": "vector"}},
    "official": {"method": "geols", "variant": "official"},
    "sing": {"method": "sing"},
    "regions": {"method": "sing", "labels": {"background": 0, "whole": [1, 2], "core": 1}},
}


@pytest.fixture
def folder(tmp_path):
    """A case of three channels and three classes."""
    folder = tmp_path / "project"
    made_data.write_cohort(folder, n_cases=0)
    names = [f"{seed}.nii.gz" for seed in range(3)]
    for seed, name in enumerate(names):
        made_data.write_volume(folder / name, made_data.tissue(seed)[0])
    made_data.write_volume(folder / "label.nii.gz", made_data.tissue()[1])
    rows = [["case", "image:a", "image:b", "image:c", "label"], ["one", *names, "label.nii.gz"]]
    (folder / "cases.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def solved(monkeypatch):
    """The images and the numbers of classes that distances are solved for."""
    found = []

    def counted(job, image, seeds, *rest, solve=distance._solve):
        found.append((image.tobytes(), len(seeds)))
        return solve(job, image, seeds, *rest)

    monkeypatch.setattr(distance, "_solve", counted)
    return found


@pytest.fixture(params=[1, 3, 4, 9])
def maps_per_chunk(request, monkeypatch):
    """Let some maps share a chunk: parts of a channel, a channel, or more than one."""
    n_bytes = request.param * 4 * np.prod(made_data.SHAPE).item()
    monkeypatch.setattr(store_format, "ROUNDED_CHUNK_BYTES", n_bytes)
    return request.param


def run(folder, monkeypatch, targets, keep):
    """Run the case in a new store."""
    config = made_data.CONFIG | {"channels": ["a", "b", "c"], "targets": targets, "keep": keep}
    name = "_".join([keep] if isinstance(keep, str) else keep)
    config |= {"store": f"store_{name}", "results": f"results_{name}"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return Project.at(folder, monkeypatch).run_together(threads=2)


@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("keep", ["all", "targets"])
@pytest.mark.usefixtures("maps_per_chunk")
def test_each_channel_is_solved_once_whoever_reads_it_and_however_it_is_stored(
    folder, monkeypatch, solved, keep, n_targets
):
    targets = {name: {"method": "geols", "precision": name} for name in ["uint8", "uint16"][:n_targets]}
    receipts = run(folder, monkeypatch, targets, keep)
    assert len(receipts) == 3 + n_targets
    assert [n for _, n in solved] == [3] * 3 and len({image for image, _ in solved}) == 3
    (figures,) = (one.quality for one in receipts.values() if one.stage == "distance")
    assert [m["map"] for m in figures["maps"]] == [f"{channel}:{name}" for channel in "abc" for name in LABELS]
    assert figures["certified"]


def assert_same_entries(every, few):
    """Compare what was computed of a case in two ways: keys, figures, and the bytes of the targets."""
    assert {work: (one.key, one.quality) for work, one in every.items()} == {
        work: (one.key, one.quality) for work, one in few.items()
    }
    manifests = [{one.manifest for one in found.values() if one.stage == "target"} for found in (every, few)]
    assert manifests[0] == manifests[1] and len(manifests[0]) == 1


@pytest.mark.usefixtures("maps_per_chunk")
@pytest.mark.parametrize("name", METHODS)
def test_entries_are_the_same_whatever_is_kept(folder, monkeypatch, name):
    assert_same_entries(*(run(folder, monkeypatch, {name: METHODS[name]}, keep) for keep in ("all", "targets")))


@pytest.mark.parametrize("kept", ["seeds", "distance"])
@pytest.mark.parametrize("name", METHODS)
def test_entries_are_the_same_if_one_stage_more_is_kept(folder, monkeypatch, name, kept):
    few = ["prepare", kept, "target"]
    assert_same_entries(*(run(folder, monkeypatch, {name: METHODS[name]}, keep) for keep in ("all", few)))


def n_left(held):
    """Return how many arrays are in memory; threads that have just written a part of one still let go of it."""
    for _ in range(100):
        if not any(one() is not None for one in held):
            break
        time.sleep(0.01)
    return sum(one() is not None for one in held)


@pytest.mark.parametrize("keep", ["all", "targets"])
@pytest.mark.parametrize("name", ["paper", "official"])
@pytest.mark.usefixtures("maps_per_chunk")
def test_no_channel_is_in_memory_while_the_next_is_solved(folder, monkeypatch, keep, name):
    held, left = [], []

    def noted(*arguments, solve=distance._solve):
        left.append(n_left(held))
        maps, findings = solve(*arguments)
        # A copy owns its memory, so that what is cut from it holds it.
        held.append(weakref.ref(maps := maps.copy()))
        return maps, findings

    monkeypatch.setattr(distance, "_solve", noted)
    run(folder, monkeypatch, {name: METHODS[name]}, keep)
    assert left == [0, 0, 0] and n_left(held) == 0


@pytest.mark.parametrize(
    ("names", "keep", "is_on_demand"),
    [
        (["paper"], "targets", True),
        (["sing"], "targets", False),
        (["paper", "fine"], "targets", False),
        (["paper", "fine"], "all", True),
    ],
)
def test_distances_that_are_not_kept_are_held_only_for_whoever_needs_all(
    folder, monkeypatch, names, keep, is_on_demand
):
    made = []
    for name in ("on_demand", "at_once"):
        monkeypatch.setattr(distance._Maps, name, noted(made, name))
    targets = METHODS | {"fine": {"method": "geols", "precision": "uint16"}}
    run(folder, monkeypatch, {name: targets[name] for name in names}, keep)
    assert made == ["on_demand" if is_on_demand else "at_once"]


def noted(made, name):
    """Return a method of `_Maps` that notes its calls."""
    method = getattr(distance._Maps, name)

    def called(self, *arguments):
        made.append(name)
        return method(self, *arguments)

    return called


@pytest.mark.parametrize("keep", ["all", "targets"])
@pytest.mark.parametrize("n_good", [0, 1, 2])
@pytest.mark.usefixtures("maps_per_chunk")
def test_a_channel_that_cannot_be_solved_is_the_failure_of_the_distance_and_leaves_nothing(
    folder, monkeypatch, keep, n_good
):
    config = made_data.CONFIG | {"channels": ["a", "b", "c"], "targets": {"geols": {"method": "geols"}}, "keep": keep}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    project, solved = Project.at(folder, monkeypatch), []

    def some(*arguments, solve=distance._solve):
        solved.append(arguments)
        if len(solved) > n_good:
            raise InputError("made to fail")
        return solve(*arguments)

    monkeypatch.setattr(distance, "_solve", some)
    with pytest.raises(InputError, match="The first, one: made to fail"):
        project.run_together(threads=2)
    assert len(solved) == n_good + 1
    (node,) = (node for node in project.plan.nodes if node.startswith("distance"))
    assert [path.stem for path in project.results.glob("one/*.failed")] == [node]
    kept = {"prepare", "seeds"} if keep == "all" else {"prepare"}
    assert {node.split("-")[0] for _, node in project.receipts()} == kept
    assert {project.store.find(key).attributes["stage"] for key in list(project.store.keys())} == kept
    assert not list(project.store.path.rglob(".tmp-*"))
