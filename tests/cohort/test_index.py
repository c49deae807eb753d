"""Laws of index.json: its bytes are fixed, it comes back as it was, old ones too, and nothing but an index is one."""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest
from helpers.made_cohort import TARGETS, key_of

from softlabels._shared.plain_json import sealed_json
from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.case_table import CaseTable, EntryAddress, IndexedCase
from softlabels.cohort.index import Index, TargetDescription
from softlabels.cohort.index_file import sealed_index
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.errors import FormatError, InputError

PREPARE, GEOLS = (EntryAddress(key_of(name), key_of(name, "manifest")) for name in ("prepare", "geols"))
INDEX = Index(
    store="../store",
    channels=("T1",),
    ignore_label=None,
    targets=TARGETS,
    missing=("b",),
    cases=CaseTable.of([IndexedCase("a", "train", ("class 'core' absent",), PREPARE, {"geols": GEOLS})]),
)

#: What the format looks like; a change here is a change of the format.
SMALL = Index(
    store="../store",
    channels=("T1",),
    ignore_label=3,
    targets={
        "geols": TargetDescription(
            node="target-0a1b2c3d",
            method="geols",
            variant="paper",
            kind="probability",
            classes=(LabelClass("background", (0,)), LabelClass("core", (1, 2))),
            is_overlapping=False,
            blend=Blend("mix_onehot", 0.1),
            pad_value=(1.0, 0.0),
            augmentation={"flip": True, "elastic": False},
        )
    },
    missing=(),
    cases=CaseTable.of(
        IndexedCase(name, split, (), EntryAddress("0", "1"), {"geols": EntryAddress("2", "3")})
        for name, split in (("a", None), ("b", "val"))
    ),
)
SMALL_TEXT = """\
    {
     "format": "softlabels-index",
     "version": 2,
     "channels": [
      "T1"
     ],
     "ignore_label": 3,
     "missing": [],
     "store": "../store",
     "targets": {
      "geols": {
       "augmentation": {
        "elastic": false,
        "flip": true
       },
       "blend": {
        "alpha": 0.1,
        "rule": "mix_onehot"
       },
       "classes": [
        {
         "name": "background",
         "values": [
          0
         ]
        },
        {
         "name": "core",
         "values": [
          1,
          2
         ]
        }
       ],
       "is_overlapping": false,
       "kind": "probability",
       "method": "geols",
       "node": "target-0a1b2c3d",
       "pad_value": [
        1.0,
        0.0
       ],
       "variant": "paper"
      }
     },
     "cases": [
    {"id":"a","split":null,"flags":[],"prepare":{"key":"0","manifest":"1"},"targets":{"geols":{"key":"2","manifest":"3"}}},
    {"id":"b","split":"val","flags":[],"prepare":{"key":"0","manifest":"1"},"targets":{"geols":{"key":"2","manifest":"3"}}}
     ],
     "seal": "SEAL"
    }
"""


def test_the_bytes_of_the_format_are_fixed(tmp_path):
    SMALL.write(tmp_path / "index.json")
    text = (tmp_path / "index.json").read_text()
    seal = json.loads(text)["seal"]
    assert text == dedent(SMALL_TEXT).replace("SEAL", seal)
    assert seal == hashlib.sha256(text[: text.index(' "seal"')].encode()).hexdigest()
    assert seal == "6d3d89ccb4c3ed4b1a991bd0d2963fbdd27d6c16c21bd8a5470579787f9fb8e3"


def old_content(index):
    """Return what version 1 of the format says, without its seal."""
    return {"format": "softlabels-index", "version": 1, **index.head, "cases": [case.to_json() for case in index.cases]}


@pytest.mark.parametrize("index", [INDEX, SMALL])
def test_an_index_of_version_1_says_the_same_and_is_written_as_version_2(tmp_path, index):
    (tmp_path / "old.json").write_bytes(sealed_json(old_content(index)))
    found = Index.read(tmp_path / "old.json")
    assert found == index and found.to_bytes() == index.to_bytes()


def test_the_seal_of_version_1_is_still_checked(tmp_path):
    path = tmp_path / "index.json"
    path.write_bytes(sealed_json(old_content(SMALL)).replace(b'"alpha": 0.1', b'"alpha": 0.2'))
    with pytest.raises(FormatError, match="changed since it was written .*seal"):
        Index.read(path)


def test_an_index_that_was_laid_out_otherwise_is_refused_even_if_it_says_the_same(tmp_path):
    path = tmp_path / "index.json"
    for text in (json.dumps(json.loads(SMALL.to_bytes()), indent=1), SMALL.to_bytes().decode().replace("\n", "\r\n")):
        path.write_bytes(text.encode())
        with pytest.raises(FormatError, match="changed since it was written"):
            Index.read(path)


def test_a_case_whose_labels_are_counted_says_where_they_are():
    blocks = LabelBlocks((155, 240, 240), (52, 60, 60), {2: ((20, 21), (700, 3))})
    case = replace(SMALL.cases[0], labels=blocks)
    written = {"shape": [155, 240, 240], "block": [52, 60, 60], "counts": {"2": "20:700 21:3"}}
    assert case.to_json() == {**SMALL.cases[0].to_json(), "labels": written}
    assert IndexedCase.from_json(case.to_json()) == case


def test_an_index_comes_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "index.json"
    INDEX.write(path)
    assert Index.read(path) == INDEX
    first = path.read_bytes()
    Index.read(path).write(path)
    assert path.read_bytes() == first
    assert [found.name for found in path.parent.iterdir()] == ["index.json"]


def test_the_store_is_found_beside_the_index_wherever_both_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert INDEX.store_path("results/index.json") == tmp_path / "store"
    (tmp_path / "disk" / "results").mkdir(parents=True)
    Path("linked").symlink_to("disk/results")  # `..` is that of the folder, not of the link
    assert INDEX.store_path("linked/index.json") == tmp_path / "disk" / "store"
    assert replace(INDEX, store="/data/store").store_path("results/index.json").as_posix() == "/data/store"


def test_targets_and_cases_are_found_by_name_or_refused():
    assert INDEX.target("geols") is TARGETS["geols"] and INDEX.case("a") == INDEX.cases[0]
    with pytest.raises(InputError, match="target: got 'nope', expected one of 'onehot', 'smooth', 'geols'"):
        INDEX.target("nope")
    with pytest.raises(InputError, match="case 'b': not in the index, which has 1 cases such as a"):
        INDEX.case("b")
    with pytest.raises(InputError, match="which has no cases"):
        replace(INDEX, cases=CaseTable.of([])).case("a")


@pytest.mark.parametrize("part", ["format", "version", "store", "channels", "targets", "missing", "cases"])
def test_a_sealed_file_that_lacks_a_part_is_refused(tmp_path, part):
    content = {name: value for name, value in old_content(INDEX).items() if name != part}
    (tmp_path / "index.json").write_bytes(sealed_json(content))
    with pytest.raises(FormatError, match=r"index .*index.json: (got|incomplete) .*(again|version)"):
        Index.read(tmp_path / "index.json")


@pytest.mark.parametrize("part", ["store", "channels", "targets", "missing"])
def test_a_sealed_head_that_lacks_a_part_is_refused(tmp_path, part):
    head = {name: value for name, value in INDEX.head.items() if name != part}
    (tmp_path / "index.json").write_bytes(sealed_index(head, INDEX.cases))
    with pytest.raises(FormatError, match=r"index .*index.json: incomplete .*snakemake again"):
        Index.read(tmp_path / "index.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [("cases", 3), ("targets", []), ("targets", {"a": {"node": None}}), ("cases", [{"id": "a"}]), ("channels", None)],
)
def test_a_sealed_file_of_another_shape_is_refused(tmp_path, name, value):
    (tmp_path / "index.json").write_bytes(sealed_json(old_content(INDEX) | {name: value}))
    with pytest.raises(FormatError, match=r"index .*index.json: incomplete .*snakemake again"):
        Index.read(tmp_path / "index.json")


@pytest.mark.parametrize("line", [b'{"id":"a"}', b'{"id":3,"split":null}', b"[]", b"3", b"{", b""])
def test_a_sealed_line_that_is_no_case_is_refused(tmp_path, line):
    table = replace(INDEX.cases, text=line, places=np.array([[0, len(line)]]))
    (tmp_path / "index.json").write_bytes(sealed_index(INDEX.head, table))
    if line:
        with pytest.raises(FormatError, match=r"index .*index.json: incomplete .*snakemake again"):
            Index.read(tmp_path / "index.json")
    else:
        assert len(Index.read(tmp_path / "index.json").cases) == 0


def test_a_sealed_case_that_lacks_something_is_an_error_that_names_it(tmp_path):
    line = b'{"id":"a","split":null,"flags":[],"prepare":{"key":"0"},"targets":{}}'
    table = replace(INDEX.cases, text=line, places=np.array([[0, len(line)]]))
    (tmp_path / "index.json").write_bytes(sealed_index(INDEX.head, table))
    with pytest.raises(FormatError, match=r"case a: incomplete in the index .*'manifest'.*snakemake again"):
        Index.read(tmp_path / "index.json").cases[0]


def test_a_blend_that_this_version_does_not_know_is_refused(tmp_path):
    head = INDEX.head
    head["targets"]["geols"]["blend"] = {"rule": "sharpen"}
    (tmp_path / "index.json").write_bytes(sealed_index(head, INDEX.cases))
    with pytest.raises(FormatError, match="incomplete .*'sharpen', expected one of onehot"):
        Index.read(tmp_path / "index.json")


def test_a_folder_or_a_pipe_is_no_index(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(FormatError, match="cannot be read"):
            Index.read(path)


def test_how_many_classes_a_sparse_target_keeps_comes_back_and_is_left_out_elsewhere():
    sparse = replace(TARGETS["geols"], n_kept=4)
    assert sparse.to_json() == TARGETS["geols"].to_json() | {"n_kept": 4}
    assert TargetDescription.from_json(sparse.to_json()) == sparse
    assert (sparse.n_slots, TARGETS["geols"].n_slots) == (5, None)
