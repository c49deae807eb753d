"""What a stage reads is in its key: whatever is exchanged between two jobs, or while a job reads, is refused."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import made_data
from helpers.made_project import Project

from softlabels._shared.plain_json import sealed_json, unsealed_json
from softlabels.errors import FormatError, InputError
from softlabels.inputs import volume
from softlabels.inputs.stream import FileState
from softlabels.pipeline.job import run_job
from softlabels.pipeline.receipts import Receipt, receipt_path
from softlabels.pipeline.reuse import verified_receipt
from softlabels.pipeline.stages import STAGES, Job
from softlabels.store import Layer, Store

TARGETS = {"geols": {"method": "geols"}, "fine": {"method": "partial_volume"}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch, targets=TARGETS)


def nodes_of(project, stage):
    return [node for node in project.plan.nodes.values() if node.stage == stage]


def run_stages(project, case, *stages):
    for stage in stages:
        for node in nodes_of(project, stage):
            project.run(case, node)


def published(project):
    return set(project.store.keys())


def other_labels(path="case0_seg.nii.gz"):
    """Put other labels in the place of a case's, with the size and the time of the former file."""
    before = os.stat(path)
    labels = np.roll(made_data.tissue()[1], 2, axis=1)
    made_data.write_volume(Path(path), labels)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch_while_reading(monkeypatch, change):
    """Change a file after its samples were read and before the end of the reading."""
    read_into = volume.Stream.read_into

    def changed(stream, buffer):
        read_into(stream, buffer)
        if len(buffer) > 1000:
            change(Path(stream.path))

    monkeypatch.setattr(volume.Stream, "read_into", changed)


# prepare


@pytest.mark.parametrize("name", ["case0_t1.nii.gz", "case0_seg.nii.gz"])
def test_prepare_refuses_a_file_that_is_written_while_it_is_read(project, monkeypatch, name):
    def rewrite(path):
        if path.name == name:
            content = path.read_bytes()
            path.write_bytes(content)
            os.utime(path, ns=(0, os.stat(path).st_mtime_ns + 1))

    touch_while_reading(monkeypatch, rewrite)
    with pytest.raises(InputError, match=f"case0.*{name}: changed while it was read"):
        run_stages(project, project.cases[0], "prepare")
    assert published(project) == set()


def test_prepare_refuses_a_file_that_grows_while_it_is_read(project, monkeypatch):
    def grow(path):
        with open(path, "ab") as file:
            file.write(b"more")

    touch_while_reading(monkeypatch, grow)
    with pytest.raises(InputError, match=r"case0.*\.nii\.gz: "):
        run_stages(project, project.cases[0], "prepare")
    assert published(project) == set()


def test_prepare_takes_the_file_that_it_opened_where_another_takes_its_place(project, monkeypatch):
    labels = made_data.tissue()[1]
    states = {role: FileState.of(path) for role, path in project.cases[0].files()}

    def exchange(path):
        new = path.with_name(f"new_{path.name}")
        os.replace(made_data.write_volume(new, np.roll(labels, 1, axis=1)), path)

    touch_while_reading(monkeypatch, exchange)
    (node,) = nodes_of(project, "prepare")
    receipt = project.run(project.cases[0], node)
    np.testing.assert_array_equal(project.store.find(receipt.key).read("labels"), labels)
    # What the receipt says of the file is no longer true of the file that is there, so it can be told.
    assert {role: (one.size, one.mtime_ns) for role, one in receipt.files.items()} == states
    assert [line.split(":")[0] for line in receipt.changed_files(project.cases[0])] == ["image", "label"]


def test_prepare_records_digest_size_and_time_of_every_file(project):
    (node,) = nodes_of(project, "prepare")
    receipt = project.run(project.cases[0], node)
    assert set(receipt.files) == {"image:0", "label"}
    for role, path in project.cases[0].files():
        found = receipt.files[role]
        assert (found.size, found.mtime_ns) == FileState.of(path)
        assert found.digest == volume.read_volume(path, role=role.split(":")[0]).digest
    assert Receipt.read(receipt_path(project.results, "case0", node.id)) == receipt
    assert receipt.changed_files(project.cases[0]) == []


@pytest.mark.parametrize("age_ns", [-(10**18), 1, 10**9])
def test_other_file_older_or_newer_is_told_from_the_receipt_without_reading_it(project, age_ns):
    (node,) = nodes_of(project, "prepare")
    receipt, case = project.run(project.cases[0], node), project.cases[0]
    os.utime(case.label, ns=(0, receipt.files["label"].mtime_ns + age_ns))
    assert receipt.changed_files(case) == [f"label: {case.label} changed since it was read"]
    os.unlink(case.label)
    assert receipt.changed_files(case) == [f"label: {case.label} is gone"]
    moved = replace(case, images=(*case.images, "second.nii.gz"))
    assert "image:1: second.nii.gz was not read" in receipt.changed_files(moved)


# What every stage after prepare reads: receipts and entries


@pytest.mark.parametrize("stage", ["seeds", "distance", "target"])
def test_receipt_of_another_case_is_refused(project, stage):
    for case in project.cases:
        run_stages(project, case, "prepare", "seeds", "distance")
    (prepare,) = nodes_of(project, "prepare")
    shutil.copy(*(receipt_path(project.results, case, prepare.id) for case in ("case1", "case0")))
    before = published(project)
    with pytest.raises(FormatError, match="is that of case case1"):
        run_stages(project, project.cases[0], stage)
    assert published(project) == before


@pytest.mark.parametrize("stage", ["seeds", "distance", "target"])
def test_other_content_under_the_same_key_is_refused(project, tmp_path, stage):
    """A store that was rebuilt, or is another of the same name, holds an entry of the key, but not this one."""
    run_stages(project, project.cases[0], "prepare", "seeds", "distance")
    (prepare,) = nodes_of(project, "prepare")
    entry = project.store.find(Receipt.read(receipt_path(project.results, "case0", prepare.id)).key)
    other = Store(tmp_path / "other")
    layers = [Layer("labels", entry.read("labels") * 0, role="labels"), Layer("image", entry.read("image"), ["T1"])]
    other.publish(entry.key, layers, grid=entry.grid, attributes=entry.attributes, quality={}, provenance={})
    shutil.rmtree(entry.path)
    shutil.copytree(other.find(entry.key).path, entry.path)
    before = published(project)
    with pytest.raises(FormatError, match="got manifest"):
        run_stages(project, project.cases[0], stage)
    assert published(project) == before


@pytest.mark.parametrize(("stage", "stale"), [("distance", "seeds"), ("target", "distance")])
def test_entries_of_two_states_of_a_case_are_not_mixed(project, stage, stale):
    run_stages(project, project.cases[0], "prepare", "seeds", "distance")
    other_labels()
    run_stages(project, project.cases[0], "prepare")
    before = published(project)
    with pytest.raises(InputError, match=f"case0: its {stale} was computed from the prepare entry"):
        run_stages(project, project.cases[0], stage)
    assert published(project) == before
    run_stages(project, project.cases[0], "seeds", "distance", "target")


# target: the label file, which methods read that need the labels before resampling


def target(project, name):
    return project.plan.nodes[project.plan.targets[name]]


def test_target_refuses_a_label_file_that_is_not_the_one_that_was_prepared(project):
    run_stages(project, project.cases[0], "prepare", "seeds", "distance")
    former = Path("case0_seg.nii.gz").read_bytes()
    other_labels()
    before = published(project)
    with pytest.raises(
        InputError, match=r"case0, label: .*case0_seg.nii.gz is not the file that was prepared.*Restore"
    ):
        project.run(project.cases[0], target(project, "fine"))
    assert published(project) == before
    # Another target does not read it, and the former file is as good as ever.
    assert project.run(project.cases[0], target(project, "geols")).outcome == "computed"
    Path("case0_seg.nii.gz").write_bytes(former)
    assert project.run(project.cases[0], target(project, "fine")).outcome == "computed"


def test_target_refuses_a_label_file_that_is_written_while_it_is_read(project, monkeypatch):
    run_stages(project, project.cases[0], "prepare")
    touch_while_reading(monkeypatch, lambda path: os.utime(path, ns=(0, 0)))
    with pytest.raises(InputError, match="changed while it was read"):
        project.run(project.cases[0], target(project, "fine"))


def test_target_believes_no_provenance_that_the_key_does_not_prove(project):
    """Whoever exchanges the label may have written its digest into the provenance as well."""
    run_stages(project, project.cases[0], "prepare")
    other_labels()
    receipt = Receipt.read(next(project.results.glob("case0/prepare-*.json")))
    entry = project.store.find(receipt.key)
    path = entry.path / "PROVENANCE.json"
    content = unsealed_json(path.read_bytes())
    content["inputs"]["label"] = volume.read_volume("case0_seg.nii.gz", role="label").digest
    path.write_bytes(sealed_json(content))
    with pytest.raises(FormatError, match="its provenance is not that of this entry.*verify --discard"):
        project.run(project.cases[0], target(project, "fine"))


def test_stages_name_the_files_that_their_jobs_read(project):
    case = replace(project.cases[0], raters=("second.nii.gz",))
    found = {node.id: STAGES[node.stage].files(node, case) for node in project.plan.nodes.values()}
    assert found.pop(project.plan.prepare) == list(case.files())
    assert found.pop(project.plan.targets["fine"]) == [("label", case.label)]
    assert not any(found.values())


def test_nothing_is_read_before_it_is_asked_for(project, monkeypatch):
    """Making a job and asking for its paths touches no file; opening it does."""
    monkeypatch.setattr(volume, "Stream", None)
    (node,) = nodes_of(project, "prepare")
    job = Job(project.cases[0], node, project.store, project.results)
    assert job.node.inputs == {} and STAGES["prepare"].files(node, job.case)
    with pytest.raises(TypeError):
        run_job(job)


def test_a_case_that_a_run_has_verified_is_not_read_again_until_something_changes(project, monkeypatch):
    plan, (first, second) = project.plan, project.cases[:2]
    assert verified_receipt(plan, first, project.results) is None
    (node,) = nodes_of(project, "prepare")
    made = project.run(first, node)
    assert verified_receipt(plan, first, project.results) == made and made.checks == node.checks_digest
    assert verified_receipt(plan, second, project.results) is None
    # The same files may hold a label that is no longer declared.
    fewer = replace(node, checks=node.checks | {"label_values": [0, 1]})
    assert fewer.id == node.id
    assert verified_receipt(replace(plan, nodes=plan.nodes | {node.id: fewer}), first, project.results) is None
    label = Path(first.label)
    os.utime(label, ns=(0, label.stat().st_mtime_ns + 1))
    assert verified_receipt(plan, first, project.results) is None
    os.utime(label, ns=(0, label.stat().st_mtime_ns - 1))
    assert verified_receipt(plan, first, project.results) == made
    project.results.joinpath(first.id, f"{node.id}.json").write_text("{")
    assert verified_receipt(plan, first, project.results) is None


def test_check_reads_what_no_run_has_read_and_repeats_the_flags_of_the_rest(project):
    made_data.write_volume(Path("case0_seg.nii.gz"), np.minimum(made_data.tissue()[1], 1))
    (node,) = nodes_of(project, "prepare")
    project.run(project.cases[0], node)
    command = [sys.executable, "-m", "softlabels", "check"]
    said = [subprocess.run([*command, *more], capture_output=True, text=True).stdout for more in ([], ["--again"])]
    assert "1 of them were verified by a run" in said[0] and "verified by a run" not in said[1]
    flags = [[line for line in text.splitlines() if "absent_label:2" in line] for text in said]
    assert [len(lines) for lines in flags] == [1, 1] and "case0" in flags[0][0]
    assert all(f"{len(project.cases)} cases: {len(project.cases)} good" in text for text in said)
