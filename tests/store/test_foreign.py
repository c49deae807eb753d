"""What others put into the store's folder: no link is followed by what removes, and nothing stops the rest."""

import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from softlabels.errors import FormatError, StoreError
from softlabels.grid import Grid
from softlabels.store import Layer, Store, entry_key
from softlabels.store.garbage import remove_tree

GRID = Grid((2, 3, 4), (1, 1, 1))
TOKEN = "0123456789abcdef"


def key_of(number):
    return entry_key(stage="test", algorithm="1", params={"number": number}, inputs={})


def published(store, number):
    layer = Layer("map", np.full(GRID.shape, number, np.uint8))
    return store.publish(key_of(number), [layer], grid=GRID, attributes={}, quality={}, provenance={})[0]


@pytest.fixture
def store(tmp_path):
    """A store with one sound entry, number 0."""
    store = Store(tmp_path / "store")
    published(store, 0)
    return store


@pytest.fixture
def precious(tmp_path):
    """A folder of somebody else, with a file, a folder and a link in it."""
    folder = tmp_path / "precious"
    (folder / "inside").mkdir(parents=True)
    (folder / "file").write_text("mine")
    (folder / "inside" / "file").write_text("mine")
    (folder / "link").symlink_to("inside")
    return folder


def is_untouched(precious: Path) -> bool:
    files = [precious / "file", precious / "inside" / "file", precious / "link" / "file"]
    return all(path.read_text() == "mine" for path in files)


def entry_path(store, number) -> Path:
    """Return where the entry of a number belongs, with the folder it is in."""
    path = store.path / "v1" / key_of(number)[:2] / key_of(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def make_old(path: Path, seconds=9 * 86400.0):
    past = time.time() - seconds
    os.utime(path, (past, past), follow_symlinks=False)


def names(store) -> set[str]:
    """Return what lies beside the folders of entries."""
    return {path.name for path in (store.path / "v1").iterdir() if len(path.name) > 2}


def test_a_link_with_the_name_of_an_entry_is_unlinked_by_discard_and_not_followed(store, precious):
    entry_path(store, 1).symlink_to(precious)
    store.discard(key_of(1))
    assert not entry_path(store, 1).is_symlink() and is_untouched(precious)
    assert names(store) == set()


def test_a_link_with_the_name_of_an_entry_is_garbage_once_it_is_old(store, precious):
    link = entry_path(store, 1)
    link.symlink_to(precious)
    live = [key_of(0)]
    assert store.gc(live, delete=True) == [] and link.is_symlink()
    make_old(link)
    (garbage,) = store.gc(live, delete=True)
    assert (garbage.key, garbage.nbytes, garbage.error) == (key_of(1), 0, None)
    assert not link.is_symlink() and is_untouched(precious)


@pytest.mark.parametrize(
    "name", [f".trash-{TOKEN}", f".tmp-far-away-1-{TOKEN}", f".tmp-{socket.gethostname()}-0-{TOKEN}"]
)
def test_a_link_with_the_name_of_trash_or_of_a_writer_is_unlinked_and_not_followed(store, precious, name):
    link = store.path / "v1" / name
    link.symlink_to(precious)
    make_old(link)
    swept = store.sweep_stale_tmp()
    # Process 0 is every process of this group: it runs.
    assert (swept == [link]) == (not link.is_symlink()) == ("-0-" not in name)
    assert is_untouched(precious)


def test_links_inside_of_what_is_removed_are_not_followed(store, precious):
    folder = entry_path(store, 0)
    (folder / "to-folder").symlink_to(precious)
    (folder / "entry.zarr" / "to-file").symlink_to(precious / "file")
    (folder / "entry.zarr" / "to-nothing").symlink_to("nowhere")
    store.discard(key_of(0))
    assert is_untouched(precious) and list(store.keys()) == [] and names(store) == set()


def test_a_folder_of_entries_that_is_a_link_is_another_store_s(store, tmp_path):
    other = Store(tmp_path / "other")
    theirs = published(other, 5)
    (store.path / "v1" / theirs.path.parent.name).symlink_to(theirs.path.parent)
    make_old(theirs.path)
    assert theirs.key not in list(store.keys())
    assert store.gc([key_of(0)], delete=True) == []
    assert other.verify(deep=True) == [] and list(other.keys()) == [theirs.key]


def test_remove_tree_removes_whatever_has_the_name(tmp_path, precious):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(precious)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("")
    for name in ("pipe", "link", "loop", "file", "absent"):
        remove_tree(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"] and is_untouched(precious)
    remove_tree(precious)
    assert list(tmp_path.iterdir()) == []


def _device(path):
    path.symlink_to("/dev/zero")


def _folder(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")


#: What may have the name of an entry, or of a file in it.
THINGS = {
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop of links": lambda path: path.symlink_to(path.name),
    "link to a folder": lambda path: path.symlink_to(path.parents[1]),
    "file": lambda path: path.write_text("{}"),
    "pipe": os.mkfifo,
    "device": _device,
    "folder": _folder,
}


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_entry_is_reported_collected_and_stops_nothing(store, thing):
    published(store, 2)
    path = entry_path(store, 1)
    THINGS[thing](path)
    found = store.verify(deep=True)
    assert [(damage.key, damage.is_certain) for damage in found] == [(key_of(1), True)]
    assert str(path) in found[0].message and "softlabels verify --discard" in found[0].message
    with pytest.raises(FormatError):
        store.find(key_of(1))
    with pytest.raises(FormatError):
        published(store, 1)
    make_old(path)
    assert [garbage.key for garbage in store.gc([key_of(0), key_of(2)])] == [key_of(1)]
    store.discard(key_of(1))
    assert not os.path.lexists(path) and names(store) == set()
    published(store, 1)
    assert store.verify(deep=True) == []


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("name", ["MANIFEST.json", "PROVENANCE.json", "QUALITY.json", "entry.zarr/map/c/0/0/0"])
def test_what_is_no_file_inside_an_entry_is_reported_and_does_not_hang(store, thing, name):
    published(store, 2)
    path = entry_path(store, 0) / name
    path.unlink()
    THINGS[thing](path)
    found = store.verify(deep=True)
    assert {damage.key for damage in found} == {key_of(0)} and all(damage.is_certain for damage in found)
    store.discard(key_of(0))
    assert list(store.keys()) == [key_of(2)] and names(store) == set()


def test_json_of_many_levels_is_damage(store):
    (entry_path(store, 0) / "MANIFEST.json").chmod(0o644)
    (entry_path(store, 0) / "MANIFEST.json").write_text("[" * 100_000)
    (damage,) = store.verify()
    assert damage.is_certain and "MANIFEST.json: the file is damaged" in damage.message


@pytest.mark.parametrize("thing", THINGS)
def test_a_foreign_name_is_left_alone_and_the_rest_is_swept(store, thing):
    for name in (".tmp-x", ".tmp-my-notes", ".trash-mine", ".tmp-a-b-c", f".tmp-node-{'9' * 30}-x"):
        THINGS[thing](store.path / "v1" / name)
    before = names(store)
    old = store.path / "v1" / f".tmp-gone-{'9' * 30}-{TOKEN}"
    THINGS[thing](old)
    for path in [old, *old.rglob("*")] if old.is_dir() and not old.is_symlink() else [old]:
        make_old(path)
    assert store.sweep_stale_tmp() == [old]
    assert names(store) == before


def test_a_stranger_inside_an_entry_is_damage(store, precious):
    folder = entry_path(store, 0)
    (folder / "notes.txt").write_text("mine")
    (folder / "entry.zarr" / "elsewhere").symlink_to(precious)
    found = sorted(damage.message for damage in store.verify())
    assert [message.partition(": ")[0] for message in found] == [
        str(folder / "entry.zarr" / "elsewhere"),
        str(folder / "notes.txt"),
    ]


def test_what_cannot_be_read_is_no_certain_damage(store, monkeypatch):
    import softlabels.store.read as read

    def fail(path, *_):
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(read, "read_small", fail)
    (damage,) = store.verify()
    assert not damage.is_certain and "cannot be read (Input/output error)" in damage.message


def test_garbage_that_cannot_be_removed_stops_no_other(store, monkeypatch):
    import softlabels.store.garbage as garbage

    for number in (1, 2):
        published(store, number)
    discard = garbage.discard_folder

    def fail_once(folder):
        if folder.name == key_of(1):
            raise StoreError("not yours")
        discard(folder)

    monkeypatch.setattr(garbage, "discard_folder", fail_once)
    found = store.gc([], delete=True, min_age_s=0)
    assert {one.key: one.error for one in found} == {key_of(0): None, key_of(1): "not yours", key_of(2): None}
    assert list(store.keys()) == [key_of(1)]


def test_a_store_that_is_no_folder_says_so(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "v1").write_text("")
    with pytest.raises(StoreError, match="cannot be listed"):
        list(Store(tmp_path / "store").keys())
