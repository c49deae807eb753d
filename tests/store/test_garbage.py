"""Garbage collection: what is named or young stays, a dry run changes nothing, and nobody ever sees half an entry."""

import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from softlabels.errors import FormatError, StoreError
from softlabels.grid import Grid
from softlabels.store import Layer, Store, entry_key

GRID = Grid((2, 3, 4), (1, 1, 1))
DAY = 86400.0


def published(store, number):
    key = entry_key(stage="test", algorithm="1", params={"number": number}, inputs={})
    layer = Layer("map", np.full(GRID.shape, number, np.uint8))
    return store.publish(key, [layer], grid=GRID, attributes={}, quality={}, provenance={})[0]


def age(path, seconds):
    past = time.time() - seconds
    os.utime(path, (past, past))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def old(store):
    """Four entries that were last used three days ago."""
    entries = [published(store, number) for number in range(4)]
    for entry in entries:
        age(entry.path, 3 * DAY)
    return entries


def test_what_is_named_stays_and_the_rest_goes(store, old):
    live = {old[0].key, old[2].key, "f" * 64}
    found = store.gc(live, delete=True)
    assert {garbage.key for garbage in found} == {old[1].key, old[3].key}
    assert list(store.keys()) == sorted([old[0].key, old[2].key])
    assert store.verify(deep=True) == []
    assert not list((store.path / "v1").glob(".*"))
    assert store.gc(live, delete=True) == []


def test_a_dry_run_is_the_default_and_changes_nothing(store, old):
    found = store.gc([])
    assert len(found) == len(list(store.keys())) == 4
    assert all(garbage.nbytes == old[0].nbytes and 3 * DAY <= garbage.age_s < 3.1 * DAY for garbage in found)


def test_what_is_young_stays_because_its_receipt_may_not_be_written_yet(store, old):
    fresh = published(store, 9)
    assert {garbage.key for garbage in store.gc([], delete=True)} == {entry.key for entry in old}
    assert list(store.keys()) == [fresh.key]
    assert [garbage.key for garbage in store.gc([], min_age_s=0.0)] == [fresh.key]


def test_finding_an_entry_makes_it_young_again(store, old):
    store.find(old[1].key)
    assert old[1].key not in {garbage.key for garbage in store.gc([])}


def test_publishing_what_exists_makes_it_young_again(store, old):
    published(store, 2)
    assert old[2].key not in {garbage.key for garbage in store.gc([])}


def test_damaged_entries_are_collected_like_others(store, old):
    (old[0].path / "MANIFEST.json").unlink()
    assert len(store.gc([], delete=True, min_age_s=0)) == 4
    assert list(store.keys()) == []


def test_an_entry_that_is_removed_while_it_is_opened_is_absent_not_damaged(store, old, monkeypatch):
    import softlabels.store.read as read

    unsealed_json = read.unsealed_json

    def removed_meanwhile(content):
        store.discard(old[0].key)
        return unsealed_json(content)

    monkeypatch.setattr(read, "unsealed_json", removed_meanwhile)
    assert store.find(old[0].key) is None


def test_reading_an_entry_that_was_removed_is_an_error_that_names_it(store, old):
    store.gc([], delete=True)
    with pytest.raises(FormatError, match=old[0].key):
        old[0].read("map")


def test_projects_register_their_results_once(store, tmp_path):
    for name in ("one", "two", "one"):
        (tmp_path / name).mkdir(exist_ok=True)
        store.register_results(tmp_path / name)
    assert sorted(store.registered_results()) == [tmp_path / "one", tmp_path / "two"]


def test_a_project_that_is_gone_stops_the_collection_until_its_note_is_deleted(store, tmp_path):
    (tmp_path / "one").mkdir()
    store.register_results(tmp_path / "one")
    (tmp_path / "one").rmdir()
    (note,) = (store.path / "v1" / "projects").iterdir()
    with pytest.raises(StoreError, match=f"{tmp_path}/one: the results of a project are gone.*delete {note}"):
        store.registered_results()
    note.unlink()
    assert store.registered_results() == []


def test_a_note_of_a_project_that_cannot_be_read_stops_the_collection(store, tmp_path):
    store.register_results(tmp_path)
    next((store.path / "v1" / "projects").iterdir()).write_text("{")
    with pytest.raises(StoreError, match="delete it if its project no longer exists"):
        store.registered_results()


def leftover(store, host, pid, seconds):
    """Make what a writer that was killed `seconds` ago leaves behind."""
    folder = store.path / "v1" / f".tmp-{host}-{pid}-0123456789abcdef"
    (folder / "entry.zarr").mkdir(parents=True)
    (folder / "entry.zarr" / "zarr.json").write_text("{}")
    for path in [*folder.rglob("*"), folder]:
        age(path, seconds)
    return folder


def dead_pid():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_remains_of_dead_writers_are_swept_and_those_of_live_ones_stay(store, old):
    here, dead = socket.gethostname(), dead_pid()
    gone = [leftover(store, here, dead, 3600), leftover(store, "far-away-node-7", 1, 3 * DAY)]
    stay = [leftover(store, here, os.getpid(), 9 * DAY), leftover(store, "near-node", dead, 3600)]
    assert sorted(store.sweep_stale_tmp()) == sorted(gone)
    assert all(folder.exists() for folder in stay)
    assert not any(folder.exists() for folder in gone)
    assert len(list(store.keys())) == 4


def test_a_writer_that_died_just_now_may_live_in_another_container(store):
    folder = leftover(store, socket.gethostname(), dead_pid(), 5)
    assert store.sweep_stale_tmp() == []
    assert folder.exists()


def test_interrupted_removals_are_finished(store, old):
    trash = store.path / "v1" / ".trash-0123456789abcdef"
    old[0].path.rename(trash)
    assert store.sweep_stale_tmp() == [trash]
    assert not trash.exists()


def test_a_writer_whose_folder_is_swept_away_fails_and_publishes_nothing(store, monkeypatch):
    import softlabels.store.garbage as garbage
    import softlabels.store.publish as publish

    write_zarr = publish._write_zarr

    def swept_meanwhile(tmp, *args):
        files = write_zarr(tmp, *args)
        garbage.discard_folder(tmp)
        return files

    monkeypatch.setattr(publish, "_write_zarr", swept_meanwhile)
    with pytest.raises(StoreError, match="cannot be published"):
        published(store, 1)
    assert list(store.keys()) == []
    assert not list((store.path / "v1").glob(".*"))
