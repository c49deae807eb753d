"""Importers of data sets with a dataset.json or fixed names: nnU-Net, Decathlon, BraTS."""

import json

import nibabel as nib
import numpy as np
import pytest

from softlabels.config import load_config, parse_config
from softlabels.config.template import config_template
from softlabels.errors import ConfigError
from softlabels.inputs.importers import BRATS_LABELS, import_brats, import_msd, import_nnunet
from softlabels.inputs.sheet import Case, read_sheet, write_sheet


def _touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def _dataset(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))


def test_nnunet_raw_folder_with_regions_and_ignore(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "ignore": 4}
    names = {"0": "T1", "1": "T2 FLAIR"}
    _dataset(
        tmp_path, channel_names=names, labels=labels, numTraining=2, file_ending=".nrrd", regions_class_order=[1, 2]
    )
    for case in ("b", "a"):
        _touch(tmp_path, f"imagesTr/{case}_0000.nrrd", f"imagesTr/{case}_0001.nrrd", f"labelsTr/{case}.nrrd")
    _touch(tmp_path, "labelsTr/._a.nrrd", "imagesTs/c_0000.nrrd")
    cases, channels, found, *_ = import_nnunet(tmp_path)
    assert [case.id for case in cases] == ["a", "b"] and channels == ["T1", "T2_FLAIR"] and found == labels
    assert cases[0].images == tuple(str(tmp_path / f"imagesTr/a_000{i}.nrrd") for i in range(2))
    write_sheet(cases, tmp_path / "cases.tsv", channels)
    assert read_sheet(tmp_path / "cases.tsv", channels, check_files=True) == cases


def test_nnunet_files_named_in_dataset_json_are_taken(tmp_path):
    _touch(tmp_path, "elsewhere/i.nii.gz", "elsewhere/l.nii.gz")
    listed = {"x": {"images": ["elsewhere/i.nii.gz"], "label": "elsewhere/l.nii.gz"}}
    _dataset(tmp_path, channel_names={"0": "CT"}, labels={"background": 0, "liver": 1}, dataset=listed)
    ((case,), channels, *_) = import_nnunet(tmp_path)
    assert case == Case("x", (str(tmp_path / "elsewhere/i.nii.gz"),), str(tmp_path / "elsewhere/l.nii.gz"))


def test_decathlon_task_with_4d_images(tmp_path):
    _touch(tmp_path, "imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz")
    row = {"image": "./imagesTr/BRATS_001.nii.gz", "label": "./labelsTr/BRATS_001.nii.gz"}
    labels = {"0": "background", "10": "late", "2": "edema"}
    _dataset(tmp_path, modality={"0": "FLAIR", "1": "T1w"}, labels=labels, training=[row], test=["x"])
    ((case,), channels, found, *_) = import_msd(tmp_path)
    assert case.id == "BRATS_001" and len(case.images) == 1 and channels == ["FLAIR", "T1w"]
    assert found == {"background": 0, "edema": 2, "late": 10} and list(found) == ["background", "edema", "late"]


@pytest.mark.parametrize("row", ["a.nii.gz", {"image": "a.nii.gz"}, {"image": 5, "label": "a.nii.gz"}])
def test_a_decathlon_list_that_names_no_pair_is_refused(tmp_path, row):
    _dataset(tmp_path, modality={"0": "CT"}, labels={"0": "background", "1": "liver"}, training=[row])
    with pytest.raises(ConfigError, match="got no list 'training' of image and label"):
        import_msd(tmp_path)


def test_names_become_what_a_config_takes(tmp_path):
    _touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    labels = {"background": 0, "left kidney": 1, "left-kidney": 2, "3rd (ventricle)": [2, 3], "é": 4, "ignore": 5}
    _dataset(tmp_path, channel_names={"0": "T1-w", "1": "T1 w"}, labels=labels)
    _, channels, found, *_ = import_nnunet(tmp_path)
    assert channels == ["T1_w", "T1_w_1"]
    assert found == {
        "background": 0,
        "left_kidney": 1,
        "left_kidney_2": 2,
        "n3rd_ventricle": [2, 3],
        "n": 4,
        "ignore": 5,
    }
    assert (
        parse_config({"channels": channels, "labels": found, "targets": {"a": {"method": "onehot"}}}).channels
        == channels
    )


def _imported_labels(folder, labels):
    """Return the labels of a data set of one case, which the configuration written from them must take as they are."""
    _touch(folder, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    _dataset(folder, channel_names={"0": "NO"}, labels=labels)
    _, channels, found, *_ = import_nnunet(folder)
    (folder / "config.yaml").write_text(config_template(channels, found))
    config = load_config(folder / "config.yaml")
    assert config.labels == found and config.channels == ["NO"]
    return found


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ({"background": 0, "a_3": 1, "a": 2, "a ": 3}, {"background": 0, "a_3": 1, "a": 2, "a_4": 3}),
        ({"background": 0, "n_3": 1, "n+": 2, "n-": 3}, {"background": 0, "n_3": 1, "n": 2, "n_4": 3}),
        ({"background": 0, "a-": 1, "a": 2}, {"background": 0, "a_1": 1, "a": 2}),
        ({"0": "background", "1": "vessel", "2": "vessel"}, {"background": 0, "vessel": 1, "vessel_2": 2}),
        ({"background": 0, "左肾": 1, "右肾": 2}, {"background": 0, "n": 1, "n_2": 2}),
        ({"Background": 0, "liver": 1}, {"background": 0, "liver": 1}),
        ({"0": "Clear Label", "1": "liver"}, {"background": 0, "liver": 1}),
        ({"liver": 1}, {"background": 0, "liver": 1}),
        (
            {"background": 0, "ON": 1, "no": 2, "null": 3, "y": 4},
            {"background": 0, "ON": 1, "no": 2, "null": 3, "y": 4},
        ),
    ],
    ids=str,
)
def test_each_value_keeps_a_class_of_its_own_whatever_the_classes_are_called(tmp_path, labels, found):
    assert _imported_labels(tmp_path, labels) == found


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "other": 0, "a": 1},
        {"background": 1, "a": 2},
        {"background": 0},
        {"background": 0, "a": True},
        {"background": 0, "a": 1.5},
        {"background": 0, "a": [0, 1]},
        {"background": 0, "a": 1, "b": 1},
        {"background": 0, "a": 2, "ignore": 1},
    ],
    ids=str,
)
def test_labels_that_no_configuration_takes_are_refused_at_import_with_the_file(tmp_path, labels):
    with pytest.raises(ConfigError, match=r"dataset\.json: labels: "):
        _imported_labels(tmp_path, labels)


def test_variables_in_the_file_names_of_dataset_json_are_replaced_as_nnunet_does(tmp_path, monkeypatch):
    monkeypatch.setenv("MYDATA", str(tmp_path / "data"))
    _touch(tmp_path, "data/i.nii.gz", "data/l.nii.gz")
    listed = {"x": {"images": ["$MYDATA/i.nii.gz"], "label": "${MYDATA}/l.nii.gz"}}
    _dataset(tmp_path, channel_names={"0": "CT"}, labels={"background": 0, "liver": 1}, dataset=listed)
    ((case,), *_) = import_nnunet(tmp_path)
    assert case.label == str(tmp_path / "data/l.nii.gz")


@pytest.mark.parametrize(
    ("names", "extension"),
    [
        (("HGG/B_1/B_1_flair", "HGG/B_1/B_1_t1", "HGG/B_1/B_1_t1ce", "HGG/B_1/B_1_t2", "HGG/B_1/B_1_seg"), ".nii"),
        (("B-1/B-1-t2f", "B-1/B-1-t1n", "B-1/B-1-t1c", "B-1/B-1-t2w", "B-1/B-1-seg"), ".nii.gz"),
    ],
)
def test_brats_folders_of_both_styles(tmp_path, names, extension):
    _touch(tmp_path, *(name + extension for name in names))
    ((case,), channels, labels, *_) = import_brats(tmp_path, "2023")
    assert case.images == tuple(str(tmp_path / (name + extension)) for name in names[:4])
    assert channels == ["FLAIR", "T1", "T1ce", "T2"] and labels == BRATS_LABELS["2023"]


def test_brats_label_values_are_never_guessed(tmp_path):
    _touch(tmp_path, *(f"B_1/B_1_{m}.nii.gz" for m in ("flair", "t1", "t1ce", "t2", "seg")))
    for labels in (None, "2099"):
        with pytest.raises(ConfigError, match="never guessed"):
            import_brats(tmp_path, labels)
    assert import_brats(tmp_path, {"background": 0, "et": 1})[2] == {"background": 0, "et": 1}


@pytest.mark.parametrize(
    "content",
    [
        None,
        "{",
        "[]",
        '{"channel_names": {"1": "T1"}, "labels": {"a": 0}}',
        '{"channel_names": {"0": "T1"}, "labels": {"a": "b"}}',
    ],
)
@pytest.mark.parametrize("importer", [import_nnunet, import_msd])
def test_unusable_dataset_json_is_refused(tmp_path, content, importer):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    _touch(tmp_path, "labelsTr/a.nii.gz", "imagesTr/a_0000.nii.gz")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        importer(tmp_path)


def test_every_missing_file_of_a_folder_is_named(tmp_path):
    _dataset(tmp_path, channel_names={"0": "T1"}, labels={"background": 0})
    _touch(tmp_path, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz", "labelsTr/$(x).nii.gz")
    with pytest.raises(ConfigError, match=r"3 errors.*a_0000.*b_0000.*\$\(x\)_0000"):
        import_nnunet(tmp_path)
    with pytest.raises(ConfigError, match="no case"):
        import_brats(tmp_path, "2023")


def test_imported_case_is_read_like_any_other(tmp_path):
    from softlabels.inputs.case import read_case

    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    image = np.random.default_rng(0).normal(size=(4, 5, 6, 2)).astype(np.float32)
    nib.save(nib.Nifti1Image(image, np.eye(4)), tmp_path / "imagesTr" / "a.nii.gz")
    nib.save(nib.Nifti1Image((image[..., 0] > 0).astype(np.uint8), np.eye(4)), tmp_path / "labelsTr" / "a.nii.gz")
    row = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    _dataset(tmp_path, modality={"0": "A", "1": "B"}, labels={"0": "background", "1": "one"}, training=[row])
    ((case,), channels, labels, *_) = import_msd(tmp_path)
    assert np.array_equal(read_case(case, channels, labels.values()).image, image.T)
