"""Data sets as people have them: what is taken, what is left out and why, and names that become safe ids."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from softlabels.config import load_config
from softlabels.errors import ConfigError
from softlabels.inputs.case import check_case
from softlabels.inputs.header import Segment
from softlabels.inputs.importers import (
    found_labels,
    given_labels,
    import_bids,
    import_brats,
    import_datalist,
    import_nnunet,
    import_pairs,
)
from softlabels.inputs.importers.base import safe_ids
from softlabels.inputs.sheet import Case, case_id_fault, read_sheet


def _run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "softlabels", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def _touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def _nifti(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(values).T, np.eye(4)), path)


def _json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


# Case ids.


@given(st.lists(st.text(max_size=120), unique=True, max_size=8))
def test_every_name_gets_an_id_of_its_own_that_a_project_takes(names):
    made = safe_ids(names)
    assert set(made) == set(names)
    assert all(case_id_fault(one) is None for one in made.values())
    assert len({one.lower() for one in made.values()}) == len(names)


def test_the_sheet_keeps_the_name_that_was_changed(tmp_path):
    for name in ("Zoë 2+", "p1"):
        _nifti(tmp_path / f"images/{name}.nii.gz", np.arange(8.0).reshape(2, 2, 2).astype(np.float32))
        _nifti(tmp_path / f"masks/{name}.nii.gz", np.arange(8).reshape(2, 2, 2).astype(np.uint8) % 2)
    done = _run("init", "project", "--pairs", "images/{case}.nii.gz", "masks/{case}.nii.gz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "case 'Zoë 2+' is now 'Zoe_2'" in done.stdout
    sheet = (tmp_path / "project/cases.tsv").read_text()
    assert "meta:original" in sheet and sheet.count("Zoë 2+\n") == 1
    config = load_config(tmp_path / "project/config.yaml")
    assert config.labels == {"background": 0, "foreground": 1}
    cases = read_sheet(tmp_path / "project/cases.tsv", config.channels, check_files=True)
    assert [case.id for case in cases] == ["Zoe_2", "p1"]


# Patterns.


def test_pairs_find_channels_and_raters_and_say_what_is_left_out(tmp_path):
    _touch(tmp_path, *(f"i/{case}_{channel}.nii.gz" for case in ("a", "a_b", "c") for channel in ("T1", "T2")))
    _touch(tmp_path, "i/d_T1.nii.gz", "i/notes.txt", "m/a_anna.nii.gz", "m/a_bert.nii.gz", "m/a_b_anna.nii.gz")
    _touch(tmp_path, "m/d_anna.nii.gz", "m/e_anna.nii.gz", "i/.hidden_T1.nii.gz")
    found = import_pairs(f"{tmp_path}/i/{{case}}_{{channel}}.nii.gz", f"{tmp_path}/m/{{case}}_{{rater}}.nii.gz")
    assert found.cases == [
        Case(
            "a", (f"{tmp_path}/i/a_T1.nii.gz", f"{tmp_path}/i/a_T2.nii.gz"), f"{tmp_path}/m/a_anna.nii.gz",
            (f"{tmp_path}/m/a_bert.nii.gz",),
        ),
        Case("a_b", (f"{tmp_path}/i/a_b_T1.nii.gz", f"{tmp_path}/i/a_b_T2.nii.gz"), f"{tmp_path}/m/a_b_anna.nii.gz"),
    ]  # fmt: skip
    assert found.channels == ["T1", "T2"]
    assert sorted(found.left_out) == sorted([
        f"{tmp_path}/m/e_anna.nii.gz: no image of case 'e'",
        f"{tmp_path}/i/c_T1.nii.gz: no label of case 'c'",
        "case 'd': no channel T2",
    ])  # fmt: skip


def test_pairs_in_folders_of_each_case_and_channels_in_a_chosen_order(tmp_path):
    _touch(tmp_path, *(f"{case}/x/{case}_{m}.nii" for case in ("p1", "p2") for m in ("t1", "t2", "seg")))
    images, labels = f"{tmp_path}/{{case}}/**/{{case}}_{{channel}}.nii", f"{tmp_path}/{{case}}/*/{{case}}_seg.nii"
    assert import_pairs(images, labels).channels == ["t1", "t2"]
    found = import_pairs(images, labels, ["t2", "t1"])
    assert [path.rpartition("_")[2] for path in found.cases[0].images] == ["t2.nii", "t1.nii"]
    assert found.channels == ["t2", "t1"] and len(found.cases) == 2


def test_where_a_name_can_be_divided_in_two_ways_the_label_decides(tmp_path):
    _touch(tmp_path, "i/a_T1_gd.nii", "m/a.nii")
    found = import_pairs(f"{tmp_path}/i/{{case}}_{{channel}}.nii", f"{tmp_path}/m/{{case}}.nii")
    assert (found.cases[0].id, found.channels) == ("a", ["T1_gd"])


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        ("i/x.nii", "m/{case}.nii", "expected a path with {case}"),
        ("i/{case}_{modality}.nii", "m/{case}.nii", "expected a path with {case}"),
        ("i/{case}_{channel}.nii", "m/{case}.png", "no file matches"),
        ("nowhere/{case}.nii", "m/{case}.nii", "no such folder"),
        ("i/{case}.nii", "m/{case}.nii", "none has both; for example: 'a_T1'; 'b'"),
        ("i/{case}_*.nii", "m/{case}.nii", "make the pattern narrower"),
    ],
)
def test_patterns_that_find_nothing_say_why(tmp_path, images, labels, said):
    _touch(tmp_path, "i/a_T1.nii", "m/b.nii")
    if "*" in images:
        _touch(tmp_path, "i/a_T2.nii")
    with pytest.raises(ConfigError) as caught:
        import_pairs(f"{tmp_path}/{images}", f"{tmp_path}/{labels}")
    assert said in str(caught.value)


def test_pictures_become_a_project_of_flat_volumes(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        for folder, shape in (("i", (8, 9, 3)), ("m", (8, 9))):
            (tmp_path / folder).mkdir(exist_ok=True)
            values = rng.integers(0, 200 if folder == "i" else 2, shape, np.uint8)
            Image.fromarray(values).save(tmp_path / folder / f"{name}.png")
    pairs = ("--pairs", "i/{case}.png", "m/{case}.png")
    done = _run("init", "p", *pairs, cwd=tmp_path)
    assert done.returncode == 1 and "--spacing 'z y x'" in done.stderr and not (tmp_path / "p").exists()
    done = _run("init", "p", *pairs, "--spacing", "1 1 1", "--preview", cwd=tmp_path)
    assert "case      a: a.png, a.png" in done.stdout and not (tmp_path / "p").exists()
    done = _run("init", "p", *pairs, "--spacing", "1 1 1", "--labels", "road=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = _run("check", cwd=tmp_path / "p")
    assert done.returncode == 0 and "2 cases: 2 good" in done.stdout
    assert load_config(tmp_path / "p/config.yaml").channels == ["image_0", "image_1", "image_2"]


# Labels.


@pytest.mark.parametrize("text", ["a", "a=", "a=x", "a=1 a=2", "a=1,,2", "=1", "a=1;b=2", "background=1", "3a=1"])
def test_labels_that_cannot_be_read_are_refused(text):
    with pytest.raises(ConfigError, match="--labels: "):
        given_labels(text)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255], {"background": 0, "foreground": 255}),
        ([0, 1, 7], {"background": 0, "label_1": 1, "label_7": 7}),
        ([3], {"background": 0, "foreground": 3}),
    ],
)
def test_labels_are_found_in_the_files(tmp_path, values, expected):
    cases = []
    for i in range(2):
        _nifti(tmp_path / f"{i}.nii.gz", np.resize(values, (2, 3, 4)).astype(np.uint8))
        cases.append(Case(str(i), ("x",), str(tmp_path / f"{i}.nii.gz")))
    assert found_labels(cases) == expected


def test_an_image_given_as_labels_is_noticed(tmp_path):
    _nifti(tmp_path / "a.nii.gz", np.arange(1000, dtype=np.uint16).reshape(10, 10, 10))
    with pytest.raises(ConfigError, match="found 1000 values"):
        found_labels([Case("a", ("x",), str(tmp_path / "a.nii.gz"))])


def test_names_of_segments_must_agree_between_cases(monkeypatch):
    from softlabels.inputs.importers import found

    headers = {
        "a": [Segment("liver", 1), Segment("left kidney", 2)],
        "b": [Segment("left kidney", 2)],
        "c": [Segment("spleen", 2)],
        "d": [Segment("organ", 1, 0), Segment("lesion", 1, 1)],
        "e": [Segment("lesion", 1, 1), Segment("organ", 1, 0)],
    }
    monkeypatch.setattr(
        found, "read_header", lambda path, _: type("Header", (), {"segments": tuple(headers[path])})
    )  # fmt: skip

    def labels(*names):
        return found_labels([Case(name, ("x",), name) for name in names])

    assert labels("a", "b") == {"background": 0, "liver": 1, "left_kidney": 2}
    assert labels("d") == {"background": 0, "organ": [1, 3], "lesion": [2, 3]}
    for pair, said in ((("a", "c"), "value 2 is segment 'spleen'"), (("d", "e"), "in this order")):
        with pytest.raises(ConfigError, match=said):
            labels(*pair)


# nnU-Net.


def _raw(tmp_path, ending=".nii.gz", **more):
    described = {"channel_names": {"0": "R", "1": "G"}, "labels": {"background": 0, "road": 1}, "file_ending": ending}
    _json(tmp_path / "dataset.json", described | more)
    return tmp_path


def test_nnunet_says_what_belongs_to_no_case(tmp_path):
    _raw(tmp_path, numTraining=3)
    _touch(tmp_path, *(f"imagesTr/{case}_000{i}.nii.gz" for case in ("a", "b") for i in (0, 1)))
    _touch(tmp_path, "labelsTr/a.nii.gz", "labelsTr/notes.txt", "imagesTr/a.nrrd", "imagesTr/.DS_Store")
    found = import_nnunet(tmp_path)
    assert [case.id for case in found.cases] == ["a"]
    assert sorted(found.left_out) == sorted([
        f"{tmp_path}/imagesTr/b_0000.nii.gz: its case has no label in labelsTr",
        f"{tmp_path}/imagesTr/b_0001.nii.gz: its case has no label in labelsTr",
        f"{tmp_path}/imagesTr/a.nrrd: is no .nii.gz file",
        f"{tmp_path}/labelsTr/notes.txt: is no .nii.gz file",
        f"{tmp_path}/dataset.json: numTraining is 3, but 1 cases were found",
    ])  # fmt: skip


def test_nnunet_pictures_hold_all_channels_in_one_file(tmp_path):
    _raw(tmp_path, ".png")
    _touch(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png")
    (case,) = import_nnunet(tmp_path).cases
    assert len(case.images) == 1 and case.spacing == (1.0, 1.0, 1.0)


def test_nnunet_stacks_of_tiff_have_their_voxel_size_beside_them(tmp_path):
    _raw(tmp_path, ".tif")
    _touch(tmp_path, "imagesTr/a_0000.tif", "imagesTr/a_0001.tif", "labelsTr/a.tif")
    _json(tmp_path / "imagesTr/a.json", {"spacing": [2, 0.5, 0.5]})
    (case,) = import_nnunet(tmp_path).cases
    assert len(case.images) == 2 and case.spacing == (2.0, 0.5, 0.5)
    _json(tmp_path / "imagesTr/a.json", {"spacing": [2, 0.5]})
    with pytest.raises(ConfigError, match=r"a\.json: .*expected 'spacing' of 3 numbers"):
        import_nnunet(tmp_path)


def test_nnunet_folds_come_from_its_splits(tmp_path, monkeypatch):
    raw = _raw(tmp_path / "raw/Dataset001_X", ".nii.gz", channel_names={"0": "CT"})
    _touch(raw, *(f"imagesTr/{case}_0000.nii.gz" for case in "ab"), *(f"labelsTr/{case}.nii.gz" for case in "ab"))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    assert [case.split for case in import_nnunet(raw).cases] == [None, None]
    _json(
        tmp_path / "preprocessed/Dataset001_X/splits_final.json",
        [{"train": ["b"], "val": ["a"]}, {"train": ["a"], "val": ["b"]}],
    )
    assert [case.split for case in import_nnunet(raw).cases] == ["fold0", "fold1"]


# MONAI.


def test_a_datalist_gives_folds_channels_and_names(tmp_path):
    _touch(tmp_path, *(f"p{i}/{name}.nii.gz" for i in (1, 2, 3) for name in ("t1", "t2", "seg")))
    rows = [{"image": [f"p{i}/t1.nii.gz", f"p{i}/t2.nii.gz"], "label": f"p{i}/seg.nii.gz", "fold": i} for i in (1, 2)]
    last = {"image": ["p3/t1.nii.gz", "p3/t2.nii.gz"], "label": "p3/seg.nii.gz"}
    path = _json(tmp_path / "list.json", {"training": rows, "validation": [last], "testing": [{"image": "x"}]})
    found = import_datalist(path)
    splits = {case.id: case.split for case in found.cases}
    assert splits == {"p1_seg": "fold1", "p2_seg": "fold2", "p3_seg": "val"}
    assert found.channels == ["image_0", "image_1"] and found.labels == {}
    assert found.left_out == [f"{path}: 'testing': 1 images have no labels"]


def test_a_datalist_that_is_none_is_refused(tmp_path):
    for content in ({}, {"training": 5}, {"training": [{"image": [], "label": "x"}]}, {"training": [{"image": "x"}]}):
        with pytest.raises(ConfigError, match="got no list 'training'"):
            import_datalist(_json(tmp_path / "list.json", content))


# BraTS.


def test_brats_in_every_layout(tmp_path):
    for case, ending in (("B_1", ".nii"), ("B_2", ".nii.gz")):
        _touch(tmp_path, *(f"{case}/{case}_{part}{ending}" for part in ("flair", "t1", "t1ce", "t2")))
    _touch(tmp_path, "B_1/B_1_seg.nii.gz", "B_2/W39_1998.09.19_Segm.nii", "B_3/B_3_t1.nii", "B_1/readme.nii")
    _touch(tmp_path, *(f"B_4/B_4_{part}.nii/B_4_{part}.nii" for part in ("flair", "t1", "t1ce", "t2", "seg")))
    found = import_brats(tmp_path, "2012-2022")
    assert [case.id for case in found.cases] == ["B_1", "B_2", "B_4"]
    assert found.channels == ["FLAIR", "T1", "T1ce", "T2"]
    assert found.left_out == [
        "case B_2: W39_1998.09.19_Segm.nii taken as its segmentation, which is named otherwise",
        f"{tmp_path}/B_3/B_3: no FLAIR, no T1ce, no T2, no seg",
        f"{tmp_path}/B_1/readme.nii: not a file of BraTS by its name",
    ]


def test_brats_with_fewer_channels_and_labels_of_another_task(tmp_path):
    _touch(tmp_path, "BraTS-MEN-RT-1/BraTS-MEN-RT-1_t1c.nii.gz", "BraTS-MEN-RT-1/BraTS-MEN-RT-1_gtv.nii.gz")
    found = import_brats(tmp_path, given_labels("gtv=1"))
    assert found.channels == ["T1ce"] and found.labels == {"background": 0, "gtv": 1}
    assert [case.id for case in found.cases] == ["BraTS-MEN-RT-1"]


# BIDS.


def _bids(tmp_path, *, sessions=("",), label="dseg", tsv="dseg.tsv", extra=()):
    for subject in ("01", "02"):
        for session in sessions:
            middle = f"sub-{subject}/{session}/anat/sub-{subject}{'_' * bool(session)}{session}".replace("//", "/")
            _touch(tmp_path, *(f"{middle}_{name}.nii.gz" for name in ("T1w", "FLAIR", *extra)))
            _touch(tmp_path, f"derivatives/manual/{middle}_{label}.nii.gz")
    if tsv:
        (tmp_path / "derivatives/manual" / tsv).write_text("index\tname\n0\tBackground\n1\tleft kidney\n2\ttumour\n")
    return tmp_path


def test_bids_joins_raw_images_and_derived_segmentations(tmp_path):
    _touch(_bids(tmp_path), "sub-03/anat/sub-03_T1w.nii.gz")
    found = import_bids(tmp_path)
    assert [case.id for case in found.cases] == ["sub-01", "sub-02"]
    assert found.channels == ["FLAIR", "T1w"]
    assert found.labels == {"background": 0, "left_kidney": 1, "tumour": 2}
    assert found.left_out == ["sub-03: images without a label"]


def test_bids_sessions_are_cases_and_a_mask_is_one_class(tmp_path):
    _bids(tmp_path, sessions=("ses-a", "ses-b"), label="label-lesion_mask", tsv=None)
    found = import_bids(tmp_path, ["T1w"])
    assert [case.id for case in found.cases] == ["sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a", "sub-02_ses-b"]
    assert found.labels == {"background": 0, "lesion": 1} and found.channels == ["T1w"]


def test_bids_with_several_candidates_asks_which(tmp_path):
    _bids(tmp_path, extra=("acq-tse_T2w", "acq-ge_T2w"))
    assert import_bids(tmp_path).channels == ["FLAIR", "T1w"]
    assert import_bids(tmp_path, ["acq-tse_T2w", "T1w"]).channels == ["acq_tse_T2w", "T1w"]
    with pytest.raises(ConfigError, match="2 images T2w|no case found"):
        import_bids(tmp_path, ["T2w"])
    _touch(tmp_path, "derivatives/manual/sub-01/anat/sub-01_desc-brain_mask.nii.gz")
    with pytest.raises(ConfigError, match="label files of kinds desc-brain_mask, dseg, expected one; choose it with"):
        import_bids(tmp_path)
    assert len(import_bids(tmp_path, label="dseg").cases) == 2


def test_bids_takes_images_from_the_space_of_the_label(tmp_path):
    _bids(tmp_path, label="space-MNI_dseg")
    for subject in ("01", "02"):
        _touch(tmp_path, f"derivatives/prep/sub-{subject}/anat/sub-{subject}_space-MNI_desc-preproc_T1w.nii.gz")
    found = import_bids(tmp_path)
    assert found.channels == ["desc_preproc_T1w"]
    assert "space-MNI" in found.cases[0].images[0]


@pytest.mark.parametrize("table", ["sub-01_dseg.tsv", "dseg.tsv"])
def test_the_nearest_table_that_applies_names_the_labels(tmp_path, table):
    _bids(tmp_path, tsv=None)
    home = tmp_path / "derivatives/manual"
    (home / "dseg.tsv").write_text("index\tname\n1\tfar\n")
    (home / "sub-01/anat" / table).write_text("index\tname\n1\tnear\n")
    with pytest.raises(ConfigError, match="different labels"):
        import_bids(tmp_path)
    (home / "sub-02/anat" / table.replace("01", "02")).write_text("index\tname\n1\tnear\n")
    assert import_bids(tmp_path).labels == {"background": 0, "near": 1}
    (home / "sub-02/anat" / table.replace("01", "02")).write_text("value\tlabel\n1\tnear\n")
    with pytest.raises(ConfigError, match="expected columns 'index' and 'name'"):
        import_bids(tmp_path)


def test_a_bids_case_is_read_like_any_other(tmp_path):
    _bids(tmp_path)
    for path in tmp_path.rglob("*.nii.gz"):
        label = "dseg" in path.name
        values = np.indices((3, 4, 5)).sum(0) % 3
        _nifti(path, values.astype(np.uint8) if label else values.astype(np.float32))
    found = import_bids(tmp_path)
    checks = {"channels": found.channels, "label_values": list(found.labels.values())}
    assert [finding for case in found.cases for finding in check_case(case, **checks)] == []
