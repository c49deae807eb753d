"""The store's failure tests: whatever happens to writers, disks and bits, an entry is whole, absent or an error."""

import os
import shutil
import signal
import stat
import time
from functools import partial

import pytest
from helpers import victims
from helpers.stored_layers import key_of
from helpers.victims import GRID, digest_of, example_layers, publish

from softlabels.errors import FormatError
from softlabels.grid import Grid
from softlabels.store import Store


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "store")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Return the entry that a run without faults publishes."""
    return publish(tmp_path_factory.mktemp("undisturbed"))[0]


def started(processes, target, *arguments):
    """Start a process and return it with this end of the pipe that it got as its last argument."""
    here, there = processes.Pipe()
    process = processes.Process(target=target, args=(*arguments, there))
    process.start()
    there.close()
    return process, here


def answer(connection):
    """Return what a process sends within a minute."""
    if not connection.poll(60):
        pytest.fail("a process never answered")
    return connection.recv()


def is_whole_or_absent(path, undisturbed):
    """Return whether the entry is there; fail if it is anything but whole or absent."""
    assert Store(path).verify(deep=True) == []
    entry = Store(path).find(undisturbed.key)
    if entry is None:
        return False
    assert entry.manifest_digest == undisturbed.manifest_digest
    assert digest_of(entry) == digest_of(undisturbed)
    return True


def assert_clean(path, n_entries=1):
    """Fail unless the store holds so many sound entries and nothing else."""
    store = Store(path)
    assert store.verify(deep=True) == []
    assert len(list(store.keys())) == n_entries
    assert not [name for name in os.listdir(store.path / "v1") if name.startswith(".")]
    assert not [entry for entry in store.path.glob("v1/*/*/*/*") if entry.name == entry.parent.parent.name]


def sweep(path, monkeypatch):
    """Sweep what killed writers left, as if ten minutes had passed."""
    monkeypatch.setattr("softlabels.store.garbage._STALE_HERE_S", -1.0)
    swept = Store(path).sweep_stale_tmp()
    assert not [name for name in os.listdir(Store(path).path / "v1") if name.startswith(".")]
    return swept


def test_killed_at_random_moments_an_entry_is_absent_or_whole(path, undisturbed, processes, rounds, rng, monkeypatch):
    begun = time.perf_counter()
    publish(path + "-timing", 0)
    duration = time.perf_counter() - begun
    n_rounds, n_published, n_interrupted = rounds(10, 50), 0, 0
    for _ in range(n_rounds):
        writer, connection = started(processes, victims.publish_when_told, path, 0)
        answer(connection)
        connection.send("go")
        time.sleep(rng.uniform(0, 2 * duration))
        writer.kill()
        writer.join()
        is_there = is_whole_or_absent(path, undisturbed)
        n_published += is_there
        n_interrupted += (
            any(name.startswith(".tmp-") for name in os.listdir(path + "/v1")) if os.path.exists(path) else 0
        )
        if is_there:
            Store(path).discard(undisturbed.key)
    print(f"{n_rounds} kills: {n_published} whole, {n_rounds - n_published} absent, 0 bad")
    assert n_interrupted > 0, "no kill met a writer at work: the test has tested nothing"
    entry, outcome = publish(path)
    assert (outcome, entry.manifest_digest) == ("computed", undisturbed.manifest_digest)
    sweep(path, monkeypatch)
    assert_clean(path)


def test_killed_at_every_step_an_entry_is_absent_or_whole(path, undisturbed, processes, rounds, monkeypatch):
    stride, step, seen = rounds(7, 1), 1, []
    while True:
        writer = processes.Process(target=victims.publish_until, args=(path, 0, step))
        writer.start()
        writer.join()
        seen.append(is_whole_or_absent(path, undisturbed))
        if writer.exitcode == 0:
            break
        assert writer.exitcode == -signal.SIGKILL
        if seen[-1]:
            Store(path).discard(undisturbed.key)
        step += stride
    print(f"killed at {len(seen) - 1} of {step} steps: {sum(seen[:-1])} whole, the others absent, 0 bad")
    assert len(seen) > 5
    assert seen[-1]
    assert not seen[0]
    assert sweep(path, monkeypatch)
    assert_clean(path)


def limited(processes, path, **limits):
    """Publish in a process under resource limits; return the error as (type names, message), or None."""
    writer, connection = started(processes, partial(victims.publish_under_limits, limits), path, 0)
    error = answer(connection)
    writer.join()
    return error


def assert_refused(error, path, remedy):
    """Fail unless the error is one line of our kind with path and remedy, and nothing was published or left."""
    kinds, message = error
    assert "StoreError" in kinds
    assert path in message
    assert remedy in message
    assert "\n" not in message
    assert_clean(path, n_entries=0)


def test_a_file_size_limit_publishes_nothing_and_says_so(path, undisturbed, processes, rounds):
    for limit in range(2**10, 2**19, rounds(2**17, 2**14)):
        assert_refused(limited(processes, path, RLIMIT_FSIZE=limit), path, "ulimit -f")
    assert limited(processes, path) is None
    assert is_whole_or_absent(path, undisturbed)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk; the file size limit is tested instead")
def test_a_full_disk_publishes_nothing_and_says_so(small_disk, undisturbed, processes, rounds):
    folder = small_disk(60)
    path = str(folder / "store")
    needed = 4 * (undisturbed.nbytes // 4096 + 40)
    for kilobytes in range(60, needed - 200, rounds(needed // 5, needed // 30)):
        small_disk(kilobytes, "remount")
        assert_refused(limited(processes, path), path, "free space on this file system, then run again")
    small_disk(4 * needed, "remount")
    assert limited(processes, path) is None
    assert is_whole_or_absent(path, undisturbed)


def test_out_of_memory_publishes_nothing(path, undisturbed, processes, rounds):
    n_failed = 0
    # With nothing left at all Python itself cannot start a thread and waits for it for ever.
    for megabytes in range(1, 25, rounds(6, 1)):
        error = limited(processes, path, RLIMIT_AS=megabytes * 2**20)
        if error is not None:
            n_failed += 1
            assert {"MemoryError", "RuntimeError", "OSError"} & set(error[0]), error
            if os.path.exists(path):
                assert_clean(path, n_entries=0)
        else:
            assert is_whole_or_absent(path, undisturbed)
            Store(path).discard(undisturbed.key)
    assert n_failed > 0
    assert limited(processes, path) is None
    assert is_whole_or_absent(path, undisturbed)


def flipped(file, position):
    """Flip one bit of a read-only file in place."""
    file.chmod(0o644)
    with open(file, "r+b") as stream:
        stream.seek(position // 8)
        byte = stream.read(1)[0]
        stream.seek(position // 8)
        stream.write(bytes([byte ^ (1 << position % 8)]))


def use(path, key):
    """Do what stages, loaders and people do with an entry."""
    entry = Store(path).find(key)
    digest_of(entry)
    return entry.provenance


def test_one_flipped_bit_in_any_file_is_always_noticed(path, rounds, rng):
    entry = publish(path, grid=Grid((6, 20, 70), GRID.spacing))[0]
    publish(path, 1, grid=Grid((1, 2, 3), GRID.spacing))
    files = sorted(file for file in entry.path.rglob("*") if file.is_file())
    assert len(files) == 12
    n_noticed = 0
    n_rounds = rounds(17, 200)
    for file in files:
        for _ in range(n_rounds):
            position = rng.randrange(8 * file.stat().st_size)
            flipped(file, position)
            problems = Store(path).verify(deep=True)
            assert [problem.key for problem in problems] == [entry.key], (file, position)
            assert str(file) in str(problems[0])
            with pytest.raises(FormatError, match="run `softlabels verify --discard`"):
                use(path, entry.key)
            flipped(file, position)
            n_noticed += 1
    print(f"{n_noticed} of {len(files) * n_rounds} flips noticed, by verify and by reading")
    assert Store(path).verify(deep=True) == []
    use(path, entry.key)


def test_a_deleted_file_is_always_noticed(path):
    entry = publish(path)[0]
    for file in sorted(file for file in entry.path.rglob("*") if file.is_file()):
        content = file.read_bytes()
        file.unlink()
        assert [problem.key for problem in Store(path).verify()] == [entry.key]
        with pytest.raises(FormatError, match=f"{file}: the file is missing"):
            use(path, entry.key)
        file.write_bytes(content)
    assert Store(path).verify(deep=True) == []


def test_racing_writers_publish_one_entry_and_all_succeed(path, undisturbed, processes, rounds):
    n_writers = 4
    for _ in range(rounds(4, 25)):
        writers = [started(processes, victims.publish_when_told, path, 0) for _ in range(n_writers)]
        for _, connection in writers:
            answer(connection)
        for _, connection in writers:
            connection.send("go")
        found = [answer(connection) for _, connection in writers]
        for writer, _ in writers:
            writer.join()
            assert writer.exitcode == 0
        assert sorted(outcome for outcome, _ in found) == ["computed", *["reused"] * (n_writers - 1)]
        assert {digest for _, digest in found} == {undisturbed.manifest_digest}
        assert_clean(path)
        Store(path).discard(undisturbed.key)


def test_a_reader_beside_writers_and_removers_sees_whole_or_absent(path, processes, rounds):
    numbers = [0, 1]
    readers = [started(processes, victims.watch, path, numbers) for _ in range(2)]
    writer = processes.Process(target=victims.publish_many, args=(path, numbers, rounds(8, 60)))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    time.sleep(0.2)
    for _, connection in readers:
        connection.send("stop")
    seen = [answer(connection) for _, connection in readers]
    for counts, digests in seen:
        print(counts)
        assert counts["damaged"] == []
        assert counts["absent"] > 0
        assert counts["whole"] > 0
        assert digests == {number: digest_of(Store(path).find(key_of(number=number))) for number in numbers}
    assert_clean(path, n_entries=2)


def asked(processes, path, number, uid=None, umask=0o022):
    """Publish as another user; return what that gives, and what reading entry 0 gives."""
    writer, connection = started(processes, partial(victims.publish_as, uid, umask), path, number)
    answers = [answer(connection) for _ in range(2)]
    writer.join()
    assert writer.exitcode == 0
    return answers


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o027, 0o077])
def test_modes_follow_the_umask_and_files_are_read_only(path, processes, umask):
    assert asked(processes, path, 0, umask=umask)[0] == "computed"
    for file in Store(path).path.rglob("*"):
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode == (0o777 if file.is_dir() else 0o444) & ~umask, file


NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")


@pytest.fixture
def shared(tmp_path_factory):
    """Return a store in a folder that other users may enter."""
    folder = tmp_path_factory.mktemp("open")
    for parent in (folder, *folder.parents):
        if "pytest" in str(parent):
            parent.chmod(0o755)
    yield str(folder / "store")
    shutil.rmtree(folder)


@needs_root
def test_a_read_only_store_can_be_read_and_says_why_it_cannot_be_written(shared, undisturbed, processes):
    publish(shared)
    error, digest = asked(processes, shared, 1, uid=NOBODY)
    assert digest == digest_of(undisturbed)
    assert_refused_by_permission(error, shared)
    assert_clean(shared)


def assert_refused_by_permission(error, path):
    kinds, message = error
    assert "StoreError" in kinds
    assert path in message
    assert "ask its owner for write permission" in message
    assert "\n" not in message


@needs_root
def test_a_private_store_says_why_it_cannot_be_read(shared, processes):
    assert asked(processes, shared, 0, umask=0o077)[0] == "computed"
    for kinds, message in asked(processes, shared, 0, uid=NOBODY):
        assert "StoreError" in kinds
        assert "FormatError" not in kinds
        assert "ask the store's owner for read permission" in message


@needs_root
def test_a_group_shares_a_store_by_set_group_id_and_umask_002(shared, undisturbed, processes):
    os.mkdir(shared)
    os.chown(shared, -1, NOBODY)
    os.chmod(shared, 0o2775)
    assert asked(processes, shared, 0, umask=0o002)[0] == "computed"
    assert asked(processes, shared, 1, uid=NOBODY, umask=0o002) == ["computed", digest_of(undisturbed)]
    assert {file.stat().st_gid for file in Store(shared).path.rglob("*")} == {NOBODY}
    assert_clean(shared, n_entries=2)


def test_example_layers_cover_every_encoding_and_role():
    layers = example_layers(0)
    assert {type(layer.encoding).__name__ for layer in layers} == {"ScaleOffset", "BitRound", "Lossless"}
    assert {layer.role for layer in layers} == {"image", "labels"}


def test_a_check_beside_a_remover_finds_no_false_damage(path, processes, rounds):
    writer = processes.Process(target=victims.publish_and_discard, args=(path, rounds(60, 400)))
    writer.start()
    n_passes, found = 0, []
    while writer.is_alive():
        found += Store(path).verify(deep=True)
        n_passes += 1
    writer.join()
    assert writer.exitcode == 0 and n_passes > 10 and found == []
