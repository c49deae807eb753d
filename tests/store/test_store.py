"""Publishing and reading: what comes back is what was published, and equal results are equal bytes."""

import hashlib
import json
import os
import pickle
import stat
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from helpers.stored_layers import GRID, RECORDS, example_layers, key_of
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels._shared.boxed import BoxedVolumes
from softlabels.errors import FormatError, InputError, StoreError
from softlabels.grid import Grid
from softlabels.store import BitRound, Layer, Lossless, ScaleOffset, Store
from softlabels.store.format import CHUNK_BYTES, CHUNK_SIDE, ROUNDED_CHUNK_BYTES, chunk_shape
from softlabels.store.read import open_entry


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def entry(store):
    return store.publish(key_of(), example_layers(), grid=GRID, **RECORDS)[0]


def test_values_come_back_within_their_encoding(entry):
    for layer in example_layers():
        values = entry.read(layer.name)
        stored, _ = layer.encoding.encode(layer.values)
        np.testing.assert_array_equal(values, layer.encoding.decode(stored))
        assert values.dtype == entry.dtype(layer.name)
        assert entry.shape(layer.name) == layer.values.shape
        assert entry.channels(layer.name) == (None if layer.channels is None else tuple(layer.channels))


def test_dtypes_are_float32_for_maps_and_native_for_the_rest(entry):
    found = {name: entry.read(name).dtype.name for name in entry.layers}
    assert found == {"target": "float32", "distance": "float32", "labels": "uint16", "seeds": "bool"}
    assert np.isinf(entry.read("distance")[1, :, :9]).all()


def test_the_entry_tells_what_was_recorded(entry):
    assert entry.grid == GRID
    assert (entry.attributes, entry.quality, entry.provenance) == tuple(RECORDS.values())
    error = entry.error("target")
    assert 0 < error["largest"] <= error["bound"] == ScaleOffset("uint8", 0, 1).bound
    files = [path for path in entry.path.rglob("*") if path.is_file()]
    assert entry.n_files == len(files) == 14
    assert entry.nbytes == sum(path.stat().st_size for path in files)


@pytest.fixture(scope="module")
def shared_entry(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("shared")).publish(key_of(), example_layers(), grid=GRID, **RECORDS)[0]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 300, 2), (130, 1, 65), (64, 64, 64), (65, 1, 1)])
@pytest.mark.parametrize("n_channels", [None, 1, 5])
def test_odd_shapes_survive(store, shape, n_channels):
    rng = np.random.default_rng(0)
    values = rng.random(shape if n_channels is None else (n_channels, *shape)).astype(np.float32)
    layer = Layer("map", values, None if n_channels is None else list("abcde")[:n_channels])
    entry, _ = store.publish(key_of(), [layer], grid=Grid(shape, (1, 1, 1)), **RECORDS)
    np.testing.assert_array_equal(entry.read("map"), values)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(1, 700), min_size=3, max_size=3),
    st.integers(1, 130),
    st.sampled_from([1, 2, 4, 8]),
    st.booleans(),
)
def test_chunks_are_bounded_in_side_and_bytes_and_waste_little(space, n_channels, itemsize, is_rounded):
    shape = (n_channels, *space)
    chunks = chunk_shape(shape, itemsize, is_rounded=is_rounded)
    assert all(1 <= c <= n for c, n in zip(chunks, shape, strict=True))
    assert max(chunks[1:]) <= CHUNK_SIDE
    assert np.prod(chunks) * itemsize <= (ROUNDED_CHUNK_BYTES if is_rounded else CHUNK_BYTES) or chunks[0] == 1
    for c, n in zip(chunks, shape, strict=True):
        assert -(-n // c) * c - n < -(-n // c)  # less than one voxel of padding a chunk and axis


def test_an_entry_with_chunks_and_codecs_of_an_earlier_version_is_found_and_read(store, monkeypatch):
    rng = np.random.default_rng(0)
    grid = Grid((70, 67, 65), (1, 1, 1))
    image = rng.normal(size=(4, *grid.shape)).astype(np.float32)
    labels = rng.integers(0, 5, grid.shape).astype(np.uint8)
    layers = [Layer("image", image, list("abcd")), Layer("labels", labels, role="labels")]
    new, _ = store.publish(key_of(a=1), layers, grid=grid, **RECORDS)
    with monkeypatch.context() as patch:
        # What format.py said before chunks had at most 512 KiB.
        former = {4: (4, 35, 34, 33), 3: (35, 34, 33)}
        patch.setattr("softlabels.store.shard.chunk_shape", lambda shape, *_, **__: former[len(shape)])
        codecs = {"float32": ("lz4", 5), "uint8": ("zstd", 3)}
        names = ("cname", "clevel")
        patch.setattr(
            "softlabels.store.shard.codec",
            lambda _, dtype, **__: dict(zip(names, codecs[dtype], strict=True)) | {"shuffle": "shuffle"},
        )
        old, _ = store.publish(key_of(a=2), layers, grid=grid, **RECORDS)
    assert old.chunks("image") != new.chunks("image")
    found = store.find(key_of(a=2), old.manifest_digest)
    for window in (None, [(3, 60), (30, 67), (0, 1)], [(34, 36), (33, 35), (32, 34)]):
        region = tuple(slice(*pair) for pair in window or [(0, n) for n in grid.shape])
        for entry in (found, new):
            np.testing.assert_array_equal(entry.read("image", window), image[:, *region])
            np.testing.assert_array_equal(entry.read("labels", window), labels[region])
    assert store.publish(key_of(a=2), layers, grid=grid, **RECORDS)[1] == "reused"


def test_equal_results_are_equal_bytes_whatever_the_threads_host_and_time(tmp_path):
    digests = set()
    for n_threads in (1, 2, 5):
        store = Store(tmp_path / str(n_threads), n_threads=n_threads)
        records = {**RECORDS, "provenance": {"threads": n_threads}}
        entry, _ = store.publish(key_of(), example_layers(), grid=GRID, **records)
        again = [path for path in sorted(entry.path.rglob("*.json")) if path.name != "PROVENANCE.json"]
        digests.add((entry.manifest_digest, hashlib.sha256(b"".join(p.read_bytes() for p in again)).hexdigest()))
    assert len(digests) == 1


def test_another_result_or_another_key_is_another_manifest(store):
    found = [store.publish(key_of(), example_layers(), grid=GRID, **RECORDS)[0].manifest_digest]
    found.append(store.publish(key_of(a=1), example_layers(), grid=GRID, **RECORDS)[0].manifest_digest)
    found.append(store.publish(key_of(a=2), example_layers(seed=1), grid=GRID, **RECORDS)[0].manifest_digest)
    records = {**RECORDS, "quality": {"worst": 0.5}}
    found.append(store.publish(key_of(a=3), example_layers(), grid=GRID, **records)[0].manifest_digest)
    assert len(set(found)) == 4


def test_the_first_writer_wins_and_the_second_reuses(store):
    first, outcome = store.publish(key_of(), example_layers(), grid=GRID, **RECORDS)
    second, second_outcome = store.publish(key_of(), example_layers(seed=1), grid=GRID, **RECORDS)
    assert (outcome, second_outcome) == ("computed", "reused")
    assert first.manifest_digest == second.manifest_digest
    np.testing.assert_array_equal(first.read("labels"), second.read("labels"))


def test_a_writer_overtaken_while_writing_reuses_and_leaves_nothing(store, monkeypatch):
    import softlabels.store.publish as publish

    sync_folders = publish._sync_folders

    def overtaken(folder):
        monkeypatch.setattr(publish, "_sync_folders", sync_folders)
        store.publish(key_of(), example_layers(), grid=GRID, **RECORDS)
        sync_folders(folder)

    monkeypatch.setattr(publish, "_sync_folders", overtaken)
    entry, outcome = store.publish(key_of(), example_layers(seed=1), grid=GRID, **RECORDS)
    assert outcome == "reused"
    np.testing.assert_array_equal(entry.read("labels"), example_layers()[2].values)
    assert list(entry.path.glob("*.zarr")) == [entry.zarr_path]
    assert not list((store.path / "v1").glob(".*"))


def test_nothing_is_created_before_the_first_publishing(tmp_path):
    store = Store(tmp_path / "deep" / "store")
    assert store.find(key_of()) is None
    assert list(store.keys()) == store.verify(deep=True) == store.sweep_stale_tmp() == []
    assert not store.path.parent.exists()


def test_a_failed_publishing_leaves_nothing(store):
    bad = Layer("map", np.full(GRID.shape, 2.0, np.float32), encoding=ScaleOffset("uint8", 0, 1))
    with pytest.raises(InputError, match=r"range of \[2.0, 2.0\]"):
        store.publish(key_of(), [*example_layers(), bad], grid=GRID, **RECORDS)
    assert store.find(key_of()) is None
    assert [path.name for path in store.path.rglob("*")] == ["v1"]


def test_an_error_above_its_bound_publishes_nothing(store, monkeypatch):
    monkeypatch.setattr(BitRound, "bound", 1e-9)
    with pytest.raises(StoreError, match=r"layer 'distance': got an error of .* expected at most 1e-09"):
        store.publish(key_of(), example_layers(), grid=GRID, **RECORDS)
    assert list(store.keys()) == []


def test_files_are_read_only_and_folders_follow_the_umask(entry):
    umask = os.umask(0)
    os.umask(umask)
    for path in [entry.path, *entry.path.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o777 if path.is_dir() else 0o444) & ~umask, path


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(StoreError, match="got a file, expected the store's folder"):
        Store(tmp_path / "store")


@pytest.mark.parametrize("key", ["", "ab", "AB" * 32, "../" + "a" * 61, "a" * 65, None])
def test_only_keys_are_keys(store, key):
    with pytest.raises(InputError, match="expected 64 hex digits"):
        store.find(key)


def test_layers_that_do_not_fit_are_refused(store):
    flat = np.zeros(GRID.shape, np.float32)
    cases = [
        (lambda: Layer("a b", flat), "expected a name"),
        (lambda: Layer("../up", flat), "expected a name"),
        (lambda: Layer("map", flat[0]), "expected \\(D,H,W\\)"),
        (lambda: Layer("map", flat[:0]), "sizes >= 1"),
        (lambda: Layer("map", flat[None]), "got None channel names"),
        (lambda: Layer("map", flat, ["a"]), "got 1 channel names"),
        (lambda: Layer("map", flat, role="labels"), "expected integers for role"),
        (lambda: Layer("map", flat, role="mask"), "expected 'image' or 'labels'"),
        (lambda: Layer("map", flat.astype(np.float64), encoding=BitRound(3)), "expected float32"),
    ]
    for make, message in cases:
        with pytest.raises(InputError, match=message):
            make()
    for layers, message in [
        ([], "at least one"),
        ([Layer("a", flat), Layer("a", flat)], "all different"),
        ([Layer("labels", flat)], "no image called 'labels'"),
        ([Layer("a", flat[:3])], "expected the grid's"),
    ]:
        with pytest.raises(InputError, match=message):
            store.publish(key_of(), layers, grid=GRID, **RECORDS)
    with pytest.raises(InputError, match=r"quality\.worst: got nan"):
        store.publish(key_of(), [Layer("a", flat)], grid=GRID, **{**RECORDS, "quality": {"worst": np.nan}})


def test_publishing_modifies_no_input(store):
    layers = example_layers()
    store.publish(key_of(), layers, grid=GRID, **RECORDS)
    for layer, fresh in zip(layers, example_layers(), strict=True):
        np.testing.assert_array_equal(layer.values, fresh.values)


def test_a_view_in_any_memory_layout_is_published_as_it_looks(store):
    base = np.random.default_rng(3).random((67, 70, 42)).astype(">f4")
    entry, _ = store.publish(key_of(), [Layer("map", base.T[::2, :, ::-1])], grid=GRID, **RECORDS)
    np.testing.assert_array_equal(entry.read("map"), base.T[::2, :, ::-1])


def test_the_manifest_digest_that_a_receipt_names_is_checked(store, entry):
    assert store.find(entry.key, entry.manifest_digest).key == entry.key
    with pytest.raises(FormatError, match="got manifest .* expected 000000000000 as the receipt says"):
        store.find(entry.key, "0" * 64)


def test_an_entry_is_usable_in_other_threads_and_after_pickle(shared_entry):
    copy = pickle.loads(pickle.dumps(shared_entry))
    whole = shared_entry.read("target")
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda z: copy.read("target", ((z, z + 2), (5, 66), (1, 60))), range(19)))
    for z, part in enumerate(parts):
        np.testing.assert_array_equal(part, whole[:, z : z + 2, 5:66, 1:60])


def _digest_of_target(entry):
    return hashlib.sha256(entry.read("target").tobytes()).hexdigest()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_entry_opened_and_read_before_a_fork_or_spawn_reads_the_same_after(shared_entry, method):
    before = _digest_of_target(shared_entry)
    with get_context(method).Pool(2) as pool:
        assert set(pool.map(_digest_of_target, [shared_entry] * 4)) == {before}
    assert _digest_of_target(shared_entry) == before


def test_real_volumes_come_back_exactly(store, shared_data):
    from softlabels.inputs.case import read_volume

    path = next((shared_data / "spinal_cord").glob("*.nii.gz"))
    volume = read_volume(path)
    entry, _ = store.publish(key_of(), [Layer("image", volume.values)], grid=volume.grid, **RECORDS)
    np.testing.assert_array_equal(entry.read("image"), volume.values)
    assert entry.grid == volume.grid


def test_reading_imports_neither_zarr_nor_torch(shared_entry):
    import subprocess
    import sys

    code = (
        "import sys; from softlabels.store.read import open_entry; "
        f"open_entry({str(shared_entry.path.parents[2])!r}, {shared_entry.key!r}).read('target'); "
        "print(sorted({'zarr', 'torch', 'scipy', 'numba', 'snakemake'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_manifest_names_every_file_but_itself_and_the_provenance(entry):
    manifest = json.loads((entry.path / "MANIFEST.json").read_bytes())
    files = {path.relative_to(entry.path).as_posix() for path in entry.path.rglob("*") if path.is_file()}
    assert files == {*manifest["files"], "MANIFEST.json", "PROVENANCE.json"}
    assert open_entry(entry.path.parents[2], entry.key).files == manifest["files"]


@pytest.mark.parametrize("encoding", [ScaleOffset("uint8", 0, 1), BitRound(12), Lossless()])
@pytest.mark.parametrize("fill", [0.0, 1.0, np.inf])
def test_boxed_volumes_are_the_bytes_of_the_dense_array(tmp_path, encoding, fill):
    if isinstance(encoding, ScaleOffset) and fill == np.inf:
        pytest.skip("has bounds")
    grid = Grid((21, 70, 130), (1.0, 1.0, 1.0))
    dense = np.full((40, *grid.shape), fill, np.float32)
    dense[0] = np.random.default_rng(0).random(grid.shape)
    dense[7, 3:9, 60:70, 5:129] = 0.3
    dense[39, :, 3, 4] = 0.7
    names = [f"class {c}" for c in range(len(dense))]
    boxed = BoxedVolumes.of_array(dense, fill=fill)
    entries = [
        Store(tmp_path / name).publish(key_of(), [Layer("maps", values, names, encoding)], grid=grid, **RECORDS)[0]
        for name, values in (("dense", dense), ("boxed", boxed))
    ]
    assert entries[0].manifest_digest == entries[1].manifest_digest
    assert boxed.nbytes < dense.nbytes / 30
