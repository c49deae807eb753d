"""Laws of index.json: its bytes are fixed, it comes back as it was, and nothing but an index is one."""

import json
import os
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from helpers.made_cohort import TARGETS, key_of

from softlabels._shared.plain_json import sealed_json
from softlabels.blend import Blend
from softlabels.classes import LabelClass
from softlabels.cohort.index import EntryAddress, Index, IndexedCase, TargetDescription
from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.errors import FormatError, InputError

PREPARE, GEOLS = (EntryAddress(key_of(name), key_of(name, "manifest")) for name in ("prepare", "geols"))
INDEX = Index(
    store="../store",
    channels=("T1",),
    ignore_label=None,
    targets=TARGETS,
    missing=("b",),
    cases=(IndexedCase("a", "train", ("class 'core' absent",), PREPARE, {"geols": GEOLS}),),
)

#: What version 1 of the format looks like; a change here is a change of the format.
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
    cases=(IndexedCase("a", None, (), EntryAddress("0", "1"), {"geols": EntryAddress("2", "3")}),),
)
SMALL_TEXT = """\
    {
     "cases": [
      {
       "flags": [],
       "id": "a",
       "prepare": {
        "key": "0",
        "manifest": "1"
       },
       "split": null,
       "targets": {
        "geols": {
         "key": "2",
         "manifest": "3"
        }
       }
      }
     ],
     "channels": [
      "T1"
     ],
     "format": "softlabels-index",
     "ignore_label": 3,
     "missing": [],
     "seal": "SEAL",
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
     "version": 1
    }
"""


def test_the_bytes_of_the_format_are_fixed(tmp_path):
    SMALL.write(tmp_path / "index.json")
    text = (tmp_path / "index.json").read_text()
    seal = json.loads(text)["seal"]
    assert text == dedent(SMALL_TEXT).replace("SEAL", seal)
    assert seal == "7c7b6351b8545afec6bb52687141f05aaca338bad8331477d16d17fcfa8933ac"


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
    assert INDEX.target("geols") is TARGETS["geols"] and INDEX.case("a") is INDEX.cases[0]
    with pytest.raises(InputError, match="target: got 'nope', expected one of 'onehot', 'smooth', 'geols'"):
        INDEX.target("nope")
    with pytest.raises(InputError, match="case 'b': not in the index, which has 1 cases such as a"):
        INDEX.case("b")
    with pytest.raises(InputError, match="which has no cases"):
        replace(INDEX, cases=()).case("a")


@pytest.mark.parametrize("part", ["format", "version", "store", "channels", "targets", "missing", "cases"])
def test_a_sealed_file_that_lacks_a_part_is_refused(tmp_path, part):
    content = {name: value for name, value in INDEX.to_json().items() if name != part}
    (tmp_path / "index.json").write_bytes(sealed_json(content))
    with pytest.raises(FormatError, match=r"index .*index.json: (got|incomplete) .*(again|version)"):
        Index.read(tmp_path / "index.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [("cases", 3), ("targets", []), ("targets", {"a": {"node": None}}), ("cases", [{"id": "a"}]), ("channels", None)],
)
def test_a_sealed_file_of_another_shape_is_refused(tmp_path, name, value):
    (tmp_path / "index.json").write_bytes(sealed_json(INDEX.to_json() | {name: value}))
    with pytest.raises(FormatError, match=r"index .*index.json: incomplete .*snakemake again"):
        Index.read(tmp_path / "index.json")


def test_a_blend_that_this_version_does_not_know_is_refused(tmp_path):
    content = INDEX.to_json()
    content["targets"]["geols"]["blend"] = {"rule": "sharpen"}
    (tmp_path / "index.json").write_bytes(sealed_json(content))
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
