"""Laws of a copied cohort: the same samples from a folder and from one file, nothing more than the index names, and
never a copy that is not whole."""

import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import ROOT
from helpers.made_cohort import SHAPES, key_of, make_cohort, open_made

from softlabels.cohort.case import IndexedCohort
from softlabels.cohort.copying import copy_cohort
from softlabels.cohort.index import Index
from softlabels.cohort.verify import verify_cohort
from softlabels.errors import FormatError, InputError, StoreError
from softlabels.store import Store
from softlabels.store.format import entry_folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture
def index(made, tmp_path):
    shutil.copytree(made.parents[1], tmp_path / "made")
    return tmp_path / "made" / "results" / "index.json"


@pytest.fixture(params=["folder", "cohort.zip"])
def destination(request, tmp_path):
    return tmp_path / "new" / request.param


def assert_same(first, second):
    """Compare all that two indexes lead to."""
    for case_id in SHAPES:
        (case, targets), (other, others) = open_made(first, case_id), open_made(second, case_id)
        np.testing.assert_array_equal(case.image(), other.image())
        np.testing.assert_array_equal(case.labels(), other.labels())
        assert case.entry.files == other.entry.files and case.entry.provenance == other.entry.provenance
        window = tuple((n // 3, n // 3 + 1 + n // 4) for n in case.shape)
        for name, target in targets.items():
            np.testing.assert_array_equal(target.soft_label(), others[name].soft_label())
            np.testing.assert_array_equal(target.soft_label(window), others[name].soft_label(window))


def test_a_copy_holds_the_same_voxels_and_needs_nothing_of_the_original(made, index, destination, tmp_path):
    copied = copy_cohort(index, destination)
    (tmp_path / "made").rename(tmp_path / "gone")
    assert_same(made, copied.index)
    assert copied.n_cases == len(SHAPES) and copied.n_copied == copied.n_entries == 4 * len(SHAPES)
    assert not verify_cohort(IndexedCohort.open(copied.index), deep=True)
    moved = destination.rename(destination.with_name(f"moved-{destination.name}"))
    assert_same(made, moved if moved.suffix == ".zip" else moved / "index.json")


def test_training_reads_the_same_samples(index, destination):
    torch = pytest.importorskip("torch")
    from softlabels.training.dataset import SoftLabelDataset

    options = {"target": "geols", "patch_size": (6, 12, 12), "patches_per_case": 2, "seed": 4}
    first, second = (
        SoftLabelDataset(index, **options),
        SoftLabelDataset(copy_cohort(index, destination).index, **options),
    )
    loader = torch.utils.data.DataLoader(second, batch_size=None, num_workers=2)
    for number, sample in enumerate(loader):
        for name, value in first[number].items():
            assert torch.equal(value, sample[name]) if torch.is_tensor(value) else value == sample[name]


def test_only_what_the_index_names_is_copied(index, destination):
    store = Store(index.parent.parent / "store")
    from softlabels.grid import Grid
    from softlabels.store import Layer, Lossless

    layer = Layer("labels", np.zeros((2, 2, 2), np.uint8), role="labels", encoding=Lossless())
    store.publish(key_of("other"), [layer], grid=Grid((2, 2, 2), (1, 1, 1)), attributes={}, quality={}, provenance={})
    copied = copy_cohort(index, destination, targets=["geols", "onehot"], splits=["val"])
    found = Index.read(copied.index / "index.json" if copied.index.suffix == ".zip" else copied.index)
    assert list(found.targets) == ["geols", "onehot"] and [case.id for case in found.cases] == ["small", "empty"]
    if destination.suffix == ".zip":
        names = {name.split("/")[3] for name in zipfile.ZipFile(destination).namelist() if "/" in name}
    else:
        names = set(Store(destination / "store").keys())
    assert names == found.keys() and len(names) == 4


def test_an_archive_is_unpacked_by_copying_it(index, tmp_path):
    archive = copy_cohort(index, tmp_path / "a.zip").index
    again = copy_cohort(archive, tmp_path / "b.zip").index
    assert archive.read_bytes() == again.read_bytes()  # no times, no order of chance
    assert_same(index, copy_cohort(archive, tmp_path / "folder").index)


def test_an_interrupted_copy_is_resumed(index, tmp_path, monkeypatch):
    from softlabels.cohort import copying

    done, copy_entry = [], copying.copy_entry

    def interrupted(entry, store):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(entry.key)
        copy_entry(entry, store)

    monkeypatch.setattr(copying, "copy_entry", interrupted)
    with pytest.raises(KeyboardInterrupt):
        copy_cohort(index, tmp_path / "copy", n_threads=1)
    assert not (tmp_path / "copy" / "index.json").exists()
    monkeypatch.setattr(copying, "copy_entry", copy_entry)
    assert copy_cohort(index, tmp_path / "copy").n_copied == 4 * len(SHAPES) - 5
    assert copy_cohort(index, tmp_path / "copy").n_copied == 0
    assert_same(index, tmp_path / "copy" / "index.json")


def test_what_was_damaged_at_the_destination_is_copied_again(index, tmp_path):
    copied = copy_cohort(index, tmp_path / "copy")
    case = Index.read(index).cases[0]
    manifest = entry_folder(tmp_path / "copy" / "store", case.prepare.key) / "MANIFEST.json"
    shard = next(entry_folder(tmp_path / "copy" / "store", case.targets["geols"].key).rglob("c/0/0/0/0"))
    for path, content in ((manifest, b"{}"), (shard, shard.read_bytes()[:-1])):
        path.chmod(0o644)
        path.write_bytes(content)
    assert copy_cohort(index, tmp_path / "copy").n_copied == 2
    assert_same(index, copied.index)


@pytest.mark.parametrize("part", ["c/0/0/0/0", "MANIFEST.json", "PROVENANCE.json", "zarr.json"])
def test_a_damaged_entry_is_named_and_no_copy_is_left(index, destination, part):
    case = Index.read(index).cases[1]
    path = next(entry_folder(index.parent.parent / "store", case.targets["geols"].key).rglob(part))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    with pytest.raises(FormatError, match="damaged"):
        copy_cohort(index, destination)
    assert not destination.is_file() and not (destination / "index.json").exists()
    assert not list(destination.parent.rglob("*.tmp*"))
    assert not list(destination.parent.rglob(".tmp-*"))


def test_a_missing_entry_is_named_before_anything_is_copied(index, destination):
    case = Index.read(index).cases[2]
    Store(index.parent.parent / "store").discard(case.prepare.key)
    with pytest.raises(
        FormatError, match=f"case {case.id}, prepare, entry .*: it is not in store .* Run snakemake again"
    ):
        copy_cohort(index, destination)
    assert not destination.parent.exists()


def test_several_jobs_may_copy_to_one_folder_and_each_entry_is_copied_once(index, tmp_path):
    code = (
        "import sys; from softlabels.cohort.copying import copy_cohort;"
        "print(copy_cohort(sys.argv[1], sys.argv[2]).n_copied)"
    )
    command = [sys.executable, "-c", code, str(index), str(tmp_path / "copy")]
    jobs = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
        for _ in range(3)
    ]
    n_copied = [int(job.communicate()[0]) for job in jobs]
    assert sorted(n_copied) == [0, 0, 4 * len(SHAPES)]
    assert_same(index, tmp_path / "copy" / "index.json")


def test_without_locks_jobs_that_copy_at_the_same_time_agree(index, tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    threads = [threading.Thread(target=copy_cohort, args=(index, tmp_path / "copy")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert_same(index, tmp_path / "copy" / "index.json")
    assert not list((tmp_path / "copy").rglob(".tmp-*"))


def test_what_cannot_be_copied_is_refused(index, tmp_path, monkeypatch):
    archive = copy_cohort(index, tmp_path / "a.zip").index
    for source, target, says in (
        (index, index.parent, "holds what is to be copied"),
        (archive, archive, "is the archive to copy from"),
    ):
        with pytest.raises(InputError, match=says):
            copy_cohort(source, target)
    with pytest.raises(InputError, match="split: got 'test', expected some of train, val"):
        copy_cohort(index, tmp_path / "copy", splits=["test"])
    with pytest.raises(InputError, match="target: got 'other'"):
        copy_cohort(index, tmp_path / "copy", targets=["other"])
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10))
    for name in ("copy", "b.zip"):
        with pytest.raises(StoreError, match=r"has 0.0 GB of free space, expected 0.* GB. Give another folder"):
            copy_cohort(index, tmp_path / name)


def test_damage_in_an_archive_is_noticed(index, tmp_path):
    archive = copy_cohort(index, tmp_path / "a.zip").index
    case = Index.read(index).cases[0]
    with zipfile.ZipFile(archive) as opened:
        name = next(n for n in opened.namelist() if case.targets["geols"].key in n and n.endswith("c/0/0/0/0"))
        offset = opened.getinfo(name).header_offset + len(name) + 60
    content = bytearray(archive.read_bytes())
    content[offset] ^= 1
    archive.write_bytes(content)
    _, targets = open_made(archive, case.id)
    with pytest.raises(FormatError, match=f"case {case.id}, target 'geols', entry .*{archive.name}.* is damaged"):
        targets["geols"].stored()
    assert [one.key for one in verify_cohort(IndexedCohort.open(archive), deep=True)] == [case.targets["geols"].key]
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match="index .*a.zip"):
        IndexedCohort.open(archive)


def test_zarr_opens_an_array_in_an_archive(index, tmp_path):
    case, targets = open_made(copy_cohort(index, tmp_path / "a.zip").index, "large")
    np.testing.assert_array_equal(case.entry.stored("image")[...], case.image())
    np.testing.assert_array_equal(targets["geols"].entry.stored("target")[:, 2], targets["geols"].encoded()[:, 2])


def test_a_compressed_archive_is_refused_with_the_remedy(index, tmp_path):
    copy_cohort(index, tmp_path / "folder")
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in Path(tmp_path / "folder").rglob("*"):
            archive.write(path, path.relative_to(tmp_path / "folder"))
    with pytest.raises(FormatError, match="compressed members, expected one that `softlabels copy` made"):
        IndexedCohort.open(packed)
