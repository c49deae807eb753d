"""The sample sheet: hostile ids, every fault at once, and the importers that write it."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import ConfigError
from softlabels.inputs.sheet import Case, case_id_fault, read_meta, read_sheet, write_sheet

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
    assert read_meta(tmp_path / "cases.csv") == {"a": {}}


def test_columns_of_others_are_read_by_case_and_name(tmp_path):
    sheet = _sheet(
        tmp_path, "# of two sites\ncase\tmeta:site\timage\tlabel\tmeta:a:b\n\nx\t s1 \ti\tl\t\ny\t\ti\tl\t7\n"
    )
    assert read_meta(sheet) == {"x": {"site": "s1", "a:b": ""}, "y": {"site": "", "a:b": "7"}}
    with pytest.raises(ConfigError, match="give the path of an existing table"):
        read_meta(tmp_path / "none.tsv")


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
