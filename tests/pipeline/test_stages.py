"""Jobs without Snakemake: what enters a key, what is reused, how errors name case and stage."""

import os
from pathlib import Path

import numpy as np
import pytest
from helpers import made_data
from helpers.made_project import Project

from softlabels._shared.plain_json import sealed_json, unsealed_json
from softlabels.calibration import Calibration
from softlabels.cohort.case import IndexedCohort
from softlabels.cohort.index import Index
from softlabels.errors import FormatError, InputError, SoftLabelsError
from softlabels.inputs.volume import read_volume
from softlabels.methods import METHODS
from softlabels.pipeline.receipts import Receipt
from softlabels.pipeline.upkeep import forget_receipts
from softlabels.store import Store

GEOLS = {"geols": {"method": "geols"}}


@pytest.fixture
def project(tmp_path, monkeypatch):
    return Project(tmp_path, monkeypatch, targets=GEOLS)


def test_second_run_reuses_every_entry_and_agrees(project):
    first, second = project.run_all(), project.run_all()
    assert {r.outcome for r in first.values()} == {"computed"} and {r.outcome for r in second.values()} == {"reused"}
    assert {k: (r.key, r.manifest) for k, r in first.items()} == {k: (r.key, r.manifest) for k, r in second.items()}


def test_threads_do_not_enter_the_result(project, tmp_path, monkeypatch):
    one = {stage: r.manifest for (case, stage), r in project.run_all().items() if case == "case0"}
    other = Project(tmp_path / "other", monkeypatch, targets=GEOLS)
    for node in other.plan.nodes.values():
        assert other.run(other.cases[0], node, threads=3).manifest == one[node.stage]


def test_equal_files_under_another_case_id_are_computed_once(project):
    (Path("case1_t1.nii.gz")).write_bytes(Path("case0_t1.nii.gz").read_bytes())
    (Path("case1_seg.nii.gz")).write_bytes(Path("case0_seg.nii.gz").read_bytes())
    receipts = project.run_all()
    assert receipts["case0", "target"].key == receipts["case1", "target"].key
    assert receipts["case1", "target"].outcome == "reused"


def test_random_seeds_belong_to_a_case(tmp_path, monkeypatch):
    seeds = {"strategy": "random", "n": 3}
    project = Project(tmp_path, monkeypatch, targets={"geols": {"method": "geols", "seeds": seeds}})
    (Path("case1_t1.nii.gz")).write_bytes(Path("case0_t1.nii.gz").read_bytes())
    (Path("case1_seg.nii.gz")).write_bytes(Path("case0_seg.nii.gz").read_bytes())
    receipts = project.run_all()
    assert receipts["case0", "prepare"].key == receipts["case1", "prepare"].key
    drawn = [project.store.find(receipts[case, "seeds"].key).read("seeds") for case in ("case0", "case1")]
    assert receipts["case0", "seeds"].key != receipts["case1", "seeds"].key and not np.array_equal(*drawn)
    assert drawn[0].sum(axis=(1, 2, 3)).tolist() == [3, 3, 3]


def test_one_changed_voxel_changes_every_key(project):
    before = {stage: r.key for (case, stage), r in project.run_all().items() if case == "case0"}
    image, _ = made_data.tissue(seed=0)
    image[0, 0, 0] += 1
    made_data.write_volume(Path("case0_t1.nii.gz"), image)
    after = {stage: r.key for (case, stage), r in project.run_all().items() if case == "case0"}
    assert all(before[stage] != after[stage] for stage in before)


def test_target_is_a_distribution_and_keeps_the_grid(project):
    entry = project.store.find(project.run_all()["case0", "target"].key)
    target = entry.read("target")
    np.testing.assert_allclose(target.sum(axis=0), 1, atol=3 * 0.5 / 255)
    assert entry.grid.spacing == made_data.SPACING and entry.channels("target") == ("background", "necrosis", "edema")


def test_absent_class_is_flagged_and_defined(project):
    labels = made_data.tissue(seed=0)[1]
    made_data.write_volume(Path("case0_seg.nii.gz"), np.minimum(labels, 1))
    receipts = project.run_all()
    entry = project.store.find(receipts["case0", "target"].key)
    assert any("edema" in flag for flag in receipts["case0", "target"].flags)
    assert not entry.read("target")[2].any()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda image, labels: (image, labels + 7), "7"),
        (lambda image, labels: (image, labels + 0.5), "integer"),
        (lambda image, labels: (np.where(labels, np.nan, image).astype(np.float32), labels), "NaN"),
        (lambda image, labels: (image, labels[:-1]), "shape"),
        (lambda image, labels: (np.stack([image, image]), labels), "channel"),
    ],
    ids=["undeclared label", "fractional label", "NaN", "other grid", "two channels"],
)
def test_bad_input_is_named_with_its_case_and_nothing_is_published(project, spoil, says):
    image, labels = spoil(*made_data.tissue())
    if image.ndim == 4:
        import SimpleITK as sitk

        sitk.WriteImage(sitk.JoinSeries([sitk.GetImageFromArray(i) for i in image]), "case0_t1.nii.gz")
    else:
        made_data.write_volume(Path("case0_t1.nii.gz"), image)
    made_data.write_volume(Path("case0_seg.nii.gz"), labels)
    with pytest.raises(InputError, match="case0") as caught:
        project.run(project.cases[0], project.plan.nodes[project.plan.prepare])
    assert says in str(caught.value) and "prepare" in caught.value.__notes__[0]
    assert not list(project.store.keys()) and not list(project.results.glob("case0/*.json"))
    assert project.run(project.cases[1], project.plan.nodes[project.plan.prepare]).outcome == "computed"


def test_lost_upstream_says_what_to_do(project):
    receipts = project.run_all()
    project.store.discard(receipts["case0", "seeds"].key)
    distance = next(node for node in project.plan.nodes.values() if node.stage == "distance")
    with pytest.raises(SoftLabelsError, match="verify --discard"):
        project.run(project.cases[0], distance)
    assert forget_receipts(project.results, {receipts["case0", "seeds"].key}) == 1


def test_index_waits_for_all_cases_or_names_those_left_out(project):
    for node in project.plan.nodes.values():
        project.run(project.cases[0], node)
    with pytest.raises(InputError, match="1 of 2 cases have no result yet: case1"):
        project.index()
    index = project.index(allow_missing=True)
    assert [case.id for case in index.cases] == ["case0"] and index.missing == ("case1",)
    assert index.store_path(project.results / "index.json").resolve() == project.store.path


def test_the_index_says_where_labels_and_files_of_a_case_are_whether_its_entry_was_computed_or_reused(project):
    for _ in range(2):
        project.run_all()
        for case in project.index().cases:
            entry = project.store.find(case.prepare.key)
            labels = entry.read("labels")
            assert case.grid == read_volume(f"{case.id}_t1.nii.gz").grid
            assert case.labels.shape == labels.shape and case.labels.block == entry.chunks("labels")
            assert case.labels.counts.keys() == set(np.unique(labels).tolist()) - {0}
            assert all(case.labels.of_class([v]).sum() == (labels == v).sum() for v in np.unique(labels).tolist())


def test_results_from_before_that_was_noted_give_an_index_without_them(project):
    project.run_all()
    for path in project.results.glob("*/prepare-*.json"):
        content = unsealed_json(path.read_bytes())
        assert content.pop("labels") and content.pop("grid")
        path.write_bytes(sealed_json(content))
    assert [(case.labels, case.grid) for case in project.index().cases] == [(None, None)] * 2


@pytest.mark.parametrize("linked", ["results", "store"])
def test_the_store_is_found_from_an_index_where_a_folder_is_a_link(project, tmp_path, linked):
    scratch = tmp_path / "scratch" / "deep" / linked
    scratch.mkdir(parents=True)
    (tmp_path / linked).rmdir() if (tmp_path / linked).exists() else None
    (tmp_path / linked).symlink_to(scratch)
    project.run_all()
    path = project.results / "index.json"
    project.index().write(path)
    cohort = IndexedCohort.open(path)
    for case in cohort.index.cases:
        assert cohort.target(case, "geols").soft_label().shape == (3, *made_data.SHAPE)
        links = list((project.results / case.id).glob("*.zarr"))
        assert len(links) == len(project.plan.nodes) and all((link / "zarr.json").is_file() for link in links)
    if linked == "store":
        assert cohort.index.store == "../store"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"receipt": 99}', '{"receipt": 1, "case": "a"}'])
def test_damaged_receipt_is_named(tmp_path, text):
    path = tmp_path / "seeds-00000000.json"
    path.write_text(text)
    with pytest.raises(FormatError, match="seeds-00000000.json: damaged"):
        Receipt.read(path)


ALL_METHODS = {
    f"{name}_{one.variant_name}": {"method": name, **one.model_dump(include={"variant"})}
    for name, method in METHODS.built_in.items()
    for one in method.in_every_variant()
    if "raters" not in method.needs
} | {
    "superpixel_paper": {"method": "superpixel", "n_superpixels": 40},
    "svls_paper": {"method": "svls", "precision": "uint16"},
    "level_set_official": {"method": "level_set", "variant": "official", "truncate": True},
    "unmix_standard": {"method": "unmix", "sigma_mm": 0.7},
}


def test_every_method_goes_from_files_to_an_index_entry(tmp_path, monkeypatch):
    project = Project(tmp_path, monkeypatch, n_cases=1, targets=ALL_METHODS)
    project.run_all()
    index = project.index()
    assert set(index.targets) == set(ALL_METHODS)
    for name, address in index.cases[0].targets.items():
        described = index.targets[name]
        entry = project.store.find(address.key, address.manifest)
        target = entry.read("target")
        assert target.shape == (len(described.classes), *made_data.SHAPE) and np.isfinite(target).all(), name
        assert len(described.pad_value) == len(described.classes), name
    derived = {name for name, target in project.config.targets.items() if not target.is_stored()}
    assert derived == {"onehot_standard", "label_smoothing_standard"}
    assert set(ALL_METHODS) - set(index.cases[0].targets) == derived


DISTRIBUTIONS = {
    name: target | {"precision": "uint8"}
    for name, target in ALL_METHODS.items()
    if METHODS[target["method"]].model_validate({k: v for k, v in target.items() if k != "method"}).sums_to_one
    and METHODS[target["method"]].is_stored()
}


def test_every_distribution_may_be_stored_sparse(tmp_path, monkeypatch):
    sparse = {
        f"few_{name}": target | {"storage": "sparse", "max_dropped": 0.02} for name, target in DISTRIBUTIONS.items()
    }
    project = Project(tmp_path, monkeypatch, n_cases=2, targets=DISTRIBUTIONS | sparse)
    nodes = project.plan.nodes.values()
    receipts = {(case.id, node.id): project.run(case, node) for case in project.cases for node in nodes}
    path = project.results / "index.json"
    project.index().write(path)
    cohort = IndexedCohort.open(path)
    for name in DISTRIBUTIONS:
        few = cohort.index.targets[f"few_{name}"]
        figures = [receipts[case, few.node].quality["sparse"] for case in ("case0", "case1")]
        assert few.n_kept == max(one["n_kept"] for one in figures)
        assert all(one["dropped_max"] <= 0.02 and one["error_max"] <= one["error_bound"] < 0.0241 for one in figures)
        for case in cohort.index.cases:
            dense, reduced = (cohort.target(case, one).stored() for one in (name, f"few_{name}"))
            np.testing.assert_allclose(reduced, dense, rtol=0, atol=0.5 / 255 + figures[0]["error_bound"])
            has_class = dense.any(axis=0)
            np.testing.assert_allclose(reduced.sum(axis=0)[has_class], 1, atol=1e-6)
            stored = cohort.target(case, f"few_{name}").stored_map
            assert stored.is_sparse and stored.class_names == ("background", "necrosis", "edema")


def test_a_calibration_reaches_the_soft_label_without_computing_anything(tmp_path, monkeypatch):
    calibrate = {"slope": 0.5, "offsets": {"edema": 1.0}, "fitted_for": "rater 2"}
    targets = {"plain": {"method": "gaussian"}, "wide": {"method": "gaussian", "calibrate": calibrate}}
    project = Project(tmp_path, monkeypatch, n_cases=1, targets=targets)
    project.run_all()
    described = Index.from_bytes(project.index().to_bytes()).targets
    assert described["plain"].node == described["wide"].node
    assert described["wide"].blend.calibration == Calibration(0.5, (0.0, 0.0, 1.0), "rater 2")
    labels = np.array([[[0, 2]]], np.uint8)
    stored = np.array([[[[0.5, 0.0]]], [[[0.0, 0.0]]], [[[0.5, 1.0]]]], np.float32)
    soft = described["wide"].soft_label(labels, stored)
    np.testing.assert_allclose(soft[2, 0, 0], [np.e / (1 + np.e), 1], rtol=1e-6)


def test_method_that_needs_raters_says_so(tmp_path, monkeypatch):
    project = Project(tmp_path, monkeypatch, n_cases=1, targets={"mean": {"method": "multi_rater"}})
    with pytest.raises(InputError, match="case case0: got one label file.*label:<rater>"):
        project.run_all()


def test_n_files_of_a_case_stays_far_below_forty(project):
    project.run_all()
    entries = [r.key for r in (Receipt.read(p) for p in project.results.glob("case0/*.json"))]
    assert sum(project.store.find(key).n_files for key in entries) < 40


def test_other_names_of_channels_are_other_entries_each_with_its_own_names(project):
    from dataclasses import replace

    first = project.run_all()
    prepare = project.plan.nodes[project.plan.prepare]
    project.plan.nodes[prepare.id] = replace(prepare, checks={**prepare.checks, "channels": ["MPRAGE"]})
    second = project.run_all()
    for receipts, name in ((first, "T1"), (second, "MPRAGE")):
        image, distance = (project.store.find(receipts["case0", stage].key) for stage in ("prepare", "distance"))
        assert list(image.channels("image")) == [name]
        assert {channel.partition(":")[0] for channel in distance.channels("distance")} == {name}


def test_flags_of_every_stage_reach_the_index_while_their_receipts_are_there(project):
    from dataclasses import replace

    project.run_all()
    path = next(project.results.glob("case0/distance-*.json"))
    replace(Receipt.read(path), flags=["map T1:gm: not certified exact"]).write(path)
    first, second = project.index().cases
    assert "map T1:gm: not certified exact" in first.flags and second.flags == ()
    path.unlink()
    assert project.index().cases[0].flags == ()


def test_a_project_that_was_moved_with_its_store_is_read_where_it_lies_now(project, tmp_path, monkeypatch):
    from softlabels.monitor.explain import explain_case
    from softlabels.pipeline.upkeep import absent_keys
    from softlabels.view.entries import case_entries

    project.run_all()
    moved = tmp_path.with_name(f"{tmp_path.name}_moved")
    tmp_path.rename(moved)
    monkeypatch.chdir(moved)
    found = case_entries(project.config, project.plan, "case0")
    prepare = found.case.entry
    entries = [prepare, *(one.target.entry for one in found.targets.values())]
    assert all(entry.path.is_relative_to(moved) for entry in entries)
    links = list(moved.glob("results/case0/*.zarr"))
    assert len(links) == len(project.plan.nodes) and all((link / "zarr.json").is_file() for link in links)
    rows = explain_case(project.cases[0], project.plan, Path("results"), store := Store("store"))
    assert {row.store for row in rows} == {moved / "store"}
    assert absent_keys(Path("results"), store, is_own=True) == set()
    # What the remedy of a missing entry promises must hold here too.
    store.discard(prepare.key)
    assert absent_keys(Path("results"), store, is_own=True) == {prepare.key}
    assert absent_keys(Path("results"), store, is_own=False) == set()
    with pytest.raises(SoftLabelsError, match="verify --discard"):
        case_entries(project.config, project.plan, "case0")


def test_results_that_still_lie_in_another_store_are_not_absent(project):
    from softlabels.pipeline.upkeep import absent_keys

    project.run_all()
    assert absent_keys(project.results, Store("new"), is_own=True) == set()


def test_receipts_of_an_entry_that_another_version_computed_again_are_written_again(project, monkeypatch):
    from dataclasses import replace

    from softlabels.pipeline.upkeep import replaced_keys

    project.run_all()
    before = {case.id: case.prepare for case in project.index().cases}
    project.store.discard(before["case0"].key)
    forget_receipts(project.results, {before["case0"].key})
    with monkeypatch.context() as patch:
        patch.setattr("softlabels.store.format.MANY_CHANNELS", 0)  # another codec
        project.run_all()
    after = {case.id: case.prepare for case in project.index().cases}
    assert after["case0"].key == before["case0"].key and after["case0"].manifest != before["case0"].manifest
    assert after["case1"] == before["case1"]
    assert replaced_keys(project.results, project.store, is_own=True) == set()
    # Another project has the receipts of before.
    receipt = next(project.results.glob("case0/prepare-*.json"))
    replace(Receipt.read(receipt), manifest=before["case0"].manifest).write(receipt)
    assert replaced_keys(project.results, project.store, is_own=True) == {before["case0"].key}
    assert replaced_keys(project.results, Store("new"), is_own=False) == set()
    assert forget_receipts(project.results, {before["case0"].key}) == 1
    project.run_all()
    assert {case.id: case.prepare for case in project.index().cases} == after


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("No username set"), ImportError("pwd")])
def test_user_without_a_name_is_told_by_its_number(project, monkeypatch, error):
    def refuse():
        raise error

    monkeypatch.setattr("getpass.getuser", refuse)
    receipt = project.run(project.cases[0], project.plan.nodes[project.plan.prepare])
    assert project.store.find(receipt.key).provenance["user"] == f"uid {os.getuid()}"
