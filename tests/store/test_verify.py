"""Damage is always noticed: by verify, which names entry and file, and by reading, which raises and never returns."""

import shutil

import numpy as np
import pytest

from softlabels.errors import FormatError
from softlabels.grid import Grid
from softlabels.store import BitRound, Layer, ScaleOffset, Store, entry_key

GRID = Grid((12, 70, 67), (3.0, 1.0, 1.0))
SHARD, LABEL_SHARD = "entry.zarr/target/c/0/0/0/0", "entry.zarr/labels/labels/0/c/0/0/0"
JSON_FILES = [
    "entry.zarr/zarr.json",
    "entry.zarr/target/zarr.json",
    "entry.zarr/labels/labels/zarr.json",
    "QUALITY.json",
]


def published(store, number=0):
    """Publish an entry whose data, not whose layout, depends on the number."""
    values = np.random.default_rng(number).random((3, *GRID.shape)).astype(np.float32)
    labels = Layer("labels", (values[0] > 0.7).astype(np.uint8), role="labels")
    key = entry_key(stage="test", algorithm="1", params={"number": number}, inputs={})
    layers = [Layer("target", values, list("abc"), ScaleOffset("uint16", 0, 1)), labels]
    return store.publish(key, layers, grid=GRID, attributes={}, quality={"n": number}, provenance={"n": number})[0]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def entry(store):
    published(store, 1)
    return published(store)


def rewrite(path, content):
    """Replace a read-only file."""
    path.unlink()
    path.write_bytes(content)


def flip_bit(path, position):
    content = bytearray(path.read_bytes())
    content[position // 8] ^= 1 << position % 8
    rewrite(path, content)


def use(store, key):
    """Do what a stage or a loader does with an entry."""
    entry = store.find(key)
    for name in entry.layers:
        entry.read(name)


def the_problem(store, entry, file, deep=False):
    """Return the one problem of the store, which must be about a file of the entry."""
    problems = store.verify(deep=deep)
    assert [problem.key for problem in problems] == [entry.key]
    assert str(entry.path / file) in str(problems[0])
    assert "\n" not in str(problems[0])
    return str(problems[0])


def test_a_sound_store_has_no_problems(store, entry):
    seen = []
    assert store.verify(deep=True, progress=lambda done, total: seen.append((done, total))) == []
    assert seen == [(1, 2), (2, 2)]


@pytest.mark.parametrize("file", [SHARD, LABEL_SHARD, "MANIFEST.json", *JSON_FILES])
def test_a_missing_file_is_noticed_without_looking_deep(store, entry, file):
    (entry.path / file).unlink()
    assert "missing" in the_problem(store, entry, file)
    with pytest.raises(FormatError, match="missing.*softlabels verify --discard"):
        use(store, entry.key)


def test_a_chunk_deleted_after_opening_raises_and_is_not_zeros(entry):
    (entry.path / SHARD).unlink()
    with pytest.raises(FormatError, match=f"{entry.key}.*{SHARD}: the file is missing"):
        entry.read("target")


@pytest.mark.parametrize("file", [SHARD, LABEL_SHARD, "MANIFEST.json", "PROVENANCE.json", *JSON_FILES])
@pytest.mark.parametrize("cut", [1, 20, "half", "all"])
def test_a_truncated_file_is_noticed_without_looking_deep(store, entry, file, cut):
    content = (entry.path / file).read_bytes()
    rewrite(entry.path / file, content[: {"half": len(content) // 2, "all": 0}.get(cut, len(content) - 1)])
    the_problem(store, entry, file)
    if file != "PROVENANCE.json":
        with pytest.raises(FormatError):
            use(store, entry.key)


def test_a_file_truncated_or_lengthened_after_opening_raises(entry):
    whole = (entry.path / SHARD).read_bytes()
    for content in (whole[:-1], whole[:10], b"", whole + b"0"):
        rewrite(entry.path / SHARD, content)
        with pytest.raises(FormatError, match=SHARD):
            entry.read("target")
        entry._indexes.clear()
    rewrite(entry.path / SHARD, whole)
    entry.read("target")


@pytest.mark.parametrize("file", [SHARD, LABEL_SHARD])
def test_every_region_of_a_data_file_is_covered(store, entry, file):
    size = (entry.path / file).stat().st_size
    whole = entry.path / file
    for position in (0, 8 * 8, 8 * size // 2, 8 * (size - 5), 8 * (size - 4), 8 * size - 1):
        flip_bit(whole, position)
        assert "damaged" in the_problem(store, entry, file, deep=True)
        with pytest.raises(FormatError, match="crc32c"):
            use(store, entry.key)
        flip_bit(whole, position)
    assert store.verify(deep=True) == []


def test_a_flipped_bit_outside_the_window_does_not_stop_reading_inside(entry):
    before = entry.read("target", ((0, 12), (0, 35), (0, 34)))
    flip_bit(entry.path / SHARD, 8 * ((entry.path / SHARD).stat().st_size - 200))
    np.testing.assert_array_equal(entry.read("target", ((0, 12), (0, 35), (0, 34))), before)
    with pytest.raises(FormatError, match=r"chunk \(0, 0, 1, 1\) is damaged"):
        entry.read("target", ((0, 12), (35, 70), (34, 67)))


def test_a_swapped_entry_is_noticed(store, entry):
    other = published(store, 1)
    shutil.rmtree(entry.path)
    shutil.copytree(other.path, entry.path)
    assert f"this is the entry of key {other.key}, not of {entry.key}" in the_problem(store, entry, "MANIFEST.json")
    with pytest.raises(FormatError, match="this is the entry of key"):
        use(store, entry.key)


def test_a_data_file_of_another_entry_with_the_same_layout_is_noticed(store, tmp_path):
    # Incompressible noise of one shape: chunk sizes, offsets and so the whole index are equal.
    grid, entries = Grid((4, 40, 40), (1, 1, 1)), []
    for seed in (0, 1):
        values = np.random.default_rng(seed).integers(0, 256, grid.shape).astype(np.uint8)
        key = entry_key(stage="noise", algorithm="1", params={"seed": seed}, inputs={})
        entries.append(
            store.publish(key, [Layer("noise", values)], grid=grid, attributes={}, quality={}, provenance={})[0]
        )
    here, there = (entry.path / "entry.zarr/noise/c/0/0/0" for entry in entries)
    assert here.stat().st_size == there.stat().st_size
    rewrite(here, there.read_bytes())
    with pytest.raises(FormatError, match="differs from the manifest"):
        use(store, entries[0].key)
    the_problem(store, entries[0], "entry.zarr/noise/c/0/0/0", deep=True)


def test_a_manifest_changed_with_care_is_noticed_by_its_seal(store, entry):
    path = entry.path / "MANIFEST.json"
    rewrite(path, path.read_bytes().replace(b'"format": 1', b'"format": 2'))
    assert "seal" in the_problem(store, entry, "MANIFEST.json")


def test_another_format_version_is_refused(store, entry, monkeypatch):
    monkeypatch.setattr("softlabels.store.read.FORMAT_VERSION", 2)
    with pytest.raises(FormatError, match="got format 1, expected 2"):
        store.find(entry.key)


def test_a_damaged_provenance_is_noticed_but_does_not_stop_training(store, entry):
    flip_bit(entry.path / "PROVENANCE.json", 100)
    assert "damaged" in the_problem(store, entry, "PROVENANCE.json")
    use(store, entry.key)
    with pytest.raises(FormatError, match="PROVENANCE.json: the file is damaged"):
        _ = entry.provenance


def test_a_file_that_nobody_published_is_noticed(store, entry):
    (entry.zarr_path / ".snakemake_timestamp").touch()
    assert "not listed in the manifest" in the_problem(store, entry, "entry.zarr/.snakemake_timestamp")


def test_all_damaged_entries_are_listed_at_once(store, entry):
    for damaged in (entry, published(store, 1)):
        (damaged.path / SHARD).unlink()
    assert len({problem.key for problem in store.verify()}) == 2


def test_discarding_and_publishing_again_heals(store, entry):
    flip_bit(entry.path / SHARD, 999)
    store.discard(entry.key)
    assert store.find(entry.key) is None
    assert published(store).manifest_digest == entry.manifest_digest
    assert store.verify(deep=True) == []
    assert not list((store.path / "v1").glob(".*"))


def test_rounded_layers_are_covered_too(store):
    values = np.random.default_rng(0).exponential(9, GRID.shape).astype(np.float32)
    key = entry_key(stage="distance", algorithm="1", params={}, inputs={})
    layer = Layer("distance", values, encoding=BitRound(15))
    entry, _ = store.publish(key, [layer], grid=GRID, attributes={}, quality={}, provenance={})
    flip_bit(entry.path / "entry.zarr/distance/c/0/0/0", 4321)
    with pytest.raises(FormatError, match="distance/c/0/0/0: chunk"):
        entry.read("distance")
