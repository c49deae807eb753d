"""A study that trains nnU-Net: what it refuses, its labels and its arrays, and the jobs that it is."""

import sys

import numpy as np
import pytest
import yaml
from comparison.nnunet_data import NnunetData, nnunet_labels, preprocess, renumbered, write_raw
from comparison.raw_truth import RawTruth
from comparison.study import parse_study
from helpers import ROOT, made_data
from helpers.made_study import STUDY, jobs, snakemake

from softlabels.classes import LabelSet, class_masks
from softlabels.config import parse_config
from softlabels.errors import ConfigError, InputError
from softlabels.inputs.sheet import read_sheet
from softlabels.view.export import write_nifti

SPACING = [1.0, 0.5, 3.0]
ROWS = {"hard": {"target": "onehot"}, "soft": {"target": "soft"}, "later": {"after": "hard", "temperature": "fitted"}}
TRAINING = {"steps": [2, 4], "nnunet": {"spacing": SPACING}}
NNUNET = {**STUDY, "rows": ROWS, "training": TRAINING}


def of_targets(**targets):
    return {"softlabels": {**STUDY["softlabels"], "targets": {**STUDY["softlabels"]["targets"], **targets}}}


def with_row(target, **more):
    return {"rows": {**ROWS, "new": {"target": target, **more}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {**TRAINING, "patch_size": [8, 8, 8]}}, "training.patch_size: nnU-Net plans it itself"),
        ({"training": {**TRAINING, "nnunet": {"spacing": [1.0, 1.0]}}}, "spacing"),
        ({"folds": {"validation": 0}}, "folds.validation: got 0, expected 1 or more: nnU-Net"),
        (with_row("soft", loss="focal"), "rows.new.loss: got 'focal', expected no loss"),
        (with_row(["onehot", "soft"]), "rows.new.target: got onehot, soft, expected one"),
        (with_row("reference"), "rows.new.target: got 'reference', expected a target that is computed"),
        (of_targets(far={"method": "level_set"}) | with_row("far"), "'far' of kind distance, expected probabilities"),
        (of_targets(far={"method": "level_set"}) | with_row("far"), "does not allow rescale"),
        (of_targets(sing={"method": "sing"}) | with_row("sing"), "'sing' of kind signed"),
        (of_targets(mean={"method": "multi_rater"}) | with_row("mean"), "'mean' reads raters, which"),
        (
            of_targets(own={"method": "svls", "labels": {"background": 0, "all": [1, 2, 4]}}),
            "softlabels.targets.own.labels: nnU-Net trains on the classes of the study",
        ),
    ],
)
def test_what_nnunet_cannot_train_in_pairs_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse_study({**NNUNET, **changes})


def test_signed_maps_of_regions_are_trained():
    regions = {"background": 0, "core": [1, 4], "whole": [1, 2, 4]}
    targets = {"onehot": {"method": "onehot"}, "soft": {"method": "sing"}}
    study = parse_study({**NNUNET, "softlabels": {**STUDY["softlabels"], "labels": regions, "targets": targets}})
    assert study.training.unit == "epochs" and parse_study(study.model_dump(mode="json")) == study


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "organ": 7, "tumour": [2, 4], "ignore": 9},
        {"background": 0, "core": [1, 4], "whole": [1, 2, 4], "ignore": 12},
        {"background": 0, "organ": 1},
    ],
)
def test_renumbered_labels_have_the_same_masks(labels):
    classes, own = LabelSet.parse(labels), LabelSet.parse(nnunet_labels(LabelSet.parse(labels)))
    values = np.random.default_rng(0).choice(classes.values, (3, 4, 5))
    found = renumbered(values, classes)
    np.testing.assert_array_equal(class_masks(found, own.classes), class_masks(values, classes.classes))
    assert list(own.values) == list(range(len(own.values))) and own.names == classes.names
    assert own.is_overlapping == classes.is_overlapping
    if classes.ignore is not None:
        np.testing.assert_array_equal(found == own.ignore, values == classes.ignore)
        assert own.ignore == max(own.values)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Give a folder with four made cases and a study of nnU-Net; it is the current one."""
    targets = {"onehot": {"method": "onehot"}, "soft": {"method": "gaussian"}}
    config = made_data.write_cohort(tmp_path, n_cases=4, targets=targets, pictures=False)
    (tmp_path / "config.yaml").unlink()
    training = {**TRAINING, "device": "cuda", "workers": 8}
    rows = {"hard": {"target": "onehot"}, "soft": {"target": "soft"}}
    study = {"name": "made", "baseline": "hard", "rows": rows, "seeds": [0, 1], "training": training}
    study["softlabels"] = config | {"stages_per_job": "all", "cases_per_job": 2}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_arrays_have_a_sheet_and_a_configuration_before_they_exist(project):
    study = parse_study(yaml.safe_load((project / "study.yaml").read_text()))
    data = NnunetData.of(study)
    assert NnunetData.from_json(data.to_json()).root == data.root
    sheet = data.write_array_sheet()
    cases = read_sheet(sheet, study.config.channels)
    assert [one.id for one in cases] == [one.id for one in read_sheet(study.config.cases, study.config.channels)]
    assert {one.spacing for one in cases} == {(3.0, 1.0, 0.5)}
    assert cases[0].images[0].endswith("nnUNetPlans_3d_fullres/case0.b2nd")
    config = parse_config(data.array_config(study.softlabels, sheet))
    assert config.prepare.normalise == "none" and list(config.targets) == ["onehot", "soft"]
    written = sheet.stat().st_mtime_ns
    assert data.write_array_sheet().stat().st_mtime_ns == written


def test_a_case_that_left_the_study_leaves_the_raw_data_set(project):
    data = NnunetData.of(parse_study(yaml.safe_load((project / "study.yaml").read_text())))
    write_raw(data)
    sheet = project / "cases.tsv"
    sheet.write_text("\n".join(sheet.read_text().splitlines()[:-1]) + "\n")
    write_raw(data)
    for folder in ("imagesTr", "labelsTr"):
        assert {path.name[:5] for path in (data.raw / folder).iterdir()} == {"case0", "case1", "case2"}


def test_a_study_of_nnunet_is_a_job_more_and_trains_on_gpu_nodes(project):
    profile = ROOT / "workflow" / "profiles" / "slurm"
    shown = snakemake(project, "--profile", str(profile), "--dry-run")
    found = jobs(shown)
    expected = {"preprocess": 1, "stages": 2, "index": 1, "train_cuda": 16, "score_cuda": 4, "comparison": 1, "all": 1}
    assert found == expected | {"total": sum(expected.values())}, shown[-3000:]


def files_of(folder):
    """Return the content of every file of a folder; Snakemake's own folder is left out."""
    return {
        path: path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not (path.is_relative_to(folder / ".snakemake") and "softlabels" not in path.parts)
    }


def test_a_dry_run_writes_nothing_and_plans_with_the_cases_as_they_are(project, tmp_path_factory):
    passing, before = tmp_path_factory.mktemp("passing"), files_of(project)
    assert jobs(snakemake(project, "--dry-run", TMPDIR=str(passing)))["stages"] == 2
    assert files_of(project) == before and not list(passing.iterdir())
    # Nor does it replace the sheet of an earlier run, when the study has gained two cases since.
    sheet = NnunetData.of(parse_study(yaml.safe_load((project / "study.yaml").read_text()))).write_array_sheet()
    sheet.write_text("\n".join(sheet.read_text().splitlines()[:-2]) + "\n")
    before = files_of(project)
    assert jobs(snakemake(project, "--dry-run", TMPDIR=str(passing)))["stages"] == 2
    assert files_of(project) == before and not list(passing.iterdir())


def test_a_missing_nnunet_is_named_before_anything_is_written(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "nnunetv2.experiment_planning", None)
    monkeypatch.setattr(NnunetData, "set_folders", lambda self: None)
    data = NnunetData.of(parse_study(yaml.safe_load((project / "study.yaml").read_text())))
    with pytest.raises(InputError, match="nnunetv2: not installed where this workflow runs"):
        preprocess(data, threads=1)
    assert not data.raw.exists()


def test_files_are_judged_as_they_are(project):
    study = parse_study(yaml.safe_load((project / "study.yaml").read_text()))
    config = study.config
    classes = LabelSet.parse(config.labels)
    truth = RawTruth(config.cases, config.channels, classes)
    found = truth.case("case1")
    known = truth.rows["case1"].case
    assert found.image().shape == (len(config.channels), *found.grid.shape) and not truth.has_reference("case1")
    assert truth.masks("case1").shape == (len(classes.classes), *found.grid.shape)
    assert found.valid().all() and found.domain() is None
    shares = np.full((len(classes.classes), *found.grid.shape), 1 / len(classes.classes), np.float32)
    write_nifti(shares, found.grid, project / "shares.nii.gz")
    rows = ["case\t" + "\t".join(f"image:{name}" for name in config.channels) + "\tlabel\treference"]
    rows.append("\t".join(["case1", *known.images, known.label, str(project / "shares.nii.gz")]))
    (project / "judged.tsv").write_text("\n".join(rows) + "\n")
    judged = RawTruth(str(project / "judged.tsv"), config.channels, classes)
    np.testing.assert_allclose(judged.reference("case1"), shares, atol=1e-6)
