"""The sample sheet: hostile ids, every fault at once, and the importers that write it."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.config import load_config, parse_config
from softlabels.config.template import config_template
from softlabels.errors import ConfigError
from softlabels.inputs.importers import BRATS_LABELS, import_brats, import_msd, import_nnunet
from softlabels.inputs.sheet import Case, case_id_fault, read_sheet, write_sheet

HOSTILE = [
    "../x", "/abs", "$(touch X)", "`id`", "a b", "-rf", "a" * 300, "Zoë", "a/b", "a\\b", "a;b", "a\nb", "a\tb",
    ".hidden", "..", ".", "", "trailing.", "a\x00b", "~root", "a*", "a'b", 'a"b', "{case}", "%s",
    "index", "INDEX", "index.json", "logs", "report.html", "status", "x\u202ey", "ａ",
]  # fmt: skip


def _sheet(folder, text, name="cases.tsv"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("case_id", HOSTILE, ids=ascii)
def test_hostile_case_ids_are_refused_in_ids_and_in_sheets(tmp_path, case_id):
    assert case_id_fault(case_id)
    quoted = '"' + case_id.replace('"', '""') + '"'
    with pytest.raises(ConfigError):
        read_sheet(_sheet(tmp_path, f"case\timage\tlabel\n{quoted}\ta.nii\tb.nii\n"), ["T1"])
    assert [path.name for path in tmp_path.iterdir()] == ["cases.tsv"]


@pytest.mark.parametrize("case_id", ["a", "0", "BraTS-GLI-00000-000", "sub-01_ses.2", "a" * 100, "indexed", "store2"])
def test_usual_case_ids_are_accepted(case_id):
    assert case_id_fault(case_id) is None


def test_rows_become_cases_in_the_order_of_the_channels(tmp_path):
    text = "split\timage:T2\tcase\tlabel:ann\timage:T1\tlabel\tlabel:bob\tmeta:age\n"
    text += "# a comment\n\ntrain\tb/t2.nii\tp1\tann.nii\t/data/t1.nii\tseg.nii\tbob.nii\t34\n"
    text += "\tt2.nii\tp2\t\tt1.nii\ts.nii\t\t\n"
    one, two = read_sheet(_sheet(tmp_path, text), ["T1", "T2"])
    at = str(tmp_path)
    raters = (f"{at}/ann.nii", f"{at}/bob.nii")
    assert one == Case("p1", ("/data/t1.nii", f"{at}/b/t2.nii"), f"{at}/seg.nii", raters, "train")
    assert two == Case("p2", (f"{at}/t1.nii", f"{at}/t2.nii"), f"{at}/s.nii", (), None)
    assert [role for role, _ in one.files()] == ["image:0", "image:1", "label", "rater:1", "rater:2"]


@pytest.mark.parametrize("name", ["cases.tsv", "cases.csv"])
@pytest.mark.parametrize("images", [("i.nii",), ("i.nii", "j.nii")])
def test_written_sheet_is_read_back(tmp_path, name, images):
    absolute = tuple(str(tmp_path / "sub" / image) for image in images)
    cases = [
        Case("a", absolute, str(tmp_path / "a,b.nii"), (str(tmp_path / "r.nii"),), "val"),
        Case("b", absolute, "/elsewhere/l.nii"),
    ]
    write_sheet(cases, tmp_path / name, ["T1", "T2"])
    assert read_sheet(tmp_path / name, ["T1", "T2"]) == cases
    assert str(tmp_path) not in (tmp_path / name).read_text()


def test_references_are_read_and_written(tmp_path):
    rows = "case\timage\tlabel\tlabel:b\tlabel:c\treference\na\ta.nii\ta_seg.nii\t\t\tmaps.nii\n"
    rows += "b\tb.nii\tb_seg.nii\tb2.nii\tb3.nii\traters\nc\tc.nii\tc_seg.nii\t\t\t\n"
    cases = read_sheet(_sheet(tmp_path, rows), ["T1"])
    assert [case.reference for case in cases] == [(f"{tmp_path}/maps.nii",), ("raters",), ()]
    assert [case.has_rater_reference for case in cases] == [False, True, False]
    assert all("reference" not in role for case in cases for role, _ in case.files())
    write_sheet(cases, tmp_path / "again.tsv", ["T1"])
    assert read_sheet(tmp_path / "again.tsv", ["T1"]) == cases
    by_class = read_sheet(_sheet(tmp_path, "case\timage\tlabel\treference:gm\treference:wm\na\ti\tl\tg\tw\n"), ["T1"])
    assert by_class[0].reference_classes == ("gm", "wm") and by_class[0].reference == (f"{tmp_path}/g", f"{tmp_path}/w")
    write_sheet(by_class, tmp_path / "again.tsv", ["T1"])
    assert read_sheet(tmp_path / "again.tsv", ["T1"]) == by_class


@pytest.mark.parametrize(
    ("columns", "cells", "why"),
    [
        (["reference"], ["raters"], "got raters, but 0 label:<rater> files"),
        (["reference:a", "reference:b"], ["a.nii", ""], "reference:b empty"),
        (["reference", "reference:a"], ["a.nii", "b.nii"], "one file for all classes or one for each"),
        (["references"], ["a.nii"], "did you mean 'reference'"),
    ],
)
def test_faults_of_references_are_named(tmp_path, columns, cells, why):
    table = "\t".join(["case", "image", "label", *columns]) + "\n" + "\t".join(["a", "i", "l", *cells]) + "\n"
    with pytest.raises(ConfigError, match=why):
        read_sheet(_sheet(tmp_path, table), ["T1"])


def test_cases_with_unequal_numbers_of_images_are_not_written(tmp_path):
    with pytest.raises(ConfigError):
        write_sheet([Case("a", ("1",), "l"), Case("b", ("1", "2"), "l")], tmp_path / "s.tsv", ["T1", "T2"])
    assert not list(tmp_path.iterdir())


def test_sheet_without_cases_is_a_header_to_fill_in(tmp_path):
    write_sheet([], tmp_path / "s.tsv", ["T1", "T2"])
    assert (tmp_path / "s.tsv").read_text() == "case\timage:T1\timage:T2\tlabel\n"
    with pytest.raises(ConfigError, match="no case"):
        read_sheet(tmp_path / "s.tsv", ["T1", "T2"])


def test_a_sheet_of_bad_rows_is_told_in_a_few_lines(tmp_path):
    rows = "".join(f"bad id {i}\t\t\n" for i in range(5000))
    with pytest.raises(ConfigError, match="15000 errors: line 2: .*; and 14980 more$") as caught:
        read_sheet(_sheet(tmp_path, "case\timage\tlabel\n" + rows), ["T1"])
    assert len(str(caught.value)) < 4000


def test_semicolons_of_excel_are_named(tmp_path):
    sheet = _sheet(tmp_path, "case;image;label\na;x.nii;y.nii\n", "cases.csv")
    with pytest.raises(ConfigError, match="1 error: got semicolons between the cells, as Excel writes them"):
        read_sheet(sheet, ["T1"])


def test_every_fault_is_named_with_its_line(tmp_path):
    text = "case\timage\tlabel\tsplit\n../x\ta.nii\tb.nii\t\nok\t\tb.nii\ttwo words\nshort\ta.nii\nOK\ta.nii\tb.nii\t\n"
    with pytest.raises(ConfigError) as caught:
        read_sheet(_sheet(tmp_path, text), ["T1"])
    message = str(caught.value)
    assert "5 errors" in message and "\n" not in message
    for part in (
        "line 2: case id '../x'",
        "line 3: case 'ok', column 'image'",
        "'two words'",
        "line 4: got 2 cells",
        "line 5",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("case\tlabel", "'image:T1': missing"),
        ("image\tlabel", "'case': missing"),
        ("case\timage\tlabel\tlabel", "2 times"),
        ("case\timage\timage:T1\tlabel", "not both"),
        ("case\timage:T1\tlable", "did you mean 'label'"),
        ("case\timage\tlabel\tage", "meta:age"),
        ("case\timage\tlabel\tlabel:", "unknown"),
        ("case\timage:T1\timage:T3\tlabel", "'image:T3': unknown"),
    ],
)
def test_faults_of_the_header_say_what_to_do(tmp_path, header, said):
    with pytest.raises(ConfigError, match=said):
        read_sheet(_sheet(tmp_path, header + "\n"), ["T1", "T2"])


@pytest.mark.parametrize(
    "content", [b"", b"case\timage\tlabel\n", b"\xff\xfe\x00", b"case\timage\tlabel\na\t\x00\tb\n", None]
)
def test_sheets_that_are_none_are_refused(tmp_path, content):
    path = tmp_path / "cases.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="cases.tsv"):
        read_sheet(path, ["T1"])


def test_missing_files_are_all_named_if_asked(tmp_path):
    (tmp_path / "a.nii").touch()
    path = _sheet(tmp_path, "case\timage\tlabel\nx\ta.nii\tb.nii\ny\tc.nii\ta.nii\n")
    assert len(read_sheet(path, ["T1"])) == 2
    with pytest.raises(ConfigError, match=r"2 errors.*b\.nii.*c\.nii"):
        read_sheet(path, ["T1"], check_files=True)


def test_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    (tmp_path / "cases.csv").write_bytes("\ufeffcase,image,label\r\na,i.nii,l.nii\r\n".encode())
    assert read_sheet(tmp_path / "cases.csv", ["T1"])[0].id == "a"


@given(text=st.text(alphabet="caseimglb:T1\t\n\r\"',./$() é", max_size=200))
@settings(max_examples=300, derandomize=True, deadline=None)
def test_any_text_gives_cases_or_our_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    path.write_text("case\timage\tlabel\n" + text, encoding="utf-8", newline="")
    try:
        cases = read_sheet(path, ["T1"])
    except ConfigError as error:
        assert "any.tsv" in str(error)
    else:
        assert all(case_id_fault(case.id) is None for case in cases)


def test_a_sheet_of_10_000_cases_keeps_every_row(tmp_path):
    channels = ["a", "b", "c", "d"]
    cases = [Case(f"case{i:05d}", tuple(f"/d/{i}_{c}.nii" for c in channels), f"/d/{i}.nii") for i in range(10_000)]
    write_sheet(cases, tmp_path / "cases.tsv", channels)
    assert read_sheet(tmp_path / "cases.tsv", channels) == cases


# -- importers


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


#: Reads a sheet, prints whether its files are there, and writes it anew.
IN_ANOTHER_LOCALE = """
import locale, os, sys
locale.setlocale(locale.LC_ALL, "")
from softlabels.inputs.sheet import read_sheet, write_sheet
cases = read_sheet("cases.tsv", ["T1"], check_files=True)
write_sheet(cases, "again.tsv", ["T1"])
assert read_sheet("again.tsv", ["T1"], check_files=True) == cases
print(sys.getfilesystemencoding())
"""


@pytest.mark.parametrize("variables", [{"LC_ALL": "C.UTF-8"}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}])
def test_names_of_files_are_the_sheet_s_bytes_whatever_the_locale(tmp_path, variables):
    folder = tmp_path / "Daten Müller"
    folder.mkdir()
    for name in ("a.nii", "b.nii"):
        (folder / name).write_bytes(b"")
    text = "case\timage\tlabel\nc\tDaten Müller/a.nii\tDaten Müller/b.nii\n"
    (tmp_path / "cases.tsv").write_text(text, encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONCOERCECLOCALE": "0", **variables}
    command = [sys.executable, "-c", IN_ANOTHER_LOCALE]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ("utf-8" if variables["LC_ALL"] == "C.UTF-8" else "ascii")
    assert (tmp_path / "again.tsv").read_bytes() == text.encode()
