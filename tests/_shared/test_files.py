"""Files are written in one step or not at all, and reading a small one neither hangs nor fills the memory."""

import errno
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers import ROOT

from softlabels._shared import files
from softlabels._shared.files import (
    atomic_writer,
    is_damage,
    link_atomically,
    read_small_file,
    read_small_text,
    write_atomically,
)
from softlabels.errors import InputError, StoreError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_text_is_utf8_and_folders_are_made(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "text", "µ")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "µ".encode()
    assert names(tmp_path / "a" / "b") == ["text"]


def test_the_umask_decides_who_may_read(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "text", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "text").stat().st_mode) == 0o640


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / "link").symlink_to("theirs")
    write_atomically(tmp_path / "link", "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "ours"


def test_a_link_planted_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "guessed")
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ".text.guessed.tmp").symlink_to("theirs")
    with pytest.raises(StoreError, match="text: cannot be written"):
        write_atomically(tmp_path / "text", "ours")
    assert (tmp_path / "theirs").read_text() == "theirs"
    assert not (tmp_path / "text").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), ValueError("no"), KeyboardInterrupt()]
)
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error):
    (tmp_path / "text").write_text("before")
    expected = StoreError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), atomic_writer(tmp_path / "text") as file:
        file.write(b"half")
        raise error
    assert names(tmp_path) == ["text"]
    assert (tmp_path / "text").read_text() == "before"


def test_an_error_of_softlabels_stays_itself(tmp_path):
    with pytest.raises(InputError, match="^mine$"), atomic_writer(tmp_path / "text"):
        raise InputError("mine")
    assert names(tmp_path) == []


def test_the_limit_on_file_sizes_is_one_line_with_path_and_remedy(tmp_path):
    code = f"""
import resource, signal
from softlabels._shared.files import write_atomically
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically({str(tmp_path / "text")!r}, b"x" * 2000)
except OSError as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith(f"StoreError {tmp_path / 'text'}: cannot be written (File too large); the limit on")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EROFS, "read-only")]
)
def test_the_remedy_fits_the_reason(tmp_path, monkeypatch, number, remedy):
    def fail(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(StoreError, match=remedy):
        write_atomically(tmp_path / "text", "")
    assert names(tmp_path) == []


def test_a_folder_in_the_way_is_an_error_that_names_it(tmp_path):
    (tmp_path / "text").mkdir()
    with pytest.raises(StoreError, match=str(tmp_path / "text")):
        write_atomically(tmp_path / "text", "")
    assert names(tmp_path) == ["text"]


def test_a_killed_writer_leaves_what_was_there(tmp_path):
    (tmp_path / "text").write_text("before")
    code = f"""
import os, signal
from softlabels._shared.files import atomic_writer
with atomic_writer({str(tmp_path / "text")!r}) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == -signal.SIGKILL
    assert (tmp_path / "text").read_text() == "before"
    # What a killed writer leaves is hidden, and no pattern for results takes it for one.
    (left,) = set(names(tmp_path)) - {"text"}
    assert left.startswith(".text.") and left.endswith(".tmp")


def test_many_writers_of_one_name_never_mix(tmp_path):
    path, contents = tmp_path / "text", [bytes([n]) * 100_000 for n in range(8)]

    def write(content):
        for _ in range(20):
            write_atomically(path, content)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    write_atomically(path, contents[0])
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert read_small_file(path) in contents
    for thread in threads:
        thread.join()
    assert names(tmp_path) == ["text"]


def test_the_longest_name_that_fits(tmp_path):
    write_atomically(tmp_path / ("x" * 255), "")
    with pytest.raises(StoreError, match="shorter name"):
        write_atomically(tmp_path / ("x" * 256), "")


def test_a_link_takes_the_place_of_a_link(tmp_path):
    link_atomically(tmp_path / "a" / "link", "one")
    link_atomically(tmp_path / "a" / "link", tmp_path / "two")
    assert os.readlink(tmp_path / "a" / "link") == str(tmp_path / "two")
    assert names(tmp_path / "a") == ["link"]


def test_no_link_where_a_folder_is_in_the_way(tmp_path):
    (tmp_path / "link" / "full").mkdir(parents=True)
    with pytest.raises(StoreError, match="link: cannot be written"):
        link_atomically(tmp_path / "link", "one")
    assert names(tmp_path) == ["link"]


def test_reading_follows_a_link_to_a_file(tmp_path):
    (tmp_path / "text").write_bytes(b"\xef\xbb\xbf\xc2\xb5")
    (tmp_path / "link").symlink_to("text")
    assert read_small_text(tmp_path / "link") == "µ"


def _pipe(path):
    os.mkfifo(path)


def _socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    "make",
    [
        _pipe,
        _socket,
        _loop,
        Path.mkdir,
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.write_bytes(b"12345"),
    ],
    ids=["pipe", "socket", "loop", "folder", "device", "dangling", "too large"],
)
def test_what_is_no_small_file_is_refused_at_once(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # the name of a socket may have 107 characters
    make(Path("thing"))
    with pytest.raises(OSError) as found:
        read_small_file("thing", limit=4)
    assert is_damage(found.value), found.value


def test_a_missing_permission_is_no_damage(tmp_path):
    assert not is_damage(PermissionError(errno.EACCES, "Permission denied"))
    assert not is_damage(OSError(errno.EIO, "Input/output error"))


def test_no_more_than_the_limit_is_read(tmp_path):
    with open(tmp_path / "large", "wb") as file:
        file.truncate(2**40)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(OSError, match="larger than the 1000 bytes"):
        read_small_file(tmp_path / "large", limit=1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no such files here")
def test_a_file_that_does_not_tell_its_size_is_read_in_full():
    assert read_small_text("/proc/self/status").startswith("Name:")
