"""Receipts and other people's files in a results folder: what is counted, what is forgotten, what is left alone."""

import errno
import json
import os
from pathlib import Path

import pytest

from softlabels.cohort.case_table import CaseTable, EntryAddress, IndexedCase
from softlabels.cohort.index import Index
from softlabels.errors import StoreError
from softlabels.pipeline.receipts import BatchReceipt, Receipt, receipt_path
from softlabels.pipeline.upkeep import (
    batch_receipt_paths,
    damaged_receipts,
    date_back,
    forget_incomplete,
    forget_receipts,
    live_keys,
    receipt_paths,
)

A, B, C, D, E = (letter * 64 for letter in "abcde")
#: Files that people keep in a results folder, which no command may touch or stumble over.
OF_OTHERS = {
    "notes/my-notes.json": '{"key": "' + A + '", "text": "not a receipt"}',
    "notes/todo.json": "{ not even JSON",
    "stages.json": "{",
    "target-01234567.json": "{",
    "participants.json": '{"upstream": ["' + A + '"]}',
    "case1/sub-01_T1w.json": '{"EchoTime": 0.01}',
    "case1/seeds-and-all.json": "[]",
    "case1/seeds-0123456.json": "[]",
    "case1/target-0123456789.json": "[]",
    "case1/stages-01234567.json": "[]",
    "batches/readme.json": "{",
    "batches/later/seeds-01234567.json": "{",
    "batches/00001/notes.json": "{",
    "report/seeds-01234567.json": "{",
}


def leave(results: Path, case: str, stage: str, key: str, **upstream: str) -> Path:
    path = receipt_path(results, case, f"{stage}-01234567")
    Receipt(case, path.stem, stage, key, "0" * 64, "/store", "computed", 1.0, upstream=upstream).write(path)
    return path


def leave_index(results: Path, **targets: str) -> Path:
    prepare, *addresses = (EntryAddress(key, "0" * 64) for key in (E, *targets.values()))
    case = IndexedCase("a", None, (), prepare, dict(zip(targets, addresses, strict=True)))
    Index("store", ("T1",), None, {}, (), CaseTable.of([case])).write(results / "index.json")
    return results / "index.json"


@pytest.fixture
def others(tmp_path):
    """Other people's files, and a function that fails unless they are as they were."""
    for name, text in OF_OTHERS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def assert_untouched():
        assert {name: (tmp_path / name).read_text() for name in OF_OTHERS} == OF_OTHERS

    return assert_untouched


def test_live_keys_are_those_of_receipts_their_upstream_and_indexes(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    leave(one, "case1", "seeds", A, prepare=B)
    leave(one, "case2", "prepare", C)
    two.mkdir()
    leave_index(two, geols=A, sing=D)
    assert live_keys([one, two]) == {A, B, C, D, E}
    assert live_keys([two]) == {A, D, E}
    assert live_keys([]) == set()


def test_other_peoples_files_are_neither_keys_nor_damaged_nor_deleted(tmp_path, others):
    receipt, index = leave(tmp_path, "case1", "seeds", B), leave_index(tmp_path)
    assert receipt_paths(tmp_path) == [receipt] and batch_receipt_paths(tmp_path) == []
    assert live_keys([tmp_path]) == {B, E}
    assert damaged_receipts(tmp_path) == {} and forget_incomplete(tmp_path) == 0
    assert forget_receipts(tmp_path, {A}) == 0 and index.exists()
    others()
    assert forget_receipts(tmp_path, {A, B}) == 1 and not receipt.exists() and not index.exists()
    others()


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({"key": A}), "x" * 1000])
def test_receipt_that_cannot_be_read_stops_the_collection_and_is_set_aside_whole(tmp_path, others, text):
    leave(tmp_path, "case1", "seeds", A)
    damaged = tmp_path / "case1" / "target-01234567.json"
    damaged.write_text(text)
    with pytest.raises(StoreError, match="target-01234567.json: damaged.*verify --discard"):
        live_keys([tmp_path])
    assert list(damaged_receipts(tmp_path)) == [damaged]
    assert forget_receipts(tmp_path, set()) == 1
    assert damaged.with_name(f"{damaged.name}.damaged").read_text() == text
    assert live_keys([tmp_path]) == {A} and damaged_receipts(tmp_path) == {}
    others()


def test_index_that_cannot_be_read_stops_the_collection_and_is_set_aside_whole(tmp_path):
    (tmp_path / "index.json").write_text('{"cases": "mine"}')
    with pytest.raises(StoreError, match="index.json"):
        live_keys([tmp_path])
    assert forget_receipts(tmp_path, set()) == 1
    assert (tmp_path / "index.json.damaged").read_text() == '{"cases": "mine"}' and live_keys([tmp_path]) == set()


def test_receipts_of_batches_are_told_by_their_names_and_damaged_ones_set_aside(tmp_path, others):
    good = [tmp_path / "batches" / "00001" / "seeds-01234567.json", tmp_path / "case1" / "stages.json"]
    for path in good:
        BatchReceipt([path.stem], ["case1"]).write(path)
    failed = tmp_path / "batches" / "00002" / "stages.json"
    BatchReceipt(["seeds-01234567"], ["case2"], {"case2": "InputError: truncated"}).write(failed)
    damaged = tmp_path / "batches" / "00003" / "stages.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    assert batch_receipt_paths(tmp_path) == sorted([*good, failed, damaged])
    assert forget_incomplete(tmp_path) == 2
    assert batch_receipt_paths(tmp_path) == good and damaged.with_name("stages.json.damaged").read_text() == "{"
    others()


def test_a_results_folder_that_is_gone_stops_the_collection(tmp_path):
    with pytest.raises(StoreError, match="elsewhere: no such results folder"):
        live_keys([tmp_path / "elsewhere"])


@pytest.mark.parametrize("folder", ["results", "batches", "."])
def test_receipts_of_a_clock_that_is_ahead_are_dated_back_and_nothing_else_is(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    results, now, future = Path(folder), 1.7e9, 1.7e9 + 3600
    assert date_back(results, now) == 0
    steps = ("seeds-01234567.json", "stages.json")
    receipts = {results / place / step for place in ("case1", "batches/00001") for step in steps}
    receipts.add(results / "index.json")
    others = {results / name for name in OF_OTHERS} | {results / "case1" / "seeds-01234567.zarr"}
    for path in receipts | others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        os.utime(path, (future, future))
    old, gone = results / "case2" / "seeds-01234567.json", results / "case2" / "target-01234567.json"
    old.parent.mkdir()
    old.write_text("{}")
    os.utime(old, (now - 5, now - 5))
    gone.symlink_to("nowhere")
    (results / "loop").symlink_to("loop")
    (results / "loop.json").symlink_to("loop.json")
    assert date_back(results, now) == len(receipts)
    assert {path.stat().st_mtime for path in receipts} == {now}
    assert {path.stat().st_mtime for path in others} == {future}
    assert old.stat().st_mtime == now - 5
    assert date_back(results, now) == 0


def test_a_receipt_of_the_future_that_cannot_be_changed_is_named(tmp_path, monkeypatch):
    path = leave(tmp_path, "case1", "seeds", A)

    def refuse(*arguments):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    with pytest.raises(StoreError, match=rf"^{path}: is dated in the future, and cannot be changed .*; .*permission"):
        date_back(tmp_path, path.stat().st_mtime - 1)
